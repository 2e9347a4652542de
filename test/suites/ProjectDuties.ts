import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { ProjectDuties } from "../../services/ProjectDuties.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import type { ProjectHandle } from "../../src/domain/Ids.ts"
import {
  beginUpload,
  callerOf,
  freshProject,
  live,
  publish,
  refusal,
  requestOf,
  type SqlLayer,
  rightOf,
} from "./fixtures.ts"

const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))

const taken = (project: ProjectHandle) =>
  Effect.flatMap(ProjectDuties, ({ take }) => Effect.map(take(project), (epoch) => epoch ?? Number.NaN))

const dueFor = (project: ProjectHandle, staleSeconds = 3600) =>
  Effect.map(
    Effect.flatMap(ProjectDuties, ({ due }) => due({ staleSeconds, limit: 10_000 })),
    (all) => all.filter((one) => one.project === project),
  )

/** The contract of services/ProjectDuties, a test a sentence. */
export const projectDutiesSuite = (name: string, subject: SqlLayer) =>
  layer(subject, live)(`ProjectDuties: ${name}`, (it) => {
    it.effect("a new project is due at once, and after a look not for a minute", () =>
      Effect.gen(function* () {
        const duties = yield* ProjectDuties
        const project = yield* freshProject()
        expect(yield* dueFor(project)).toEqual([{ project, sweep: false, reconcile: true }])
        yield* duties.reconciled(project, yield* taken(project), 1)
        expect(yield* dueFor(project)).toEqual([])
      }),
    )
    it.effect("a changed limit makes a project due, bytes booked do not", () =>
      Effect.gen(function* () {
        const duties = yield* ProjectDuties
        const caller = yield* newCaller
        yield* duties.reconciled(caller.project, yield* taken(caller.project), 1)
        yield* publish(caller)
        expect(yield* dueFor(caller.project)).toEqual([])
        yield* (yield* ProjectStore).put(caller.project, 777_777)
        expect(yield* dueFor(caller.project)).toEqual([{ project: caller.project, sweep: false, reconcile: true }])
      }),
    )
    it.effect("a project with an upload nobody renews is due for a sweep", () =>
      Effect.gen(function* () {
        const duties = yield* ProjectDuties
        const caller = yield* newCaller
        yield* duties.reconciled(caller.project, yield* taken(caller.project), 1)
        yield* beginUpload(caller)
        expect(yield* dueFor(caller.project, 1)).toEqual([])
        yield* Effect.sleep("1100 millis")
        expect(yield* dueFor(caller.project, 1)).toEqual([{ project: caller.project, sweep: true, reconcile: false }])
      }),
    )
    it.effect("a project with more dead uploads than the limit does not hide the others", () =>
      Effect.gen(function* () {
        const duties = yield* ProjectDuties
        const [crowded, other] = [yield* newCaller, yield* newCaller]
        const before = yield* duties.due({ staleSeconds: 3600, limit: 10_000 })
        const limit = before.length + 2
        yield* Effect.replicateEffect(beginUpload(crowded), limit, { concurrency: 16 })
        yield* beginUpload(other)
        yield* Effect.sleep("1100 millis")
        const sweeps = (yield* duties.due({ staleSeconds: 1, limit })).filter(({ sweep }) => sweep)
        expect(sweeps.map(({ project }) => project)).toEqual(expect.arrayContaining([crowded.project, other.project]))
      }),
    )
    it.effect("no more than the limit are told of", () =>
      Effect.gen(function* () {
        yield* freshProject()
        yield* freshProject()
        expect(yield* (yield* ProjectDuties).due({ staleSeconds: 3600, limit: 1 })).toHaveLength(1)
      }),
    )
    it.effect("each taking is a higher epoch, and a project nobody made has none", () =>
      Effect.gen(function* () {
        const project = yield* freshProject()
        const first = yield* taken(project)
        expect(yield* taken(project)).toBeGreaterThan(first)
        expect(yield* (yield* ProjectDuties).take("nobody-s" as ProjectHandle)).toBeUndefined()
      }),
    )
    it.effect("fenceStale fences what was not renewed, and gives it again after as long, until it is forgotten", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const duties = yield* ProjectDuties
        const caller = yield* newCaller
        const epoch = yield* taken(caller.project)
        const stale = yield* beginUpload(caller)
        const renewed = yield* beginUpload(caller)
        const earlier = yield* beginUpload(caller)
        yield* store.fence(earlier.id)
        yield* beginUpload(yield* newCaller)
        yield* Effect.sleep("1600 millis")
        yield* store.renew(renewed.id, 10, rightOf(caller))
        const own = Effect.map(duties.fenceStale(caller.project, epoch, { staleSeconds: 1.5, limit: 100 }), (found) =>
          [...found].sort((a, b) => (a.id < b.id ? -1 : 1)),
        )
        const expected = [stale, earlier].map(({ upload: { blobKey, id } }) => ({ id, blobKey }))
        expect(yield* own).toEqual(expected)
        expect(yield* refusal(store.commit(yield* requestOf(caller, stale.id)))).toBe("UploadFenced")
        expect(yield* own).toEqual([])
        yield* duties.forget(caller.project, epoch, stale.id)
        yield* duties.forget(caller.project, epoch, stale.id)
        yield* store.commit(yield* requestOf(caller, renewed.id))
        yield* Effect.sleep("1600 millis")
        expect(yield* own).toEqual(expected.slice(1))
      }),
    )
    it.effect("forgets fenced uploads only", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newCaller
        const { id } = yield* beginUpload(caller)
        yield* (yield* ProjectDuties).forget(caller.project, yield* taken(caller.project), id)
        expect(yield* store.outcome(id)).toEqual({ _tag: "Pending" })
      }),
    )
    it.effect("whoever holds an earlier epoch writes nothing", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const duties = yield* ProjectDuties
        const caller = yield* newCaller
        const { project } = caller
        const { id } = yield* beginUpload(caller)
        const fenced = yield* beginUpload(caller)
        yield* store.fence(fenced.id)
        const old = yield* taken(project)
        yield* taken(project)
        expect(yield* refusal(duties.fenceStale(project, old, { staleSeconds: 0, limit: 10 }))).toBe("StaleEpoch")
        expect(yield* refusal(duties.forget(project, old, fenced.id))).toBe("StaleEpoch")
        expect(yield* refusal(duties.reconciled(project, old, 1))).toBe("StaleEpoch")
        expect(yield* store.outcome(id)).toEqual({ _tag: "Pending" })
        expect(yield* store.unknownBlobKeys([fenced.upload.blobKey])).toEqual([])
        expect(yield* dueFor(project)).toEqual([{ project, sweep: false, reconcile: true }])
      }),
    )
  })
