import { Effect, Either, Logger, Redacted } from "effect"
import { Client } from "pg"
import { afterAll, describe, expect, it } from "vitest"
import { checkServer, warningsOf } from "../../layers/clients/ServerChecks.ts"
import { orNotRun } from "../support/backends.ts"
import { installPgbouncer, startPgbouncer } from "../support/pgbouncer.ts"
import { createDatabase, startPostgres } from "../support/postgres.ts"
import { startPlane } from "./plane.ts"

const server = await orNotRun("Postgres", () => startPostgres())
const pgbouncer = await orNotRun("PgBouncer", installPgbouncer)
afterAll(() => server?.dispose())

/** What the check says of a server: its log lines, or why it refuses. */
const check = async (url: string, needed = 10) => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel.label} ${String(message)}`))
  const outcome = await Effect.runPromise(
    Effect.either(checkServer({ url: Redacted.make(url), needed })).pipe(
      Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
    ),
  )
  return Either.isRight(outcome) ? lines : outcome.left
}

const sql = async (url: string, text: string) => {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(text)
  } finally {
    await client.end()
  }
}

const sound = {
  synchronous_commit: "on",
  fsync: "on",
  full_page_writes: "on",
  replicas: false,
  synchronous_standby_names: "",
  connections: 97,
  taken: 5,
}

if (server !== null && pgbouncer !== null)
  describe("an operator reads at start", { timeout: 120_000 }, () => {
    it("nothing about a server with its defaults", async () => {
      expect(warningsOf(sound, 92)).toEqual([])
      expect(await check(server.url)).toEqual([])
    })

    it("one line when acknowledged changes may be lost by a crash", async () => {
      const url = await createDatabase(server)
      const line =
        "synchronous_commit is off for this database or role. This program's own sessions switch it on, because what is acknowledged must survive a crash of Postgres: set it to on."
      await sql(url, `alter database ${new URL(url).pathname.slice(1)} set synchronous_commit = off`)
      expect(await check(url)).toEqual([`WARN ${line}`])
      for (const kept of ["local", "remote_write", "remote_apply"])
        expect(warningsOf({ ...sound, synchronous_commit: kept }, 10)).toEqual([])
    })

    it("one line when no commit waits for a replica", () => {
      expect(warningsOf({ ...sound, replicas: true }, 10)).toEqual([
        "Postgres has a replica, and synchronous_standby_names is empty: a failover to that replica loses artifacts that were acknowledged. Name it there, e.g. 'FIRST 1 (replica_1)', so that a commit waits for it.",
      ])
      const waiting = { ...sound, replicas: true, synchronous_standby_names: "FIRST 1 (replica_1)" }
      expect(warningsOf(waiting, 10)).toEqual([])
      expect(warningsOf({ ...waiting, synchronous_commit: "local" }, 10)).toEqual([
        "synchronous_commit is local for this database or role: no commit waits for a replica, and a failover loses artifacts that were acknowledged. Set it to on.",
      ])
    })

    it("one line each when the server does not sync, writes no full pages, or has too few connections", async () => {
      const weak = await startPostgres({ settings: { fsync: "off", full_page_writes: "off", max_connections: 20 } })
      try {
        expect(await check(weak.url, 18)).toEqual([
          "WARN fsync is off: a crash of the machine can lose or corrupt acknowledged artifacts. Set fsync to on and restart Postgres.",
          "WARN full_page_writes is off: a crash of the machine can corrupt the database. Set it to on, unless the file system writes whole pages.",
          "WARN Postgres has 17 of 17 connections left, and this process may open 18: raise max_connections, or lower DATABASE_POOL_SIZE.",
        ])
      } finally {
        await weak.dispose()
      }
    })

    const refusal = {
      _tag: "PoolerInTransactionMode",
      message:
        "DATABASE_URL leads through a pooler in transaction mode, which loses session settings, prepared statements and LISTEN: connect to Postgres itself, or to a pooler in session mode that lets the startup parameter `options` pass.",
    }

    it.each([
      { mode: "transaction", ignoreOptions: false, ownDefault: false, refused: true },
      { mode: "transaction", ignoreOptions: true, ownDefault: false, refused: true },
      { mode: "session", ignoreOptions: true, ownDefault: false, refused: true },
      // The database's own default hides that the options did not arrive: only whose session it is tells the modes apart.
      { mode: "transaction", ignoreOptions: true, ownDefault: true, refused: true },
      { mode: "session", ignoreOptions: true, ownDefault: true, refused: false },
    ] as const)("a refusal of a pooler that keeps no session: %o", async (settings) => {
      const database = await createDatabase(server)
      const { pathname } = new URL(database)
      if (settings.ownDefault) await sql(database, `alter database ${pathname.slice(1)} set jit = off`)
      const direct = { port: server.port, url: database }
      const pooler = await startPgbouncer(direct, settings)
      try {
        const found = await check(pooler.url)
        if (settings.refused) expect(found).toMatchObject(refusal)
        else expect(found).toEqual([])
      } finally {
        await pooler.stop()
      }
    })

    it("each line in the log of a node, or the refusal and nothing else", async () => {
      const plane = await startPlane({}, { postgres: { settings: { max_connections: 18 } } })
      try {
        expect(plane.node().logs()).toMatch(/Postgres has \d+ of 15 connections left, and this process may open 16:/)
        await plane.node().stop()
        const pooler = await startPgbouncer(plane.postgres, { mode: "transaction", ignoreOptions: true })
        try {
          const ended = await plane.start({ DATABASE_URL: pooler.url }).then(
            () => "",
            (error: Error) => error.message,
          )
          expect(ended.split("\n").filter((line) => line !== "")).toEqual([
            expect.stringMatching(/^ended before 200/),
            refusal.message,
          ])
        } finally {
          await pooler.stop()
        }
      } finally {
        await plane.dispose()
      }
    })
  })
