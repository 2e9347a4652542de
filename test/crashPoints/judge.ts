import { Chunk, Effect, Stream } from "effect"
import { Audit, type BookedUsage } from "../../services/Audit.ts"
import { BlobStore } from "../../services/BlobStore.ts"
import { EventBus } from "../../services/EventBus.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { Outbox } from "../../services/Outbox.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import type { DependencyUnavailable } from "../../services/Unavailable.ts"
import { ProjectHandle } from "../../src/domain/Ids.ts"
import { contentOf } from "../faults/model.ts"
import { factsOfStream, pages } from "./facts.ts"
import { type Journal, sha256, type Tenant } from "./journal.ts"
import { callerOf } from "./worker.ts"

/** Every object, and every write that is not finished, by key. */
const objects = Effect.gen(function* () {
  const blobs = yield* BlobStore
  const whole = yield* Stream.runCollect(Stream.map(blobs.list(), ({ key }) => key))
  const partial = yield* Stream.runCollect(Stream.map(blobs.partials, ({ key }) => key))
  return { whole: Chunk.toReadonlyArray(whole), partial: Chunk.toReadonlyArray(partial) }
})

const listed = (tenant: Tenant, state: "ready" | "deleted") =>
  Effect.flatMap(MetadataStore, (metadata) =>
    Effect.map(metadata.list(callerOf(tenant), { state, limit: 100 }), ({ items }) => items),
  )

const readWhole = (blobKey: string, size: number) =>
  Effect.scoped(
    Effect.gen(function* () {
      const reader = yield* (yield* BlobStore).read(blobKey, { offset: 0, length: size })
      const chunks: Array<Buffer> = []
      for (
        let chunk = yield* Effect.promise(reader.next);
        chunk !== undefined;
        chunk = yield* Effect.promise(reader.next)
      )
        chunks.push(Buffer.from(chunk))
      return Buffer.concat(chunks)
    }),
  )

/** One case against what its worker knows. */
const judgeCase = Effect.fnUntraced(function* (
  journal: Journal,
  tenant: Tenant,
  store: Effect.Effect.Success<typeof objects>,
  complete: boolean,
) {
  const { project, title } = tenant
  const sentences: Array<string> = []
  const say = (holds: boolean, sentence: string) => {
    if (!holds) sentences.push(`${title}: ${sentence}`)
  }
  const own = <A extends { readonly project: string }>(entries: ReadonlyArray<A>) =>
    entries.filter((entry) => entry.project === project)
  const ready = yield* listed(tenant, "ready")
  const deleted = yield* listed(tenant, "deleted")
  const every = [...ready, ...deleted]
  const states = new Map<string, string>()
  for (const { id } of ready) states.set(id, "ready")
  for (const { id } of deleted) states.set(id, "deleted")

  for (const { name, project: handle, id } of own(journal.of("made"))) {
    say(states.has(id), `${id} was acknowledged and is not there`)
    const others = own(journal.of("made")).filter((made) => made.name === name && made.id !== id)
    say(others.length === 0, `${name} of ${handle} was acknowledged as two artifacts`)
  }
  for (const { key, name, refused, size } of own(journal.of("upload"))) {
    const found = every.filter((artifact) => artifact.name === name)
    if (refused) say(found.length === 0, `${name} had to be refused and is there`)
    else if (key === undefined) say(found.length <= 1, `${name} is there ${found.length} times`)
    else say(found.length === 1, `${name} is there ${found.length} times`)
    const digest = sha256(contentOf(name, size))
    for (const artifact of found)
      say(artifact.size === size && artifact.sha256 === digest, `${name} is there with another size or digest`)
  }
  for (const { id } of own(journal.of("deleted")))
    say(states.get(id) === "deleted", `${id} was deleted and is ${states.get(id)}`)
  const asked = new Set(own(journal.of("delete")).map(({ id }) => id))
  for (const { id } of deleted) say(asked.has(id), `${id} is deleted, and nobody asked for that`)

  const keys = new Set(ready.map(({ id }) => `${project}/${id}`))
  const here = (all: ReadonlyArray<string>) => all.filter((key) => key.startsWith(`${project}/`))
  const strays = here(store.whole).filter((key) => !keys.has(key))
  // The listing of the store is not asked before `complete`: rows and queue must lead to what a fault leaves behind.
  const lenient = !complete && own(journal.of("paused")).length > 0
  say(lenient || strays.length === 0, `${strays.length} objects without a row, among them ${strays[0]}`)
  say(!complete || here(store.partial).length === 0, `${here(store.partial).length} unfinished writes are left`)
  for (const artifact of ready) {
    const key = `${project}/${artifact.id}`
    const bytes = here(store.whole).includes(key) ? yield* readWhole(key, artifact.size) : undefined
    say(
      bytes !== undefined && sha256(bytes) === artifact.sha256,
      `the bytes of ${artifact.name} are not what they were`,
    )
  }

  const handle = ProjectHandle.make(project)
  const { pendingCount, usage } = yield* (yield* ProjectStore).get(handle)
  say(pendingCount === 0, `${pendingCount} uploads are still pending`)
  const counters = yield* (yield* QuotaCounters).usage(handle)
  say(counters.reservedBytes === 0, `${counters.reservedBytes} bytes are still reserved`)
  say(
    counters.usedBytes === usage.usedBytes,
    `the counters say ${counters.usedBytes} bytes, the row ${usage.usedBytes}`,
  )
  return { sentences, ready, deleted }
})

/** Artifacts by id, with the cases they belong to. */
type Known = ReadonlyMap<string, { readonly state: "ready" | "deleted"; readonly title: string }>

/** The stream: each fact once, nothing else, and in the order in which it was told. */
const judgeStream = (journal: Journal, artifacts: Known) =>
  Effect.gen(function* () {
    const bus = yield* EventBus
    const sentences: Array<string> = []
    const top = yield* bus.top
    const entries = yield* factsOfStream
    const foreign = new Set(journal.of("foreign").map(({ id }) => id))
    const forgotten = new Set(journal.of("forgotten").map(({ fact }) => fact))
    const dense = entries.length === top && entries.every(({ sequence }, index) => sequence === index + 1)
    if (foreign.size === 0 && forgotten.size === 0 && !dense)
      sentences.push(`the stream is not dense from 1: ${entries.length} entries, the last at ${top}`)
    const facts = entries.filter(({ id }) => !foreign.has(id)).map(({ fact }) => fact)
    const seen = new Set(facts)
    const titled = (fact = "") => `${fact} of "${artifacts.get(fact.split(" ")[1] ?? "")?.title}"`
    if (seen.size !== facts.length) {
      const twice = facts.find((fact, index) => facts.indexOf(fact) !== index)
      sentences.push(`${facts.length - seen.size} facts stand in the stream twice, among them ${titled(twice)}`)
    }
    const expected = new Set(
      [...artifacts].flatMap(([id, { state }]) =>
        state === "deleted" ? [`artifact.created ${id}`, `artifact.deleted ${id}`] : [`artifact.created ${id}`],
      ),
    )
    const lost = [...expected].filter((fact) => !seen.has(fact) && !forgotten.has(fact))
    if (lost.length > 0) sentences.push(`${lost.length} facts are not in the stream, among them ${titled(lost[0])}`)
    const at = new Map(facts.map((fact, index) => [fact, index]))
    const early = [...artifacts.keys()].filter(
      (id) => (at.get(`artifact.deleted ${id}`) ?? Infinity) < (at.get(`artifact.created ${id}`) ?? -1),
    )
    if (early.length > 0)
      sentences.push(
        `${early.length} deletes stand before their artifacts, among them ${titled(`artifact.deleted ${early[0]}`)}`,
      )
    const invented = [...seen].filter((fact) => !expected.has(fact))
    if (invented.length > 0) sentences.push(`${invented.length} events of what is not, among them ${invented[0]}`)
    return sentences
  })

/** What belongs to no case: the sums of all projects, the queues, the stream. */
const judgeWhole = (journal: Journal, artifacts: Known) =>
  Effect.gen(function* () {
    const sentences: Array<string> = []
    const usage = yield* pages<BookedUsage, DependencyUnavailable, Audit>((last) =>
      Effect.flatMap(Audit, (audit) => audit.usage(last?.project, 100)),
    )
    const titles = new Map(journal.of("tenant").map(({ project, title }) => [project as string, title]))
    for (const { booked, project, summed } of usage)
      if (booked.bytes !== summed.bytes || booked.count !== summed.count)
        sentences.push(`${titles.get(project)}: the usage says ${booked.bytes} bytes, the artifacts ${summed.bytes}`)
    const { waiting } = yield* (yield* RemovalQueue).backlog
    if (waiting > 0) sentences.push(`${waiting} removals are still queued`)
    const { rows } = yield* (yield* Outbox).lag
    if (rows > 0) sentences.push(`${rows} events are not known to be in the stream`)
    return [...sentences, ...(yield* judgeStream(journal, artifacts))]
  })

/**
 * What must hold once every worker went on and every duty was done: of these cases, and of the plane as a whole if these
 * are all. Before `complete`, objects without a row are forgiven to paused processes, and unfinished writes to all: only
 * the listing of the store finds those.
 */
export const judge = (journal: Journal, tenants: ReadonlyArray<Tenant>, complete: boolean) =>
  Effect.gen(function* () {
    const store = yield* objects
    const cases = yield* Effect.forEach(tenants, (tenant) => judgeCase(journal, tenant, store, complete), {
      concurrency: 8,
    })
    const doubted = tenants.filter((_, index) => (cases[index]?.sentences.length ?? 0) > 0)
    const sentences = cases.flatMap((one) => one.sentences)
    if (tenants.length < journal.of("tenant").length) return { sentences, doubted }
    const artifacts: Known = new Map<string, { readonly state: "ready" | "deleted"; readonly title: string }>(
      cases.flatMap(({ deleted, ready }, index) => {
        const title = tenants[index]?.title ?? ""
        return [
          ...ready.map(({ id }) => [id as string, { state: "ready", title }] as const),
          ...deleted.map(({ id }) => [id as string, { state: "deleted", title }] as const),
        ]
      }),
    )
    return { sentences: [...sentences, ...(yield* judgeWhole(journal, artifacts))], doubted }
  })
