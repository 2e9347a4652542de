import { expect, type Vitest } from "@effect/vitest"
import { Effect } from "effect"
import { Audit } from "../../services/Audit.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import type { ProjectHandle } from "../../src/domain/Ids.ts"
import type { SqlServices } from "./fixtures.ts"
import { beginUpload, callerOf, freshProject, publish, refusal, removeAs, requestOf } from "./fixtures.ts"

const usageOf = (project: ProjectHandle) =>
  Effect.flatMap(ProjectStore, (store) => Effect.map(store.get(project), ({ usage }) => usage))

/** 11 bytes as JSON. */
const metadata = { a: "ü", b: 1 }
const bytes = Buffer.byteLength(JSON.stringify(metadata))

/** What the contract says of charges: the file's bytes and the metadata's, as kept. */
export const metadataCharges = (it: Vitest.MethodsNonLive<SqlServices, true>) => {
  it.effect("metadata is charged by its bytes as kept, in UTF-8; none is charged for an empty object", () =>
    Effect.gen(function* () {
      const caller = yield* callerOf(yield* freshProject(1000))
      expect((yield* publish(caller, { size: 5, metadata: {} })).usage.usedBytes).toBe(5)
      expect((yield* publish(caller, { size: 5, metadata })).usage.usedBytes).toBe(10 + bytes)
      const large = { n: 1e20 }
      expect((yield* publish(caller, { size: 0, metadata: large })).usage.usedBytes).toBe(10 + bytes + 27)
    }),
  )
  it.effect(
    "a commit whose metadata does not fit is QuotaExceeded, of an empty file too; to the last byte it fits",
    () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const projects = yield* ProjectStore
        const caller = yield* callerOf(yield* freshProject(0))
        const { id } = yield* beginUpload(caller, { reservedBytes: 0 })
        const refused = yield* Effect.flip(store.commit(yield* requestOf(caller, id, { size: 0, metadata })))
        expect(refused).toMatchObject({ _tag: "QuotaExceeded", limitBytes: 0, usedBytes: 0, requestedBytes: bytes })
        yield* projects.put(caller.project, 7 + bytes - 1)
        const request = yield* requestOf(caller, id, { size: 7, metadata })
        expect(yield* refusal(store.commit(request))).toBe("QuotaExceeded")
        yield* projects.put(caller.project, 7 + bytes)
        expect((yield* store.commit(request)).usage.usedBytes).toBe(7 + bytes)
      }),
  )
  it.effect("a delete refunds all that was charged, and the tombstone keeps no metadata", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* callerOf(yield* freshProject())
      const { artifact } = yield* publish(caller, { size: 50, metadata })
      expect(artifact.metadata).toEqual(metadata)
      yield* publish(caller, { size: 3 })
      const deleted = yield* removeAs(caller, artifact.id)
      expect(deleted.usage).toMatchObject({ usedBytes: 3, artifactCount: 1 })
      expect(deleted.artifact.metadata).toEqual({})
      expect(yield* store.find(caller, artifact.id, { includeDeleted: true })).toEqual(deleted.artifact)
      expect((yield* store.list(caller, { state: "deleted", limit: 10 })).items).toEqual([deleted.artifact])
      expect((yield* removeAs(caller, artifact.id)).usage).toBeUndefined()
      expect(yield* usageOf(caller.project)).toMatchObject({ usedBytes: 3, artifactCount: 1 })
    }),
  )
  it.effect("usage is the sum of what ready artifacts were charged", () =>
    Effect.gen(function* () {
      const audit = yield* Audit
      const caller = yield* callerOf(yield* freshProject())
      const { artifact } = yield* publish(caller, { size: 50, metadata })
      yield* publish(caller, { size: 5, metadata })
      yield* removeAs(caller, artifact.id)
      expect(yield* audit.recount(caller.project)).toBe(false)
      expect((yield* usageOf(caller.project)).usedBytes).toBe(5 + bytes)
      const sum = { bytes: 5 + bytes, count: 1 }
      for (let after: string | undefined; ;) {
        const page = yield* audit.usage(after, 100)
        const own = page.find(({ project }) => project === caller.project)
        if (own !== undefined) return expect(own).toEqual({ project: caller.project, booked: sum, summed: sum })
        after = page.at(-1)?.project
        if (after === undefined) return expect.fail("the project is not in the audit")
      }
    }),
  )
}
