import { orNotRun } from "../support/backends.ts"
import { search, type StackName, stackNames } from "./search.ts"

/** `LONG_MINUTES` (default 10) of histories on each stack in turn, or on those that are named; red at the first failure. */
const minutes = Number(process.env["LONG_MINUTES"] ?? 10)
const named = process.argv.slice(2)
const unknown = named.find((name) => !stackNames.includes(name as StackName))
if (unknown !== undefined || !(minutes > 0)) {
  console.error(`LONG_MINUTES=10 npm run test:long -- [${stackNames.join("|")}]`)
  process.exit(2)
}
const wanted = new Set(named.length === 0 ? stackNames : (named as ReadonlyArray<StackName>))
const replaying = process.env["HISTORY_SEED"] !== undefined
const end = Date.now() + minutes * 60_000
const turn = Math.min(120_000, (minutes * 60_000) / wanted.size)

do {
  for (const name of wanted) {
    const until = Math.min(end, Date.now() + turn)
    const failure = await orNotRun(`random histories on ${name}`, () => search(name, "long", () => Date.now() < until))
    if (failure === null) wanted.delete(name)
    if (failure === null || failure === undefined) continue
    console.error(failure)
    process.exit(1)
  }
} while (!replaying && wanted.size > 0 && Date.now() < end)
process.exit(0)
