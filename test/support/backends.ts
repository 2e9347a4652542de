import { appendFileSync } from "node:fs"

/** A server that tests need cannot be had on this machine; `reason` says what was looked for. */
export class BackendMissing extends Error {
  readonly backend: string
  readonly reason: string

  constructor(backend: string, reason: string) {
    super(`${backend}: ${reason}`)
    this.name = "BackendMissing"
    this.backend = backend
    this.reason = reason
  }
}

/**
 * Says in one line that tests of a backend did not run. The line also goes to the file named by NOT_RUN_FILE, from
 * which the CI script fails: a missing backend never looks like a passed test.
 */
export const notRun = (name: string, reason: string): void => {
  const line = `NOT RUN ${name}: ${reason.replaceAll(/\s+/g, " ").trim()}`
  console.log(line)
  const file = process.env["NOT_RUN_FILE"]
  if (file !== undefined && file !== "") appendFileSync(file, `${line}\n`)
}

/** The value, or null after `notRun` when the backend is missing. Any other failure is a fault and is thrown. */
export const orNotRun = async <A>(name: string, start: () => Promise<A>): Promise<A | null> => {
  try {
    return await start()
  } catch (error) {
    if (!(error instanceof BackendMissing)) throw error
    notRun(name, error.reason)
    return null
  }
}
