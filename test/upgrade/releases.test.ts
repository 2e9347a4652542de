import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type PrivateDir, privateDir, run } from "../support/processes.ts"
import { commitBefore, releaseBefore } from "./releases.ts"

describe("the release before", () => {
  let home: PrivateDir
  beforeAll(() => {
    home = privateDir("releases")
  })
  afterAll(() => home?.remove())

  const git = (folder: string, ...args: ReadonlyArray<string>) =>
    run("git", ["-C", folder, "-c", "user.name=test", "-c", "user.email=test@example.org", ...args], {
      env: { PATH: process.env["PATH"], HOME: home.path, GIT_CONFIG_NOSYSTEM: "1" },
    })
  /** Writes the version and a file that differs each time, commits both, and returns the commit. */
  const commit = async (folder: string, version: string, note: string) => {
    writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "x", version }))
    writeFileSync(join(folder, "package-lock.json"), JSON.stringify({ name: "x", version, lockfileVersion: 3 }))
    writeFileSync(join(folder, "note"), note)
    await git(folder, "add", "-A")
    await git(folder, "commit", "-q", "-m", note)
    return (await git(folder, "rev-parse", "HEAD")).trim()
  }
  const repository = async (name: string, ...versions: ReadonlyArray<string>) => {
    const folder = join(home.path, name)
    await run("git", ["init", "-q", "-b", "main", folder], { env: { PATH: process.env["PATH"], HOME: home.path } })
    const commits: Array<string> = []
    for (const [index, version] of versions.entries()) commits.push(await commit(folder, version, `${index}`))
    return { folder, commits }
  }

  it("there is none before 1.0.0, whatever was developed earlier", async () => {
    expect(await commitBefore((await repository("first", "0.1.0", "0.1.0", "1.0.0", "1.0.0")).folder)).toBeUndefined()
    expect(await commitBefore((await repository("bare", "1.0.0")).folder)).toBeUndefined()
  })

  it("it is the last commit of the version before", async () => {
    const { commits, folder } = await repository("second", "0.1.0", "1.0.0", "1.0.0", "1.1.0", "1.1.0")
    expect(await commitBefore(folder)).toEqual({ commit: commits[2], version: "1.0.0" })
  })

  it("a version that is raised and not committed yet counts", async () => {
    const { commits, folder } = await repository("raised", "1.0.0", "1.0.0")
    writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "x", version: "1.0.1" }))
    expect(await commitBefore(folder)).toEqual({ commit: commits[1], version: "1.0.0" })
  })

  it("branches that were merged do not", async () => {
    const { commits, folder } = await repository("merged", "1.0.0", "1.0.1")
    await git(folder, "checkout", "-q", "-b", "old", commits[0] ?? "")
    await commit(folder, "0.9.9", "elsewhere")
    await git(folder, "checkout", "-q", "main")
    await git(folder, "merge", "-q", "-s", "ours", "-m", "merged", "old")
    expect(await commitBefore(folder)).toEqual({ commit: commits[0], version: "1.0.0" })
  })

  it("its source stands in a folder of its own, with the libraries of its lockfile", async () => {
    const { folder } = await repository("source", "1.0.0", "1.0.1")
    await run("mkdir", [join(folder, "node_modules")])
    writeFileSync(join(folder, "node_modules", "marker"), "here")
    const release = await releaseBefore(folder)
    expect(release?.version).toBe("1.0.0")
    expect(readFileSync(join(release?.root ?? "", "note"), "utf8")).toBe("0")
    expect(readFileSync(join(release?.root ?? "", "node_modules", "marker"), "utf8")).toBe("here")
  })

  it("without the history it cannot be told, and that is said", async () => {
    const { folder } = await repository("whole", "1.0.0", "1.0.1")
    const shallow = join(home.path, "shallow")
    await git(home.path, "clone", "-q", "--depth", "1", `file://${folder}`, shallow)
    await expect(commitBefore(shallow)).rejects.toThrow(/the git history here is shallow/)
    const none = join(home.path, "none")
    await run("mkdir", [none])
    writeFileSync(join(none, "package.json"), JSON.stringify({ version: "1.0.0" }))
    await expect(commitBefore(none)).rejects.toThrow(/there is no git history here/)
  })
})
