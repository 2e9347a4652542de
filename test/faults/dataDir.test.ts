import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, statSync } from "node:fs"
import { join } from "node:path"
import { Effect } from "effect"
import { afterAll, describe, expect, it } from "vitest"
import * as BlobFiles from "../../layers/BlobStore/FileSystem.ts"
import { BlobStore } from "../../services/BlobStore.ts"
import { freePort } from "../support/ports.ts"
import { privateDir, run, spawnRecorded, type Spawned, waitForHttp200, waitForLine } from "../support/processes.ts"

const root = join(import.meta.dirname, "../..")
const modeOf = (path: string) => (statSync(path).mode & 0o7777).toString(8)

/** Others may pass through it, or a closed DATA_DIR would not be what keeps them out. */
const home = privateDir("data-dir")
chmodSync(home.path, 0o755)
const temporary = join(home.path, "tmp")
mkdirSync(temporary)
afterAll(() => home.remove())

const running: Array<Spawned> = []
afterAll(() => Promise.all(running.map((node) => node.end("SIGKILL"))))

let folders = 0
const folder = (mode?: number): string => {
  const path = join(home.path, `data-${++folders}`)
  if (mode !== undefined) {
    mkdirSync(path)
    chmodSync(path, mode)
  }
  return path
}

/** The product's process, begun and not waited for, with nothing in its environment but what is said here. */
const begin = async (env: Readonly<Record<string, string>>) => {
  const port = await freePort()
  const node = await spawnRecorded(process.execPath, ["src/main.ts"], {
    cwd: root,
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: home.path,
      TMPDIR: temporary,
      METRICS_PORT: "0",
      PORT: String(port),
      ...env,
    },
  })
  running.push(node)
  return { ...node, baseUrl: `http://127.0.0.1:${port}` }
}

/** A production node, whose Postgres is not there: it waits for it, which is as far as these tests go. */
const store = async (dataDir: string) =>
  begin({
    DATABASE_URL: `postgres://u:p@127.0.0.1:${await freePort()}/db`,
    REDIS_URL: `redis://127.0.0.1:${await freePort()}`,
    URL_SIGNING_SECRET: "0123456789abcdef",
    DATA_DIR: dataDir,
  })

const refusal = async (node: Spawned) => {
  await node.ended
  expect(node.child.exitCode, node.logs()).toBe(1)
  expect(node.logs().trim().split("\n")).toHaveLength(1)
  return node.logs()
}

describe("DATA_DIR of an embedded node", { timeout: 240_000 }, () => {
  it("is closed to everybody else, and keeps the compiled code that a shared folder does not", async () => {
    const dataDir = folder()
    const node = await begin({ DATA_DIR: dataDir })
    await waitForHttp200(node, `${node.baseUrl}/readyz`, 150_000)
    await node.end("SIGTERM", 45_000)
    expect(modeOf(dataDir)).toBe("700")
    expect(modeOf(join(dataDir, "postgres"))).toBe("700")
    expect(modeOf(join(dataDir, "dev-credentials.json"))).toBe("600")
    expect(readdirSync(join(dataDir, "compile-cache"))).not.toEqual([])
    expect(readdirSync(temporary)).toEqual([])
    if (process.getuid?.() === 0) {
      const nobody = { uid: 65_534, gid: 65_534 }
      await expect(run("cat", [join(dataDir, "postgres/PG_VERSION")], nobody)).rejects.toThrow("Permission denied")
    }
  })

  it.each(["0755", "0775"])("is closed when it was open (mode %s), with one line", async (mode) => {
    const dataDir = folder(Number.parseInt(mode, 8))
    const node = await begin({ DATA_DIR: dataDir })
    await waitForLine(node, "it is closed to them now (0700)", 150_000)
    await node.end("SIGKILL")
    expect(modeOf(dataDir)).toBe("700")
    const lines = node.logs().match(/was open to other users of this machine \(mode \d+\)/g)
    expect(lines).toEqual([`was open to other users of this machine (mode ${mode})`])
  })

  it("is refused when everybody may write it, and nothing is read from it or written into it", async () => {
    const dataDir = folder(0o777)
    expect(await refusal(await begin({ DATA_DIR: dataDir }))).toMatch(
      /^DATA_DIR ".*" can be written by every user of this machine \(mode 0777\): .* chmod 700/,
    )
    expect(readdirSync(dataDir)).toEqual([])
  })

  it("is refused when it belongs to another user", async () => {
    // Whoever is not root finds that what root owns is another's.
    const dataDir = process.getuid?.() === 0 ? folder(0o700) : "/usr"
    if (dataDir !== "/usr") chownSync(dataDir, 65_534, 65_534)
    expect(await refusal(await begin({ DATA_DIR: dataDir }))).toMatch(/belongs to another user \(uid \d+\).*chown/)
    expect(existsSync(join(dataDir, "lock"))).toBe(false)
  })
})

describe("DATA_DIR as a file store", { timeout: 240_000 }, () => {
  it("may be a volume that belongs to root and admits pods by its group, and is left as it is", async () => {
    const dataDir = folder(0o2770)
    const node = await store(dataDir)
    await waitForHttp200(node, `${node.baseUrl}/healthz`, 150_000)
    await node.end("SIGTERM", 45_000)
    expect(modeOf(dataDir)).toBe("2770")
    // What others of the group could have written is not executed.
    expect(readdirSync(dataDir)).toEqual([])
  })

  it("is refused when everybody may write it, before anything is waited for", async () => {
    expect(await refusal(await store(folder(0o777)))).toMatch(/mode 0777\).* chmod o-w/)
  })

  it("has no folder and no file that everybody may read", async () => {
    const directory = join(folder(), "blobs")
    const write = Effect.gen(function* () {
      const writer = yield* (yield* BlobStore).open("demo/greeting", { size: 5 })
      yield* Effect.promise(async () => writer.write(new TextEncoder().encode("hello")))
      yield* writer.finish
    })
    await Effect.runPromise(Effect.scoped(write).pipe(Effect.provide(BlobFiles.layer({ directory }))))
    const all = readdirSync(directory, { recursive: true, encoding: "utf8" }).map((name) => join(directory, name))
    expect(all.filter((path) => statSync(path).isFile())).toHaveLength(1)
    expect([directory, ...all].filter((path) => (statSync(path).mode & 0o007) !== 0)).toEqual([])
  })
})
