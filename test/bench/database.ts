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
