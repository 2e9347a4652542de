import { expect, layer } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { inject } from "vitest"
import { Outbox } from "../../services/Outbox.ts"
import { RemovalQueue } from "../../services/RemovalQueue.ts"
import { Scene, sceneLayer } from "./postgresScene.ts"

const url = inject("postgresUrl")

interface Plan {
  readonly "QUERY PLAN": ReadonlyArray<{
    readonly Plan: Readonly<Record<"Shared Hit Blocks" | "Shared Read Blocks", number>>
  }>
}

/** Pages that a statement looks at. */
const pagesOf = (statement: string) =>
  Effect.gen(function* () {
    const { run } = yield* Scene
    const rows = (yield* run(`explain (analyze, buffers, format json) ${statement}`)) as ReadonlyArray<unknown>
    const plan = (rows as ReadonlyArray<Plan>)[0]?.["QUERY PLAN"][0]?.Plan
    return (plan?.["Shared Hit Blocks"] ?? Infinity) + (plan?.["Shared Read Blocks"] ?? Infinity)
  })

if (url !== null)
  layer(sceneLayer(url), { excludeTestServices: true })("What the background looks up again and again", (it) => {
    it.effect("projects with work: the cost does not grow with what was published since the last vacuum", () =>
      Effect.gen(function* () {
        const { run } = yield* Scene
        yield* run(`
          alter table artifacts set (autovacuum_enabled = off);
          insert into projects (handle) select 'many-' || n from generate_series(1, 100) n;
          update project_duties set due_at = now() + interval '1 hour'`)
        yield* run("vacuum analyze")
        const look = pagesOf("select project from due_projects(45, 500)")
        const rounds: Array<number> = []
        for (let round = 0; round < 8; round++) {
          yield* run(
            `insert into artifacts (id, project, state, blob_key, created_by_kind, created_by_id)
             select 'art_' || n, 'many-' || (1 + n % 100), 'pending', n::text, 'agent', 'a'
             from generate_series($1 * 5000 + 1, $1 * 5000 + 5000) n`,
            [round],
          )
          yield* run(`update artifacts set state = 'ready', name = 'n', mime = 'm', size = 1, sha256 = 's', metadata = '{}',
            visibility = 'shared', owner_kind = 'agent', owner_id = 'a', created_at = now() where state = 'pending'`)
          // A look marks what is dead, for all that come after it, once no transaction can see it: an analyze may.
          yield* look
          rounds.push(
            yield* Effect.repeat(look, {
              until: (pages) => pages < 1.5 * (rounds[0] ?? 500),
              schedule: Schedule.intersect(Schedule.spaced(200), Schedule.recurs(25)),
            }).pipe(Effect.zipRight(look)),
          )
        }
        expect(rounds[7]).toBeLessThan(1.5 * (rounds[0] ?? 0))
      }),
    )

    it.effect("backlogs are counted up to a bound", () =>
      Effect.gen(function* () {
        const { run } = yield* Scene
        yield* run(`
          insert into events (id, sequence, type, project, artifact_id, artifact, visibility, owner_kind, owner_id,
            created_by_kind, created_by_id, occurred_at)
          select n::text, case when n % 2 = 0 then n end, 'artifact.created', 'p', n::text, '{}', 'shared', 'agent', 'a', 'agent', 'a',
            now() - interval '1 minute' from generate_series(1, 100010) n;
          insert into removals (blob_key, project, artifact_id, attempts)
          select n::text, 'many-1', 'art_1', case when n <= 7 then 20 else 1 end from generate_series(1, 100010) n`)
        const lag = yield* (yield* Outbox).lag
        expect(lag.rows).toBe(100_000)
        expect(lag.seconds).toBeGreaterThanOrEqual(60)
        expect(yield* (yield* RemovalQueue).backlog).toEqual({ waiting: 100_000, parked: 7 })
      }),
    )

    it.effect("due removals: those that wait for their time cost nothing", () =>
      Effect.gen(function* () {
        const { run } = yield* Scene
        yield* run("update removals set next_attempt_at = now() + interval '1 hour'")
        yield* run("vacuum analyze removals")
        const reads = Effect.map(
          run("select idx_tup_read::int as rows from pg_stat_user_indexes where indexrelname = 'removals_due'"),
          ([row]) => Number(row?.["rows"]),
        )
        const queue = yield* RemovalQueue
        // A session's counters show once it is idle, a second after they last did.
        const seen = Effect.sleep("1100 millis")
        yield* seen
        yield* queue.backlog
        const before = yield* reads
        expect(yield* queue.take(64)).toEqual([])
        yield* seen
        yield* queue.backlog
        yield* Effect.sleep("100 millis")
        expect((yield* reads) - before).toBeLessThan(1000)
      }),
    )
  })
