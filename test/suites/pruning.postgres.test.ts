import { PgClient } from "@effect/sql-pg"
import { expect, layer } from "@effect/vitest"
import { Context, Effect, Layer, Redacted } from "effect"
import { inject } from "vitest"
import * as Messages from "../../layers/ActorMessages/Postgres.ts"
import * as ClaimStores from "../../layers/ClaimStore/Postgres.ts"
import * as Ids from "../../layers/Ids/Random.ts"
import * as Migrations from "../../layers/migrations/Migrations.ts"
import * as Outboxes from "../../layers/Outbox/Postgres.ts"
import { ActorMessages } from "../../services/ActorMessages.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { Outbox } from "../../services/Outbox.ts"
import { pruneAll } from "../../src/actors/Pruning.ts"
import { createDatabase } from "../support/postgres.ts"
import { connect, type Session } from "./postgresScene.ts"

const url = inject("postgresUrl")

class Sql extends Context.Tag("test/pruning/Sql")<Sql, Session>() {}

/** Far shorter than a node's 5 s, as the rows are far fewer than the millions of the field. */
const statementTimeout = "2s"

const scene = (postgresUrl: string) =>
  Layer.unwrapScoped(
    Effect.gen(function* () {
      const own = yield* Effect.promise(() => createDatabase({ url: postgresUrl }))
      const client = (options: string) => PgClient.layer({ url: Redacted.make(`${own}${options}`), maxConnections: 5 })
      yield* Effect.provide(Effect.zipRight(Migrations.migrate, Migrations.migrateEngine), client(""))
      const session = yield* connect(own)
      return Layer.mergeAll(Outboxes.layer, ClaimStores.layer.pipe(Layer.provide(Ids.layer)), Messages.layer).pipe(
        Layer.provide(client(`?options=-c%20statement_timeout%3D${statementTimeout}`)),
        Layer.provideMerge(Layer.succeed(Sql, session)),
      )
    }),
  )

/** Each deleted row of the table costs a millisecond: thousands of them are more than one statement may take. */
const slowDeletes = (table: string) =>
  Effect.flatMap(Sql, ({ run }) =>
    run(`
      create or replace function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.001); return old; end $$;
      create trigger slow before delete on ${table} for each row execute function slow()`),
  )

const count = (from: string) =>
  Effect.flatMap(Sql, ({ run }) =>
    Effect.map(run(`select count(*)::int as rows from ${from}`), ([row]) => Number(row?.["rows"])),
  )

const small = { batch: 50, millis: 60_000 }

if (url !== null)
  layer(scene(url), { excludeTestServices: true })("Pruning what is more than one statement may take", (it) => {
    it.effect("events: step by step to the end, though all at once would be cancelled", () =>
      Effect.gen(function* () {
        const { run } = yield* Sql
        const outbox = yield* Outbox
        yield* slowDeletes("events")
        yield* run(`
          insert into events (id, sequence, type, project, artifact_id, artifact, visibility, owner_kind, owner_id,
            created_by_kind, created_by_id, occurred_at, published_at)
          select 'e' || n, n, 'artifact.created', 'p', 'a' || n, '{}', 'shared', 'agent', 'a', 'agent', 'a', now(),
            case when n <= 2300 then now() - interval '8 days' when n <= 2310 then now() end
          from generate_series(1, 2320) n`)
        const prune = (step: { readonly limit: number; readonly after?: string | undefined }) =>
          outbox.prune(7 * 86_400, step)
        expect(yield* Effect.flip(prune({ limit: 10_000 }))).toMatchObject({ cause: { code: "57014" } })
        expect(yield* pruneAll(prune, { batch: 50, millis: 0 })).toBe(50)
        expect(yield* pruneAll(prune, small)).toBe(2250)
        expect(yield* count("events")).toBe(20)
      }),
    )

    it.effect("tokens: past those of claims that live on, and none of an ended claim's last day", () =>
      Effect.gen(function* () {
        const { run } = yield* Sql
        const claims = yield* ClaimStore
        // Jobs 1 to 120 were taken long ago and live on; all their tokens are of one instant.
        yield* run(`
          insert into projects (handle) values ('tokens');
          insert into claims (project, job_id, attempt, worker_session_id, owner_kind, owner_id, visibility, token_hash,
            lease_seconds, expires_at, ended_at, taken_at)
          select 'tokens', n::text, 1, 's', 'agent', 'a', 'shared', sha256(n::text::bytea), 60,
            case when n <= 120 then now() + interval '1 hour' else now() - interval '3 days' end,
            case when n > 620 then now() - interval '2 hours' end, now() - interval '9 days'
          from generate_series(1, 630) n;
          update claims set expires_at = now() where job_id::int > 620 and project = 'tokens';
          insert into lease_tokens (token_hash, project, job_id, attempt, last_seen_at)
          select token_hash, project, job_id, attempt,
            now() - case when job_id::int <= 120 then interval '9 days' else interval '8 days' end
          from claims where project = 'tokens';
          insert into lease_tokens (token_hash, project, job_id, attempt, introspected_claim, last_seen_at)
          select sha256(('i' || n)::bytea), 'tokens', 'elsewhere', 1, '{}', now() - n * interval '1 day'
          from generate_series(1, 4) n`)
        expect(yield* pruneAll(claims.pruneTokens, small)).toBe(503)
        expect(yield* count("lease_tokens where introspected_claim is null")).toBe(130)
        expect(yield* count("lease_tokens where introspected_claim is not null")).toBe(1)
        expect(yield* pruneAll(claims.pruneTokens, small)).toBe(0)
      }),
    )

    it.effect("claims: past those that live on, and each attempt stays known", () =>
      Effect.gen(function* () {
        const { run } = yield* Sql
        const claims = yield* ClaimStore
        yield* run("delete from claims")
        yield* slowDeletes("claims")
        yield* run(`
          insert into projects (handle) values ('claims');
          insert into claims (project, job_id, attempt, worker_session_id, owner_kind, owner_id, visibility, token_hash,
            lease_seconds, expires_at, ended_at, taken_at)
          select 'claims', (n % 1000)::text, n / 1000, 's', 'agent', 'a', 'shared', sha256(n::text::bytea), 60,
            case when n < 120 then now() + interval '1 hour' else now() - interval '8 days' end, null,
            now() - interval '9 days'
          from generate_series(0, 2999) n;
          insert into job_attempts values ('claims', '998', 9), ('claims', '999', 1)`)
        const prune = (step: { readonly limit: number; readonly after?: string | undefined }) =>
          claims.pruneClaims(7 * 86_400, step)
        expect(yield* Effect.flip(prune({ limit: 10_000 }))).toMatchObject({ cause: { code: "57014" } })
        expect(yield* count("job_attempts")).toBe(2)
        expect(yield* pruneAll(prune, small)).toBe(2880)
        expect(yield* count("claims")).toBe(120)
        const kept = yield* run(
          "select highest_attempt, count(*)::int as jobs from job_attempts where project = 'claims' group by 1 order by 1",
        )
        expect(kept).toEqual([
          { highest_attempt: 2, jobs: 999 },
          { highest_attempt: 9, jobs: 1 },
        ])
      }),
    )

    it.effect("messages of the engine, with their replies, and no unprocessed one", () =>
      Effect.gen(function* () {
        const { run } = yield* Sql
        const messages = yield* ActorMessages
        yield* run(`
          insert into cluster_messages (id, message_id, shard_id, entity_type, entity_id, kind, processed, request_id)
          select id, id::text, '1', 't', 'e', 0, n % 3 > 0, id from (
            select n, (((extract(epoch from now()) - case when n <= 600 then 7200 else 60 end) * 1000
              - 1735689600000)::bigint << 22) + n as id from generate_series(1, 610) n) as ids;
          insert into cluster_replies (id, kind, request_id, payload)
          select id, 0, request_id, '{}' from cluster_messages`)
        expect(yield* pruneAll((step) => messages.prune(3600, step), small)).toBe(400)
        expect(yield* count("cluster_messages")).toBe(210)
        expect(yield* count("cluster_replies")).toBe(210)
      }),
    )

    it.effect("no step reads a whole table", () =>
      Effect.gen(function* () {
        const { run } = yield* Sql
        yield* run("drop trigger slow on events; drop trigger slow on claims; delete from events where id like 'e%'")
        yield* run(`
          insert into events (id, sequence, type, project, artifact_id, artifact, visibility, owner_kind, owner_id,
            created_by_kind, created_by_id, occurred_at, published_at)
          select 'x' || n, 10000 + n, 'artifact.created', 'p', 'x' || n, '{}', 'shared', 'agent', 'a', 'agent', 'a',
            now(), now() - (20001 - n) * interval '1 minute' from generate_series(1, 20000) n;
          insert into claims (project, job_id, attempt, worker_session_id, owner_kind, owner_id, visibility, token_hash,
            lease_seconds, expires_at, taken_at)
          select 'claims', 'x' || n, 1, 's', 'agent', 'a', 'shared', sha256(n::text::bytea), 60,
            now() - n * interval '1 minute', now() - n * interval '1 minute' from generate_series(1, 20000) n;
          insert into lease_tokens (token_hash, project, job_id, attempt, last_seen_at)
          select sha256(('x' || job_id)::bytea), project, job_id, attempt, taken_at from claims where job_id like 'x%'`)
        yield* run(`
          insert into cluster_messages (id, message_id, shard_id, entity_type, entity_id, kind, processed, request_id)
          select n, 'x' || n, '1', 't', 'e', 0, true, n from generate_series(1, 20000) n`)
        yield* run("vacuum analyze")
        const [claims, outbox, messages] = [yield* ClaimStore, yield* Outbox, yield* ActorMessages]
        // A session's counters show once it is idle, a second after they last did.
        const seen = Effect.sleep("1100 millis")
        const scansOf = (kind: "seq_scan" | "idx_scan") =>
          Effect.map(
            run(`select ${kind}::int as scans from pg_stat_user_tables
              where relname in ('claims', 'cluster_messages', 'events', 'lease_tokens') order by relname`),
            (rows) => rows.map(({ scans }) => Number(scans)),
          )
        yield* seen
        yield* outbox.state
        const [whole, indexed] = [yield* scansOf("seq_scan"), yield* scansOf("idx_scan")]
        expect(yield* outbox.prune(7 * 86_400, { limit: 1000 })).toMatchObject({ removed: 1000 })
        yield* seen
        expect(yield* claims.pruneTokens({ limit: 1000 })).toMatchObject({ removed: 1000 })
        yield* seen
        expect(yield* claims.pruneClaims(7 * 86_400, { limit: 1000 })).toMatchObject({ next: expect.any(String) })
        yield* seen
        expect(yield* messages.prune(3600, { limit: 1000 })).toMatchObject({ removed: 1000 })
        yield* seen
        expect(yield* scansOf("seq_scan")).toEqual(whole)
        for (const [table, scans] of (yield* scansOf("idx_scan")).entries())
          expect(scans).toBeGreaterThan(indexed[table] ?? Infinity)
      }),
    )
  })
