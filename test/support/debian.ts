import { BackendMissing } from "./backends.ts"
import { inPath, run } from "./processes.ts"

/** Installs Debian's packages. Throws BackendMissing where that needs rights this user lacks. Packages of servers start none. */
export const installDebian = async (name: string, packages: ReadonlyArray<string>): Promise<void> => {
  if (process.getuid?.() !== 0 || !inPath("apt-get"))
    throw new BackendMissing(name, `it is not on this machine, and there is no apt-get with root rights to install it`)
  const env = {
    PATH: process.env["PATH"],
    DEBIAN_FRONTEND: "noninteractive",
    // The package would start a server of its own on the well-known port.
    RUNLEVEL: "1",
  }
  const apt = (...args: ReadonlyArray<string>) => run("apt-get", ["-o", "DPkg::Lock::Timeout=120", ...args], { env })
  try {
    await apt("update")
    await apt("install", "-y", "--no-install-recommends", ...packages)
  } catch (error) {
    throw new BackendMissing(name, `Debian's package could not be installed: ${String(error).slice(-300)}`)
  }
}

/** The program from PATH, else from Debian's package, which is installed for it. */
export const fromDebian = async (name: string, program: string, debianPackage: string): Promise<string> => {
  if (!inPath(program)) await installDebian(name, [debianPackage])
  return program
}
