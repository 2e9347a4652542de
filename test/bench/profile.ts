import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"

interface Frame {
  readonly id: number
  readonly callFrame: { readonly functionName: string; readonly url: string }
  readonly children?: ReadonlyArray<number>
}

interface CpuProfile {
  readonly nodes: ReadonlyArray<Frame>
  /** Frame by frame, each for as long as `timeDeltas` says, in µs. */
  readonly samples: ReadonlyArray<number>
  readonly timeDeltas: ReadonlyArray<number>
}

/** What JavaScript's own frames are part of, by where they come from; the first that fits. */
const places: ReadonlyArray<readonly [RegExp, string]> = [
  [/node_modules\/(@effect\/sql|pg)/, "Postgres driver"],
  [/node_modules\/(ioredis|@ioredis|redis)/, "Redis driver"],
  [/node_modules\/(@aws-sdk|@smithy)/, "S3 SDK"],
  [/node_modules\/(effect|@effect|fast-check)/, "effect runtime"],
  [/node_modules\//, "other packages"],
  [/^node:(_http|internal\/http)/, "Node: HTTP"],
  [/^node:(net|internal\/stream_base|internal\/streams|stream|_stream)/, "Node: sockets and streams"],
  [/^node:(fs|internal\/fs)/, "Node: files"],
  [/^node:(crypto|internal\/crypto)/, "hashing"],
  [/^node:/, "Node: the rest"],
  [/\/(src|layers|services)\//, "the product's own code"],
]

const nameOf = (frame: Frame, parent: string): string => {
  const { functionName, url } = frame.callFrame
  if (functionName === "(garbage collector)") return "collecting garbage"
  if (functionName === "(program)") return "native code outside of JavaScript"
  if (functionName === "(idle)") return "idle"
  // Native functions belong to who called them.
  return places.find(([place]) => place.test(url))?.[1] ?? parent
}

/** Shares of the busy time of a process's main thread, the largest first, from the largest profile in a folder. */
export const shares = (folder: string): ReadonlyArray<readonly [string, number]> => {
  if (!existsSync(folder)) return []
  const [largest] = readdirSync(folder)
    .filter((name) => name.endsWith(".cpuprofile"))
    .map((name) => join(folder, name))
    .toSorted((a, b) => statSync(b).size - statSync(a).size)
  if (largest === undefined) return []
  const { nodes, samples, timeDeltas }: CpuProfile = JSON.parse(readFileSync(largest, "utf8"))
  const frames = new Map(nodes.map((frame) => [frame.id, frame]))
  const names = new Map<number, string>()
  // Parents stand before their children.
  for (const frame of nodes) {
    const name = names.get(frame.id) ?? nameOf(frame, "the rest")
    names.set(frame.id, name)
    for (const child of frame.children ?? []) {
      const below = frames.get(child)
      if (below !== undefined) names.set(child, nameOf(below, name))
    }
  }
  const spent = new Map<string, number>()
  for (const [index, id] of samples.entries()) {
    const name = names.get(id) ?? "the rest"
    if (name !== "idle") spent.set(name, (spent.get(name) ?? 0) + (timeDeltas[index] ?? 0))
  }
  const busy = [...spent.values()].reduce((sum, each) => sum + each, 0)
  return [...spent].map(([name, time]) => [name, time / busy] as const).toSorted((a, b) => b[1] - a[1])
}
