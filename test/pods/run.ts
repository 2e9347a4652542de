import { parseArgs } from "node:util"
import { BackendMissing } from "../support/backends.ts"
import { balancerKinds } from "./support/balancer.ts"
import { type Cluster, startCluster } from "./support/cluster.ts"
import { storeKinds } from "./support/store.ts"

/** A cluster to look at: `npm run pods -- 3 [--store s3|rgw] [--balancer haproxy|nginx|own]`. Ctrl-C stops all of it. */
const usage = `npm run pods -- [number of pods, default 3] [--store ${storeKinds.join("|")}] [--balancer ${balancerKinds.join("|")}]`

const refuse = (): never => {
  console.error(usage)
  process.exit(2)
}

const oneOf = <A extends string>(kinds: ReadonlyArray<A>, given: string | undefined): A | undefined =>
  given === undefined ? undefined : (kinds.find((kind) => kind === given) ?? refuse())

const parsed = () => {
  try {
    return parseArgs({ allowPositionals: true, options: { store: { type: "string" }, balancer: { type: "string" } } })
  } catch {
    return refuse()
  }
}

const { positionals, values } = parsed()
const pods = Number(positionals[0] ?? 3)
if (!Number.isInteger(pods) || pods < 1 || pods > 12 || positionals.length > 1) refuse()

const welcome = (cluster: Cluster): string => {
  const json = "-H 'content-type: application/json'"
  const admin = `-H "Authorization: Bearer $ADMIN_KEY"`
  return `
${pods} pods behind ${cluster.balancer.description}, over Postgres, Redis and ${cluster.store.description}.

  URL        ${cluster.baseUrl}
  admin key  ${cluster.adminKey}
${cluster.pods.map((pod) => `  ${pod.name.padEnd(9)}  ${pod.baseUrl}  (process ${pod.pid()})`).join("\n")}
  Postgres   ${cluster.postgres.url}
  Redis      ${cluster.redis.url}

To paste:

  export BASE_URL=${cluster.baseUrl} ADMIN_KEY=${cluster.adminKey}
  curl -sS -X PUT "$BASE_URL/v1/admin/projects/acme" ${admin} ${json} -d '{}'
  export KEY=$(curl -sS "$BASE_URL/v1/admin/projects/acme/api-keys" ${admin} ${json} \\
    -d '{"principal": {"kind": "agent", "id": "worker-7"}, "permissions": ["mobius.project.view", "mobius.project.edit", "mobius.work.execute"]}' \\
    | sed 's/.*"key":"\\([^"]*\\)".*/\\1/')
  export TOKEN=$(curl -sS -X PUT "$BASE_URL/v1/projects/acme/claims/job-1" ${admin} ${json} \\
    -d '{"run_id": "run-1", "worker_session_id": "s-1", "attempt": 1, "owner": {"kind": "agent", "id": "worker-7"}, "lease_seconds": 3600}' \\
    | sed 's/.*"lease_token":"\\([^"]*\\)".*/\\1/')
  curl -sS "$BASE_URL/v1/projects/acme/artifacts" -H "Authorization: Bearer $KEY" -H "X-Mobius-Lease-Token: $TOKEN" -F name=hello.txt -F 'file=@README.md'
  curl -sS "$BASE_URL/v1/projects/acme/artifacts" -H "Authorization: Bearer $KEY"
  curl -sS -o /dev/null -w '%{http_code}\\n' ${cluster.pods[0]?.baseUrl}/readyz   # one pod, past the balancer
  kill -9 ${cluster.pods[0]?.pid()}   # and go on: the others have its work within seconds

Ctrl-C stops all of it.`
}

let stopping: Promise<void> | undefined
let cluster: Cluster | undefined
const stop = (code: number) => {
  stopping ??= (async () => {
    console.log("\nStopping …")
    await Promise.all((cluster?.pods ?? []).filter((pod) => pod.serves()).map((pod) => pod.stop().catch(() => {})))
    await cluster?.dispose()
    process.exit(code)
  })()
}

try {
  cluster = await startCluster({
    pods,
    store: oneOf(storeKinds, values.store),
    balancer: oneOf(balancerKinds, values.balancer),
  })
} catch (error) {
  if (!(error instanceof BackendMissing)) throw error
  console.error(error.message)
  process.exit(1)
}
// Until here, a signal ends this process at once and takes all it has started with it.
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.removeAllListeners(signal)
  process.on(signal, () => stop(0))
}
console.log(welcome(cluster))
