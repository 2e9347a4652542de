import pg from "pg"
import { encodeCursor } from "../../../layers/MetadataStore/cursor.ts"
import type { Tenant } from "../../faults/plane.ts"
import { type Bench, compare, onStack } from "../bench.ts"
import { listing } from "../requests.ts"
import { percentile, type Contender } from "../rounds.ts"

interface Shelf {
  readonly name: string
  readonly tenant: Tenant
  readonly rows: number
  /** Of a run, a step and a job, each. */
  readonly perLineage: number
}

/**
 * Rows as commits leave them, written straight into the table. Arguments: project, rows, rows of one run. One row in
 * 100,000, and at least one, has a type and a name that hardly any other has.
 */
export const seeding = `
  insert into artifacts (id, project, state, blob_key, created_by_kind, created_by_id, name, mime, size, sha256,
    metadata, visibility, owner_kind, owner_id, run_id, step_id, job_id, worker_session_id, attempt, created_at)
  select 'art_BENCH' || md5($1 || i::text), $1, 'ready', $1 || '/bench-' || i, 'agent', 'worker',
    case when i % least(100000, $2) = 7 then 'rare/' else 'reports/' end || i || '.md',
    case when i % least(100000, $2) = 7 then 'image/x-rare' else 'text/markdown' end,
    4096, repeat('0', 64), '{}', 'shared', 'agent', 'worker',
    'run-' || i / $3, 'step-' || i / $3, 'job-' || i / $3, 'session', 1,
    timestamptz '2026-01-01' + i * interval '1 second'
  from generate_series(1, $2::bigint) as i`

const cursorAt = async (client: pg.Client, where: string, values: ReadonlyArray<unknown>, skip: number) => {
  const { rows } = await client.query(
    `select id, (extract(epoch from created_at) * 1000000)::bigint::text as micros from artifacts
     where state = 'ready' and ${where} order by created_at desc, id desc offset ${skip} limit 1`,
    [...values],
  )
  return encodeCursor(rows[0])
}

/** Pages of a hundred out of a thousand rows and out of a million, first and deep, by every kind of filter. */
export const list = async (bench: Bench): Promise<void> => {
  const { stack } = bench.production
  if (stack.databaseUrl === undefined) return
  const most = bench.options.quick ? 20_000 : 1_000_000
  const [little, much] = await stack.tenants(2)
  if (little === undefined || much === undefined) return
  const shelves: ReadonlyArray<Shelf> = [
    { name: "1,000 rows", tenant: little, rows: 1000, perLineage: 250 },
    { name: `${most.toLocaleString("en")} rows`, tenant: much, rows: most, perLineage: 1000 },
  ]
  const client = new pg.Client({ connectionString: stack.databaseUrl })
  await client.connect()
  try {
    // No look at the project of each row, which is there.
    await client.query("set session_replication_role = replica")
    for (const { perLineage, rows, tenant } of shelves) await client.query(seeding, [tenant.project, rows, perLineage])
    await client.query("vacuum analyze artifacts")
    await client.query("checkpoint")
    for (const [filter, column] of [
      ["no filter", undefined],
      ["run", "run"],
      ["step", "step"],
      ["job", "job"],
      ["rare mime", undefined],
      ["rare name_prefix", undefined],
    ] as const)
      for (const page of ["first", "deep"]) {
        const contenders: Array<Contender> = []
        for (const { name, perLineage, rows, tenant } of shelves) {
          // In the middle of the shelf, where no page has been lately.
          const value = `${column}-${Math.floor(rows / perLineage / 2)}`
          const narrowed = column === undefined ? "" : ` and ${column}_id = $2`
          const values = [tenant.project, ...(column === undefined ? [] : [value])]
          const skip = column === undefined ? Math.floor(rows * 0.8) : Math.floor(perLineage / 2)
          const query = {
            limit: "100",
            ...(column && { [`${column}_id`]: value }),
            ...(filter === "rare mime" && { mime: "image/x-rare" }),
            ...(filter === "rare name_prefix" && { name_prefix: "rare/" }),
            ...(page === "deep" && { cursor: await cursorAt(client, `project = $1${narrowed}`, values, skip) }),
          }
          const requests = [listing(tenant, query)]
          contenders.push({
            ...onStack(bench.production),
            name,
            run: (seconds) => bench.load.run({ kind: "http", ports: stack.ports, clients: 1, seconds, requests }),
          })
        }
        await compare(
          bench,
          { title: `list 100, ${filter}, ${page} page`, bytes: 0, clients: 1, contenders },
          // Where the target is a ratio of two p99s, enough pages for the p99 not to be that of one or two pauses.
          { seconds: bench.options.quick ? 0.1 : filter.startsWith("rare") ? 0.3 : 0.5 },
        )
      }
    await explainShare(bench, client, much)
  } finally {
    await client.end()
  }
}

/** Of a page's time, what the database itself takes: the rest is HTTP, JSON and the process. */
const explainShare = async (bench: Bench, client: pg.Client, tenant: Tenant): Promise<void> => {
  const times: Array<number> = []
  for (let turn = 0; turn < 20; turn++) {
    const began = performance.now()
    await client.query(
      `select artifact_record(a) from artifacts a where project = $1 and state = 'ready'
       order by created_at desc, id desc limit 100`,
      [tenant.project],
    )
    times.push(performance.now() - began)
  }
  bench.facts.push({
    name: "the newest 100 rows by SQL alone",
    value: percentile(
      times.toSorted((a, b) => a - b),
      0.5,
    ),
    unit: "ms",
  })
}
