import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import {
  beginUpload,
  callerOf,
  freshProject,
  live,
  publish,
  refusal,
  removeAs,
  type SqlLayer,
  type SuiteOptions,
  unknownHandle,
  rightOf,
} from "./fixtures.ts"

/** The contract of services/ProjectStore, a test a sentence. */
export const projectStoreSuite = (name: string, subject: SqlLayer, options: SuiteOptions = {}) =>
  layer(subject, live)(`ProjectStore: ${name}`, (it) => {
    it.effect("put creates a project with empty books", () =>
      Effect.gen(function* () {
        const store = yield* ProjectStore
        const handle = unknownHandle()
        const { project, usage } = yield* store.put(handle, 500)
        expect(project).toMatchObject({ handle, quotaBytes: 500 })
        expect(usage).toMatchObject({ usedBytes: 0, limitBytes: 500, artifactCount: 0 })
        expect(yield* store.get(handle)).toMatchObject({ project: { handle }, usage, pendingCount: 0 })
      }),
    )
    it.effect("a new project without a limit has the default one", () =>
      Effect.gen(function* () {
        const { project, usage } = yield* (yield* ProjectStore).put(unknownHandle(), undefined)
        expect(project.quotaBytes).toBeUndefined()
        expect(usage.limitBytes).toBeGreaterThan(0)
      }),
    )
    it.effect("put changes the limit at once, raises the version by one and keeps the creation time", () =>
      Effect.gen(function* () {
        const store = yield* ProjectStore
        const handle = unknownHandle()
        const before = yield* store.put(handle, 500)
        const after = yield* store.put(handle, 700)
        expect(after.usage.limitBytes).toBe(700)
        expect(after.usage.version).toBe(before.usage.version + 1)
        expect(after.project.createdAt).toEqual(before.project.createdAt)
        expect((yield* store.get(handle)).usage).toEqual(after.usage)
      }),
    )
    it.effect("put without a limit keeps the one there is", () =>
      Effect.gen(function* () {
        const store = yield* ProjectStore
        const handle = yield* freshProject(500)
        expect((yield* store.put(handle, undefined)).usage.limitBytes).toBe(500)
      }),
    )
    it.effect("put is idempotent: the same limit again changes nothing, the version included", () =>
      Effect.gen(function* () {
        const store = yield* ProjectStore
        const handle = unknownHandle()
        const first = yield* store.put(handle, 500)
        expect(yield* store.put(handle, 500)).toEqual(first)
      }),
    )
    it.effect("a limit of 0 is a limit", () =>
      Effect.gen(function* () {
        expect((yield* (yield* ProjectStore).put(unknownHandle(), 0)).usage.limitBytes).toBe(0)
      }),
    )
    it.effect("an unknown project is ProjectNotFound", () =>
      Effect.gen(function* () {
        const store = yield* ProjectStore
        expect(yield* refusal(store.get(unknownHandle()))).toBe("ProjectNotFound")
        expect(yield* refusal(store.quotaSnapshot(unknownHandle()))).toBe("ProjectNotFound")
      }),
    )
    it.effect("the books follow commits and deletes, and the version rises by one with each", () =>
      Effect.gen(function* () {
        const store = yield* ProjectStore
        const handle = yield* freshProject()
        const caller = yield* callerOf(handle)
        const start = (yield* store.get(handle)).usage
        const { artifact, usage } = yield* publish(caller, { size: 40 })
        expect(usage).toMatchObject({ usedBytes: 40, artifactCount: 1, version: start.version + 1 })
        expect((yield* store.get(handle)).usage).toEqual(usage)
        yield* removeAs(caller, artifact.id)
        expect((yield* store.get(handle)).usage).toMatchObject({
          usedBytes: 0,
          artifactCount: 0,
          version: start.version + 2,
        })
      }),
    )
    it.effect("an artifact of no bytes counts and raises the version", () =>
      Effect.gen(function* () {
        const handle = yield* freshProject()
        const before = (yield* (yield* ProjectStore).get(handle)).usage
        const { usage } = yield* publish(yield* callerOf(handle), { size: 0 })
        expect(usage).toMatchObject({ usedBytes: 0, artifactCount: 1, version: before.version + 1 })
      }),
    )
    it.effect("the snapshot has the usage and every upload on its way that is not fenced", () =>
      Effect.gen(function* () {
        const store = yield* ProjectStore
        const metadata = yield* MetadataStore
        const handle = yield* freshProject()
        const caller = yield* callerOf(handle)
        yield* publish(caller, { size: 40 })
        const one = yield* beginUpload(caller, { reservedBytes: 100 })
        const two = yield* beginUpload(caller, { reservedBytes: 200 })
        const fenced = yield* beginUpload(caller, { reservedBytes: 400 })
        yield* metadata.renew(two.id, 250, rightOf(caller))
        yield* metadata.fence(fenced.id)
        const snapshot = yield* store.quotaSnapshot(handle)
        expect(snapshot.usage.usedBytes).toBe(40)
        expect([...snapshot.reservations].sort((a, b) => a.bytes - b.bytes)).toEqual([
          { uploadId: one.id, bytes: 100 },
          { uploadId: two.id, bytes: 250 },
        ])
        expect((yield* store.get(handle)).pendingCount).toBe(2)
      }),
    )
    if (options.concurrent === true) {
      it.effect("puts at once make one project", () =>
        Effect.gen(function* () {
          const store = yield* ProjectStore
          const handle = unknownHandle()
          const made = yield* Effect.all(
            Array.from({ length: 8 }, () => store.put(handle, 500)),
            { concurrency: "unbounded" },
          )
          expect(new Set(made.map(({ usage }) => usage.version)).size).toBe(1)
        }),
      )
    }
  })
