import { Effect, Either, Layer, Redacted } from "effect"
import { Client } from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { layer as authenticatorLayer } from "../../layers/Authenticator/Postgres.ts"
import { layer as claimLayer } from "../../layers/ClaimStore/Postgres.ts"
import { layer as postgresLayer } from "../../layers/clients/Postgres.ts"
import { layer as idsLayer } from "../../layers/Ids/Random.ts"
import { layer as metadataLayer } from "../../layers/MetadataStore/Postgres.ts"
import { migrate } from "../../layers/migrations/Migrations.ts"
import { layer as outboxLayer } from "../../layers/Outbox/Postgres.ts"
import { layer as projectLayer } from "../../layers/ProjectStore/Postgres.ts"
import { Authenticator } from "../../services/Authenticator.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { Outbox } from "../../services/Outbox.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { Claim } from "../../src/domain/Claim.ts"
import { CredentialId, ProjectHandle } from "../../src/domain/Ids.ts"
import { Principal, ProjectCaller } from "../../src/domain/Principal.ts"
import { type PostgresServer, startPostgres } from "../support/postgres.ts"
import { agent, artifactId, eventId, requestFor } from "../suites/postgresScene.ts"

let postgres: PostgresServer

const quota = { defaultQuotaBytes: 1_000_000 }
const stores = Layer.mergeAll(
  authenticatorLayer,
  claimLayer,
  metadataLayer(quota),
  outboxLayer,
  projectLayer(quota),
).pipe(Layer.provide(idsLayer))

const pool = (patient = false) => postgresLayer({ url: Redacted.make(postgres.url), poolSize: 4, patient })

/** The stores over the product's own pool, for as long as the work takes. */
const withStores = <A, E>(work: Effect.Effect<A, E, Layer.Layer.Success<typeof stores>>): Promise<A> =>
  Effect.runPromise(Effect.provide(work, Layer.provide(stores, pool())))

const query = async (text: string, values: ReadonlyArray<unknown> = []) => {
  const client = new Client({ connectionString: postgres.url })
  await client.connect()
  try {
    return (await client.query(text, [...values])).rows
  } finally {
    await client.end()
  }
}

/** What no commit waits for stays in memory from now on. */
const stopWalWriter = async () => {
  const [writer] = await query("select pid from pg_stat_activity where backend_type = 'walwriter'")
  process.kill(writer.pid, "SIGSTOP")
}

/** Nothing has reached the disk but what a commit waited for, then the machine is gone, and Postgres comes back. */
const crash = async () => {
  await postgres.kill9()
  await postgres.start()
  await stopWalWriter()
}

const project = ProjectHandle.make("p")
const caller = new ProjectCaller({
  keyId: CredentialId.make("cred_1"),
  project,
  principal: agent,
  permissions: ["mobius.project.edit"],
})
const privately = { lease: undefined, lineage: undefined, visibility: "private" } as const

const begin = (id = artifactId()) =>
  Effect.gen(function* () {
    const { _tag } = yield* (yield* MetadataStore).begin({
      id,
      project,
      blobKey: id,
      createdBy: agent,
      reservedBytes: 10,
    })
    expect(_tag).toBe("Begun")
    return id
  })

beforeAll(async () => {
  postgres = await startPostgres()
  await stopWalWriter()
  await Effect.runPromise(Effect.provide(migrate, pool(true)))
  await query("insert into projects (handle) values ($1)", [project])
  await query(
    `insert into api_keys (id, project, key_hash, principal_kind, principal_id, permissions)
     values ($1, $2, sha256('k'), 'agent', 'worker', '{}')`,
    [caller.keyId, project],
  )
}, 120_000)

afterAll(() => postgres?.dispose())

describe("a crash of Postgres", { timeout: 120_000 }, () => {
  it("may lose the row of an upload on its way, which then never becomes an artifact", async () => {
    const id = await withStores(begin())
    await crash()
    expect(await query("select state from artifacts where id = $1", [id])).toEqual([])
    const outcome = await withStores(
      Effect.flatMap(MetadataStore, (store) => Effect.either(store.commit(requestFor(caller, id, privately)))),
    )
    expect(Either.isLeft(outcome) && outcome.left._tag).toBe("UploadFenced")
    expect(
      await query("select used_bytes::int, artifact_count::int from projects where handle = $1", [project]),
    ).toEqual([{ used_bytes: 0, artifact_count: 0 }])
    expect(await query("select id from events")).toEqual([])
  })

  it("loses no artifact that was committed, nor its event, its number or that it was appended", async () => {
    const id = artifactId()
    const event = eventId()
    await withStores(
      Effect.gen(function* () {
        const outbox = yield* Outbox
        yield* begin(id)
        yield* (yield* MetadataStore).commit(requestFor(caller, id, { ...privately, eventId: event }))
        const numbered = yield* outbox.sequence(10)
        expect(numbered.map(({ sequence }) => sequence)).toEqual([1])
        yield* outbox.markPublished(numbered)
        expect((yield* outbox.state).lastPublished).toBe(1)
      }),
    )
    await crash()
    expect(await query("select state from artifacts where id = $1", [id])).toEqual([{ state: "ready" }])
    expect(await query("select id, sequence::int, published_at is not null as published from events")).toEqual([
      { id: event, sequence: 1, published: true },
    ])
  })

  describe("where synchronous_commit is off", () => {
    beforeAll(() => query("alter role postgres set synchronous_commit = off"))
    afterAll(() => query("alter role postgres reset synchronous_commit"))

    it("loses no acknowledged artifact or delete", async () => {
      const [kept, deleted] = [artifactId(), artifactId()]
      const states = () =>
        query("select state from artifacts where id = any($1) order by array_position($1, id)", [[kept, deleted]])
      const published = (id: typeof kept) =>
        Effect.flatMap(begin(id), () =>
          Effect.flatMap(MetadataStore, (store) => store.commit(requestFor(caller, id, privately))),
        )
      await withStores(Effect.zipRight(published(deleted), published(kept)))
      await crash()
      expect(await states()).toEqual([{ state: "ready" }, { state: "ready" }])
      await withStores(Effect.flatMap(MetadataStore, (store) => store.remove(caller, deleted, eventId())))
      await crash()
      expect(await states()).toEqual([{ state: "ready" }, { state: "deleted" }])
    })

    it("loses no claim, limit, key or revocation, nor the number of an event", async () => {
      const claim = new Claim({
        project,
        jobId: "job:9",
        attempt: 1,
        workerSessionId: "s9",
        owner: agent,
        visibility: "shared",
      })
      const principal = new Principal({ kind: "service", id: "reader" })
      // Each is the last before a crash: a commit that waits for the disk takes those before it along.
      await withStores(Effect.flatMap(Outbox, (outbox) => outbox.sequence(10)))
      await crash()
      expect(await query("select id from events where sequence is null")).toEqual([])
      await withStores(Effect.flatMap(ClaimStore, (claims) => claims.put(claim, 60)))
      await crash()
      expect(await query("select job_id from claims")).toEqual([{ job_id: "job:9" }])
      await withStores(Effect.flatMap(ProjectStore, (projects) => projects.put(project, 777_777)))
      await crash()
      expect(await query("select quota_bytes::int from projects")).toEqual([{ quota_bytes: 777_777 }])
      const { record } = await withStores(
        Effect.flatMap(Authenticator, (keys) => keys.issue({ project, principal, permissions: [] })),
      )
      const revoked = () => query("select revoked_at is not null as revoked from api_keys where id = $1", [record.id])
      await crash()
      expect(await revoked()).toEqual([{ revoked: false }])
      await withStores(Effect.flatMap(Authenticator, (keys) => keys.revoke(project, record.id)))
      await crash()
      expect(await revoked()).toEqual([{ revoked: true }])
    })
  })
})
