import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { ConfigProvider, Effect } from "effect"
import { describe, expect, it } from "vitest"
import { parse } from "yaml"
import * as Config from "../../src/Config.ts"
import { k8sDir } from "./kubectl.ts"

const root = join(k8sDir, "..")

interface Service {
  readonly image: string
  readonly build?: { readonly context: string; readonly dockerfile: string }
  readonly command?: ReadonlyArray<string>
  readonly environment?: Readonly<Record<string, string>>
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly healthcheck?: { readonly test: ReadonlyArray<string> }
  readonly volumes?: ReadonlyArray<string>
  readonly stop_grace_period?: string
  readonly read_only?: boolean
}
const compose: { readonly services: Record<string, Service>; readonly volumes: Record<string, null> } = parse(
  readFileSync(join(k8sDir, "compose.yaml"), "utf8"),
  { merge: true },
)
const { migrate, node, redis } = compose.services

describe("compose.yaml", () => {
  it("gives the node settings that the README documents and the node accepts", async () => {
    const table = readFileSync(join(root, "README.md"), "utf8").split("## Configuration")[1]?.split("\n## ")[0] ?? ""
    const documented = new Set([...table.matchAll(/`([A-Z0-9_]+)`/g)].map((match) => match[1]))
    const environment = node?.environment ?? {}
    expect(Object.keys(environment).filter((key) => !documented.has(key))).toEqual([])
    const settings = await Config.Settings.pipe(
      Effect.provide(Config.layer),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment)))),
      Effect.runPromise,
    )
    expect(settings.production).toBeDefined()
    expect(settings.host).toBe("0.0.0.0")
    expect(node?.volumes).toEqual([`artifacts:${settings.dataDir}`])
    expect(Number.parseInt(node?.stop_grace_period ?? "", 10)).toBeGreaterThan(settings.drainSeconds + 16)
  })

  it("migrates by the command that developers use before the node starts, on the same image", () => {
    expect(migrate?.command?.join(" ")).toBe(
      JSON.parse(readFileSync(join(root, "package.json"), "utf8")).scripts.migrate,
    )
    expect(migrate?.image).toBe(node?.image)
    expect(existsSync(join(k8sDir, migrate?.build?.context ?? "", migrate?.build?.dockerfile ?? ""))).toBe(true)
    expect(node?.depends_on?.["migrate"]).toEqual({ condition: "service_completed_successfully" })
    expect(migrate?.depends_on?.["postgres"]).toEqual({ condition: "service_healthy" })
    expect(node?.read_only).toBe(true)
  })

  it("names only services, volumes and images that are there, each image with its version", () => {
    const services = Object.entries(compose.services)
    const named = services.flatMap(([, { depends_on }]) => Object.keys(depends_on ?? {}))
    expect(named.filter((name) => compose.services[name] === undefined)).toEqual([])
    const volumes = services.flatMap(([, { volumes = [] }]) => volumes.map((volume) => volume.split(":")[0] ?? ""))
    expect(new Set(volumes)).toEqual(new Set(Object.keys(compose.volumes)))
    for (const [name, { image }] of services) expect(image, name).toMatch(/:(?!latest$)[\w][\w.-]*$/)
    const waited = services.flatMap(([, { depends_on = {} }]) =>
      Object.entries(depends_on).filter(([, { condition }]) => condition === "service_healthy"),
    )
    for (const [name] of waited) expect(compose.services[name]?.healthcheck, name).toBeDefined()
  })

  it("runs a Redis that evicts nothing and holds the stream", () => {
    const args = redis?.command ?? []
    expect(args[args.indexOf("--maxmemory-policy") + 1]).toBe("noeviction")
    const memory = Number.parseInt(args[args.indexOf("--maxmemory") + 1] ?? "", 10) * 1024 ** 2
    expect(Number(node?.environment?.["EVENT_STREAM_MAXLEN"]) * 3 * 1024).toBeLessThan(memory * 0.75)
  })
})
