import { DateTime, Effect, Layer, Redacted, Schedule } from "effect"
import * as MemoryDatabaseLayer from "../../layers/clients/Memory.ts"
import { type EventRow, MemoryDatabase } from "../../layers/clients/Memory.ts"
import * as RedisClient from "../../layers/clients/Redis.ts"
import * as RedisStream from "../../layers/EventBus/RedisStream.ts"
import * as OutboxMemory from "../../layers/Outbox/Memory.ts"
import * as StoreGuardMemory from "../../layers/StoreGuard/Memory.ts"
import { EventBus } from "../../services/EventBus.ts"
import { relayRound, type Round } from "../../src/actors/EventRelay.ts"
import { ArtifactId, EventId, ProjectHandle, Sha256 } from "../../src/domain/Ids.ts"
import { Principal } from "../../src/domain/Principal.ts"
import { EventArtifact, type SourceEvent } from "../../src/domain/SourceEvent.ts"
import { startRedis } from "../support/redis.ts"

const streamKey = "events"

export const owner = new Principal({ kind: "agent", id: "worker" })
export const project = ProjectHandle.make("p")
let written = 0

/** Writes events as commits would; returns their ids in order. */
export const write = (count: number) =>
  Effect.map(MemoryDatabase, ({ events }) =>
    Array.from({ length: count }, () => {
      const name = String(++written)
      const id = EventId.make(`sevt_${name}`)
      const row: EventRow = {
        id,
        type: "artifact.created",
        artifact: new EventArtifact({
          id: ArtifactId.make(`art_${name}`),
          project,
          name,
          mime: "text/plain",
          size: 1,
          sha256: Sha256.make("ab".repeat(32)),
          visibility: "shared",
          owner,
          createdBy: owner,
          createdAt: DateTime.unsafeMake(0),
        }),
        occurredAt: 0,
        receivedAt: 0,
        sequence: undefined,
        publishedAt: undefined,
      }
      events.push(row)
      return id as string
    }),
  )

/** A dump of the outbox's database; run what it returns to restore it. */
export const backup = Effect.map(MemoryDatabase, (state) => {
  const events = state.events.map((row) => ({ ...row }))
  const { lastPublished, lastSequence } = state
  return Effect.sync(() => {
    state.events = events.map((row) => ({ ...row }))
    Object.assign(state, { lastPublished, lastSequence })
  })
})

/** Rounds until one that looks finds nothing left to do; dies when that takes more than any sane relay needs. */
export const settle = Effect.gen(function* () {
  let unmarked: ReadonlyArray<SourceEvent> = []
  for (let rounds = 0; rounds < 200; rounds++) {
    const direct = rounds % 2 === 0
    const left: Round = yield* relayRound(direct, unmarked)
    unmarked = left._tag === "Moved" ? left.unmarked : []
    if (left._tag === "Idle" && !direct) return
  }
  return yield* Effect.die("the relay finds no rest")
})

/** The stream as a consumer finds it: sequence and id of every entry. */
export const stream = Effect.flatMap(RedisClient.Redis, ({ commands }) =>
  Effect.promise(async () =>
    (await commands.xrange(streamKey, "-", "+")).map(([at, fields]) => ({
      sequence: Number(at.split("-")[0]),
      id: fields[1] ?? "",
      payload: JSON.parse(fields[7] ?? "null"),
    })),
  ),
)

/** The ids in the stream, once its sequences were found to rise and to be those its payloads tell. */
export const ids = Effect.map(stream, (entries) => {
  entries.forEach(({ id, payload, sequence }, index) => {
    if (sequence <= (entries[index - 1]?.sequence ?? 0)) throw new Error(`not rising at ${sequence}`)
    if (payload.meta.sequence !== sequence || payload.meta.id !== id)
      throw new Error(`a foreign payload at ${sequence}`)
  })
  return entries.map(({ id }) => id)
})

export const ownRedis = Effect.acquireRelease(
  Effect.promise(() => startRedis()),
  (server) => Effect.promise(() => server.dispose()),
)

/** A memory outbox and a stream on this Redis. */
export const over = (url: string, maxLength = 1_000_000) =>
  Layer.mergeAll(OutboxMemory.layer, StoreGuardMemory.layer, RedisStream.layer({ streamKey, maxLength })).pipe(
    Layer.provideMerge(MemoryDatabaseLayer.layer),
    Layer.provideMerge(RedisClient.layer({ url: Redacted.make(url) })),
  )

/** Waits for the connection to come back. */
export const answering = Effect.flatMap(EventBus, (bus) =>
  Effect.retry(bus.top, Schedule.spaced(50).pipe(Schedule.compose(Schedule.recurs(100)))),
)
export const sequences = Effect.map(stream, (entries) => entries.map(({ sequence }) => sequence))
export const flush = Effect.flatMap(RedisClient.Redis, ({ commands }) => Effect.promise(() => commands.flushall()))
export const upTo = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)

/** Runs over a Redis of the test's own. */
export const on = <A, E>(
  run: (
    server: Effect.Effect.Success<typeof ownRedis>,
  ) => Effect.Effect<A, E, Layer.Layer.Success<ReturnType<typeof over>>>,
  maxLength?: number,
) => Effect.flatMap(ownRedis, (server) => Effect.provide(run(server), over(server.url, maxLength)))
