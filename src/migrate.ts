import "./WithoutOptimizer.ts"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { ConfigError, Console, Effect, type Redacted } from "effect"
import * as Postgres from "../layers/clients/Postgres.ts"
import { migrate, migrateEngine } from "../layers/migrations/Migrations.ts"
import { databaseUrl } from "./Config.ts"
import { reportFailure } from "./Failure.ts"

databaseUrl.pipe(
  Effect.filterOrFail(
    (url): url is Redacted.Redacted => url !== undefined,
    () => ConfigError.MissingData(["DATABASE_URL"], "is missing: it names the database to migrate"),
  ),
  Effect.flatMap((url) =>
    Effect.provide(Effect.zipLeft(migrate, migrateEngine), Postgres.layer({ url, poolSize: 3, patient: true })),
  ),
  Effect.flatMap((applied) =>
    applied.length === 0
      ? Console.log("The schema is up to date.")
      : Effect.forEach(applied, (name) => Console.log(`Applied ${name}.`), { discard: true }),
  ),
  reportFailure,
  NodeRuntime.runMain({ disableErrorReporting: true }),
)
