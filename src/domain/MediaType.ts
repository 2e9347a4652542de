const token = "[A-Za-z0-9!#$%&'*+.^_`|~-]+"
const quoted = '"(?:[^"\\\\\\x00-\\x1f\\x7f-\\uffff]|\\\\[\\x20-\\x7e])*"'
const mediaType = new RegExp(`^${token}/${token}(?:[ \\t]*;[ \\t]*${token}=(?:${token}|${quoted}))*$`)

/** RFC 9110, section 8.3.1: `type/subtype` with optional parameters; at most 255 characters. */
export const isMediaType = (text: string): boolean => text.length <= 255 && mediaType.test(text)

/** What an artifact is when nobody said. */
export const unknownMediaType = "application/octet-stream"
