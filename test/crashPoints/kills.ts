import { type casesOf, inWords } from "./cases.ts"
import { type Sample, sampled } from "./sample.ts"
import type { Home, StackName } from "./stacks.ts"
import { type Say, startProcess } from "./start.ts"

type Cases = ReturnType<typeof casesOf>

/** Processes that are loaded before their turn comes. */
const ahead = 2

/** A process that has not died by then hangs where nothing was planted. Milliseconds. */
const dyingWithin = 180_000

/** How many cases die with one process. */
const together = 16

/**
 * The cases by the process in which they die. Alone dies who needs the plane for itself, and everybody whose database
 * dies with the process: what another one writes there would save what is not written yet.
 */
const byProcess = (stack: StackName, cases: Cases): ReadonlyArray<Cases> => {
  const gathered = stack === "production" ? cases.filter(([walk]) => !walk.alone) : []
  const crowds = Array.from({ length: Math.ceil(gathered.length / together) }, (_, n) =>
    gathered.slice(n * together, (n + 1) * together),
  )
  return [...crowds, ...cases.filter((one) => !gathered.includes(one)).map((one) => [one])]
}

/**
 * Kills processes over the data which those before them left behind. Two at once where a stack admits several pods;
 * never beside a case that needs the plane for itself. Returns sentences about processes that lived on.
 */
export const runKills = async (
  stack: StackName,
  home: Home,
  journal: string,
  cases: Cases,
  sample: Sample | undefined,
  say: Say,
): Promise<{ readonly cases: number; readonly sentences: ReadonlyArray<string> }> => {
  const processes = sampled(byProcess(stack, cases), sample)
  const sentences: Array<string> = []
  const start = () => startProcess(() => {})
  const ready = Array.from({ length: Math.min(ahead, processes.length) }, start)
  let started = ready.length
  let done = 0
  const one = async (dying: Cases) => {
    const next = ready.shift() ?? start()
    if (started++ < processes.length) ready.push(start())
    const began = Date.now()
    const order = { do: "kill", cases: dying.map(([walk, trap]) => ({ walk: walk.name, trap })) } as const
    const words = dying.map(([walk, trap]) => inWords(walk, trap))
    const overdue = setTimeout(() => {
      sentences.push(`${words.join("; ")}: the process did not come to its end`)
      next.end()
    }, dyingWithin)
    const { report, signal, text } = await next.obey(order, stack, home, journal)
    clearTimeout(overdue)
    say(
      `${++done} of ${processes.length} processes: ${words[0]}${words.length > 1 ? ` and ${words.length - 1} more` : ""}: ${Date.now() - began} ms`,
    )
    if (signal === "SIGKILL") return
    sentences.push(...(report?.sentences ?? [`${words.join("; ")}: the process ended by itself. ${text.slice(-1000)}`]))
  }
  const alone = ([first]: Cases) => stack !== "production" || first?.[0].alone === true
  const queue = processes.filter((dying) => !alone(dying))
  const work = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await one(next)
  }
  await Promise.all([work(), work()])
  for (const next of processes.filter(alone)) await one(next)
  for (const unused of ready) unused.end()
  return { cases: processes.flat().length, sentences }
}
