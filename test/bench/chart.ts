import { rateOf, type Results } from "./report.ts"
import type { Series } from "./rounds.ts"
import { podGroups } from "./work/pods.ts"

const colours = { product: "#2563eb", ceiling: "#9ca3af", peer: "#f59e0b" } as const
const width = 960
const labelWidth = 330
const barHeight = 16
const gap = 5
const valueWidth = 130

const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

/** The groups a reader looks for first; the others are in the JSON. */
const shown = [
  "publish 4 KiB, 16 clients",
  "publish 4 KiB, 64 clients",
  "publish 1 MiB, 16 clients",
  "publish 64 MiB, 1 client",
  "read 4 KiB, 16 clients",
  "read 1 MiB, 16 clients",
  "read 64 MiB, 16 clients",
  "S3: publish 64 MiB, 4 clients",
  "S3: read 64 MiB, 4 clients",
  ...podGroups,
]

interface Bar {
  readonly median: number
  readonly min: number
  readonly max: number
  readonly text: string
}

/** How fast it was; of pods, what they were given being the same, what a request cost. */
const barOf = (each: Series): Bar => {
  if (!podGroups.includes(each.group)) return { ...each, text: rateOf(each) }
  const cost = (each.cpuMicrosPerRequest ?? 0) / 1000
  return { median: cost, min: cost, max: cost, text: `${cost.toFixed(1)} ms of processor` }
}

const bar = (each: Series, most: number, y: number): string => {
  const { max, median, min, text } = barOf(each)
  const scale = (value: number) => (value / most) * (width - labelWidth - valueWidth)
  const middle = y + barHeight / 2
  return [
    `<text x="${labelWidth - 8}" y="${middle + 4}" text-anchor="end">${escaped(each.contender)}</text>`,
    `<rect x="${labelWidth}" y="${y}" width="${Math.max(1, scale(median)).toFixed(1)}" height="${barHeight}" fill="${colours[each.kind]}"/>`,
    `<line x1="${(labelWidth + scale(min)).toFixed(1)}" x2="${(labelWidth + scale(max)).toFixed(1)}" y1="${middle}" y2="${middle}" stroke="#111827"/>`,
    `<text x="${(labelWidth + scale(max) + 6).toFixed(1)}" y="${middle + 4}">${text}</text>`,
  ].join("")
}

/** Bars of the medians with a line from the slowest round to the fastest; each group has a scale of its own. */
export const asSvg = ({ machine, series }: Results): string => {
  let y = 56
  const parts: Array<string> = []
  for (const group of shown) {
    // Forgetting bytes is so fast that nothing else would be seen beside it.
    const rows = series.filter((each) => each.group === group && !each.contender.endsWith("drain"))
    if (rows.length === 0) continue
    parts.push(`<text x="${labelWidth}" y="${y + 12}" font-weight="bold">${escaped(group)}</text>`)
    y += 20
    const most = Math.max(...rows.map((each) => barOf(each).max), 1e-9)
    for (const each of rows) {
      parts.push(bar(each, most, y))
      y += barHeight + gap
    }
    y += 14
  }
  const legend = (Object.entries(colours) as ReadonlyArray<[string, string]>).map(
    ([kind, colour], index) =>
      `<rect x="${labelWidth + index * 110}" y="32" width="12" height="12" fill="${colour}"/>` +
      `<text x="${labelWidth + index * 110 + 18}" y="42">${kind}</text>`,
  )
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" font-family="system-ui, sans-serif" font-size="12" fill="#111827">`,
    `<rect width="${width}" height="${y}" fill="#ffffff"/>`,
    `<text x="${labelWidth}" y="20" font-size="14">${machine.cpus} CPUs shared by client, servers and database; longer is faster, but for pods</text>`,
    ...legend,
    ...parts,
    "</svg>",
    "",
  ].join("\n")
}
