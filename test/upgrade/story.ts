import { randomUUID } from "node:crypto"
import { join, resolve } from "node:path"
import { Effect, Redacted } from "effect"
import pg from "pg"
import * as Postgres from "../../layers/clients/Postgres.ts"
import type { Migration } from "../../layers/migrations/Migration.ts"
import { migrateTo } from "../../layers/migrations/Migrator.ts"
import { settle } from "../faults/audit.ts"
import { type Load, startLoad } from "../faults/load.ts"
import { type Cluster, insidesOf, startCluster } from "../pods/support/cluster.ts"
import { printFailure } from "../pods/support/report.ts"
import { run, sleep } from "../support/processes.ts"
import type { Release } from "./releases.ts"

export interface UpgradeReport {
  readonly seed: number
  /** What succeeded under load, by phase. */
  readonly requests: Readonly<Record<string, number>>
  /** How requests ended that did not succeed at their first try, with how often. */
  readonly errors: Readonly<Record<string, number>>
  /** Sentences about what did not hold; empty when all did. */
  readonly faults: ReadonlyArray<string>
}

const env = {
  DRAIN_DELAY_SECONDS: "2",
  DRAIN_SECONDS: "20",
  SWEEP_SECONDS: "1",
  ABANDONED_AFTER_SECONDS: "15",
}

/** One nullable column more in every table: what a later release may bring at the least. */
export const spareColumns = async (postgresUrl: string): Promise<ReadonlyArray<Migration>> => {
  const db = new pg.Client({ connectionString: postgresUrl })
  await db.connect()
  try {
    const { rows } = await db.query<{ name: string }>(
      `select relname as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1`,
    )
    return rows.map(({ name }, index) => ({
      id: 1001 + index,
      name: `spare_${name}`,
      kind: "transaction",
      statements: [`alter table ${name} add column spare text`],
    }))
  } finally {
    await db.end()
  }
}

/** An upload whose pod died: the sweep of whichever release runs must find it. */
const abandonUpload = async (cluster: Cluster, project: string): Promise<void> => {
  const id = `art_${randomUUID().replaceAll("-", "")}`
  const db = new pg.Client({ connectionString: cluster.postgres.url })
  await db.connect()
  await db
    .query(
      `insert into artifacts (id, project, state, blob_key, created_by_kind, created_by_id, reserved_bytes, renewed_at)
       values ($1, $2, 'pending', $3, 'agent', 'worker', 10, clock_timestamp() - interval '1 hour')`,
      [id, project, `${project}/${id}`],
    )
    .finally(() => db.end())
}

/**
 * Pods of one release under load; the next release migrates the schema, and they go on at full function; the next
 * release's pods take their places one by one; then all of it back. `further`: migrations of a release to come, applied
 * with the next one's. After each phase everything the clients were told must stand, and all views must agree.
 */
export const upgradeStory = async (options: {
  readonly before: Release
  readonly after: Release
  readonly further: (postgresUrl: string) => Promise<ReadonlyArray<Migration>>
  readonly seed?: number
}): Promise<UpgradeReport> => {
  const { after, before } = options
  const seed = options.seed ?? Date.now() % 1_000_000
  const cluster = await startCluster({ pods: 2, source: before.root, env })
  const requests: Record<string, number> = {}
  const errors: Record<string, number> = {}
  const faults: Array<string> = []
  const models: Array<Load["models"][number]> = []
  console.log(
    `${before.version} to ${after.version} and back, 2 pods behind ${cluster.balancer.description}, seed ${seed}`,
  )

  const phase = async (name: string, act: (load: Load) => Promise<void>) => {
    const load = await startLoad({ target: () => cluster, seed: seed + models.length, clients: 8, pause: 30 })
    models.push(...load.models)
    const { chronicle } = load
    await Promise.race([act(load), load.working.then(() => sleep(600_000))])
    await load.stop()
    const found = await settle(cluster, insidesOf(cluster), models)
    for (const [what, count] of chronicle.errors) errors[`${name}: ${what}`] = count
    faults.push(...[...chronicle.faults, ...found.sentences].map((sentence) => `${name}: ${sentence}`))
    requests[name] = chronicle.successes.length
  }
  const roll = async (to: Release) => {
    for (const pod of cluster.pods) {
      const code = await pod.stop()
      if (code !== 0) faults.push(`${pod.name} ended with ${code}`)
      await pod.start(to.root)
      // Both releases serve side by side until the balancer has noticed.
      await sleep(3000)
    }
  }
  const migrate = async () => {
    const base = { PATH: process.env["PATH"], HOME: process.env["HOME"], DATABASE_URL: cluster.postgres.url }
    await run(process.execPath, ["src/migrate.ts"], { cwd: after.root, env: base })
    const migrations = await options.further(cluster.postgres.url)
    const pool = Postgres.layer({ url: Redacted.make(cluster.postgres.url), poolSize: 3, patient: true })
    await Effect.runPromise(Effect.provide(migrateTo(migrations), pool))
  }

  try {
    await phase(`${before.version} on the schema of ${after.version}`, async (load) => {
      await sleep(3000)
      await migrate()
      for (const { tenant } of load.models) await abandonUpload(cluster, tenant.project)
      await sleep(6000)
    })
    // With a schema that it cannot live on, the rest would only take long.
    if (faults.length === 0) {
      await phase(`to ${after.version}`, () => roll(after))
      await phase(`back to ${before.version}`, () => roll(before))
    }
    console.table(requests)
    if (faults.length > 0 || Object.keys(errors).length > 0) printFailure(cluster, [...faults, JSON.stringify(errors)])
    return { seed, requests, errors, faults }
  } finally {
    await cluster.dispose()
  }
}

export const here = resolve(join(import.meta.dirname, "../.."))
