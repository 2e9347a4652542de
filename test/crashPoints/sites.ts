import { readdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"

const root = resolve(import.meta.dirname, "../..")

/** Where the walks stand: publish, take-over, delete, relay, reconcile, sweep, prune and their kin. */
const folders = ["src/publish", "src/artifacts", "src/actors"]

/** Calls of these reach nothing outside the process, so that they cannot fail or hang by themselves. */
const inProcess = new Set(["Ids", "ContentHasher"])
/** Figures, which are no calls. */
const figures = new Set(["EventBus.maxLength"])

/** One step of a walk: a call of a service, at its place in the source. */
export interface Step {
  /** E.g. `Upload.cleanUp: BlobStore.remove`. A second call of the same method in the same function ends with ` #2`. */
  readonly name: string
  /** `src/publish/Upload.ts:183`. */
  readonly place: string
  /** `BlobStore`; `BlobWriter` for what `BlobStore.open` returns. */
  readonly service: string
  readonly method: string
}

/** Where a step is found by what runs. */
export const keyOf = (place: string, service: string, method: string) => `${place} ${service}.${method}`

/** The source with its comments and the texts of its strings blanked, so that places stay what they are. */
const codeOf = (text: string) =>
  text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, (found) =>
    found.replaceAll(/[^\n]/g, " "),
  )

const serviceNames = readdirSync(join(root, "services"))
  .filter((file) => file.endsWith(".ts"))
  .flatMap((file) =>
    [...readFileSync(join(root, "services", file), "utf8").matchAll(/export class (\w+) extends Context\.Tag/g)].map(
      (match) => match[1] ?? "",
    ),
  )

interface Read {
  readonly steps: ReadonlyArray<Step>
  /** Sentences about uses of a service that this reader does not understand: a step could hide there. */
  readonly unread: ReadonlyArray<string>
}

const readFile = (file: string): Read => {
  const text = readFileSync(join(root, file), "utf8")
  const code = codeOf(text).replaceAll(/^import\b[\s\S]*?\bfrom\b[^\n]*/gm, (found) => found.replaceAll(/[^\n]/g, " "))
  const lineAt = (index: number) => code.slice(0, index).split("\n").length
  const base = file.split("/").at(-1)?.replace(".ts", "") ?? file
  // Every top-level declaration begins at the first column and goes on to the next one.
  const starts = [...code.matchAll(/^(?:export )?(?:const|class|interface|type|function) (\w+)/gm)]
  const steps: Array<Step> = []
  const unread: Array<string> = []
  const count = new Map<string, number>()
  const found: Array<{ readonly fn: string; readonly at: number; readonly service: string; readonly method: string }> =
    []
  for (const [index, start] of starts.entries()) {
    const fn = start[1] ?? ""
    const from = start.index
    const part = code.slice(from, starts[index + 1]?.index ?? code.length)
    const add = (service: string, method: string, at: number) => {
      if (!inProcess.has(service) && !figures.has(`${service}.${method}`))
        found.push({ fn, at: from + at, service, method })
    }
    const bound = new Map<string, { readonly service: string; readonly at: number }>()
    for (const service of serviceNames)
      for (const use of part.matchAll(new RegExp(`\\b${service}\\b`, "g"))) {
        const before = part.slice(0, use.index)
        const after = part.slice(use.index + service.length)
        const name = /\bconst (\w+) = yield\* $/.exec(before)?.[1]
        const given = /^, \((\w+)\) =>/.exec(after)?.[1]
        const direct = /^\)\s*\.(\w+)/.exec(after)
        const inType = /[<|,]\s*$/.test(before) && /^\s*[|>]/.test(after)
        if (name !== undefined && /^\s/.test(after)) bound.set(name, { service, at: use.index })
        else if (given !== undefined && /Effect\.(?:flatMap|map)\($/.test(before))
          bound.set(given, { service, at: use.index })
        else if (direct !== null && before.endsWith("(yield* "))
          add(service, direct[1] ?? "", use.index + service.length + direct[0].length - 1)
        else if (!inType)
          unread.push(`${file}:${lineAt(from + use.index)}: how ${service} is used here cannot be read.`)
      }
    for (const writer of part.matchAll(/\bconst (\w+) = yield\* (\w+)\.open\(/g))
      if (bound.get(writer[2] ?? "")?.service === "BlobStore")
        bound.set(writer[1] ?? "", { service: "BlobWriter", at: writer.index })
    for (const [name, { service }] of bound)
      for (const use of part.matchAll(new RegExp(`(?<![\\w.])${name}\\b(?!\\s*[:=]|\\) =>)`, "g"))) {
        const member = /^\s*\.(\w+)/.exec(part.slice(use.index + name.length))
        if (member !== null) add(service, member[1] ?? "", use.index + name.length + member[0].length - 1)
        else unread.push(`${file}:${lineAt(from + use.index)}: "${name}", a ${service}, is given away here.`)
      }
  }
  for (const { fn, at, method, service } of found.toSorted((a, b) => a.at - b.at)) {
    const place = `${file}:${lineAt(at)}`
    if (steps.some((step) => keyOf(step.place, step.service, step.method) === keyOf(place, service, method))) continue
    const plain = `${base}.${fn}: ${service}.${method}`
    const nth = (count.get(plain) ?? 0) + 1
    count.set(plain, nth)
    steps.push({ name: nth === 1 ? plain : `${plain} #${nth}`, place, service, method })
  }
  return { steps, unread }
}

/** Every step of the walks, read from their source. */
export const readSteps = (): Read => {
  const files = folders.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((file) => file.endsWith(".ts"))
      .map((file) => `${folder}/${file}`),
  )
  const read = files.map(readFile)
  return { steps: read.flatMap(({ steps }) => steps), unread: read.flatMap(({ unread }) => unread) }
}
