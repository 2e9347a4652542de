import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { createDatabase } from "../support/postgres.ts"
import { privateDir, run } from "../support/processes.ts"
import { casesOf, type Extent } from "./cases.ts"
import { runKills } from "./kills.ts"
import type { Order, Report } from "./run.ts"
import type { Sample } from "./sample.ts"
import type { Home, StackName } from "./stacks.ts"
import { type Say, startProcess } from "./start.ts"

/** Servers of the production stack. */
export interface Servers {
  readonly postgresUrl: string
  readonly redisUrl: string
}

const migrate = (postgresUrl: string) =>
  run(process.execPath, ["src/migrate.ts"], {
    cwd: join(import.meta.dirname, "../.."),
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], DATABASE_URL: postgresUrl },
  })

/** A plane of its own for one run, which processes enter one after the other. */
const foundPlane = async (stack: StackName, servers: Servers | undefined, say: Say) => {
  const folder = privateDir("crash-points")
  const dataDir = join(folder.path, "data")
  let home: Home = { dataDir }
  if (stack === "production") {
    if (servers === undefined) throw new Error("the production stack needs servers")
    const postgresUrl = await createDatabase({ url: servers.postgresUrl })
    await migrate(postgresUrl)
    home = { dataDir, postgresUrl, redisUrl: servers.redisUrl, streamKey: `events-${randomBytes(6).toString("hex")}` }
  }
  const journal = join(folder.path, "journal")
  const obey = async (order: Order): Promise<Report> => {
    const { report, signal, text } = await startProcess(say).obey(order, stack, home, journal)
    if (report === undefined) throw new Error(`the process ended by ${signal} without a report\n${text}`)
    return report
  }
  return { home, journal, obey, remove: folder.remove }
}

interface Options {
  /** This walk alone. */
  readonly walk?: string | undefined
  /** Of the cases that fail and hang, or of the processes that die. Default: all. */
  readonly sample?: Sample
  /** Hears how far it is. */
  readonly say?: Say
}

/** Calls fail and hang, in one process. */
export const faultStory = async (
  stack: StackName,
  servers: Servers | undefined,
  extent: Omit<Extent, "faults">,
  { sample, say = () => {}, walk }: Options = {},
): Promise<Report> => {
  const plane = await foundPlane(stack, servers, say)
  try {
    return await plane.obey({ do: "faults", extent: { ...extent, faults: ["fail", "hang"] }, walk, sample })
  } finally {
    plane.remove()
  }
}

/** Processes die; then one more comes up and everything must agree. */
export const killStory = async (
  stack: StackName,
  servers: Servers | undefined,
  extent: Omit<Extent, "faults">,
  { sample, say = () => {}, walk }: Options = {},
): Promise<Report> => {
  const plane = await foundPlane(stack, servers, say)
  try {
    const recorded = await plane.obey({ do: "record", walk })
    const all = casesOf(recorded.passed, { ...extent, faults: ["kill"] })
    const killed = await runKills(stack, plane.home, plane.journal, all, sample, say)
    const settled = await plane.obey({ do: "settle" })
    const sentences = [...recorded.sentences, ...killed.sentences, ...settled.sentences]
    return { ...recorded, cases: killed.cases, sentences }
  } finally {
    plane.remove()
  }
}
