import { expect, type Vitest } from "@effect/vitest"
import { Effect } from "effect"
import { MetadataStore, type ListFilter } from "../../services/MetadataStore.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import type { SqlServices } from "./fixtures.ts"
import {
  callerOf,
  claimOf,
  freshProject,
  leased,
  lineageOf,
  principal,
  publish,
  refusal,
  removeAs,
  worker,
} from "./fixtures.ts"

const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))

/** Follows the cursors to the end; pages may be short or empty. */
const listAll = Effect.fn(function* (caller: ProjectCaller, filter: Partial<ListFilter> = {}) {
  const store = yield* MetadataStore
  const ids: Array<string> = []
  let cursor: string | undefined
  do {
    const page = yield* store.list(caller, { state: "ready", limit: 2, ...filter, cursor })
    expect(page.items.length).toBeLessThanOrEqual(filter.limit ?? 2)
    ids.push(...page.items.map(({ id }) => id))
    cursor = page.nextCursor
  } while (cursor !== undefined)
  return ids
})

/** What the contract says of finding, listing and deleting. */
export const metadataReads = (it: Vitest.MethodsNonLive<SqlServices, true>) => {
  it.effect("who sees, reads and deletes what: visibility against relation", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const project = yield* freshProject()
      const creator = yield* callerOf(project, worker, [])
      const owner = yield* callerOf(project, principal("owner"), [])
      const namesake = yield* callerOf(project, principal("owner", "user"), [])
      const viewer = yield* callerOf(project, principal("viewer"), ["mobius.project.view"])
      const editor = yield* callerOf(project, principal("editor"), ["mobius.project.edit"])
      const both = yield* callerOf(project, principal("both"), ["mobius.project.view", "mobius.project.edit"])
      const stranger = yield* callerOf(project, principal("stranger"), ["mobius.work.execute", "mobius.claims.manage"])
      const foreign = yield* newCaller
      const table = [
        ["creator", creator, { shared: "read denied", private: "read denied" }],
        ["owner", owner, { shared: "read delete", private: "read delete" }],
        ["namesake of another kind", namesake, { shared: "none", private: "none" }],
        ["viewer", viewer, { shared: "read denied", private: "none" }],
        ["editor", editor, { shared: "see delete", private: "see delete" }],
        ["viewer and editor", both, { shared: "read delete", private: "see delete" }],
        ["stranger", stranger, { shared: "none", private: "none" }],
        ["another project", foreign, { shared: "none", private: "none" }],
      ] as const
      for (const visibility of ["shared", "private"] as const) {
        for (const [who, caller, expected] of table) {
          const { artifact } = yield* publish(creator, { visibility, owner: owner.principal })
          const sees = yield* Effect.isSuccess(store.find(caller, artifact.id, { includeDeleted: false }))
          const reads = yield* Effect.isSuccess(store.findContent(caller, artifact.id))
          expect((yield* listAll(caller)).includes(artifact.id), `${who} lists ${visibility}`).toBe(sees)
          const deletes = yield* Effect.match(removeAs(caller, artifact.id), {
            onSuccess: () => "delete",
            onFailure: (error) => (error._tag === "PermissionDenied" ? "denied" : error._tag),
          })
          const got = sees ? `${reads ? "read" : "see"} ${deletes}` : deletes
          expect(got, `${who}, ${visibility}`).toBe(
            expected[visibility] === "none" ? "ArtifactNotFound" : expected[visibility],
          )
          expect(yield* Effect.isSuccess(store.find(caller, artifact.id, { includeDeleted: true }))).toBe(sees)
        }
      }
    }),
  )
  it.effect("an unknown or malformed id is ArtifactNotFound", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* newCaller
      for (const id of ["art_0", "", "'; drop table artifacts", "art_\u00e9"]) {
        expect(yield* refusal(store.find(caller, id, { includeDeleted: true }))).toBe("ArtifactNotFound")
        expect(yield* refusal(store.findContent(caller, id))).toBe("ArtifactNotFound")
        expect(yield* refusal(store.findSigned(id))).toBe("ArtifactNotFound")
        expect(yield* refusal(removeAs(caller, id))).toBe("ArtifactNotFound")
      }
    }),
  )
  it.effect("lists are newest first, in pages that neither repeat nor miss", () =>
    Effect.gen(function* () {
      const caller = yield* newCaller
      const made = yield* Effect.replicateEffect(publish(caller), 7)
      const newest = [...made]
        .map(({ artifact }) => artifact)
        .sort((a, b) => b.createdAt.epochMillis - a.createdAt.epochMillis || (a.id < b.id ? 1 : -1))
        .map(({ id }) => id)
      for (const limit of [1, 2, 3, 7, 100]) expect(yield* listAll(caller, { limit })).toEqual(newest)
    }),
  )
  it.effect("what comes while paging does not disturb the pages that follow", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* newCaller
      const made = yield* Effect.replicateEffect(publish(caller), 4)
      const first = yield* store.list(caller, { state: "ready", limit: 2 })
      yield* publish(caller)
      const rest = yield* listAll(caller, { limit: 2 })
      const second = yield* store.list(caller, { state: "ready", limit: 10, cursor: first.nextCursor })
      expect(rest).toHaveLength(5)
      expect([...first.items, ...second.items].map(({ id }) => id).sort()).toEqual(
        made.map(({ artifact }) => artifact.id).sort(),
      )
    }),
  )
  it.effect("run, step and job filter exactly; mime and name by prefix, literally; all together by and", () =>
    Effect.gen(function* () {
      const caller = yield* newCaller
      const put = Effect.fn(function* (
        name: string,
        mime: string,
        ...[runId, stepId, jobId, attempt]: readonly [string, string, string, number]
      ) {
        const claim = claimOf(caller.project, { runId, stepId, jobId, attempt })
        const { proof } = yield* leased(claim)
        const { owner } = claim
        return (yield* publish(caller, { name, mime, owner, lineage: lineageOf(claim), lease: proof })).artifact.id
      })
      const a = yield* put("logs/a_1.txt", "text/plain", "r1", "s1", "j1", 1)
      const b = yield* put("logs/b%2.png", "image/png", "r1", "s2", "j2", 1)
      const c = yield* put("out\\c.txt", "text/csv", "r2", "s1", "j1", 2)
      const free = (yield* publish(caller, { name: "Logs/free", mime: "text/html" })).artifact.id
      const cases: ReadonlyArray<readonly [Partial<ListFilter>, ReadonlyArray<string>]> = [
        [{}, [a, b, c, free]],
        [{ runId: "r1" }, [a, b]],
        [{ runId: "r" }, []],
        [{ stepId: "s1" }, [a, c]],
        [{ jobId: "j1" }, [a, c]],
        [{ jobId: "j1", runId: "r2" }, [c]],
        [{ mime: "text/" }, [a, c, free]],
        [{ mime: "image/png" }, [b]],
        [{ mime: "t%" }, []],
        [{ namePrefix: "logs/" }, [a, b]],
        [{ namePrefix: "logs/a_" }, [a]],
        [{ namePrefix: "logs_" }, []],
        [{ namePrefix: "logs/b%" }, [b]],
        [{ namePrefix: "out\\" }, [c]],
        [{ namePrefix: "logs/", mime: "text/", runId: "r1", stepId: "s1", jobId: "j1" }, [a]],
      ]
      for (const [filter, expected] of cases)
        for (const limit of [1, 50])
          expect((yield* listAll(caller, { ...filter, limit })).sort(), JSON.stringify(filter)).toEqual(
            [...expected].sort(),
          )
    }),
  )
  it.effect("ready and deleted ones are listed apart", () =>
    Effect.gen(function* () {
      const caller = yield* newCaller
      const ids = (yield* Effect.replicateEffect(publish(caller), 4)).map(({ artifact }) => artifact.id)
      for (const id of ids.slice(0, 3)) yield* removeAs(caller, id)
      expect(yield* listAll(caller)).toEqual(ids.slice(3))
      expect((yield* listAll(caller, { state: "deleted" })).sort()).toEqual(ids.slice(0, 3).sort())
    }),
  )
  it.effect("a cursor this store did not make is BadCursor", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const caller = yield* newCaller
      yield* Effect.replicateEffect(publish(caller), 2)
      const { nextCursor } = yield* store.list(caller, { state: "ready", limit: 1 })
      expect(nextCursor).toMatch(/^[A-Za-z0-9_-]+$/)
      for (const cursor of [
        "",
        "x",
        "!!",
        "eyJhIjoxfQ",
        `x${nextCursor}`,
        `${nextCursor}=`,
        `${nextCursor} `,
        "A".repeat(5_000),
      ])
        expect(yield* refusal(store.list(caller, { state: "ready", limit: 1, cursor })), cursor).toBe("BadCursor")
    }),
  )
  it.effect("a delete makes a tombstone, frees the bytes once, and repeats change nothing", () =>
    Effect.gen(function* () {
      const store = yield* MetadataStore
      const projects = yield* ProjectStore
      const caller = yield* newCaller
      const { artifact, usage } = yield* publish(caller, { size: 50 })
      const { blobKey } = yield* store.findContent(caller, artifact.id)
      const deleted = yield* removeAs(caller, artifact.id)
      expect(deleted).toMatchObject({ blobKey, usage: { usedBytes: 0, artifactCount: 0, version: usage.version + 1 } })
      expect(deleted.artifact).toMatchObject({ id: artifact.id, size: 50, deletion: { by: { id: "worker" } } })
      expect(yield* refusal(store.find(caller, artifact.id, { includeDeleted: false }))).toBe("ArtifactNotFound")
      expect(yield* refusal(store.findContent(caller, artifact.id))).toBe("ArtifactNotFound")
      expect(yield* refusal(store.findSigned(artifact.id))).toBe("ArtifactNotFound")
      expect(yield* store.find(caller, artifact.id, { includeDeleted: true })).toEqual(deleted.artifact)
      expect(yield* removeAs(caller, artifact.id)).toEqual({ artifact: deleted.artifact, blobKey, usage: undefined })
      yield* (yield* RemovalQueue).confirm(blobKey)
      expect(yield* removeAs(caller, artifact.id)).toEqual({
        artifact: deleted.artifact,
        blobKey: undefined,
        usage: undefined,
      })
      expect((yield* projects.get(caller.project)).usage).toEqual(deleted.usage)
      expect(yield* store.unknownBlobKeys([blobKey])).toEqual([blobKey])
    }),
  )
}
