import { expect, type Vitest } from "@effect/vitest"
import { Effect } from "effect"
import { MetadataStore, mostPageBytes } from "../../services/MetadataStore.ts"
import { encodeArtifact } from "../../src/http/ArtifactJson.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import { callerOf, claimOf, freshProject, leased, lineageOf, publish, type SqlServices } from "./fixtures.ts"

const roomy = Effect.flatMap(freshProject(1024 ** 3), (project) => callerOf(project))

/** Every page, as the sizes of its JSON and its ids. */
const pages = Effect.fn(function* (caller: ProjectCaller, limit: number) {
  const store = yield* MetadataStore
  const all: Array<{ readonly bytes: number; readonly ids: ReadonlyArray<string> }> = []
  let cursor: string | undefined
  do {
    const { items, nextCursor } = yield* store.list(caller, { state: "ready", limit, cursor })
    const bytes = Buffer.byteLength(JSON.stringify(items.map(encodeArtifact)))
    all.push({ bytes, ids: items.map(({ id }) => id) })
    cursor = nextCursor
  } while (cursor !== undefined)
  return all
})

/** What the contract says of the size of a page. */
export const metadataPages = (it: Vitest.MethodsNonLive<SqlServices, true>) => {
  it.effect("a page ends before its JSON is larger than a mebibyte, and the next one goes on there", () =>
    Effect.gen(function* () {
      const caller = yield* roomy
      const metadata = { quotes: '"\\\u00e9\n'.repeat(8_000) }
      const made: Array<string> = []
      for (let n = 0; n < 60; n++)
        made.unshift((yield* publish(caller, { metadata: n % 3 === 0 ? {} : metadata })).artifact.id)
      const all = yield* pages(caller, 100)
      expect(all.flatMap(({ ids }) => ids)).toHaveLength(60)
      expect(all.flatMap(({ ids }) => ids).toSorted()).toEqual(made.toSorted())
      for (const { bytes } of all) expect(bytes).toBeLessThanOrEqual(mostPageBytes)
      for (const { bytes } of all.slice(0, -1)) expect(bytes).toBeGreaterThan(mostPageBytes / 2)
    }),
  )

  it.effect("the longest names, types and ids keep within it too", () =>
    Effect.gen(function* () {
      const caller = yield* roomy
      const id = '"'.repeat(200)
      const claim = claimOf(caller.project, { jobId: id, runId: id, stepId: id, workerSessionId: id })
      const { proof } = yield* leased(claim)
      const { owner } = claim
      const request = {
        name: "\u{1f600}".repeat(128),
        mime: `text/plain; x="${"\\\\".repeat(90)}"`,
        metadata: { text: "x".repeat(8_000) },
      }
      for (let n = 0; n < 100; n++)
        yield* publish(caller, { ...request, owner, lineage: lineageOf(claim), lease: proof })
      const all = yield* pages(caller, 100)
      expect(all.flatMap(({ ids }) => ids)).toHaveLength(100)
      for (const { bytes } of all) expect(bytes).toBeLessThanOrEqual(mostPageBytes)
    }),
  )

  it.effect("an artifact that is larger alone is a page of its own", () =>
    Effect.gen(function* () {
      const caller = yield* roomy
      for (let n = 0; n < 3; n++) yield* publish(caller, { metadata: { text: "x".repeat(mostPageBytes) } })
      expect((yield* pages(caller, 2)).map(({ ids }) => ids.length)).toEqual([1, 1, 1])
    }),
  )

  it.effect("small artifacts fill a page to its limit", () =>
    Effect.gen(function* () {
      const caller = yield* roomy
      yield* Effect.replicateEffect(publish(caller), 7)
      expect((yield* pages(caller, 3)).map(({ ids }) => ids.length)).toEqual([3, 3, 1])
    }),
  )
}
