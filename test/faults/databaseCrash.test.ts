import { PgClient } from "@effect/sql-pg"
import { Effect, Either, Layer, Redacted } from "effect"
import { Client } from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { layer as metadataLayer } from "../../layers/MetadataStore/Postgres.ts"
import { migrate } from "../../layers/migrations/Migrations.ts"
import { layer as outboxLayer } from "../../layers/Outbox/Postgres.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { Outbox } from "../../services/Outbox.ts"
import { CredentialId, ProjectHandle } from "../../src/domain/Ids.ts"
import { ProjectCaller } from "../../src/domain/Principal.ts"
import { type PostgresServer, startPostgres } from "../support/postgres.ts"
import { agent, artifactId, eventId, requestFor } from "../suites/postgresScene.ts"

let postgres: PostgresServer

/** The stores over a connection of their own, for as long as the work takes. */
const withStores = <A, E>(work: Effect.Effect<A, E, MetadataStore | Outbox>): Promise<A> =>
  Effect.runPromise(
    Effect.provide(
      work,
      Layer.mergeAll(metadataLayer({ defaultQuotaBytes: 1_000_000 }), outboxLayer).pipe(
        Layer.provide(PgClient.layer({ url: Redacted.make(postgres.url), maxConnections: 4 })),
      ),
    ),
  )

const query = async (text: string, values: ReadonlyArray<unknown> = []) => {
  const client = new Client({ connectionString: postgres.url })
  await client.connect()
  try {
    return (await client.query(text, [...values])).rows
  } finally {
    await client.end()
  }
}

/** Nothing reaches the disk but what a commit waits for, then the machine is gone, and Postgres comes back. */
const crash = async () => {
  await postgres.kill9()
  await postgres.start()
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
  // What is not waited for is written as late as can be.
  await query("alter system set wal_writer_delay = '10s'")
  await query("select pg_reload_conf()")
  await Effect.runPromise(Effect.provide(migrate, PgClient.layer({ url: Redacted.make(postgres.url) })))
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

  it("loses no acknowledged artifact or delete where synchronous_commit is off", async () => {
    await query("alter role postgres set synchronous_commit = off")
    const [kept, deleted] = [artifactId(), artifactId()]
    const states = () =>
      query("select state from artifacts where id = any($1) order by array_position($1, id)", [[kept, deleted]])
    try {
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
    } finally {
      await query("alter role postgres reset synchronous_commit")
    }
  })
})
