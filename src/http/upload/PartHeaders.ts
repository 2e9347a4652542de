import { BadRequest } from "../../publish/Refusals.ts"

/** What a part's headers say of it. */
export interface PartInfo {
  readonly name: string
  /** Absent when the part has no Content-Type. */
  readonly contentType: string | undefined
}

const maxHeaders = 16
const headerLine = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)$/
const parameter = /;[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s";]*)[ \t]*/y

const malformed = (what: string) => new BadRequest({ message: `The multipart body is malformed: ${what}.` })

const unquote = (value: string): string =>
  value.startsWith('"') ? value.slice(1, -1).replace(/\\(["\\])/g, "$1") : value

/** Browsers write `"`, CR and LF of a name as percent sequences and nothing else so; the rest is meant as it stands. */
const utf8 = (latin1: string): string => Buffer.from(latin1, "latin1").toString("utf8")

const parameters = (text: string): Map<string, string> => {
  const found = new Map<string, string>()
  let at = 0
  while (at < text.length) {
    parameter.lastIndex = at
    const match = parameter.exec(text)
    if (match === null) throw malformed("a Content-Disposition cannot be read")
    const key = (match[1] ?? "").toLowerCase()
    if (found.has(key)) throw malformed("a Content-Disposition names a parameter twice")
    found.set(key, unquote(match[2] ?? ""))
    at = parameter.lastIndex
  }
  return found
}

/** RFC 8187: charset, language, percent sequences. Unused, but a broken one marks a sender not to be trusted. */
const checkExtended = (value: string | undefined): void => {
  if (value === undefined) return
  const encoded = /^(?:utf-8|iso-8859-1)'[A-Za-z0-9-]*'([^']*)$/i.exec(value)?.[1]
  if (encoded === undefined || /%(?![0-9a-fA-F]{2})/.test(encoded)) throw malformed("a filename* cannot be read")
  if (!/^utf-8/i.test(value)) return
  try {
    decodeURIComponent(encoded)
  } catch {
    throw malformed("a filename* cannot be read")
  }
}

/** Reads the header block of one part, as Latin-1 text without its final blank line; throws BadRequest. */
export const parsePartHeaders = (block: string): PartInfo => {
  const headers = new Map<string, string>()
  const lines = block === "" ? [] : block.split("\r\n")
  if (lines.length > maxHeaders) throw malformed("a part has too many headers")
  for (const line of lines) {
    const match = headerLine.exec(line)
    if (match === null) throw malformed("a part has a header that cannot be read")
    const key = (match[1] ?? "").toLowerCase()
    if (headers.has(key)) throw malformed("a part has the same header twice")
    headers.set(key, (match[2] ?? "").trim())
  }
  const encoding = headers.get("content-transfer-encoding")
  if (encoding !== undefined && !/^(?:7bit|8bit|binary)$/i.test(encoding))
    throw malformed("a part is encoded; bytes are expected as they are")
  const disposition = headers.get("content-disposition")
  if (disposition === undefined) throw malformed("a part has no Content-Disposition")
  const kind = /^form-data[ \t]*(?=;|$)/i.exec(disposition)
  if (kind === null) throw malformed("a part is not form-data")
  const found = parameters(disposition.slice(kind[0].length))
  checkExtended(found.get("filename*"))
  const name = utf8(found.get("name") ?? "")
  if (name === "") throw malformed("a part has no name")
  const contentType = headers.get("content-type")
  return { name, contentType: contentType === "" ? undefined : contentType }
}

/** The boundary of a multipart Content-Type; throws BadRequest. */
export const parseBoundary = (contentType: string | undefined): string => {
  const match = /^multipart\/form-data[ \t]*;(?:.*?;)?[ \t]*boundary=(?:"([^"]*)"|([^\s;"]*))[ \t]*(?:;|$)/i.exec(
    contentType ?? "",
  )
  const boundary = match?.[1] ?? match?.[2] ?? ""
  if (!/^[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]$/.test(boundary))
    throw new BadRequest({ message: "The body must be multipart/form-data with a boundary." })
  return boundary
}
