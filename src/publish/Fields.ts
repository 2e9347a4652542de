import { type Metadata, metadataBytes } from "../domain/Artifact.ts"
import { isArtifactName } from "../domain/ArtifactName.ts"
import { isTooDeep, maxJsonDepth } from "../domain/Json.ts"
import { isMediaType } from "../domain/MediaType.ts"
import { BadRequest, LineageNotAllowed, UnknownField } from "./Refusals.ts"

/** What the body says of its file. Everything but the name may be missing. */
export interface Fields {
  name?: string
  mime?: string
  size?: number
  sha256?: string
  metadata?: Metadata
  /** What the metadata is charged, in bytes. */
  metadataBytes?: number
}

const maxMetadataBytes = 64 * 1024
const lineageNames = new Set(["run_id", "step_id", "job_id", "worker_session_id", "attempt", "visibility"])

/** `run_id` and its like, `owner*`, `project*`: said by the claim alone. */
export const namesLineage = (name: string): boolean =>
  lineageNames.has(name) || name.startsWith("owner") || name.startsWith("project")

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const text = (name: string, value: Uint8Array): string => {
  try {
    return utf8.decode(value)
  } catch {
    throw new BadRequest({ message: `The part "${name}" is not valid UTF-8.` })
  }
}

const parseMetadata = (value: Uint8Array): Metadata => {
  if (value.length > maxMetadataBytes)
    throw new BadRequest({ message: `The part "metadata" is larger than ${maxMetadataBytes} bytes.` })
  let parsed: unknown
  try {
    parsed = JSON.parse(text("metadata", value))
  } catch (error) {
    if (error instanceof BadRequest) throw error
    throw new BadRequest({ message: 'The part "metadata" is not valid JSON.' })
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw new BadRequest({ message: 'The part "metadata" must be a JSON object.' })
  if (isTooDeep(parsed))
    throw new BadRequest({ message: `The part "metadata" is nested more than ${maxJsonDepth} levels deep.` })
  // Postgres cannot keep U+0000 or lone surrogates in jsonb.
  const canonical = JSON.stringify(parsed)
  if (canonical.includes("\\u0000") || /\\ud[89a-f][0-9a-f]{2}/i.test(canonical))
    throw new BadRequest({ message: 'The part "metadata" contains a NUL character or a lone surrogate.' })
  if (Buffer.byteLength(canonical) > maxMetadataBytes)
    throw new BadRequest({
      message: `The part "metadata" is larger than ${maxMetadataBytes} bytes as it is kept, with numbers such as 1e20 written out.`,
    })
  return parsed as Metadata
}

/** Takes one part over, or throws the refusal it deserves. */
export const acceptField = (fields: Fields, name: string, value: Uint8Array): void => {
  switch (name) {
    case "name": {
      const given = text(name, value)
      if (!isArtifactName(given))
        throw new BadRequest({
          message:
            'The part "name" must be 1 to 256 characters, a relative path without leading "/", "." or ".." segments or control characters.',
        })
      fields.name = given
      return
    }
    case "mime": {
      const given = text(name, value).trim()
      if (given === "") return
      if (!isMediaType(given)) throw new BadRequest({ message: 'The part "mime" is not a media type.' })
      fields.mime = given
      return
    }
    case "size_bytes": {
      const given = text(name, value).trim()
      if (!/^\d{1,15}$/.test(given))
        throw new BadRequest({ message: 'The part "size_bytes" must be an integer of at least 0.' })
      fields.size = Number(given)
      return
    }
    case "sha256": {
      const given = text(name, value).trim()
      if (!/^[0-9a-f]{64}$/.test(given))
        throw new BadRequest({ message: 'The part "sha256" must be 64 lower-case hex digits.' })
      fields.sha256 = given
      return
    }
    case "metadata":
      fields.metadata = parseMetadata(value)
      fields.metadataBytes = metadataBytes(fields.metadata)
      return
    default:
      throw namesLineage(name)
        ? new LineageNotAllowed({ field: name })
        : new UnknownField({ field: name.slice(0, 200) })
  }
}
