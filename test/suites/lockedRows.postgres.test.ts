import { expect, layer } from "@effect/vitest"
import { Effect, Either, Fiber, Option, Schedule } from "effect"
import { inject } from "vitest"
import { layer as metadataLayer } from "../../layers/MetadataStore/Postgres.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import { claimOf } from "./fixtures.ts"
import { begun, newProject, published, requestFor, Scene, sceneLayer } from "./postgresScene.ts"

const url = inject("postgresUrl")

/** A commit under way, and the id of its upload. */
const committing = (caller: ProjectCaller) =>
  Effect.gen(function* () {
    const id = yield* begun(caller)
    const fiber = yield* Effect.fork((yield* MetadataStore).commit(requestFor(caller, id)))
    return { id, fiber, isDone: Effect.map(Fiber.poll(fiber), Option.isSome) }
  })

/** A session that holds the rows of `statement` until `letGo`. */
const holding = (statement: string, values: ReadonlyArray<unknown>) =>
  Effect.gen(function* () {
    const session = yield* (yield* Scene).open
    yield* session.run("begin")
    yield* session.run(statement, values)
    return { letGo: session.run("rollback") }
  })

/** What a commit reads besides its project: each is locked by another transaction in turn. */
const lockings = [
  ["claim", "update claims set ended_at = clock_timestamp() where project = $1"],
  ["API key", "update api_keys set revoked_at = clock_timestamp() where project = $1"],
  ["upload's row", "select 1 from artifacts where project = $1 and state = 'pending' for update"],
] as const

if (url !== null)
  layer(sceneLayer(url), { excludeTestServices: true })("Rows that another transaction has locked", (it) => {
    for (const [what, statement] of lockings)
      it.effect(`a commit whose ${what} is locked waits alone`, () =>
        Effect.gen(function* () {
          const [victim, other] = [yield* newProject(), yield* newProject()]
          const id = yield* begun(victim)
          const { letGo } = yield* holding(statement, [victim.project])
          const fiber = yield* Effect.fork((yield* MetadataStore).commit(requestFor(victim, id)))
          yield* Effect.sleep("100 millis")
          yield* Effect.timeout(Effect.replicateEffect(published(other), 5), "5 seconds")
          expect(Option.isNone(yield* Fiber.poll(fiber))).toBe(true)
          yield* letGo
          expect((yield* Fiber.join(fiber)).artifact.id).toBe(id)
        }).pipe(Effect.scoped),
      )

    it.effect("a locked claim holds up no other job of its project", () =>
      Effect.gen(function* () {
        const caller = yield* newProject()
        const { letGo } = yield* holding("update claims set ended_at = clock_timestamp() where project = $1", [
          caller.project,
        ])
        const victim = yield* committing(caller)
        yield* Effect.sleep("100 millis")
        const free = { lineage: undefined, lease: undefined }
        yield* Effect.timeout(Effect.replicateEffect(published(caller, free), 5), "5 seconds")
        expect(yield* victim.isDone).toBe(false)
        yield* letGo
        expect((yield* Fiber.join(victim.fiber)).artifact.id).toBe(victim.id)
      }).pipe(Effect.scoped),
    )

    it.effect("many projects whose rows are held for long leave the queue to one that is held for a moment", () =>
      Effect.gen(function* () {
        const project = "select 1 from projects where handle = $1 for no key update"
        const stuck = yield* Effect.replicateEffect(newProject(), 6)
        const held = yield* Effect.forEach(stuck, (caller) => holding(project, [caller.project]))
        const victims = yield* Effect.forEach(stuck, committing)
        yield* Effect.sleep("100 millis")
        const brief = yield* newProject()
        const moment = yield* holding(project, [brief.project])
        const commit = yield* committing(brief)
        yield* Effect.sleep("100 millis")
        expect(yield* commit.isDone).toBe(false)
        yield* moment.letGo
        yield* Effect.timeout(Fiber.join(commit.fiber), "8 seconds")
        expect(yield* Effect.forEach(victims, ({ isDone }) => isDone)).toEqual(stuck.map(() => false))
        for (const { letGo } of held) yield* letGo
        yield* Effect.forEach(victims, ({ fiber }) => Fiber.join(fiber))
      }).pipe(Effect.scoped),
    )

    it.effect("two nodes commit while the claim is superseded and the key revoked: none is made after either", () =>
      Effect.gen(function* () {
        const claims = yield* ClaimStore
        const { run } = yield* Scene
        const here = yield* MetadataStore
        const there = yield* Effect.provide(MetadataStore, metadataLayer({ defaultQuotaBytes: 1_000_000 }))
        let refused = 0
        for (let round = 0; round < 20; round++) {
          const caller = yield* newProject()
          const ids = yield* Effect.replicateEffect(begun(caller), 12)
          const commits = Effect.forEach(
            ids,
            (id, index) => Effect.either((index % 2 === 0 ? here : there).commit(requestFor(caller, id))),
            { concurrency: "unbounded" },
          )
          const ready = Effect.map(
            run("select artifact_count::int as made from projects where handle = $1", [caller.project]),
            ([row]) => Number(row?.["made"]),
          )
          const end: Effect.Effect<unknown, unknown> =
            round % 2 === 0
              ? claims.put(claimOf(caller.project, { attempt: 4 }), 60)
              : run("update api_keys set revoked_at = clock_timestamp() where id = $1", [caller.keyId])
          const [results, made] = yield* Effect.all(
            [commits, Effect.delay(Effect.zipRight(end, ready), Math.floor(Math.random() * 20))],
            { concurrency: 2 },
          )
          const lefts = results.filter(Either.isLeft)
          expect(results.length - lefts.length).toBe(made)
          for (const { left } of lefts) expect(left._tag).toBe(round % 2 === 0 ? "LeaseLost" : "Unauthorized")
          refused += lefts.length
        }
        expect(refused).toBeGreaterThan(0)
      }),
    )

    it.effect("no transaction stays open between two statements, of a commit or of a claim that is taken", () =>
      Effect.gen(function* () {
        const scene = yield* Scene
        const caller = yield* newProject()
        const introspected = Effect.clockWith((clock) =>
          Effect.flatMap(clock.currentTimeMillis, (now) =>
            published(caller, {
              lease: { _tag: "Introspected", tokenHash: new Uint8Array(32), askedAtMillis: now },
            }),
          ),
        )
        const open = yield* scene
          .run("select query from pg_stat_activity where datname = current_database() and state like 'idle in tr%'")
          .pipe(Effect.repeat({ schedule: Schedule.spaced(1), while: (rows) => rows.length === 0 }), Effect.fork)
        const claims = yield* ClaimStore
        const taken = Effect.forEach(Array.from({ length: 60 }), (_, attempt) =>
          claims.put(claimOf(caller.project, { jobId: "job:2", attempt }), 60),
        )
        yield* Effect.replicateEffect(introspected, 60)
        yield* taken
        expect(yield* Fiber.poll(open)).toEqual(Option.none())
        yield* Fiber.interrupt(open)
      }),
    )
  })
