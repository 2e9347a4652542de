import { type Fact, MiB } from "./bench.ts"
import type { NotRun } from "./peers.ts"
import type { Series } from "./rounds.ts"
import type { Target } from "./targets.ts"

export interface Results {
  readonly machine: { readonly cpus: number; readonly model: string; readonly node: string; readonly load: number }
  readonly database: string
  readonly startedAt: string
  readonly minutes: number
  readonly rounds: number
  readonly series: ReadonlyArray<Series>
  readonly facts: ReadonlyArray<Fact>
  readonly targets: ReadonlyArray<Target>
  readonly notRun: ReadonlyArray<NotRun>
  readonly errors: ReadonlyArray<string>
}

/** Three digits, whatever the size. */
export const digits = (value: number): string =>
  value === 0 ? "0" : value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(value >= 10 ? 3 : 2)

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? "").length)))
  const line = (cells: ReadonlyArray<string>) =>
    `| ${cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join(" | ")} |`
  return [line(head), `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`, ...rows.map(line)].join("\n")
}

const cpuOf = ({ cpuMicrosByProcess, cpuMicrosPerRequest }: Series): string => {
  if (cpuMicrosPerRequest === undefined) return ""
  const parts = Object.entries(cpuMicrosByProcess).map(([who, micros]) => `${who} ${digits(micros)}`)
  return `${digits(cpuMicrosPerRequest)}${parts.length > 1 ? ` (${parts.join(", ")})` : ""}`
}

const seriesTable = (series: ReadonlyArray<Series>): string => {
  const groups = [...new Set(series.map(({ group }) => group))]
  const head = ["", "a second (min–max)", "MB/s", "p50 ms", "p99 ms", "CPU µs each", "client CPU", "errors"]
  return groups
    .map((group) => {
      const rows = series
        .filter((each) => each.group === group)
        .map((each) => [
          `${each.contender}${each.kind === "product" ? "" : ` (${each.kind})`}`,
          `${digits(each.median)} (${digits(each.min)}–${digits(each.max)})`,
          each.bytes > 0 ? digits((each.median * each.bytes) / 1e6) : "",
          digits(each.p50Micros / 1000),
          digits(each.p99Micros / 1000),
          cpuOf(each),
          `${Math.round(each.generatorShare * 100)} %`,
          String(each.errorCount),
        ])
      return `${group}\n${table(head, rows)}`
    })
    .join("\n\n")
}

const factTable = (facts: ReadonlyArray<Fact>): string =>
  table(
    ["", "value", ""],
    facts.map(({ max, min, name, note, unit, value }) => [
      name,
      `${digits(value)} ${unit}${min === undefined || max === undefined ? "" : ` (${digits(min)}–${digits(max)})`}`,
      note ?? "",
    ]),
  )

const targetTable = (targets: ReadonlyArray<Target>): string =>
  table(
    ["to reach", "against", "measured", "bound", "reached"],
    targets.map(({ against, bound, reached, sense, unit, value, work }) => [
      work,
      against,
      value === undefined ? "" : `${value.toFixed(2)} ${unit}`,
      `${sense} ${bound} ${unit}`,
      reached === undefined ? "NOT RUN" : reached ? "yes" : "NO",
    ]),
  )

export const asText = ({
  database,
  errors,
  facts,
  machine,
  minutes,
  notRun,
  rounds,
  series,
  targets,
}: Results): string =>
  [
    `${machine.cpus} × ${machine.model}, Node ${machine.node}, load before ${machine.load.toFixed(1)}; ${rounds} rounds, ${minutes.toFixed(1)} minutes. Medians of the rounds; client, servers and database on the same machine. ${database}.`,
    seriesTable(series),
    facts.length > 0 ? factTable(facts) : "",
    targets.length > 0 ? targetTable(targets) : "Too short to compare: this run looked for errors only.",
    ...notRun.map(({ name, reason }) => `not run: ${name}: ${reason}`),
    errors.length === 0 ? "No errors." : `ERRORS:\n${errors.map((error) => `  ${error}`).join("\n")}`,
  ]
    .filter(Boolean)
    .join("\n\n")

/** Payload a second where there is payload, else requests. */
export const rateOf = ({ bytes, median }: Pick<Series, "bytes" | "median">): string =>
  bytes >= MiB ? `${digits((median * bytes) / 1e6)} MB/s` : `${digits(median)}/s`
