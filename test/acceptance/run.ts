import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { join, relative, resolve } from "node:path"
import { orNotRun } from "../support/backends.ts"
import { startNode } from "../support/node.ts"
import { startPostgres } from "../support/postgres.ts"
import { privateDir, run } from "../support/processes.ts"
import { startRedis } from "../support/redis.ts"
import { startRgw } from "../support/rgw.ts"
import { s3Environment, type S3Server, startS3StandIn } from "../support/s3.ts"

/** Runs the black-box suite over one stack, and prints which sentence of the contract each test stands for. */
const stacks = ["embedded", "files", "s3", "rgw"] as const
const stack = stacks.find((name) => name === process.argv[2])
if (stack === undefined) {
  console.error(`Which stack? One of ${stacks.join(", ")}.`)
  process.exit(2)
}

const root = resolve(import.meta.dirname, "../..")
const home = privateDir("acceptance")
const stops: Array<() => Promise<void>> = []
const adminKey = `mbx_${randomBytes(32).toString("hex")}`
const limits = { MAX_ARTIFACT_BYTES: "33554432", MAX_OPEN_UPLOADS: "64", UPLOAD_IDLE_SECONDS: "2" }
const env: Record<string, string> = {
  ...limits,
  DATA_DIR: join(home.path, "data"),
  BOOTSTRAP_API_KEY: adminKey,
  URL_SIGNING_SECRET: randomBytes(32).toString("hex"),
}

const give = async <A>(name: string, start: () => Promise<A>, stop: (server: A) => Promise<void>): Promise<A> => {
  const server = await orNotRun(name, start)
  if (server === null) process.exit(0)
  stops.push(() => stop(server))
  return server
}

const vitest = async (target: Record<string, string>): Promise<number> => {
  const report = join(home.path, "report.json")
  const args = [
    join(root, "node_modules/vitest/vitest.mjs"),
    "run",
    "--config",
    "test/acceptance/vitest.config.ts",
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${report}`,
    ...process.argv.slice(3),
  ]
  const status = await new Promise<number>((done) => {
    spawn(process.execPath, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...target } }).on(
      "exit",
      (code) => done(code ?? 1),
    )
  })
  const { testResults } = JSON.parse(readFileSync(report, "utf8"))
  console.log(`\nWhat was covered on the stack "${stack}" (✓ held, ✗ did not, – says nothing of this stack):`)
  for (const { assertionResults, name } of testResults)
    for (const { fullName, status: outcome } of assertionResults)
      console.log(
        `  ${outcome === "passed" ? "✓" : outcome === "failed" ? "✗" : "–"} ${relative(join(root, "test/acceptance"), name)}: ${fullName.slice(0, 160)}`,
      )
  return status
}

let status = 1
try {
  if (stack !== "embedded") {
    const postgres = await give(
      "Postgres",
      () => startPostgres(),
      (server) => server.dispose(),
    )
    const redis = await give("Redis", startRedis, (server) => server.dispose())
    Object.assign(env, { DATABASE_URL: postgres.url, REDIS_URL: redis.url, EVENT_STREAM_KEY: "acceptance" })
    const base = { PATH: process.env["PATH"] ?? "" }
    await run(process.execPath, ["src/migrate.ts"], { cwd: root, env: { ...base, ...env } })
  }
  if (stack === "s3" || stack === "rgw") {
    const start: () => Promise<S3Server> = stack === "rgw" ? startRgw : startS3StandIn
    const s3 = await give(stack === "rgw" ? "Ceph RGW" : "S3 stand-in", start, (server) => server.stop())
    Object.assign(env, s3Environment(s3))
  }
  const node = await startNode({ env })
  stops.unshift(() => node.stop())
  status = await vitest({
    ...limits,
    BASE_URL: node.baseUrl,
    ADMIN_KEY: adminKey,
    STORE: stack === "s3" || stack === "rgw" ? "s3" : "files",
    ...(stack === "s3" && { SIGNATURES_CHECKED: "false" }),
    ...(env["REDIS_URL"] !== undefined && { REDIS_URL: env["REDIS_URL"], EVENT_STREAM_KEY: "acceptance" }),
  })
  if (status !== 0) console.log(`The node's last words:\n${node.logs().slice(-4000)}`)
} finally {
  for (const stop of stops) await stop().catch(() => {})
  home.remove()
}
process.exit(status)
