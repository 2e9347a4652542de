import type { Job } from "../jobs.ts"

/** Answers the jobs of the process that forked this one, one at a time, and ends with it. */
export const serveJobs = (run: (job: Job) => Promise<unknown>): void => {
  process.on("message", (job: Job) => {
    run(job).then(
      (result) => process.send?.({ result }),
      (error: unknown) =>
        process.send?.({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    )
  })
  process.on("disconnect", () => process.exit(0))
}
