import { Redis } from "ioredis"
import { Client } from "pg"

/** What a figure depends on and no other line says. */
const settings = [
  "jit",
  "synchronous_commit",
  "fsync",
  "full_page_writes",
  "shared_buffers",
  "max_connections",
] as const

/** The server in one line: its release, and the settings that a new session gets. */
export const describeServer = async (url: string): Promise<string> => {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<Record<(typeof settings)[number] | "server_version" | "compiles", string>>(
      `select current_setting('server_version') as server_version,
         case when pg_jit_available() then 'with LLVM' else 'without LLVM' end as compiles,
         ${settings.map((name) => `current_setting('${name}') as ${name}`).join(", ")}`,
    )
    const [row] = rows
    if (row === undefined) throw new Error("Postgres did not say how it is set up")
    return `Postgres ${row.server_version} ${row.compiles}, ${settings.map((name) => `${name} ${row[name]}`).join(", ")}`
  } finally {
    await client.end()
  }
}

/** How many clients are connected, this one left out. */
export const clientsOf = async (
  databaseUrl: string,
  redisUrl: string,
): Promise<{ readonly database: number; readonly redis: number }> => {
  const client = new Client({ connectionString: databaseUrl })
  const redis = new Redis(redisUrl)
  await client.connect()
  try {
    const { rows } = await client.query<{ readonly count: number }>(
      `select count(*)::integer as count from pg_stat_activity
       where backend_type = 'client backend' and pid <> pg_backend_pid()`,
    )
    const clients = Number(/connected_clients:(\d+)/.exec(await redis.info("clients"))?.[1])
    return { database: rows[0]?.count ?? 0, redis: clients - 1 }
  } finally {
    redis.disconnect()
    await client.end()
  }
}

/** The largest tables with their indexes, and how old the oldest ids are that a vacuum has not frozen. */
export const tablesOf = async (databaseUrl: string) => {
  const client = new Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const sizes = await client.query<{
      readonly table: string
      readonly bytes: number
      readonly live: number
      readonly dead: number
      readonly vacuums: number
    }>(
      `select relname as table, pg_total_relation_size(relid)::float8 as bytes, n_live_tup::float8 as live,
         n_dead_tup::float8 as dead, autovacuum_count::float8 as vacuums
       from pg_stat_user_tables order by bytes desc limit 6`,
    )
    const ages = await client.query<{ readonly transactions: number; readonly multixacts: number }>(
      `select age(datfrozenxid) as transactions, mxid_age(datminmxid) as multixacts
       from pg_database where datname = current_database()`,
    )
    return { sizes: sizes.rows, ages: ages.rows[0] ?? { transactions: 0, multixacts: 0 } }
  } finally {
    await client.end()
  }
}
