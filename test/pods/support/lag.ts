import pg from "pg"
import { sleep } from "../../support/processes.ts"

/** `[when, seconds]`: how old the oldest event was that was committed and not yet in the stream. */
export type LagSample = readonly [at: number, seconds: number]

/** Asks every 250 ms until it is stopped; while Postgres is away there is no sample. */
export const watchEventLag = (postgresUrl: string) => {
  const samples: Array<LagSample> = []
  let stopped = false
  const watching = (async () => {
    while (!stopped) {
      const client = new pg.Client({ connectionString: postgresUrl, connectionTimeoutMillis: 1000 })
      client.on("error", () => {})
      try {
        await client.connect()
        while (!stopped) {
          const { rows } = await client.query(`
            select coalesce(extract(epoch from clock_timestamp() - min(occurred_at)), 0)::double precision as seconds
            from events where published_at is null`)
          samples.push([Date.now(), rows[0].seconds])
          await sleep(250)
        }
      } catch {
        await sleep(250)
      } finally {
        await client.end().catch(() => {})
      }
    }
  })()
  return {
    samples,
    stop: async () => {
      stopped = true
      await watching
    },
  }
}
