import { Effect, Layer } from "effect"
import { DatabaseAge } from "../../services/DatabaseAge.ts"

/** Memory numbers no transactions. */
export const layer = Layer.succeed(DatabaseAge, { ages: Effect.succeed({ transactionIds: 0, multixacts: 0 }) })
