import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { BackendMissing } from "../../support/backends.ts"
import { freePort } from "../../support/ports.ts"
import { inPath, privateDir, spawnRecorded, waitForHttp200 } from "../../support/processes.ts"
import type { Balancer } from "./balancer.ts"

/**
 * Without active checks: a pod that refused a connection is left alone for a second. nginx sends nothing twice that is
 * not idempotent, once its first byte is out.
 */
const configuration = (home: string, port: number, pods: ReadonlyArray<number>) => `daemon off;
worker_processes 1;
pid ${home}/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path ${home}/tmp;
  proxy_temp_path ${home}/tmp;
  fastcgi_temp_path ${home}/tmp;
  uwsgi_temp_path ${home}/tmp;
  scgi_temp_path ${home}/tmp;
  keepalive_timeout 75s;
  upstream pods {
    least_conn;
${pods.map((pod) => `    server 127.0.0.1:${pod} max_fails=1 fail_timeout=1s;`).join("\n")}
  }
  server {
    listen 127.0.0.1:${port};
    client_max_body_size 0;
    location = /balancer { return 200; }
    location / {
      proxy_pass http://pods;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Connection "";
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_connect_timeout 1s;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
      proxy_next_upstream error;
    }
  }
}
`

export const startNginx = async (pods: ReadonlyArray<number>): Promise<Balancer> => {
  if (!inPath("nginx")) throw new BackendMissing("nginx", "not in PATH")
  const home = privateDir("nginx")
  mkdirSync(join(home.path, "tmp"))
  const port = await freePort()
  const file = join(home.path, "nginx.conf")
  writeFileSync(file, configuration(home.path, port, pods))
  const args = ["-p", home.path, "-e", "stderr", "-c", file]
  const spawned = await spawnRecorded("nginx", args, { env: { PATH: process.env["PATH"] } })
  await waitForHttp200(spawned, `http://127.0.0.1:${port}/balancer`)
  return {
    baseUrl: `http://127.0.0.1:${port}`,
    description: "nginx",
    logs: spawned.logs,
    dispose: async () => {
      // Its workers outlive a master that is killed.
      await spawned.end("SIGTERM")
      home.remove()
    },
  }
}
