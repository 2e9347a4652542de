import { mkdirSync } from "node:fs"
import { PGlite, types } from "@electric-sql/pglite"
import { Reactivity } from "@effect/experimental"
import { PgClient } from "@effect/sql-pg"
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import { Effect, Layer, Stream } from "effect"
import { parseInt8 } from "./Postgres.ts"

const parsers = {
  [types.INT8]: parseInt8,
  [types.BYTEA]: (text: string) => Buffer.from(text.slice(2), "hex"),
}

const make = (dataDir: string | undefined) =>
  Effect.gen(function* () {
    const db = yield* Effect.acquireRelease(
      Effect.tryPromise({
        try: async () => {
          if (dataDir !== undefined) mkdirSync(dataDir, { recursive: true, mode: 0o700 })
          const opened = await PGlite.create({ ...(dataDir !== undefined && { dataDir }), parsers })
          // The engine has no WAL writer: a commit that does not wait for the log is lost when the process dies.
          await opened.exec("set artifacts.begin_commit = 'on'")
          return opened
        },
        catch: (cause) => new SqlError({ cause, message: "Failed to open the embedded database" }),
      }),
      (opened) => Effect.promise(() => opened.close().catch(() => {})),
    )
    const run = <A>(statement: () => Promise<A>) =>
      Effect.uninterruptible(
        Effect.tryPromise({
          try: statement,
          catch: (cause) => new SqlError({ cause, message: "Failed to execute statement" }),
        }),
      )
    // Several statements in one string run only without the extended protocol.
    const query = (sql: string, params: ReadonlyArray<unknown>) =>
      params.length === 0
        ? run(async () => (await db.exec(sql)).at(-1)?.rows ?? [])
        : run(async () => (await db.query(sql, [...params])).rows)
    const rows = (
      sql: string,
      params: ReadonlyArray<unknown>,
      transform?: (<A extends object>(rows: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined,
    ) =>
      Effect.map(query(sql, params), (found) => (transform ? transform(found as Array<object>) : found) as Array<any>)
    const connection: Connection = {
      execute: rows,
      executeUnprepared: rows,
      executeRaw: (sql, params) => run(() => db.query(sql, [...params])),
      executeValues: (sql, params) =>
        run(async () => (await db.query<Array<any>>(sql, [...params], { rowMode: "array" })).rows),
      executeStream: (sql, params, transform) =>
        Stream.unwrap(Effect.map(rows(sql, params, transform), Stream.fromIterable)),
    }

    // The engine has one session: whoever holds the permit has all of it, for a statement or for a transaction.
    const session = yield* Effect.makeSemaphore(1)
    const one = session.withPermits(1)
    const shared: Connection = {
      execute: (...args) => one(connection.execute(...args)),
      executeUnprepared: (...args) => one(connection.executeUnprepared(...args)),
      executeRaw: (...args) => one(connection.executeRaw(...args)),
      executeValues: (...args) => one(connection.executeValues(...args)),
      executeStream: (...args) => connection.executeStream(...args),
    }
    const transactionAcquirer = Effect.uninterruptibleMask((restore) =>
      restore(session.take(1)).pipe(
        Effect.zipRight(Effect.addFinalizer(() => session.release(1))),
        Effect.as(connection),
      ),
    )
    return yield* SqlClient.make({
      acquirer: Effect.succeed(shared),
      transactionAcquirer,
      compiler: PgClient.makeCompiler(),
      spanAttributes: [["db.system.name", "postgresql"]],
    })
  })

/**
 * PostgreSQL in the process (PGlite) under `dataDir`, or in memory without one. It does not sync to the disk: its data
 * survive any death of the process, not the loss of power. The caller holds the lock on the folder.
 */
export const layer = (options: { readonly dataDir: string | undefined }) =>
  Layer.scoped(SqlClient.SqlClient, make(options.dataDir)).pipe(Layer.provide(Reactivity.layer))
