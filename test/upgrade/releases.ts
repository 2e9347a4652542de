import { existsSync, mkdirSync, readFileSync, symlinkSync } from "node:fs"
import { join } from "node:path"
import { BackendMissing } from "../support/backends.ts"
import { privateDir, run } from "../support/processes.ts"

/** The source of a release, ready to run. */
export interface Release {
  readonly version: string
  /** The folder of its package.json, with node_modules. */
  readonly root: string
}

/** `1.0.0` was the first release: what came before had another schema, and nobody ran it. */
const firstMajor = 1

const versionIn = (packageJson: string): string => JSON.parse(packageJson).version

export const releaseHere = (root: string): Release => ({
  version: versionIn(readFileSync(join(root, "package.json"), "utf8")),
  root,
})

/**
 * The last commit of the release before the one in `root`: package.json is given a new version when the work on a
 * release begins, so it is the newest one on the main line whose package.json has another. Undefined: the release in
 * `root` is the first. BackendMissing when there is no history to tell it by.
 */
export const commitBefore = async (
  root: string,
): Promise<{ readonly commit: string; readonly version: string } | undefined> => {
  const git = (...args: ReadonlyArray<string>) => run("git", ["-C", root, ...args])
  const missing = (reason: string) => new BackendMissing("the release before this one", reason)
  const { version } = releaseHere(root)
  const log = await git("log", "--first-parent", "--format=%H", "HEAD", "--", "package.json").catch(() => {
    throw missing("there is no git history here")
  })
  const versionAt = async (commit: string) => versionIn(await git("show", `${commit}:package.json`))
  let began: string | undefined
  if ((await versionAt("HEAD")) === version)
    for (const commit of log.trim().split("\n")) {
      if ((await versionAt(commit)) !== version) break
      began = commit
    }
  const before = began === undefined ? "HEAD" : `${began}^`
  const commit = (await git("rev-parse", "--verify", "--quiet", `${before}^{commit}`).catch(() => "")).trim()
  if (commit === "") {
    if ((await git("rev-parse", "--is-shallow-repository")).trim() === "true")
      throw missing("the git history here is shallow: fetch all of it (git fetch --unshallow)")
    return undefined
  }
  const earlier = await versionAt(commit).catch(() => undefined)
  if (earlier === undefined || Number(earlier.split(".")[0]) < firstMajor) return undefined
  return { commit, version: earlier }
}

/** The lockfile, but for the program's own version. */
const librariesOf = (root: string): string => {
  const { packages, version: _, ...lock } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"))
  return JSON.stringify({ ...lock, packages: { ...packages, "": { ...packages?.[""], version: undefined } } })
}

/** The release before the one in `root` as a folder of its own, which the end of the process removes. */
export const releaseBefore = async (root: string): Promise<Release | undefined> => {
  const found = await commitBefore(root)
  if (found === undefined) return undefined
  const home = privateDir(`release-${found.version}`).path
  const archive = join(home, "source.tar")
  const source = join(home, "source")
  mkdirSync(source)
  await run("git", ["-C", root, "archive", "--output", archive, found.commit])
  await run("tar", ["-xf", archive, "-C", source])
  if (existsSync(join(root, "node_modules")) && librariesOf(source) === librariesOf(root))
    symlinkSync(join(root, "node_modules"), join(source, "node_modules"))
  else await run("npm", ["ci", "--no-audit", "--no-fund", "--omit=dev"], { cwd: source, env: process.env })
  return { version: found.version, root: source }
}
