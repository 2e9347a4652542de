import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { SqlClient } from "@effect/sql/SqlClient"
import { Effect, Redacted, Schedule } from "effect"
import { Redis } from "ioredis"
import { afterEach, describe, expect, it } from "vitest"
import * as Postgres from "../../../layers/clients/Postgres.ts"
import { checkServer } from "../../../layers/clients/ServerChecks.ts"
import { describeFailure } from "../../../src/Failure.ts"
import { orNotRun } from "../../support/backends.ts"
import { backupOf } from "../../support/postgres.ts"
import { sleep } from "../../support/processes.ts"
import { leading } from "../../support/tcpSwitch.ts"
import { makeTenant, type Plane, publish, type Tenant } from "../plane.ts"
import { asking, type Pair, runbook, startPair } from "./pair.ts"
import { auditAfter, failover, startFailoverPlane } from "./story.ts"

/** A caller hears of a server that is gone within two seconds; what the machine takes for a publish comes on top. */
const answerWithin = 2500
/** Two seconds on a machine of one's own. */
const backWithin = 5000

/** What the node says at its start about a replica that no commit waits for. */
const warning = "synchronous_standby_names is empty"

let pair: Pair | null = null
let plane: Plane | undefined
afterEach(async () => {
  await plane?.dispose()
  await pair?.dispose()
  pair = null
  plane = undefined
})

const start = async (options: { readonly synchronous: boolean }) => {
  pair = await orNotRun("Postgres with a replica, behind HAProxy", () => startPair(options))
  if (pair === null) return undefined
  plane = await startFailoverPlane({ DATABASE_URL: pair.url }, { postgres: pair.primary })
  return { pair, plane }
}

it("the runbook has the commands that these stories run", () => {
  const text = readFileSync(join(import.meta.dirname, "../../../k8s/README.md"), "utf8")
  for (const command of Object.values(runbook)) expect(text).toContain(`   ${command};\n`)
  const backup = backupOf("$PRIMARY", 5432, "replica_1", '"$PGDATA"').map((word) =>
    word.includes(" ") ? `"${word}"` : word,
  )
  expect(text).toContain(`   pg_basebackup ${backup.join(" ")}\n`)
  for (const command of leading(1, 2)) expect(text).toContain(`   ${command}\n`)
})

describe("Postgres fails over to a synchronous replica", () => {
  it.each([
    ["is killed", (pair: Pair) => pair.primary.kill9()],
    ["hangs, and its connections are not cut", async (pair: Pair) => pair.primary.pause()],
  ] as const)("the primary %s: nothing is lost, nobody waits, and callers are served again", async (how, lose) => {
    const started = await start({ synchronous: true })
    if (started === undefined) return
    const { pair, plane } = started
    expect(plane.node().logs()).not.toContain(warning)
    const outcome = await failover(plane, async () => {
      await lose(pair)
      return pair.promote()
    })
    const { backAfter, calm, probes, slowest } = outcome
    const found = await auditAfter(plane, { postgres: pair.replica.url, redis: plane.redis.url }, outcome)
    expect(found.faults).toEqual([])
    const acknowledged = probes.filter((probe) => probe.acknowledged).length
    expect(acknowledged).toBeGreaterThan(10)
    const held = await asking(pair.replica, (client) => client.query("select hold_reason from blob_store"))
    expect(held.rows).toEqual([{ hold_reason: null }])
    console.log(
      `The primary ${how}: served again ${backAfter} ms after the new one's first write, slowest answer ${slowest} ms ` +
        `(the machine itself up to ${Math.round(calm)} ms), ${acknowledged} of ${probes.length} probes acknowledged, ` +
        `${found.artifacts} artifacts and ${found.events} events, none lost`,
    )
    expect(slowest).toBeLessThan(answerWithin + calm)
    expect(backAfter).toBeLessThan(backWithin + calm)
  })
})

it("a standby at the address is refused in one sentence, and used as soon as it was promoted", async () => {
  pair = await orNotRun("Postgres with a replica, behind HAProxy", () => startPair({ synchronous: false }))
  if (pair === null) return
  const { promote, replica } = pair
  const url = Redacted.make(replica.url)
  const ask = Effect.flatMap(SqlClient, (sql) => sql`select 1 as one`)
  await Effect.runPromise(
    Effect.gen(function* () {
      const message = "DATABASE_URL leads to a standby, which takes no writes: it must lead to the primary."
      expect(describeFailure(yield* Effect.flip(checkServer({ url, needed: 1 })))).toBe(message)
      expect(yield* Effect.flip(ask)).toMatchObject({ cause: { message } })
      yield* Effect.promise(promote)
      const [row] = yield* Effect.retry(ask, Schedule.spaced(50)).pipe(Effect.timeout("10 seconds"))
      expect(row).toEqual({ one: 1 })
    }).pipe(Effect.provide(Postgres.layer({ url, poolSize: 2 }))),
  )
})

describe("Postgres fails over to a replica that lagged", () => {
  /** Publishes one after the other until all are acknowledged; returns their ids. */
  const published = async (plane: Plane, tenant: Tenant, count: number) => {
    const ids: Array<string> = []
    for (const until = Date.now() + 60_000; ids.length < count && Date.now() < until;) {
      const file = { name: `file-${ids.length}`, bytes: randomBytes(30_000) }
      const { body, status } = await publish(plane.node().baseUrl, tenant, file)
      if (status === 201) ids.push(body.id)
      else await sleep(100)
    }
    return ids
  }
  const entries = async (plane: Plane) => {
    const redis = new Redis(plane.redis.url)
    try {
      return (await redis.xrange(plane.streamKey, "-", "+")).map(([at, fields]) => ({
        sequence: Number(at.split("-")[0]),
        artifact: JSON.parse(fields[fields.indexOf("payload") + 1] ?? "{}").source_id as string,
      }))
    } finally {
      redis.disconnect()
    }
  }
  const relayed = async (plane: Plane, ids: ReadonlyArray<string>) => {
    const until = Date.now() + 30_000
    const missing = async () => {
      const there = new Set((await entries(plane)).map(({ artifact }) => artifact))
      return ids.filter((id) => !there.has(id))
    }
    while ((await missing()).length > 0 && Date.now() < until) await sleep(100)
    expect(await missing()).toEqual([])
  }

  it("acknowledged artifacts are lost, as was said at start; each event stands once, and no object is removed", async () => {
    const started = await start({ synchronous: false })
    if (started === undefined) return
    const { pair, plane } = started
    expect(plane.node().logs().split(warning)).toHaveLength(2)
    const tenant = await makeTenant(plane.node().baseUrl, plane.adminKey)
    const kept = await published(plane, tenant, 5)
    await relayed(plane, kept)
    await pair.cutReplication()
    const lost = await published(plane, tenant, 5)
    await relayed(plane, lost)
    await pair.primary.kill9()
    await pair.promote()
    const since = await published(plane, tenant, 5)
    await relayed(plane, since)

    const { rows } = await asking(pair.replica, (client) =>
      client.query("select id from artifacts order by created_at"),
    )
    expect(rows.map(({ id }) => id)).toEqual([...kept, ...since])
    const stream = await entries(plane)
    expect(stream.map(({ artifact }) => artifact)).toEqual([...kept, ...lost, ...since])
    expect(stream.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 15 }, (_, index) => index + 1))
    const held = await asking(pair.replica, (client) =>
      client.query("select held_at is not null as held from blob_store"),
    )
    expect(held.rows).toEqual([{ held: true }])
    // Long after two looks would have found that nobody knows them.
    await sleep(12_000)
    const objects = (await plane.blobs()).join("\n")
    for (const id of lost) expect(objects).toContain(id)
  })
})
