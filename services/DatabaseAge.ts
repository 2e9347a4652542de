import { Context, type Effect } from "effect"
import type { DependencyUnavailable } from "./Unavailable.ts"

/**
 * How far the database is from running out of the numbers it gives to transactions. Both are counts since the oldest
 * row that is not frozen. At about 2^31 the server takes no more writes; vacuum keeps them far below (PostgreSQL,
 * "Preventing Transaction ID Wraparound Failures").
 */
export class DatabaseAge extends Context.Tag("services/DatabaseAge")<
  DatabaseAge,
  {
    /** Both from 0 on. A server that needs no such numbers says 0. One look at the catalog, however large the database. */
    readonly ages: Effect.Effect<
      { readonly transactionIds: number; readonly multixacts: number },
      DependencyUnavailable
    >
  }
>() {}
