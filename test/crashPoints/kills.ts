import type { casesOf } from "./cases.ts"
import { inWords } from "./cases.ts"
import type { Home, StackName } from "./stacks.ts"
import { startProcess } from "./start.ts"

/** Processes that are loaded before their turn comes. */
const ahead = 2

/**
 * Each case in a process that it kills, over the data which those before it left behind. Two at once where a stack admits
 * several pods; never beside a case that needs the plane for itself. Returns sentences about processes that lived on.
 */
export const runKills = async (
  stack: StackName,
  home: Home,
  journal: string,
  cases: ReturnType<typeof casesOf>,
): Promise<ReadonlyArray<string>> => {
  const sentences: Array<string> = []
  const ready = Array.from({ length: ahead }, startProcess)
  let left = cases.length - ahead
  const one = async ([walk, trap]: (typeof cases)[number]) => {
    const next = ready.shift() ?? startProcess()
    if (left-- > 0) ready.push(startProcess())
    const { report, signal, text } = await next.obey({ do: "kill", walk: walk.name, trap }, stack, home, journal)
    if (signal === "SIGKILL") return
    sentences.push(`${inWords(walk, trap)}: ${[...(report?.sentences ?? []), text].join(" ").slice(0, 1000)}`)
  }
  const queue = cases.filter(([walk]) => !walk.alone)
  const work = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await one(next)
  }
  await Promise.all(Array.from({ length: stack === "production" ? 2 : 1 }, work))
  for (const next of cases.filter(([walk]) => walk.alone)) await one(next)
  for (const unused of ready) unused.end()
  return sentences
}
