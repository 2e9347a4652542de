import { readdirSync, readFileSync, statSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import * as Config from "../src/Config.ts"

const root = resolve(import.meta.dirname, "..")

const filesIn = (folder: string): Array<string> =>
  readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .toSorted()

const importsOf = (file: string): Array<string> =>
  [
    ...readFileSync(join(root, file), "utf8").matchAll(/^(?:import|export)\b(?:[^"';]*?\bfrom)?\s*["']([^"']+)["']/gm),
  ].map((match) => {
    const target = match[1] ?? ""
    return target.startsWith(".") ? relative(root, resolve(dirname(join(root, file)), target)) : target
  })

const product = ["src", "services", "layers"].flatMap(filesIn)
const graph = new Map(product.map((file) => [file, importsOf(file)]))

/** `[who, what it must not import]`, as sentences. */
const forbidden = (from: (file: string) => boolean, to: (target: string) => boolean) =>
  product.filter(from).flatMap((file) => (graph.get(file) ?? []).filter(to).map((target) => `${file} → ${target}`))

const drivers = ["ioredis", "pg", "@electric-sql/", "@aws-sdk/", "fs-native-extensions", "@effect/sql-pg"]

describe("architecture", () => {
  it("finds the files it speaks of", () => {
    expect(product.length).toBeGreaterThan(50)
    expect(graph.get("src/publish/Publish.ts")).toContain("services/MetadataStore.ts")
  })

  it("services import src/domain, services and effect only", () => {
    expect(
      forbidden(
        (file) => file.startsWith("services/"),
        (target) => !target.startsWith("src/domain/") && !target.startsWith("services/") && target !== "effect",
      ),
    ).toEqual([])
  })

  it("the domain imports itself and effect only", () => {
    expect(
      forbidden(
        (file) => file.startsWith("src/domain/"),
        (target) => !target.startsWith("src/domain/") && target !== "effect",
      ),
    ).toEqual([])
  })

  it("commands that end by themselves begin without the optimizer, which an exit might wait for", () => {
    for (const command of ["src/doctor.ts", "src/migrate.ts"])
      expect([command, graph.get(command)?.[0]]).toEqual([command, "src/WithoutOptimizer.ts"])
  })

  it("drivers stay in layers", () => {
    expect(
      forbidden(
        (file) => !file.startsWith("layers/"),
        (target) => drivers.some((driver) => target === driver || (driver.endsWith("/") && target.startsWith(driver))),
      ),
    ).toEqual([])
  })

  it("only the commands and the stacks import layers", () => {
    expect(
      forbidden(
        (file) =>
          file.startsWith("services/") ||
          (file.startsWith("src/") && !["src/Launch.ts", "src/doctor.ts", "src/migrate.ts"].includes(file)),
        (target) => target.startsWith("layers/"),
      ),
    ).toEqual([])
  })

  it("only the stacks compose layers of different services", () => {
    const serviceOf = (file: string) => /^layers\/([A-Z]\w+)\//.exec(file)?.[1]
    expect(
      forbidden(
        (file) => serviceOf(file) !== undefined,
        (target) => {
          const other = serviceOf(target)
          return other !== undefined && target.startsWith("layers/stacks/")
        },
      ),
    ).toEqual([])
  })

  it("the contract of the API never imports its handlers", () => {
    expect(
      forbidden(
        (file) => /^src\/http\/\w+Api\.ts$/.test(file),
        (target) =>
          target.endsWith("Http.ts") || target.startsWith("src/publish/Publish") || target.startsWith("layers/"),
      ),
    ).toEqual([])
  })

  it("the environment is read in src/Config.ts, and before it for the compile cache", () => {
    const readers = product.filter(
      (file) =>
        file !== "src/Config.ts" &&
        file !== "src/config/compileCache.ts" &&
        /process\.env|\bConfig\.(string|redacted|nonEmptyString)\(/.test(readFileSync(join(root, file), "utf8")),
    )
    expect(readers).toEqual([])
  })

  it("has no cycles", () => {
    const state = new Map<string, "open" | "done">()
    const cycles: Array<string> = []
    const visit = (file: string, path: ReadonlyArray<string>): void => {
      if (state.get(file) === "done") return
      if (state.get(file) === "open") {
        cycles.push([...path.slice(path.indexOf(file)), file].join(" → "))
        return
      }
      state.set(file, "open")
      for (const target of graph.get(file) ?? []) if (graph.has(target)) visit(target, [...path, file])
      state.set(file, "done")
    }
    for (const file of product) visit(file, [])
    expect(cycles).toEqual([])
  })

  it("keeps the agreed top level", () => {
    const agreed =
      /^(package\.json|package-lock\.json|tsconfig\.json|src|services|layers|test|k8s|README\.md|LICENSE|node_modules|\..*)$/
    expect(readdirSync(root).filter((name) => !agreed.test(name))).toEqual([])
  })

  it("the README documents every key of the configuration, and no other", () => {
    const keys = Effect.runSync(Config.keys)
    const table = readFileSync(join(root, "README.md"), "utf8").split("## Configuration")[1]?.split("\n## ")[0] ?? ""
    const documented = new Set(
      [...table.matchAll(/^\| (`[^|]*) \|/gm)].flatMap((row) =>
        [...(row[1] ?? "").matchAll(/`([A-Z0-9_]+)`/g)].map((match) => match[1]),
      ),
    )
    expect(keys).toEqual([...documented].toSorted())
    expect(keys.length).toBeGreaterThan(25)
  })

  it("no file is a hub", () => {
    const long = product.filter(
      (file) => statSync(join(root, file)).size > 0 && readFileSync(join(root, file), "utf8").split("\n").length > 320,
    )
    expect(long).toEqual([])
  })
})
