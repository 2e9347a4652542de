import { readdirSync, readFileSync } from "node:fs"
import { builtinModules } from "node:module"
import { join, relative, resolve } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { BackendMissing, orNotRun } from "../support/backends.ts"
import { freePort } from "../support/ports.ts"
import { createDatabase, startPostgres } from "../support/postgres.ts"
import { inPath, run, spawnRecorded, waitForHttp200 } from "../support/processes.ts"
import { startRedis } from "../support/redis.ts"
import { startS3StandIn } from "../support/s3.ts"
import { confined, copied, instruction, layOut, stages } from "./image.ts"
import { findKubectl } from "./kubectl.ts"
import { loadOverlay } from "./overlays.ts"

const root = resolve(import.meta.dirname, "../..")
const textOf = (file: string) => readFileSync(join(root, file), "utf8")
const manifest = JSON.parse(textOf("package.json"))
const [dependencies = [], final = []] = stages()
const command: ReadonlyArray<string> = JSON.parse(instruction(final, "CMD"))

const sources = ["src", "services", "layers"].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => relative(root, join(entry.parentPath, entry.name))),
)

describe("the Dockerfile", () => {
  it("starts what npm start starts, with Node as process 1", () => {
    expect(command.join(" ")).toBe(manifest.scripts.start)
    expect(final.some(({ name }) => name === "ENTRYPOINT")).toBe(false)
  })

  it("is based on the Node that the tests run on, by digest", () => {
    const [base, digest] = instruction(dependencies, "ARG").split("@")
    expect(base).toBe(`BASE=node:${manifest.devDependencies.node}-bookworm-slim`)
    expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect([dependencies, final].map((stage) => instruction(stage, "FROM"))).toEqual([
      "${BASE} AS dependencies",
      "${BASE}",
    ])
  })

  it("runs as a user by number", () => {
    expect(instruction(final, "USER")).toBe("1000:1000")
  })

  it("copies nothing that .dockerignore keeps away, and all that the program imports", () => {
    const kept = textOf(".dockerignore")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
    expect(kept[0]).toBe("*")
    expect(kept.slice(1).toSorted()).toEqual(
      [...new Set([dependencies, final].flatMap(copied))].map((path) => `!${path}`).toSorted(),
    )
    expect(copied(final)).toEqual(expect.arrayContaining(["src", "services", "layers", "package.json"]))
  })

  it("installs production's dependencies, which are all that the sources import", () => {
    expect(instruction(dependencies, "RUN")).toMatch(/^npm ci --omit=dev /)
    expect(sources.length).toBeGreaterThan(50)
    const imported = sources.flatMap((file) =>
      [
        ...textOf(file).matchAll(
          /^(?:import|export)\b(?:[^"';]*?\bfrom)?\s*["']([^".][^"']*)["']|import\("([^".][^"]*)"\)/gm,
        ),
      ]
        .map((match) => match[1] ?? match[2] ?? "")
        .filter((target) => !target.startsWith("node:") && !builtinModules.includes(target))
        .map((target) => ({ file, name: target.split("/", target.startsWith("@") ? 2 : 1).join("/") })),
    )
    expect(imported.length).toBeGreaterThan(100)
    expect(imported.filter(({ name }) => !(name in manifest.dependencies))).toEqual([])
  })
})

const dispose: Array<() => unknown> = []
afterAll(async () => {
  for (const end of dispose.reverse()) await end()
})

const scene = await orNotRun("the image's files", async () => {
  if (process.getuid?.() !== 0 || !inPath("unshare") || !inPath("setpriv"))
    throw new BackendMissing("mount namespaces", "need root on Linux, unshare and setpriv")
  const [kubectl, image, postgres, redis, s3] = await Promise.all([
    findKubectl(),
    layOut(),
    startPostgres(),
    startRedis(),
    startS3StandIn("elsewhere"),
  ])
  dispose.push(image.remove, postgres.dispose, redis.dispose, s3.stop)
  return { database: await createDatabase(postgres), image, kubectl, redis, s3 }
})

if (scene !== null) {
  const { database, image, kubectl, redis, s3 } = scene

  const local = await loadOverlay(kubectl, "local")
  const requested = local.template("Deployment artifact-plane").spec.containers[0]?.resources?.requests?.["memory"]
  /** MiB that the scheduler sets aside for a pod. */
  const requestedMemory = Number.parseInt(requested ?? "", 10)
  const overlay = {
    ...local.settings(),
    DATABASE_URL: database,
    REDIS_URL: redis.url,
    S3_ENDPOINT: s3.endpoint,
    HOME: "/nonexistent",
    PATH: process.env["PATH"] ?? "",
  }
  const inImage = ([program, ...args]: ReadonlyArray<string>, env: Readonly<Record<string, string>>) => ({
    command: "unshare",
    args: confined([program === "node" ? image.node : (program ?? ""), ...args]),
    options: { cwd: image.app, env },
  })
  const job = (name: string) => {
    const container = local.template(`Job ${name}`).spec.containers[0]
    const { args, command, options } = inImage([...(container?.command ?? []), ...(container?.args ?? [])], overlay)
    return run(command, args, options)
  }

  describe("the image's files, read-only and without root", () => {
    it("make the bucket, and leave it when it is there", async () => {
      expect(await job("bucket")).toBe("made artifacts\n")
      expect(await job("bucket")).toBe("artifacts is there\n")
    })

    it("migrate, and have nothing to migrate the second time", async () => {
      expect(await job("artifact-plane-migrate")).toContain("Applied 0001_schema")
      expect(await job("artifact-plane-migrate")).toContain("up to date")
    })

    it("start as the overlay says, get ready, and go at SIGTERM with exit code 0", async () => {
      const port = await freePort()
      const started = inImage(command, {
        ...overlay,
        PORT: String(port),
        METRICS_PORT: String(await freePort()),
        RUNNER_PORT: String(await freePort()),
        RUNNER_HOST: "127.0.0.1",
        DRAIN_DELAY_SECONDS: "0",
      })
      const node = await spawnRecorded(started.command, started.args, started.options)
      try {
        await waitForHttp200(node, `http://127.0.0.1:${port}/readyz`)
        const status = readFileSync(`/proc/${node.pid}/status`, "utf8")
        expect(/^Uid:\t(.*)$/m.exec(status)?.[1]).toBe("1000\t1000\t1000\t1000")
        expect(/^CapEff:\t0*([0-9a-f]+)$/m.exec(status)?.[1]).toBe("0")
        const resident = Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1]) / 1024
        console.log(`resident when ready and idle: ${resident.toFixed(0)} MiB`)
        // With room for what an idle pod does not have yet: open transfers.
        expect(resident).toBeLessThan(requestedMemory * 0.8)
      } finally {
        await node.end("SIGTERM")
      }
      expect(node.child.exitCode, node.logs()).toBe(0)
    })
  })
}
