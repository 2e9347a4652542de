import { Effect } from "effect"
import { BlobStore } from "../../../services/BlobStore.ts"
import { EventBus } from "../../../services/EventBus.ts"
import { Ids } from "../../../services/Ids.ts"
import { MetadataStore } from "../../../services/MetadataStore.ts"
import { Outbox } from "../../../services/Outbox.ts"
import { ProjectDuties } from "../../../services/ProjectDuties.ts"
import { QuotaCounters } from "../../../services/QuotaCounters.ts"
import { relayRound } from "../../../src/actors/EventRelay.ts"
import { sweepStore } from "../../../src/actors/Orphans.ts"
import type { ProjectHandle } from "../../../src/domain/Ids.ts"
import { encodeSourceEvent } from "../../../src/domain/SourceEventJson.ts"
import type { Upload } from "../journal.ts"
import type { Scene } from "../walk.ts"
import { callerOf, type Manner, send } from "../worker.ts"

/** An upload of a worker, known to the journal before its first request. */
export const wish = ({ journal, project }: Scene, over: Partial<Upload> = {}): Upload => {
  const name = `files/${crypto.randomUUID()}.bin`
  const upload: Upload = { project, name, size: 1000, key: name, ...over }
  journal.write({ kind: "upload", ...upload })
  return upload
}

export const sent = (scene: Scene, upload: Upload, manner: Manner = {}) =>
  send(scene.journal, scene.tenant, upload, manner)

/** An artifact that is there already. */
export const stored = (scene: Scene, over: Partial<Upload> = {}) => scene.aside(sent(scene, wish(scene, over)))

/** An upload whose owner died in the middle: row, reservation and bytes, and nobody who renews them. */
export const abandoned = (scene: Scene) =>
  scene.aside(
    Effect.gen(function* () {
      const id = yield* (yield* Ids).artifact
      const { principal, project } = callerOf(scene.tenant)
      const blobKey = `${project}/${id}`
      yield* (yield* MetadataStore).begin({ id, project, blobKey, createdBy: principal, reservedBytes: 500 })
      yield* (yield* QuotaCounters).reserve(project, id, { need: 500, want: 500 })
      yield* object(blobKey)
      return { id, blobKey }
    }),
  )

export const object = (key: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const writer = yield* (yield* BlobStore).open(key, {})
      yield* Effect.promise(async () => writer.write(new Uint8Array(10)))
      yield* writer.finish
    }),
  )

/** A write that goes on until the scope ends; enough for the store to have begun a file. */
export const unfinished = (key: string) =>
  Effect.gen(function* () {
    const writer = yield* (yield* BlobStore).open(key, {})
    for (let n = 0; n < 3; n++) yield* Effect.promise(async () => writer.write(new Uint8Array(300_000)))
  })

export const epochOf = (project: ProjectHandle) =>
  Effect.map(
    Effect.flatMap(ProjectDuties, (duties) => duties.take(project)),
    (epoch) => epoch ?? Number.NaN,
  )

export const drained = Effect.repeat(relayRound(false), { until: ({ _tag }) => _tag === "Idle" })

/** Two artifacts whose events stand in the stream and are not marked: a relay died in between. */
export const appendedOnly = (scene: Scene) =>
  Effect.gen(function* () {
    yield* scene.aside(drained)
    yield* stored(scene)
    yield* stored(scene)
    return yield* scene.aside(
      Effect.gen(function* () {
        const bus = yield* EventBus
        const fresh = yield* (yield* Outbox).sequence(500)
        const entries = fresh.map((event) => ({
          sequence: event.sequence,
          id: event.id,
          type: event.type,
          project: event.artifact.project,
          payload: JSON.stringify(encodeSourceEvent(event)),
        }))
        yield* bus.append((fresh[0]?.sequence ?? 0) - 1, entries)
        return fresh
      }),
    )
  })

/** Rounds as the relay makes them after a fault: until one finds nothing to do. */
export const rounds = Effect.repeat(relayRound(false), { until: ({ _tag }) => _tag === "Idle", times: 50 })

export const sweptStore = sweepStore({ ageSeconds: 0, confirmSeconds: 0, budget: { objects: 1_000_000, seconds: 60 } })
