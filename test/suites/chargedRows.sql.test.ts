import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { inject } from "vitest"
import { migrations } from "../../layers/migrations/Migrations.ts"
import { Audit } from "../../services/Audit.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { chargeOf } from "../../src/domain/Artifact.ts"
import { callerOf, freshProject, live, publish, removeAs, type SqlServices } from "./fixtures.ts"
import { embeddedLayer, postgresLayer } from "./sql.ts"

const metadata = { secret: "x".repeat(1000) }
const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))

/** Makes an artifact's row what release 1.0.0 left: charged for its size, and nothing said of it. */
const asBefore = (id: string, size: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`update projects set used_bytes = used_bytes - a.charged_bytes + ${size}::bigint
      from artifacts a where a.id = ${id} and handle = a.project`
    yield* sql`update artifacts set charged_bytes = null where id = ${id}`
  })

const suite = (name: string, subject: Layer.Layer<SqlServices | SqlClient.SqlClient, unknown>) =>
  layer(subject, live)(`Charges of rows: ${name}`, (it) => {
    it.effect("a row says what was charged for it", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { artifact } = yield* publish(yield* newCaller, { size: 7, metadata })
        const rows = yield* sql`select charged_bytes::integer as charged from artifacts where id = ${artifact.id}`
        expect(rows).toEqual([{ charged: chargeOf({ size: 7, metadata }) }])
      }),
    )
    it.effect("what release 1.0.0 committed is refunded as it was charged, by its size alone", () =>
      Effect.gen(function* () {
        const audit = yield* Audit
        const caller = yield* newCaller
        const { artifact } = yield* publish(caller, { size: 7, metadata })
        yield* asBefore(artifact.id, 7)
        yield* publish(caller, { size: 5, metadata })
        expect(yield* audit.recount(caller.project)).toBe(false)
        const { usage } = yield* removeAs(caller, artifact.id)
        expect(usage).toMatchObject({ usedBytes: chargeOf({ size: 5, metadata }), artifactCount: 1 })
        expect(yield* audit.recount(caller.project)).toBe(false)
      }),
    )
    it.effect("tombstones of release 1.0.0 lose their metadata, other artifacts keep it", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const store = yield* MetadataStore
        const caller = yield* newCaller
        const made = yield* Effect.replicateEffect(publish(caller, { metadata }), 5)
        const [first, second, ...rest] = made.map(({ artifact }) => artifact)
        for (const deleted of [first, second]) {
          yield* removeAs(caller, deleted?.id ?? "")
          yield* sql`update artifacts set metadata = ${JSON.stringify(metadata)} where id = ${deleted?.id ?? ""}`
        }
        const step = migrations.find((migration) => migration.name === "bare_tombstones")
        if (step?.kind !== "backfill") return expect.fail("there is no such step")
        const batch = (after: string) =>
          Effect.map(sql.unsafe<{ readonly last: string | null }>(step.batch, [after, 2]), ([row]) => row?.last ?? "")
        for (let last = yield* batch(""); last !== ""; last = yield* batch(last));
        const { items } = yield* store.list(caller, { state: "deleted", limit: 10 })
        expect(items.map((one) => one.metadata)).toEqual([{}, {}])
        const ready = yield* store.list(caller, { state: "ready", limit: 10 })
        expect(ready.items.map((one) => one.metadata)).toEqual(rest.map(() => metadata))
      }),
    )
  })

suite("PGlite", embeddedLayer)

const url = inject("postgresUrl")
if (url !== null) suite("Postgres", postgresLayer(url))
