import { chmodSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fromDebian } from "./debian.ts"
import { freePort } from "./ports.ts"
import { privateDir, spawnRecorded, waitUntil } from "./processes.ts"
import { answers } from "./postgres.ts"

const NOBODY = 65_534

export interface Pgbouncer {
  /** Of the same database, through the pooler. */
  readonly url: string
  stop(): Promise<void>
}

/** Its program, from PATH or Debian's package; throws BackendMissing. */
export const installPgbouncer = (): Promise<string> => fromDebian("PgBouncer", "pgbouncer", "pgbouncer")

/** PgBouncer in front of a server. The startup parameter `options` is refused, as by default, or ignored. */
export const startPgbouncer = async (
  server: { readonly port: number; readonly url: string },
  settings: { readonly mode: "transaction" | "session"; readonly ignoreOptions: boolean },
): Promise<Pgbouncer> => {
  const program = await installPgbouncer()
  const home = privateDir("pgbouncer")
  chmodSync(home.path, 0o755)
  const port = await freePort()
  const users = join(home.path, "users.txt")
  writeFileSync(users, '"postgres" ""\n')
  const config = join(home.path, "pgbouncer.ini")
  writeFileSync(
    config,
    `[databases]
* = host=127.0.0.1 port=${server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = ${settings.mode}
${settings.ignoreOptions ? "ignore_startup_parameters = options,extra_float_digits" : ""}
`,
  )
  const user = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {}
  const spawned = await spawnRecorded(program, [config], {
    ...user,
    env: { PATH: `${process.env["PATH"]}:/usr/sbin` },
  })
  const url = new URL(server.url)
  url.port = String(port)
  await waitUntil(spawned, "an answer through PgBouncer", () => answers(url.href), 20_000)
  return {
    url: url.href,
    stop: async () => {
      await spawned.end("SIGTERM")
      home.remove()
    },
  }
}
