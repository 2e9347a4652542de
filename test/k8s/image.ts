import { chmodSync, cpSync, mkdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { type PrivateDir, privateDir, run } from "../support/processes.ts"

const root = resolve(import.meta.dirname, "../..")

interface Instruction {
  readonly name: string
  readonly rest: string
}

/** The instructions of the Dockerfile, one list a stage, the ARGs before the first in every one. */
export const stages = (): ReadonlyArray<ReadonlyArray<Instruction>> => {
  const instructions = readFileSync(join(root, "k8s/Dockerfile"), "utf8")
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .map((line) => ({ name: line.split(" ")[0] ?? "", rest: line.split(" ").slice(1).join(" ") }))
  const starts = instructions.flatMap(({ name }, index) => (name === "FROM" ? [index] : []))
  const args = instructions.slice(0, starts[0])
  return starts.map((start, stage) => [...args, ...instructions.slice(start, starts[stage + 1])])
}

export const instruction = (stage: ReadonlyArray<Instruction>, name: string): string => {
  const found = stage.filter((candidate) => candidate.name === name)
  if (found.length !== 1) throw new Error(`${found.length} ${name} in the stage`)
  return found[0]?.rest ?? ""
}

/** What a stage copies out of the repository. */
export const copied = (stage: ReadonlyArray<Instruction>): ReadonlyArray<string> =>
  stage
    .filter(({ name, rest }) => name === "COPY" && !rest.startsWith("--from="))
    .flatMap(({ rest }) => rest.split(" ").slice(0, -1))

export interface Image extends PrivateDir {
  /** Where the image has `/app`. */
  readonly app: string
  readonly node: string
}

/**
 * Carries out the Dockerfile's COPY and RUN lines in a folder of this machine: what the image would hold. All but the
 * emptying of npm's cache, which here is the user's own.
 */
export const layOut = async (): Promise<Image> => {
  const dir = privateDir("image")
  chmodSync(dir.path, 0o755)
  const app = join(dir.path, "app")
  mkdirSync(app)
  for (const stage of stages()) {
    for (const path of copied(stage)) cpSync(join(root, path), join(app, path), { recursive: true })
    for (const { name, rest } of stage)
      if (name === "RUN") await run("sh", ["-c", rest.replace(/ && npm cache .*/, "")], { cwd: app })
  }
  const node = join(dir.path, "node")
  cpSync(process.execPath, node)
  return { ...dir, app, node }
}

/**
 * Arguments of `unshare` that run a command as the image's user, in a mount namespace of its own where the root
 * filesystem and all of /tmp are read-only.
 */
export const confined = (command: ReadonlyArray<string>): ReadonlyArray<string> => [
  "--mount",
  "sh",
  "-c",
  `set -e
  mount --make-rprivate /
  mount -o remount,bind,ro /
  if mountpoint -q /tmp; then mount -o remount,bind,ro /tmp; fi
  if touch ./probe 2>/dev/null; then echo "the filesystem can be written to"; exit 9; fi
  exec setpriv --reuid=1000 --regid=1000 --clear-groups --no-new-privs --bounding-set=-all "$@"`,
  "sh",
  ...command,
]
