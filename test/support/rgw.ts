import { randomBytes, randomUUID } from "node:crypto"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3"
import { cephRoot } from "./cephRoot.ts"
import { freePort } from "./ports.ts"
import { type Spawned, privateDir, run, spawnRecorded, waitForHttp200, waitUntil } from "./processes.ts"
import type { S3Server } from "./s3.ts"

export interface RgwServer extends S3Server {
  /** Ends monitor, store and gateway and starts them on the kept objects, at the same endpoint. */
  restart(): Promise<void>
  /** SIGKILL to all three; `start` brings them back. */
  kill9(): Promise<void>
  start(): Promise<void>
  /** Freezes the gateway: connections stay open and nothing answers. */
  pause(): void
  resume(): void
  logs(): string
}

/** Where the private folder is seen inside the chroot. */
const INSIDE = "/mnt"

/**
 * The mounts are made in a mount namespace of the program's own: they end with it, so there is nothing to unmount and
 * two clusters can share one root. Arguments: root, private folder, program and its arguments.
 */
const ENTER = `
set -e
root=$1 data=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$data" "$root${INSIDE}"
exec chroot "$root" "$@"
`

const configuration = (fsid: string, monPort: number, rgwPort: number) => `[global]
fsid = ${fsid}
mon_host = [v2:127.0.0.1:${monPort}/0]
mon_initial_members = a
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = ${INSIDE}/keyring
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
run_dir = ${INSIDE}/run
admin_socket = ${INSIDE}/run/$name.$pid.asok
pid_file = ${INSIDE}/run/$name.pid
log_file = ${INSIDE}/log/$name.log
crash_dir = ${INSIDE}/crash
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
paxos_propose_interval = 0.05
paxos_min_wait = 0.02
[mon]
mon_data = ${INSIDE}/mon
[osd]
osd_data = ${INSIDE}/osd
osd_objectstore = bluestore
bluestore_block_size = ${20 * 1024 ** 3}
osd_mclock_skip_benchmark = true
[client]
rgw_data = ${INSIDE}/rgw
rgw_frontends = beast endpoint=127.0.0.1:${rgwPort} tcp_nodelay=1
rgw_run_sync_thread = false
rgw_dns_name = localhost
`

/** Who may do what; the arguments of ceph-authtool after the keyring. */
const KEYS = [
  ["--create-keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"],
  ["--gen-key", "-n", "client.admin", ...["mon", "osd", "mgr", "mds"].flatMap((on) => ["--cap", on, "allow *"])],
  ["--gen-key", "-n", "osd.0", "--cap", "mon", "allow profile osd", "--cap", "osd", "allow *"],
]

/**
 * A real S3 server: one Ceph monitor, one store and one gateway, with one user and one bucket. Throws BackendMissing
 * where it cannot be had. `stop` removes all data.
 */
export const startRgw = async (bucket = "artifacts"): Promise<RgwServer> => {
  const root = await cephRoot()
  const home = privateDir("rgw")
  for (const folder of ["run", "log", "crash", "mon", "osd", "rgw"]) mkdirSync(join(home.path, folder))
  const fsid = randomUUID()
  const osd = randomUUID()
  const monPort = await freePort()
  const rgwPort = await freePort()
  const endpoint = `http://127.0.0.1:${rgwPort}`
  const region = "us-east-1"
  const accessKeyId = `TEST${randomBytes(8).toString("hex").toUpperCase()}`
  const secretAccessKey = randomBytes(20).toString("hex")
  writeFileSync(join(home.path, "ceph.conf"), configuration(fsid, monPort, rgwPort), { mode: 0o600 })

  const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C", TZ: "UTC" }
  const enter = (args: ReadonlyArray<string>) =>
    ["--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", root, home.path, ...args] as const
  const tool = (...args: ReadonlyArray<string>) => run("unshare", enter(args), { env })
  const conf = ["-c", `${INSIDE}/ceph.conf`]
  const keyring = `${INSIDE}/keyring`

  let daemons: ReadonlyArray<Spawned> = []
  const daemon = async (...args: ReadonlyArray<string>) => {
    const started = await spawnRecorded("unshare", enter([...args, ...conf, "-f"]), { env })
    daemons = [started, ...daemons]
    return started
  }
  const monitor = () => daemon("ceph-mon", "-i", "a")
  const storeUp = async (store: Spawned) => {
    await waitUntil(store, "a store that is up", async () => {
      const answer = await tool("ceph", ...conf, "--connect-timeout", "20", "osd", "stat", "-f", "json")
      return (JSON.parse(answer) as { num_up_osds?: number }).num_up_osds === 1
    })
  }
  const gateway = async () => {
    const started = await daemon("radosgw", "-n", "client.admin")
    await waitForHttp200(started, endpoint, 60_000)
  }
  const endAll = async (signal: NodeJS.Signals) => {
    // Gateway first, monitor last: each needs those below it for an orderly end.
    for (const each of daemons) await each.end(signal)
    daemons = []
  }
  const start = async () => {
    if (daemons.length > 0) return
    await monitor()
    // The monitor may still count the store of the last run as up; the gateway's first answer is what proves it.
    await storeUp(await daemon("ceph-osd", "-i", "0"))
    await gateway()
  }

  try {
    for (const key of KEYS) await tool("ceph-authtool", keyring, ...key)
    const address = `[v2:127.0.0.1:${monPort}]`
    await tool("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, `${INSIDE}/monmap`)
    await tool("ceph-mon", ...conf, "--mkfs", "-i", "a", "--monmap", `${INSIDE}/monmap`, "--keyring", keyring)
    await Promise.all([
      tool("ceph-osd", ...conf, "-i", "0", "--mkfs", "--osd-uuid", osd, "--no-mon-config"),
      monitor().then(() => tool("ceph", ...conf, "--connect-timeout", "30", "osd", "new", osd)),
    ])
    await storeUp(await daemon("ceph-osd", "-i", "0"))
    const user = ["--uid=test", "--display-name=test", `--access-key=${accessKeyId}`, `--secret-key=${secretAccessKey}`]
    await tool("radosgw-admin", ...conf, "-n", "client.admin", "user", "create", ...user)
    await gateway()
    const client = new S3Client({
      endpoint,
      region,
      forcePathStyle: true,
      credentials: { accessKeyId, secretAccessKey },
    })
    await client.send(new CreateBucketCommand({ Bucket: bucket }))
    client.destroy()
  } catch (error) {
    await endAll("SIGKILL")
    home.remove()
    throw error
  }

  return {
    endpoint,
    bucket,
    region,
    accessKeyId,
    secretAccessKey,
    start,
    restart: async () => {
      await endAll("SIGTERM")
      await start()
    },
    kill9: () => endAll("SIGKILL"),
    pause: () => void daemons[0]?.child.kill("SIGSTOP"),
    resume: () => void daemons[0]?.child.kill("SIGCONT"),
    // The data go with it, so nothing needs to be flushed.
    stop: async () => {
      await endAll("SIGKILL")
      home.remove()
    },
    logs: () => daemons.map((each) => each.logs()).join("\n"),
  }
}
