import type { ServerResponse } from "node:http"
import { ConfigProvider, type Context, Effect, Fiber, Layer } from "effect"
import * as AuthenticatorMemory from "../../layers/Authenticator/Memory.ts"
import * as MemoryDatabase from "../../layers/clients/Memory.ts"
import * as EventBusMemory from "../../layers/EventBus/Memory.ts"
import * as IdsRandom from "../../layers/Ids/Random.ts"
import * as MetadataStoreMemory from "../../layers/MetadataStore/Memory.ts"
import * as OutboxMemory from "../../layers/Outbox/Memory.ts"
import * as ProjectStoreMemory from "../../layers/ProjectStore/Memory.ts"
import { Authenticator } from "../../services/Authenticator.ts"
import { EventBus } from "../../services/EventBus.ts"
import { Outbox } from "../../services/Outbox.ts"
import * as Settings from "../../src/Config.ts"
import { EventId } from "../../src/domain/Ids.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import type { SourceEvent } from "../../src/domain/SourceEvent.ts"
import * as EventHub from "../../src/http/events/EventHub.ts"
import { streamEvents } from "../../src/http/events/EventStream.ts"
import * as Turns from "../../src/turns/Turns.ts"
import * as KeyWatch from "../../src/http/events/KeyWatch.ts"
import * as Gates from "../../src/http/Gates.ts"
import { Readiness } from "../../src/http/Readiness.ts"

/** How the services behind the streams were used, and what hinders them. */
export interface Watch {
  /** How often each operation was asked for. */
  readonly counts: Map<string, number>
  /** Milliseconds before an operation takes place, and after it before its answer comes. */
  readonly delays: Map<string, { readonly before?: number; readonly after?: number }>
}

const watched = <I, S extends object>(tag: Context.Tag<I, S>, { counts, delays }: Watch) =>
  Layer.effect(
    tag,
    Effect.map(tag, (service) => {
      const wrap = (name: string, member: unknown) => {
        const around = (operation: Effect.Effect<unknown, unknown>) =>
          Effect.suspend(() => {
            counts.set(name, (counts.get(name) ?? 0) + 1)
            const { after = 0, before = 0 } = delays.get(name) ?? {}
            const late = before === 0 ? operation : Effect.delay(operation, before)
            return after === 0 ? late : Effect.zipLeft(late, Effect.sleep(after))
          })
        if (Effect.isEffect(member)) return around(member as Effect.Effect<unknown, unknown>)
        return typeof member === "function"
          ? (...args: ReadonlyArray<unknown>) => around(member(...args) as Effect.Effect<unknown, unknown>)
          : member
      }
      return Object.fromEntries(Object.entries(service).map(([name, member]) => [name, wrap(name, member)])) as S
    }),
  )

const readiness = Layer.succeed(
  Readiness,
  Readiness.of({
    state: Effect.succeed({ ready: true, draining: false, degraded: [] }),
    drain: Effect.void,
    isDraining: () => false,
    drained: Effect.never,
  }),
)

/** With every setting at its default. */
const gates = Gates.layer.pipe(
  Layer.provide(Settings.layer),
  Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map()))),
  Layer.orDie,
)

/** What event streams stand on, in memory; outbox and authenticator are watched. */
export const sceneLayer = (watch: Watch) => {
  const stores = Layer.mergeAll(
    AuthenticatorMemory.layer,
    EventBusMemory.layer({ maxLength: 100_000 }),
    MetadataStoreMemory.layer({ defaultQuotaBytes: 1_000_000_000 }),
    OutboxMemory.layer,
    ProjectStoreMemory.layer({ defaultQuotaBytes: 1_000_000_000 }),
  ).pipe(Layer.provideMerge(Layer.merge(MemoryDatabase.layer, IdsRandom.layer)))
  const hindered = Layer.merge(watched(Outbox, watch), watched(Authenticator, watch))
  return Layer.mergeAll(EventHub.layer, KeyWatch.layer, Turns.layer, readiness, gates).pipe(
    Layer.provideMerge(hindered),
    Layer.provideMerge(stores),
  )
}

/** A client's end of a stream: everything it was sent. */
class Received {
  text = ""
  ended = false
  readonly #slow: () => number
  /** `slow`: how many milliseconds the client takes for what it is sent; 0: it is there at once. */
  constructor(slow: () => number) {
    this.#slow = slow
  }
  writeHead() {
    return this
  }
  write(bytes: Uint8Array, taken: () => void) {
    this.text += Buffer.from(bytes).toString("utf8")
    const millis = this.#slow()
    if (millis === 0) taken()
    else setTimeout(taken, millis)
    return true
  }
  end(text = "") {
    this.text += text
    this.ended = true
    return this
  }
  /** Every id, of events and of positions, in the order they came. */
  get ids(): ReadonlyArray<number> {
    return [...this.text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))
  }
  /** The sequences of the events. */
  get events(): ReadonlyArray<number> {
    return [...this.text.matchAll(/^id: (\d+)\nevent: /gm)].map(([, id]) => Number(id))
  }
}

/** Opens a stream that goes on after `from`, until it is left. */
export const openStream = (caller: ProjectCaller, from: number, slow: () => number = () => 0) =>
  Effect.gen(function* () {
    const received = new Received(slow)
    const fiber = yield* Effect.forkScoped(streamEvents(received as unknown as ServerResponse, caller, from))
    return Object.assign(received, { leave: Fiber.interrupt(fiber) })
  })

/** Gives new events their sequences and appends them to the bus; they are to be marked by whoever calls. */
export const append = Effect.gen(function* () {
  const bus = yield* EventBus
  const events = yield* (yield* Outbox).sequence(10_000)
  const [first] = events
  if (first !== undefined)
    yield* bus.append(
      first.sequence - 1,
      events.map(({ artifact, id, sequence, type }) => ({
        id,
        sequence,
        type,
        project: artifact.project,
        payload: "",
      })),
    )
  return events
})

/** Events that were written are in the stream and marked, as a relay's round leaves them. */
export const relayed = Effect.gen(function* () {
  const events: ReadonlyArray<SourceEvent> = yield* append
  yield* (yield* Outbox).markPublished(events)
  return events.map(({ sequence }) => sequence)
})

/** Writes the last event again and again, each time as another one: cheaper than as many publishes. */
export const repeatLast = (count: number) =>
  Effect.map(MemoryDatabase.MemoryDatabase, ({ events }) => {
    const last = events.at(-1)
    if (last === undefined) return
    for (let n = 0; n < count; n++) events.push({ ...last, id: EventId.make(`${last.id}x${n}`) })
  })
