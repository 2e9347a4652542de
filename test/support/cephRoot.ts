import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs"
import { homedir } from "node:os"
import { dirname, join } from "node:path"
import { BackendMissing } from "./backends.ts"
import { inPath, onExit, run } from "./processes.ts"

const PACKAGES = "ceph-mon,ceph-osd,radosgw,ceph-common"
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

const cached = (): string => {
  const given = process.env["CEPH_ROOT"]
  if (given !== undefined && given !== "") return given
  const cache = process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache")
  return join(cache, "artifact-plane", "ceph-trixie")
}

const build = async (root: string): Promise<void> => {
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
      "--dpkgopt=path-exclude=/usr/share/doc/*",
      `--keyring=${KEYRING}`,
      `--include=${PACKAGES}`,
      "trixie",
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
 * A folder holding Debian 13 with Ceph, to be entered by chroot: the one named by CEPH_ROOT, else the user's cached
 * one, built at first use (about a minute, 1 GB). Throws BackendMissing where that needs rights this user lacks.
 */
export const cephRoot = async (): Promise<string> => {
  if (process.platform !== "linux" || process.getuid?.() !== 0) {
    throw new BackendMissing("Ceph RGW", "needs root on Linux, for chroot")
  }
  if (!inPath("unshare")) throw new BackendMissing("Ceph RGW", "no unshare in PATH")
  const root = cached()
  if (!existsSync(join(root, "usr/bin/radosgw"))) {
    if (process.env["CEPH_ROOT"]) throw new BackendMissing("Ceph RGW", "CEPH_ROOT holds no radosgw")
    try {
      await build(root)
    } catch (error) {
      throw new BackendMissing("Ceph RGW", `building its root failed: ${String(error).slice(-400)}`)
    }
  }
  return root
}
