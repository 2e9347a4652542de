import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { join, resolve } from "node:path"

const root = resolve(import.meta.dirname, "../..")

/** What follows `node` in the command that operators run. */
const command: ReadonlyArray<string> = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
  .scripts.doctor.split(" ")
  .slice(1)

export interface Diagnosis {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs `npm run doctor -- …`, without npm, in the environment of a node. */
export const doctor = (env: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>): Promise<Diagnosis> =>
  new Promise((done, failed) => {
    const child = spawn(process.execPath, [...command, ...args], {
      cwd: root,
      env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...env },
      stdio: ["ignore", "pipe", "pipe"],
    })
    let [stdout, stderr] = ["", ""]
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk))
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk))
    child.once("error", failed)
    child.once("close", (code) => done({ code, stdout, stderr }))
  })

interface Report {
  readonly findings: ReadonlyArray<{ readonly kind: string; readonly repaired: boolean } & Record<string, unknown>>
  readonly checks: ReadonlyArray<{ readonly name: string; readonly examined: number; readonly findings: number }>
  readonly outcome: string
}

/** With `--json`: the exit code, the document, and the kinds of what it found, sorted. */
export const examined = async (env: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>) => {
  const { code, stderr, stdout } = await doctor(env, "--json", ...args)
  try {
    const report: Report = JSON.parse(stdout)
    return { code, report, kinds: report.findings.map(({ kind }) => kind).sort() }
  } catch {
    throw new Error(`no report: exit code ${code}\n${stdout}\n${stderr}`)
  }
}
