import { Effect, Layer } from "effect"
import { AuditTrail } from "../../services/AuditTrail.ts"
import { MemoryDatabase } from "../clients/Memory.ts"

/** Entries of the memory database; its acts never fail halfway. */
export const layer = Layer.effect(
  AuditTrail,
  Effect.map(MemoryDatabase, (db) =>
    AuditTrail.of({
      recorded: (act, entry) =>
        Effect.tap(act, (result) =>
          Effect.sync(() => {
            const made = entry(result)
            if (made !== undefined) db.auditEntries.push(made)
          }),
        ),
    }),
  ),
)
