import { expect, layer } from "@effect/vitest"
import { Clock, Effect, Either, Fiber, Layer, Option } from "effect"
import { inject } from "vitest"
import { layer as metadataLayer } from "../../layers/MetadataStore/Postgres.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { Principal, type ProjectCaller } from "../../src/domain/Principal.ts"
import {
  agent,
  artifactId,
  begun,
  claimProof,
  eventId,
  lineage,
  newProject,
  published,
  requestFor,
  Scene,
  sceneLayer,
  waiting,
  whileProjectHeld,
} from "./postgresScene.ts"

const url = inject("postgresUrl")

const tagOf = <A, E extends { readonly _tag: string }>(either: Either.Either<A, E>) =>
  Either.isLeft(either) ? either.left._tag : "success"

/** Begins an upload under the key; returns how that ended. */
const beginKeyed = (caller: ProjectCaller, key: string) =>
  Effect.gen(function* () {
    const id = artifactId()
    const { _tag } = yield* (yield* MetadataStore).begin({
      id,
      project: caller.project,
      blobKey: id,
      createdBy: agent,
      reservedBytes: 1,
      idempotency: { key, principal: agent },
    })
    return _tag
  })

/** Nothing became ready, nothing is charged and no event was written. */
const untouched = (project: string) =>
  Effect.gen(function* () {
    const [row] = yield* (yield* Scene).run(
      `select p.used_bytes, p.artifact_count, p.usage_version,
         (select count(*) from artifacts where project = p.handle and state <> 'pending') as done,
         (select count(*) from events where project = p.handle) as events
       from projects p where handle = $1`,
      [project],
    )
    expect(row).toEqual({ used_bytes: "0", artifact_count: "0", usage_version: "1", done: "0", events: "0" })
  })

if (url !== null)
  layer(sceneLayer(url), { excludeTestServices: true })("MetadataStore under concurrency, native Postgres", (it) => {
    it.effect("a claim that expires while its commit waits for the project is lost", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newProject({ leaseSeconds: 1 })
        const id = yield* begun(caller)
        const result = yield* whileProjectHeld(caller.project, store.commit(requestFor(caller, id)), Effect.sleep(1100))
        expect(tagOf(result)).toBe("LeaseLost")
        yield* untouched(caller.project)
      }),
    )

    it.effect("a key that expires while its commit waits for the project is refused", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const scene = yield* Scene
        const caller = yield* newProject()
        const id = yield* begun(caller)
        yield* scene.run("update api_keys set expires_at = clock_timestamp() + interval '0.5 second' where id = $1", [
          caller.keyId,
        ])
        const result = yield* whileProjectHeld(caller.project, store.commit(requestFor(caller, id)), Effect.sleep(600))
        expect(tagOf(result)).toBe("Unauthorized")
        yield* untouched(caller.project)
      }),
    )

    it.effect("ending a claim waits for the commit that holds it, which succeeds", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const scene = yield* Scene
        const caller = yield* newProject()
        const id = yield* begun(caller)
        const other = yield* scene.open
        const ended = { yet: false }
        const end = yield* Effect.makeSemaphore(1)
        yield* end.take(1)
        const result = yield* whileProjectHeld(
          caller.project,
          store.commit(requestFor(caller, id)),
          Effect.gen(function* () {
            yield* other
              .run("update claims set ended_at = clock_timestamp() where project = $1", [caller.project])
              .pipe(
                Effect.tap(() => Effect.sync(() => (ended.yet = true))),
                Effect.zipRight(end.release(1)),
                Effect.forkDaemon,
              )
            yield* waiting(2)
            expect(ended.yet).toBe(false)
          }),
        )
        expect(tagOf(result)).toBe("success")
        yield* end.take(1)
        const late = yield* begun(caller)
        expect(tagOf(yield* Effect.either(store.commit(requestFor(caller, late))))).toBe("LeaseLost")
      }).pipe(Effect.scoped),
    )

    it.effect("a commit that finds its claim being ended waits and is refused; a key being revoked too", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const scene = yield* Scene
        for (const [statement, expected] of [
          ["update claims set ended_at = clock_timestamp() where project = $1", "LeaseLost"],
          ["update claims set token_hash = sha256('other'::bytea) where project = $1", "LeaseLost"],
          ["update api_keys set revoked_at = clock_timestamp() where project = $1", "Unauthorized"],
        ] as const) {
          const caller = yield* newProject()
          const id = yield* begun(caller)
          const other = yield* scene.open
          yield* other.run("begin")
          yield* other.run(statement, [caller.project])
          const fiber = yield* Effect.fork(Effect.either(store.commit(requestFor(caller, id))))
          yield* Effect.sleep(200)
          expect(yield* Fiber.poll(fiber)).toEqual(Option.none())
          yield* other.run("commit")
          expect(tagOf(yield* Fiber.join(fiber))).toBe(expected)
          yield* untouched(caller.project)
        }
      }).pipe(Effect.scoped),
    )

    it.effect("no field of the lineage, owner or visibility may differ from the claim's", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newProject()
        const { runId: _, ...withoutRun } = lineage
        const id = yield* begun(caller)
        for (const over of [
          { lineage: { ...lineage, runId: "run:2" } },
          { lineage: withoutRun },
          { lineage: { ...lineage, stepId: "step:2" } },
          { lineage: { ...lineage, jobId: "job:2" } },
          { lineage: { ...lineage, attempt: 4 } },
          { lineage: { ...lineage, workerSessionId: "s2" } },
          { lineage: undefined },
          { owner: new Principal({ kind: "user", id: "worker" }) },
          { owner: new Principal({ kind: "agent", id: "other" }) },
          { visibility: "private" as const },
          { lease: { ...claimProof, tokenHash: new Uint8Array(32) } },
          { lease: undefined },
        ])
          expect(tagOf(yield* Effect.either(store.commit(requestFor(caller, id, over))))).toBe("LeaseLost")
        yield* untouched(caller.project)
        expect((yield* store.commit(requestFor(caller, id))).artifact.lineage).toEqual(lineage)
      }),
    )

    it.effect("an introspected proof is too old after 2 s, waiting included, and an earlier attempt is refused", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newProject()
        const id = yield* begun(caller)
        const asked = (ageMillis: number, attempt = 3) =>
          Effect.map(Clock.currentTimeMillis, (now) =>
            requestFor(caller, id, {
              lineage: { ...lineage, attempt },
              lease: { _tag: "Introspected", tokenHash: claimProof.tokenHash, askedAtMillis: now - ageMillis },
            }),
          )
        expect(tagOf(yield* Effect.either(store.commit(yield* asked(2001))))).toBe("LeaseLost")
        const waited = yield* whileProjectHeld(
          caller.project,
          Effect.flatMap(asked(1500), store.commit),
          Effect.sleep(600),
        )
        expect(tagOf(waited)).toBe("LeaseLost")
        yield* untouched(caller.project)
        yield* store.commit(yield* asked(100))
        const second = yield* begun(caller)
        const late = yield* asked(0, 2)
        expect(tagOf(yield* Effect.either(store.commit({ ...late, id: second })))).toBe("LeaseLost")
      }),
    )

    it.effect("outcome waits for a commit still under way; a second commit of the row returns the first", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newProject()
        const id = yield* begun(caller)
        const request = requestFor(caller, id)
        const result = yield* whileProjectHeld(
          caller.project,
          Effect.all([store.commit(request), Effect.delay(store.outcome(id), 50)], { concurrency: 2 }),
          waiting(2),
        )
        const [committed, outcome] = yield* result
        expect(outcome).toEqual({ _tag: "Ready", ...committed })
        expect(yield* store.commit({ ...request, eventId: eventId() })).toEqual(committed)
      }),
    )

    it.effect("a fence waits for a commit under way and then changes nothing; a fenced row cannot commit", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const caller = yield* newProject()
        const id = yield* begun(caller)
        const result = yield* whileProjectHeld(
          caller.project,
          Effect.all([store.commit(requestFor(caller, id)), Effect.delay(store.fence(id), 50)], { concurrency: 2 }),
          waiting(2),
        )
        expect(tagOf(result)).toBe("success")
        yield* store.forget(id)
        expect((yield* store.find(caller, id, { includeDeleted: false })).id).toBe(id)
        const fenced = yield* begun(caller)
        yield* store.fence(fenced)
        expect(tagOf(yield* Effect.either(store.commit(requestFor(caller, fenced))))).toBe("UploadFenced")
      }),
    )

    it.effect("of 20 begins with one key one stays unfenced, also while a commit holds the project's row", () =>
      Effect.gen(function* () {
        const scene = yield* Scene
        const caller = yield* newProject()
        const holder = yield* scene.open
        yield* holder.run("begin")
        yield* holder.run("select 1 from projects where handle = $1 for no key update", [caller.project])
        const tags = yield* Effect.replicateEffect(beginKeyed(caller, "k"), 20, { concurrency: 20 })
        yield* holder.run("rollback")
        expect(new Set(tags)).toEqual(new Set(["Begun"]))
        const rows = yield* scene.run(
          `select count(*) filter (where fenced_at is null)::int as unfenced,
             count(*) filter (where superseded_by is not null and idempotency_hash is null)::int as superseded
           from artifacts where project = $1`,
          [caller.project],
        )
        expect(rows).toEqual([{ unfenced: 1, superseded: 19 }])
      }).pipe(Effect.scoped),
    )

    it.effect("two pods that begin the same keys at once, in any order, never wait for each other in a circle", () =>
      Effect.gen(function* () {
        const scene = yield* Scene
        const caller = yield* newProject()
        const pods = yield* Effect.replicateEffect(
          Effect.provide(MetadataStore, Layer.fresh(metadataLayer({ defaultQuotaBytes: 1_000_000 }))),
          2,
        )
        for (let round = 0; round < 20; round++) {
          const keys = Array.from({ length: 40 }, (_, index) => `${round}-${index}`)
          const both = [keys, keys.toReversed()]
          const tags = yield* Effect.forEach(
            pods,
            (pod, index) =>
              Effect.forEach(
                both[index] ?? [],
                (key) => Effect.provideService(beginKeyed(caller, key), MetadataStore, pod),
                { concurrency: 40 },
              ),
            { concurrency: 2 },
          )
          expect(new Set(tags.flat())).toEqual(new Set(["Begun"]))
        }
        const [counted] = yield* scene.run(
          `select count(*) filter (where fenced_at is null)::int as unfenced,
             (select deadlocks::int from pg_stat_database where datname = current_database()) as deadlocks
           from artifacts where project = $1`,
          [caller.project],
        )
        expect(counted).toEqual({ unfenced: 800, deadlocks: 0 })
      }),
    )

    it.effect(
      "40 commits into room for 10, deletes twice over, claims and limits changing: books right, no deadlock",
      () =>
        Effect.gen(function* () {
          const store = yield* MetadataStore
          const scene = yield* Scene
          const caller = yield* newProject({ quota: 100 })
          const lane = Effect.either(published(caller))
          const stir = Effect.forEach(Array.from({ length: 10 }), () =>
            scene
              .run("update claims set expires_at = clock_timestamp() + interval '1 min' where project = $1", [
                caller.project,
              ])
              .pipe(
                Effect.zipRight(
                  scene.run(
                    "update projects set quota_bytes = 100, usage_version = usage_version + 1 where handle = $1",
                    [caller.project],
                  ),
                ),
              ),
          )
          const [results] = yield* Effect.all(
            [
              Effect.all(
                Array.from({ length: 40 }, () => lane),
                { concurrency: 40 },
              ),
              stir,
            ],
            {
              concurrency: 2,
            },
          )
          const made = results.filter(Either.isRight).map(({ right }) => right)
          expect(made).toHaveLength(10)
          expect(new Set(results.filter(Either.isLeft).map(({ left }) => left._tag))).toEqual(
            new Set(["QuotaExceeded"]),
          )
          const removals = yield* Effect.all(
            [...made, ...made].map(({ id }) => store.remove(caller, id, eventId())),
            { concurrency: 20 },
          )
          expect(removals.filter(({ usage }) => usage !== undefined)).toHaveLength(10)
          const [books] = yield* scene.run(
            `select used_bytes, artifact_count, (select deadlocks from pg_stat_database where datname = current_database())
           from projects where handle = $1`,
            [caller.project],
          )
          expect(books).toEqual({ used_bytes: "0", artifact_count: "0", deadlocks: "0" })
        }),
    )
  })
