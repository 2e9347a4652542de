import { PgClient } from "@effect/sql-pg"
import { Context, DateTime, Effect, Fiber, Layer, Redacted } from "effect"
import { createHash, randomUUID } from "node:crypto"
import { Client } from "pg"
import { layer as claimLayer } from "../../layers/ClaimStore/Postgres.ts"
import { layer as idsLayer } from "../../layers/Ids/Random.ts"
import { layer as metadataLayer } from "../../layers/MetadataStore/Postgres.ts"
import { migrate } from "../../layers/migrations/Migrations.ts"
import { layer as outboxLayer } from "../../layers/Outbox/Postgres.ts"
import { layer as removalLayer } from "../../layers/RemovalQueue/Postgres.ts"
import type { CommitRequest } from "../../services/MetadataStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { ArtifactId, CredentialId, EventId, ProjectHandle, Sha256 } from "../../src/domain/Ids.ts"
import { Lineage } from "../../src/domain/Artifact.ts"
import { type Permission, Principal, ProjectCaller } from "../../src/domain/Principal.ts"
import { createDatabase } from "../support/postgres.ts"

type Rows = ReadonlyArray<Record<string, unknown>>

/** SQL beside the stores, to hold locks and to look at rows as they are. */
export interface Session {
  readonly run: (text: string, values?: ReadonlyArray<unknown>) => Effect.Effect<Rows>
}

/** A database of the test file's own on the run's native Postgres. */
export class Scene extends Context.Tag("test/Scene")<
  Scene,
  Session & { readonly open: Effect.Effect<Session, never, import("effect/Scope").Scope> }
>() {}

export const connect = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client({ connectionString: url })
      await client.connect()
      return client
    }),
    (client) => Effect.promise(() => client.end()),
  ).pipe(
    Effect.map((client): Session => ({
      run: (text, values = []) => Effect.promise(async () => (await client.query(text, [...values])).rows as Rows),
    })),
  )

export const sceneLayer = (postgresUrl: string) =>
  Layer.unwrapScoped(
    Effect.gen(function* () {
      const url = yield* Effect.promise(() => createDatabase({ url: postgresUrl }))
      const session = yield* connect(url)
      const client = PgClient.layer({ url: Redacted.make(url), maxConnections: 40 })
      yield* Effect.provide(migrate, client)
      const claims = claimLayer.pipe(Layer.provide(idsLayer))
      return Layer.mergeAll(metadataLayer({ defaultQuotaBytes: 1_000_000 }), outboxLayer, removalLayer, claims).pipe(
        Layer.provideMerge(client),
        Layer.provideMerge(Layer.succeed(Scene, { ...session, open: connect(url) })),
      )
    }),
  )

const tag = () => randomUUID().replaceAll("-", "")
export const artifactId = () => ArtifactId.make(`art_${tag()}`)
export const eventId = () => EventId.make(`sevt_${tag()}`)
export const agent = new Principal({ kind: "agent", id: "worker" })
export const tokenHash = createHash("sha256").update("lease").digest()
export const lineage = new Lineage({
  runId: "run:1",
  stepId: "step:1",
  jobId: "job:1",
  workerSessionId: "s1",
  attempt: 3,
})
export const claimProof = { _tag: "ClaimRow", tokenHash } as const

const everything: ReadonlyArray<Permission> = ["mobius.project.view", "mobius.project.edit", "mobius.work.execute"]

/** A project with a key and one live claim (job:1, attempt 3, shared, owned by the worker). */
export const newProject = (options: { readonly quota?: number; readonly leaseSeconds?: number } = {}) =>
  Effect.gen(function* () {
    const scene = yield* Scene
    const project = ProjectHandle.make(`p-${tag()}`)
    const keyId = CredentialId.make(`cred_${tag()}`)
    yield* scene.run("insert into projects (handle, quota_bytes) values ($1, $2)", [project, options.quota ?? null])
    yield* scene.run(
      `insert into api_keys (id, project, key_hash, principal_kind, principal_id, permissions)
       values ($1::text, $2, sha256(convert_to($1::text, 'UTF8')), 'agent', 'worker', '{}')`,
      [keyId, project],
    )
    yield* scene.run(
      `insert into claims (project, job_id, attempt, run_id, step_id, worker_session_id, owner_kind, owner_id,
         visibility, token_hash, lease_seconds, expires_at)
       values ($1, 'job:1', 3, 'run:1', 'step:1', 's1', 'agent', 'worker', 'shared', $2, 60,
         clock_timestamp() + $3 * interval '1 second')`,
      [project, tokenHash, options.leaseSeconds ?? 60],
    )
    return new ProjectCaller({ keyId, project, principal: agent, permissions: everything })
  })

export const as = (caller: ProjectCaller, id: string, permissions: ReadonlyArray<Permission>) =>
  new ProjectCaller({ ...caller, principal: new Principal({ kind: "user", id }), permissions })

export const begun = (caller: ProjectCaller) =>
  Effect.gen(function* () {
    const id = artifactId()
    const { project } = caller
    yield* (yield* MetadataStore).begin({ id, project, blobKey: id, createdBy: agent, reservedBytes: 10 })
    return id
  })

/** Under the claim of `newProject` unless `over` says otherwise. */
export const requestFor = (
  caller: ProjectCaller,
  id: ArtifactId,
  over: Partial<CommitRequest> = {},
): CommitRequest => ({
  id,
  project: caller.project,
  name: "report.md",
  mime: "text/markdown",
  size: 10,
  sha256: Sha256.make("ab".repeat(32)),
  metadata: {},
  visibility: "shared",
  owner: agent,
  lineage,
  keyId: caller.keyId,
  eventId: eventId(),
  lease: claimProof,
  ...over,
})

export const published = (caller: ProjectCaller, over: Partial<CommitRequest> = {}) =>
  Effect.gen(function* () {
    const id = yield* begun(caller)
    return (yield* (yield* MetadataStore).commit(requestFor(caller, id, over))).artifact
  })

/** Until `count` sessions of this database wait for a lock; fails after 5 s. */
export const waiting = (count: number) =>
  Effect.gen(function* () {
    const scene = yield* Scene
    const until = DateTime.toEpochMillis(yield* DateTime.now) + 5000
    for (;;) {
      const rows = yield* scene.run(
        `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      )
      if (rows.length >= count) return
      if (DateTime.toEpochMillis(yield* DateTime.now) > until) return yield* Effect.die("nothing waits for a lock")
      yield* Effect.sleep(10)
    }
  })

/** Runs `effect` while another session holds the project's row, and lets go once `during` is over. */
export const whileProjectHeld = <A, E, R, R2>(
  project: string,
  effect: Effect.Effect<A, E, R>,
  during: Effect.Effect<unknown, never, R2>,
) =>
  Effect.scoped(
    Effect.gen(function* () {
      const holder = yield* (yield* Scene).open
      yield* holder.run("begin")
      yield* holder.run("select 1 from projects where handle = $1 for update", [project])
      const fiber = yield* Effect.fork(effect)
      yield* waiting(1)
      yield* during
      yield* holder.run("commit")
      return yield* Fiber.await(fiber).pipe(Effect.flatten, Effect.either)
    }),
  )
