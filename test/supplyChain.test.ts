import { readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { describe, expect, it } from "vitest"
import { run } from "./support/processes.ts"

const root = resolve(import.meta.dirname, "..")
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))

interface Locked {
  readonly version?: string
  readonly resolved?: string
  readonly integrity?: string
  readonly license?: string
  readonly dev?: boolean
  readonly link?: boolean
  readonly deprecated?: string
  readonly hasInstallScript?: boolean
}

/** Every package that is ever installed, by its name. */
const locked: ReadonlyArray<readonly [string, Locked]> = Object.entries<Locked>(
  JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages,
)
  .filter(([path]) => path !== "")
  .map(([path, entry]) => [path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length), entry])

/** A package in the bill of materials. */
interface Component {
  readonly name: string
  readonly version: string
  readonly hashes?: ReadonlyArray<{ readonly alg: string }>
  readonly licenses?: ReadonlyArray<unknown>
}

const namesOf = (entries: typeof locked) => [...new Set(entries.map(([name]) => name))].toSorted()

/** Licences of production's dependencies that need nothing of us but their notice, which each package brings along. */
const licences = new Set(["0BSD", "Apache-2.0", "ISC", "MIT"])

describe("dependencies", () => {
  it("are locked by version and hash, wherever they come from", () => {
    expect(locked.length).toBeGreaterThan(100)
    const loose = locked.filter(
      ([, { integrity, link, version }]) =>
        !/^sha512-[A-Za-z0-9+/]{86}==$/.test(integrity ?? "") || version === undefined || link === true,
    )
    expect(namesOf(loose)).toEqual([])
  })

  it("come from the registry that npm is set to: the lock file names no place of its own", () => {
    expect(namesOf(locked.filter(([, { resolved }]) => resolved !== undefined))).toEqual([])
    expect(readFileSync(join(root, ".npmrc"), "utf8")).toContain("omit-lockfile-registry-resolved=true\n")
  })

  it("are named by exact versions", () => {
    const ranges = Object.entries<string>({ ...manifest.dependencies, ...manifest.devDependencies }).filter(
      ([, range]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(range),
    )
    expect(ranges).toEqual([])
  })

  it("are none that their authors gave up", () => {
    expect(namesOf(locked.filter(([, { deprecated }]) => deprecated !== undefined))).toEqual([])
  })

  it("run no install script that is not allowed or denied by name", () => {
    expect(namesOf(locked.filter(([, { hasInstallScript }]) => hasInstallScript === true))).toEqual(
      Object.keys(manifest.allowScripts).toSorted(),
    )
  })

  it("of production run none at all", () => {
    const production = namesOf(locked.filter(([, { dev }]) => dev !== true))
    expect(production.filter((name) => manifest.allowScripts[name] === true)).toEqual([])
  })

  it("of production have a licence from the list", () => {
    const others = locked
      .filter(([, { dev, license }]) => dev !== true && !licences.has(license ?? ""))
      .map(([name, { license }]) => `${name}: ${license}`)
    expect(others).toEqual([])
  })

  it("are all in the bill of materials, with version, hash and licence", async () => {
    const bill: { readonly bomFormat: string; readonly components: ReadonlyArray<Component> } = JSON.parse(
      await run("npm", ["run", "--silent", "sbom"], { cwd: root, env: process.env }),
    )
    expect(bill.bomFormat).toBe("CycloneDX")
    const described = new Map(bill.components.map((one) => [`${one.name}@${one.version}`, one]))
    const wrong = locked.filter(([name, { license, version }]) => {
      const found = described.get(`${name}@${version}`)
      return found?.hashes?.[0]?.alg !== "SHA-512" || (license !== undefined && found.licenses === undefined)
    })
    expect(namesOf(wrong)).toEqual([])
  }, 60_000)
})
