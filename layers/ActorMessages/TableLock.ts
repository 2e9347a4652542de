import * as SqlClient from "@effect/sql/SqlClient"
import { Context, Effect, Layer } from "effect"

/**
 * At each start the engine locks its table of migrations against everybody (@effect/sql, Migrator.ts), and the process
 * ends when a dump reads it just then. Its tables are made beforehand, under a lock of ours: nothing is left to guard.
 */
export const withoutTableLock = Layer.map(Layer.service(SqlClient.SqlClient), (context) =>
  Context.make(
    SqlClient.SqlClient,
    new Proxy(Context.get(context, SqlClient.SqlClient), {
      apply: (sql, self, args: [unknown, ...ReadonlyArray<unknown>]) =>
        Array.isArray(args[0]) && String(args[0][0]).startsWith("LOCK TABLE ")
          ? Effect.void
          : Reflect.apply(sql, self, args),
    }),
  ),
)
