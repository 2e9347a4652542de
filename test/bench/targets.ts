import type { Fact } from "./bench.ts"
import type { Series } from "./rounds.ts"
import { podGroups } from "./work/pods.ts"
import { attacks, bounds, ratioOf } from "./work/tenants.ts"

/** One promise of speed: a ratio of two things measured in the same run, or a bound. */
export interface Target {
  readonly work: string
  readonly against: string
  /** Absent: one of the two was not measured. */
  readonly value: number | undefined
  readonly bound: number
  readonly sense: "at least" | "at most"
  readonly unit: string
  readonly reached: boolean | undefined
}

const target = (
  work: string,
  against: string,
  value: number | undefined,
  sense: Target["sense"],
  bound: number,
  unit = "×",
): Target => ({
  work,
  against,
  value,
  bound,
  sense,
  unit,
  reached: value === undefined ? undefined : sense === "at least" ? value >= bound : value <= bound,
})

export const targets = (series: ReadonlyArray<Series>, facts: ReadonlyArray<Fact>): ReadonlyArray<Target> => {
  // A peer is called by its name and its version.
  const find = (group: string, contender: string) =>
    series.find(
      (each) => each.group === group && (each.contender === contender || each.contender.startsWith(`${contender} `)),
    )
  const ratio = (above: Series | undefined, below: Series | undefined, of: (series: Series) => number) =>
    above === undefined || below === undefined || of(below) === 0 ? undefined : of(above) / of(below)
  const median = ({ median }: Series) => median
  const faster = (group: string, ours: string, theirs: string, bound: number) =>
    target(`${group}: ${ours}`, theirs, ratio(find(group, ours), find(group, theirs), median), "at least", bound)
  const fact = (name: string) => facts.find((each) => each.name === name)?.value

  const publish4k = "publish 4 KiB, 16 clients"
  const large = ["publish 64 MiB, 1 client", "publish 64 MiB, 16 clients", "publish 512 MiB, 1 client"]
  const lists = [...new Set(series.map(({ group }) => group).filter((group) => group.startsWith("list 100, ")))]
  /** The dearest publish of several pods beside that of the first number of them. */
  const byPods = (group: string) => {
    const [first, ...others] = series.filter((each) => each.group === group && each.kind === "product")
    return ratio(
      others.toSorted((a, b) => (b.cpuMicrosPerRequest ?? 0) - (a.cpuMicrosPerRequest ?? 0))[0],
      first,
      ({ cpuMicrosPerRequest }) => cpuMicrosPerRequest ?? 0,
    )
  }
  return [
    faster(publish4k, "production, one project", "@tus/server", 1.15),
    faster(publish4k, "production, 16 projects", "@tus/server", 1.15),
    faster("publish 1 MiB, 16 clients", "production, 16 projects", "@tus/server", 1.5),
    ...large.flatMap((group) => [
      faster(group, "production", "bare Node: hash, write, sync", 0.9),
      faster(group, "production", "bare Node: hash, write", 0.9),
    ]),
    faster("read 4 KiB, 16 clients", "production", "bare Node", 0.25),
    faster("read 1 MiB, 16 clients", "production", "bare Node", 0.9),
    faster("read 64 MiB, 16 clients", "production", "bare Node", 0.9),
    faster("read 64 MiB, 16 clients", "production", "nginx", 1),
    faster("read 512 MiB, 1 client", "production", "bare Node", 0.9),
    faster("S3: publish 64 MiB, 4 clients", "production, S3", "the SDK alone", 0.85),
    faster("S3: read 64 MiB, 4 clients", "production, S3", "the SDK alone", 0.85),
    faster("S3: publish 4 KiB, 16 clients", "production, S3", "the SDK alone", 0.6),
    faster("S3: read 4 KiB, 16 clients", "production, S3", "the SDK alone", 0.6),
    target("publish sent → event seen, p50", "", fact("publish sent → event seen, p50"), "at most", 15, "ms"),
    target("publish sent → event seen, p99", "", fact("publish sent → event seen, p99"), "at most", 100, "ms"),
    ...lists.map((group) => {
      const [little, much] = series.filter((each) => each.group === group)
      return group.includes("rare")
        ? target(`${group}, p99`, "", much && much.p99Micros / 1000, "at most", 50, "ms")
        : target(
            `${group}, p99`,
            "1,000 rows",
            ratio(much, little, (each) => each.p99Micros),
            "at most",
            2,
          )
    }),
    ...["production", "embedded"].flatMap((stack) => [
      target(
        `${stack}: memory over idle, 64 large uploads at once`,
        "",
        fact(`${stack}: memory over idle at its highest`),
        "at most",
        100,
        "MB",
      ),
      target(
        `${stack}: memory after many requests`,
        "",
        fact(`${stack}: memory of the last quarter against the second`),
        "at most",
        10,
        "%",
      ),
    ]),
    ...podGroups.map((group) => target(`CPU of a ${group}, most of 2 and 4`, "1 pod", byPods(group), "at most", 1.1)),
    ...attacks.flatMap((attack) =>
      bounds.map(([title, , bound]) =>
        target(`publish beside ${attack}, ${title}`, "alone", fact(ratioOf(attack, title)), "at most", bound),
      ),
    ),
    target("cold start of a production node", "", fact("cold start of a production node to ready"), "at most", 1, "s"),
  ]
}
