/** What an answer to a GET of stored bytes is to be. Offsets and lengths in bytes. */
export type Selection =
  | { readonly _tag: "Full" }
  | { readonly _tag: "Range"; readonly offset: number; readonly length: number }
  | { readonly _tag: "Unsatisfiable" }
  | { readonly _tag: "NotModified" }
  | { readonly _tag: "PreconditionFailed" }

export interface Conditions {
  readonly ifMatch?: string | undefined
  readonly ifNoneMatch?: string | undefined
  readonly ifModifiedSince?: string | undefined
  readonly ifUnmodifiedSince?: string | undefined
  readonly ifRange?: string | undefined
  readonly range?: string | undefined
}

const listed = (header: string, etag: string, weak: boolean): boolean =>
  header.trim() === "*" ||
  header.split(",").some((tag) => {
    const trimmed = tag.trim()
    return trimmed === etag || (weak && trimmed === `W/${etag}`)
  })

/** HTTP dates have whole seconds; an unreadable one says nothing. */
const seconds = (header: string | undefined): number | undefined => {
  const millis = header === undefined ? Number.NaN : Date.parse(header)
  return Number.isNaN(millis) ? undefined : Math.floor(millis / 1000)
}

const select = (range: string, size: number): Selection => {
  const match = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(range)
  if (match === null) return { _tag: "Full" }
  const [, first = "", last = ""] = match
  if (first === "" && last === "") return { _tag: "Full" }
  if (first === "") {
    const length = Math.min(Number(last), size)
    return length === 0 ? { _tag: "Unsatisfiable" } : { _tag: "Range", offset: size - length, length }
  }
  const offset = Number(first)
  if (last !== "" && Number(last) < offset) return { _tag: "Full" }
  if (offset >= size) return { _tag: "Unsatisfiable" }
  const end = last === "" ? size - 1 : Math.min(Number(last), size - 1)
  return { _tag: "Range", offset, length: end - offset + 1 }
}

/**
 * RFC 9110, section 13.2.2, in its order. One range is served; several, and forms unknown, get the whole, as the RFC
 * allows. `modified` in whole seconds since the epoch.
 */
export const evaluate = (
  conditions: Conditions,
  stored: { readonly etag: string; readonly modified: number; readonly size: number },
): Selection => {
  const { ifMatch, ifNoneMatch, ifRange, range } = conditions
  if (ifMatch !== undefined) {
    if (!listed(ifMatch, stored.etag, false)) return { _tag: "PreconditionFailed" }
  } else {
    const unmodifiedSince = seconds(conditions.ifUnmodifiedSince)
    if (unmodifiedSince !== undefined && stored.modified > unmodifiedSince) return { _tag: "PreconditionFailed" }
  }
  if (ifNoneMatch !== undefined) {
    if (listed(ifNoneMatch, stored.etag, true)) return { _tag: "NotModified" }
  } else {
    const modifiedSince = seconds(conditions.ifModifiedSince)
    if (modifiedSince !== undefined && stored.modified <= modifiedSince) return { _tag: "NotModified" }
  }
  if (range === undefined) return { _tag: "Full" }
  if (ifRange !== undefined && ifRange.trim() !== stored.etag && seconds(ifRange) !== stored.modified)
    return { _tag: "Full" }
  return select(range, stored.size)
}
