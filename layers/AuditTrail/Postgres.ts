import * as SqlClient from "@effect/sql/SqlClient"
import * as SqlError from "@effect/sql/SqlError"
import { Effect, Layer } from "effect"
import { AuditTrail } from "../../services/AuditTrail.ts"
import { unavailable } from "../clients/sqlErrors.ts"

const isSqlError = (error: unknown): error is SqlError.SqlError => error instanceof SqlError.SqlError

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return AuditTrail.of({
    recorded: (act, entry) =>
      Effect.tap(act, (result) => {
        const made = entry(result)
        if (made === undefined) return Effect.void
        return sql`insert into audit_entries (action, project, subject, actor_kind, actor_id, request_id, details)
          values (${made.action}, ${made.project}, ${made.subject ?? null}, ${made.actor.kind}, ${made.actor.id},
            ${made.requestId}, ${JSON.stringify(made.details)}::text::jsonb)`
      }).pipe(sql.withTransaction, Effect.catchIf(isSqlError, unavailable("AuditTrail.recorded"))),
  })
})

export const layer = Layer.effect(AuditTrail, make)
