const inlineTypes: ReadonlySet<string> = new Set([
  "image/png",
  "image/jpeg",
  "image/gif",
  "image/webp",
  "image/avif",
  "text/plain",
  "text/markdown",
  "text/csv",
  "application/json",
  "audio/mpeg",
  "audio/ogg",
  "audio/wav",
  "audio/mp4",
  "video/mp4",
  "video/webm",
])

/** The media type without its parameters, in lower case. */
export const essence = (mime: string): string => (mime.split(";", 1)[0] ?? "").trim().toLowerCase()

/**
 * Whether a browser may show the bytes in place. A closed list: whatever may carry script or styles of its own (html,
 * svg, xml, pdf) is downloaded instead, for the bytes come from strangers and the URL is the node's.
 */
export const mayPreview = (mime: string): boolean => inlineTypes.has(essence(mime))

/** What a previewed file may do in the browser: nothing but be seen or heard. */
export const previewPolicy =
  "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"

/** Characters that change the direction in which the text around them is shown (Unicode, UAX #9): `gpj.exe` as `exe.jpg`. */
const directions = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g

/** What a download is called: the last segment of an artifact's name, shown in the order in which it is stored. */
export const fileName = (name: string): string =>
  name.slice(name.lastIndexOf("/") + 1).replace(directions, "_") || "download"

const asciiName = (name: string): string => name.replace(/[^\x20-\x7e]/g, "_").replace(/["\\%]/g, "_")

const extended = (name: string): string =>
  encodeURIComponent(name.toWellFormed()).replace(/['()*!]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)

/** `Content-Disposition` with an ASCII name for old clients and the exact one as RFC 8187 has it. */
export const disposition = (kind: "inline" | "attachment", name: string): string => {
  const file = fileName(name)
  return `${kind}; filename="${asciiName(file)}"; filename*=UTF-8''${extended(file)}`
}
