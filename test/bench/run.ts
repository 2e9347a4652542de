import { mkdirSync, writeFileSync } from "node:fs"
import { cpus, loadavg } from "node:os"
import { join } from "node:path"
import { BackendMissing, notRun } from "../support/backends.ts"
import { type Bench, type Site, warmUp, warmUpOthers } from "./bench.ts"
import { filesToSend, startBareNode, startNginx } from "./ceilings.ts"
import { asSvg } from "./chart.ts"
import { describeServer } from "./database.ts"
import { type Options, readOptions, usage } from "./options.ts"
import { startPeers } from "./peers.ts"
import { shares } from "./profile.ts"
import { asText, type Results } from "./report.ts"
import { startEmbedded, startProduction, type Stack } from "./stacks.ts"
import { targets } from "./targets.ts"
import { events } from "./work/events.ts"
import { list } from "./work/list.ts"
import { node } from "./work/node.ts"
import { pods } from "./work/pods.ts"
import { publish } from "./work/publish.ts"
import { read, readSizes } from "./work/read.ts"
import { s3 } from "./work/s3.ts"
import { small } from "./work/small.ts"
import { soak } from "./work/soak.ts"
import { tenants } from "./work/tenants.ts"
import { startWorker } from "./worker.ts"

/**
 * In their order: for `node` the nodes that the parts share have done nothing large yet; `small` deletes thousands of
 * files, for which those after it would pay.
 */
const parts: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  node,
  publish,
  read,
  events,
  list,
  pods,
  s3,
  tenants,
  soak,
  small,
}

const chosen = ({ only, rgw }: Options): ReadonlyArray<string> => {
  const unknown = only.filter((name) => !(name in parts))
  if (unknown.length > 0) throw new Error(`no such part: ${unknown.join(", ")}`)
  return Object.keys(parts).filter((name) => (only.length === 0 ? name !== "s3" || rgw : only.includes(name)))
}

/** Starts what the parts share, runs them one after the other, and ends all of it whatever happens. */
const run = async (
  options: Options,
  names: ReadonlyArray<string>,
  keepResults: (bench: Bench) => string,
): Promise<Bench> => {
  const began = performance.now()
  const ends: Array<() => Promise<void>> = []
  const keep = <A extends { stop(): Promise<void> }>(server: A): A => {
    ends.unshift(() => server.stop())
    return server
  }
  const site = async (start: () => Promise<Stack>): Promise<Site> => {
    const stack = await start()
    ends.unshift(() => stack.dispose())
    return { stack, tenants: await stack.tenants(16) }
  }
  try {
    const files = filesToSend(readSizes(options.quick))
    ends.push(async () => files.remove())
    const bare = keep(await startBareNode(files.path))
    const nginx = options.peers ? await startNginx(files.path) : "left out of this run"
    const [found, production, embedded] = await Promise.all([
      options.peers && names.includes("publish") ? startPeers().then(keep) : undefined,
      site(() => startProduction({ profileFolder: options.profile ? join(options.out, "profile") : undefined })),
      site(startEmbedded),
    ])
    const { databaseUrl } = production.stack
    const bench: Bench = {
      options,
      database: databaseUrl === undefined ? "" : await describeServer(databaseUrl),
      load: keep(startWorker("load.ts")),
      loops: keep(startWorker("loops.ts")),
      production,
      embedded,
      bare,
      nginx: typeof nginx === "string" ? undefined : keep(nginx),
      peers: found?.peers ?? [],
      warm: new Set(),
      filesFolder: files.path,
      series: [],
      facts: [],
      notRun: [
        ...(found?.notRun ?? [{ name: "peers", reason: "left out of this run" }]),
        ...(typeof nginx === "string" ? [{ name: "nginx", reason: nginx }] : []),
      ],
      errors: [],
    }
    // Parts that start nodes of their own leave these alone.
    if (names.some((name) => !["pods", "s3"].includes(name))) {
      for (const each of [bench.production, bench.embedded]) await warmUp(bench, each)
      await warmUpOthers(bench)
      console.log(`warmed up after ${((performance.now() - began) / 1000).toFixed(1)} s`)
    }
    for (const name of names) {
      console.log(`\n== ${name}`)
      const began = performance.now()
      await parts[name]?.(bench)
      console.log(`  (${((performance.now() - began) / 1000).toFixed(1)} s)`)
      keepResults(bench)
    }
    return bench
  } finally {
    for (const end of ends) await end().catch((error: unknown) => console.error(error))
  }
}

const resultsOf = (bench: Bench, startedAt: Date, load: number): Results => {
  const { database, errors, facts, notRun, options, series } = bench
  return {
    machine: { cpus: cpus().length, model: cpus()[0]?.model ?? "", node: process.versions.node, load },
    database,
    startedAt: startedAt.toISOString(),
    minutes: (Date.now() - startedAt.getTime()) / 60_000,
    rounds: options.rounds,
    series,
    facts,
    // What was hardly warm says nothing about speed.
    targets: options.quick ? [] : targets(series, facts),
    notRun,
    errors,
  }
}

const main = async (): Promise<number> => {
  if (process.argv.includes("--help")) {
    console.log(usage)
    return 0
  }
  const options = readOptions(process.argv.slice(2))
  const startedAt = new Date()
  const load = loadavg()[0] ?? 0
  /** After each part: what a run that is cut short has found is kept. */
  const keepResults = (bench: Bench): string => {
    const results = resultsOf(bench, startedAt, load)
    mkdirSync(options.out, { recursive: true })
    const text = asText(results)
    writeFileSync(join(options.out, "results.json"), `${JSON.stringify(results, undefined, 2)}\n`)
    writeFileSync(join(options.out, "chart.svg"), asSvg(results))
    writeFileSync(join(options.out, "results.txt"), `${text}\n`)
    return text
  }
  const bench = await run(options, chosen(options), keepResults)
  console.log(`\n${keepResults(bench)}\n\nWritten to ${options.out}.`)
  if (options.profile)
    for (const [folder, who] of [
      ["profile", "shared production node"],
      ["profile-s3", "node over S3"],
    ] as const) {
      const found = shares(join(options.out, folder))
      if (found.length > 0) console.log(`\nWhere the main thread of the ${who} spent its time:`)
      for (const [what, share] of found) console.log(`  ${(share * 100).toFixed(1).padStart(5)} %  ${what}`)
    }
  return bench.errors.length === 0 ? 0 : 1
}

try {
  process.exitCode = await main()
} catch (error) {
  if (error instanceof BackendMissing) notRun("benchmark", error.reason)
  else console.error(error)
  process.exitCode = error instanceof BackendMissing ? 0 : 1
}
process.exit()
