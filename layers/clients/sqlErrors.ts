import type { SqlError } from "@effect/sql/SqlError"
import { Effect } from "effect"
import { DependencyUnavailable } from "../../services/Unavailable.ts"

/**
 * Folds a driver's fault into the one fault that services speak of; `operation` says where, e.g. `MetadataStore.commit`.
 * SQLSTATE class 22 says that a value cannot be stored or computed with. It stays so however often it is sent, so it is a
 * defect of who sent it, never a database that is away.
 */
export const unavailable =
  (operation: string) =>
  (cause: SqlError): Effect.Effect<never, DependencyUnavailable> =>
    sqlState(cause)?.startsWith("22") === true
      ? Effect.die(cause)
      : Effect.fail(new DependencyUnavailable({ dependency: "postgres", operation, cause: cause.cause ?? cause }))

/** The SQLSTATE that a driver's error carries, e.g. `23503` for a foreign key that points nowhere; PostgreSQL manual, appendix A. */
export const sqlStateOf = (cause: unknown): string | undefined =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string"
    ? cause.code
    : undefined

/** `sqlStateOf` of a fault of the SQL client. */
export const sqlState = (error: SqlError): string | undefined => sqlStateOf(error.cause)
