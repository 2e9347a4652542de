import { readFileSync } from "node:fs"
import { join } from "node:path"
import { parseDocument } from "yaml"

const MiB = 1024 * 1024
const units: Readonly<Record<string, number>> = { Mi: MiB, Gi: 1024 * MiB }

/** How much memory the manifests let a node's pod have, in bytes. */
export const podMemoryBytes = ((): number => {
  const file = join(import.meta.dirname, "../../../k8s/base/deployment.yaml")
  const limit = parseDocument(readFileSync(file, "utf8")).getIn([
    "spec",
    "template",
    "spec",
    "containers",
    0,
    "resources",
    "limits",
    "memory",
  ])
  const [, count, unit = ""] = /^(\d+)(Mi|Gi)$/.exec(String(limit)) ?? []
  if (count === undefined) throw new Error(`not a memory limit: ${String(limit)}`)
  return Number(count) * (units[unit] ?? 0)
})()

/**
 * What makes Node collect its garbage as it would in such a pod: there V8 lets its heap grow to half of the memory. Without
 * it the heap would be that of a larger machine, and would never be found too small.
 */
export const podNodeOptions = `--max-old-space-size=${podMemoryBytes / 2 / MiB}`
