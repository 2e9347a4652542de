import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { fromDebian } from "../../support/debian.ts"
import { freePort } from "../../support/ports.ts"
import { privateDir, run, spawnRecorded, waitUntil } from "../../support/processes.ts"
import type { Balancer } from "./balancer.ts"

/**
 * A pod is asked every half second, and every 200 ms while in doubt; two failures take it out, one success brings it
 * back. A check may take longer than the pod's own patience with what it depends on, or one slow dependency would take
 * out every pod. Few open requests, not turns, decide who is next: a pod that hangs is soon left alone.
 */
const configuration = (port: number, statsPort: number, pods: ReadonlyArray<number>) => `global
  maxconn 4000
  log stdout format raw local0 notice
defaults
  mode http
  log global
  timeout connect 1s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 75s
  timeout check 3s
  retries 3
  option redispatch 1
  retry-on conn-failure
frontend callers
  bind 127.0.0.1:${port}
  default_backend pods
frontend alive
  bind 127.0.0.1:${statsPort}
  http-request return status 200
backend pods
  balance leastconn
  option httpchk GET /readyz
  http-check expect status 200
  default-server check inter 500ms fastinter 200ms fall 2 rise 1 maxconn 1000
${pods.map((pod, index) => `  server pod${index + 1} 127.0.0.1:${pod}`).join("\n")}
`

export const startHAProxy = async (pods: ReadonlyArray<number>): Promise<Balancer> => {
  const program = await fromDebian("HAProxy", "haproxy", "haproxy")
  const home = privateDir("haproxy")
  const [port, statsPort] = [await freePort(), await freePort()]
  const file = join(home.path, "haproxy.cfg")
  writeFileSync(file, configuration(port, statsPort, pods))
  const version = /version (\S+)/.exec(await run(program, ["-v"]))?.[1] ?? ""
  const spawned = await spawnRecorded(program, ["-db", "-f", file], { env: { PATH: process.env["PATH"] } })
  await waitUntil(spawned, "an answer from HAProxy", async () =>
    fetch(`http://127.0.0.1:${statsPort}/`).then(
      ({ status }) => status === 200,
      () => false,
    ),
  )
  return {
    baseUrl: `http://127.0.0.1:${port}`,
    description: `HAProxy ${version}`,
    logs: spawned.logs,
    dispose: async () => {
      await spawned.end("SIGKILL")
      home.remove()
    },
  }
}
