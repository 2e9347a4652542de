import { join, resolve } from "node:path"
import { spawnSync } from "node:child_process"
import { orNotRun } from "./backends.ts"
import { startRgw } from "./rgw.ts"
import { s3Facts } from "./s3.ts"

/** The BlobStore suite and the acceptance suite against a real S3 server. Not having one is printed as NOT RUN. */
const root = resolve(import.meta.dirname, "../..")
const gateway = await orNotRun("Ceph RGW", startRgw)
if (gateway === null) process.exit(0)
const vitest = join(root, "node_modules/vitest/vitest.mjs")
const suite = spawnSync(process.execPath, [vitest, "run", "--config", "test/suites/vitest.rgw.config.ts"], {
  cwd: root,
  stdio: "inherit",
  env: { ...process.env, S3_FACTS: JSON.stringify(s3Facts(gateway)) },
})
await gateway.stop()
const acceptance = spawnSync(process.execPath, ["test/acceptance/run.ts", "rgw"], { cwd: root, stdio: "inherit" })
process.exit(suite.status || acceptance.status || 0)
