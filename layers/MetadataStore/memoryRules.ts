import { Effect, Encoding, Option, Either } from "effect"
import { BadCursor, type ListFilter, mostPageBytes, type PendingUpload } from "../../services/MetadataStore.ts"
import type { Artifact } from "../../src/domain/Artifact.ts"
import { type ProjectCaller, samePrincipal } from "../../src/domain/Principal.ts"
import { mostJsonBytes } from "./jsonBytes.ts"

export const deletable = (caller: ProjectCaller, artifact: Artifact): boolean =>
  caller.may("mobius.project.edit") || samePrincipal(artifact.owner, caller.principal)

/** One text for project, principal, job, attempt and key. */
export const scopeOf = (project: string, idempotency: NonNullable<PendingUpload["idempotency"]>): string => {
  const { key, principal, jobId, attempt } = idempotency
  return JSON.stringify([project, principal.kind, principal.id, jobId ?? null, attempt ?? null, key])
}

interface Position {
  /** Microseconds since 1970. */
  readonly micros: number
  readonly id: string
}

const positionOf = (artifact: Artifact): Position => ({
  micros: artifact.createdAt.epochMillis * 1_000,
  id: artifact.id,
})

/** Newest first. */
export const newestFirst = (a: Artifact, b: Artifact): number => compare(positionOf(a), positionOf(b))

const compare = (a: Position, b: Position): number => b.micros - a.micros || (a.id < b.id ? 1 : a.id > b.id ? -1 : 0)

export const cursorAt = (artifact: Artifact): string => {
  const { micros, id } = positionOf(artifact)
  return Encoding.encodeBase64Url(`1:${micros}:${id}`)
}

/** Only the exact text that `cursorAt` makes is taken. */
const parseCursor = (cursor: string): Effect.Effect<Position, BadCursor> => {
  const text = Option.getOrElse(Either.getRight(Encoding.decodeBase64UrlString(cursor)), () => "")
  const match = /^1:(\d{1,16}):(art_[A-Za-z0-9]+)$/.exec(text)
  return match?.[1] === undefined || match[2] === undefined || Encoding.encodeBase64Url(text) !== cursor
    ? new BadCursor()
    : Effect.succeed({ micros: Number(match[1]), id: match[2] })
}

/** The test for what comes after the filter's cursor. */
export const afterCursor = (cursor: string | undefined): Effect.Effect<(artifact: Artifact) => boolean, BadCursor> =>
  cursor === undefined
    ? Effect.succeed(() => true)
    : Effect.map(parseCursor(cursor), (position) => (artifact) => compare(positionOf(artifact), position) > 0)

/** As many of these as one page shows: at least one, up to `limit` and up to `mostPageBytes`. */
export const pageOf = (found: ReadonlyArray<Artifact>, limit: number): ReadonlyArray<Artifact> => {
  let bytes = 0
  const beyond = found.findIndex((artifact, at) => {
    bytes += mostJsonBytes(artifact)
    return at >= limit || (at > 0 && bytes > mostPageBytes)
  })
  return beyond === -1 ? found : found.slice(0, beyond)
}

const equals = (wanted: string | undefined, actual: string | undefined) => wanted === undefined || wanted === actual

export const matches = (filter: ListFilter, artifact: Artifact): boolean =>
  (filter.state === "deleted") === (artifact.deletion !== undefined) &&
  equals(filter.runId, artifact.lineage?.runId) &&
  equals(filter.stepId, artifact.lineage?.stepId) &&
  equals(filter.jobId, artifact.lineage?.jobId) &&
  artifact.mime.startsWith(filter.mime ?? "") &&
  artifact.name.startsWith(filter.namePrefix ?? "")
