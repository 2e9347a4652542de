import { writeFileSync } from "node:fs"
import { connect } from "node:net"
import { join } from "node:path"
import { fromDebian } from "./debian.ts"
import { freePort } from "./ports.ts"
import { privateDir, spawnRecorded, waitUntil } from "./processes.ts"

/** One address in front of several servers, of which one is in charge. */
export interface TcpSwitch {
  readonly port: number
  /** From now on new connections lead to the server of this number; those that are open stay where they are. */
  lead(server: number): Promise<void>
  dispose(): Promise<void>
}

const configuration = (port: number, socket: string, servers: ReadonlyArray<number>) => `global
  maxconn 1000
  stats socket ${socket} mode 600 level admin
defaults
  mode tcp
  timeout connect 1s
  timeout client 1h
  timeout server 1h
  option redispatch 1
listen servers
  bind 127.0.0.1:${port}
${servers.map((server, index) => `  server s${index} 127.0.0.1:${server}${index === 0 ? "" : " disabled"}`).join("\n")}
`

/** What HAProxy is told to lead to one of so many servers. */
export const leading = (leader: number, servers: number): ReadonlyArray<string> => [
  ...Array.from({ length: servers }, (_, server) => server)
    .filter((server) => server !== leader)
    .map((server) => `set server servers/s${server} state maint`),
  `set server servers/s${leader} state ready`,
]

/** Sends one line to HAProxy's socket and returns what it says. */
const tell = (socket: string, line: string): Promise<string> =>
  new Promise((resolve, reject) => {
    let said = ""
    const connection = connect(socket, () => connection.end(`${line}\n`))
    connection.setEncoding("utf8").on("data", (chunk: string) => (said += chunk))
    connection.on("end", () => resolve(said.trim())).on("error", reject)
  })

/** HAProxy in front of servers on loopback; the first one leads. Sessions outlive a switch, as its defaults have it. */
export const startTcpSwitch = async (servers: ReadonlyArray<number>): Promise<TcpSwitch> => {
  const program = await fromDebian("HAProxy", "haproxy", "haproxy")
  const home = privateDir("haproxy")
  const port = await freePort()
  const [file, socket] = [join(home.path, "haproxy.cfg"), join(home.path, "admin.sock")]
  writeFileSync(file, configuration(port, socket, servers))
  const spawned = await spawnRecorded(program, ["-db", "-f", file], { env: { PATH: process.env["PATH"] } })
  await waitUntil(spawned, "an answer from HAProxy", () =>
    tell(socket, "show info").then(
      (said) => said.includes("HAProxy"),
      () => false,
    ),
  )
  return {
    port,
    lead: async (leader) => {
      for (const line of leading(leader, servers.length)) {
        const said = await tell(socket, line)
        if (said !== "") throw new Error(`HAProxy said: ${said}`)
      }
    },
    dispose: async () => {
      await spawned.end("SIGKILL")
      home.remove()
    },
  }
}
