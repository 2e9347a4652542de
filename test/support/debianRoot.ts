import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs"
import { homedir } from "node:os"
import { dirname, join } from "node:path"
import { BackendMissing } from "./backends.ts"
import { inPath, onExit, run } from "./processes.ts"

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

export interface DebianRoot {
  /** What is wanted of it, for a line that says NOT RUN. */
  readonly backend: string
  /** The folder's name in the cache. */
  readonly name: string
  readonly suite: string
  readonly packages: ReadonlyArray<string>
  /** A program of the packages, by its path in the root: a root without it is not used. */
  readonly program: string
  /** Names a root made by hand, in the environment. */
  readonly given: string
}

const cacheDir = (): string => join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "artifact-plane")

const build = async ({ packages, suite }: DebianRoot, root: string): Promise<void> => {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
  if (!inPath("mmdebstrap") || !existsSync(KEYRING)) {
    if (!inPath("apt-get")) throw new Error("no mmdebstrap and no apt-get")
    await run("apt-get", ["update"], { env })
    const wanted = ["mmdebstrap", "debian-archive-keyring"]
    await run("apt-get", ["install", "-y", "--no-install-recommends", ...wanted], { env })
  }
  mkdirSync(dirname(root), { recursive: true })
  // Built under another name and renamed when whole, so that a build cut short is never taken for a root.
  const building = `${root}.building-${process.pid}`
  const erase = () => rmSync(building, { recursive: true, force: true })
  const withdraw = onExit(erase)
  try {
    const args = [
      "--variant=apt",
      "--mode=root",
      '--aptopt=APT::Install-Recommends "false"',
      // A mirror may lag behind the archive; its signatures are still checked.
      '--aptopt=Acquire::Check-Valid-Until "false"',
      "--dpkgopt=path-exclude=/usr/share/doc/*",
      `--keyring=${KEYRING}`,
      `--include=${packages.join(",")}`,
      suite,
      building,
    ]
    await run("mmdebstrap", args, { env })
    // Another process may have been faster; its root is as good.
    if (!existsSync(root)) renameSync(building, root)
  } finally {
    erase()
    withdraw()
  }
}

/**
 * A folder holding another release of Debian with these packages, to be entered by chroot: the one named by the
 * environment, else the user's cached one, built at first use (about a minute). Throws BackendMissing where that needs
 * rights this user lacks.
 */
export const debianRoot = async (wanted: DebianRoot): Promise<string> => {
  const { backend, given, name, program } = wanted
  if (process.platform !== "linux" || process.getuid?.() !== 0)
    throw new BackendMissing(backend, "needs root on Linux, for chroot")
  if (!inPath("unshare")) throw new BackendMissing(backend, "no unshare in PATH")
  const byHand = process.env[given]
  const root = byHand || join(cacheDir(), name)
  if (existsSync(join(root, program))) return root
  if (byHand) throw new BackendMissing(backend, `${given} holds no ${program}`)
  try {
    await build(wanted, root)
  } catch (error) {
    throw new BackendMissing(backend, `building its root failed: ${String(error).slice(-400)}`)
  }
  return root
}
