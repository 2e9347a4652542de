import { Cause, ConfigError, Console, Effect, Option } from "effect"
import { describeConfigError, misspeltKeys } from "./Config.ts"

const unusableDatabase = "DATABASE_URL cannot be used: check its address, its credentials and that Postgres runs."

/** One readable line for whatever ended the process, or one a key that is wrong; causes that could hold secrets are left out. */
export const describeFailure = (error: unknown): string => {
  if (ConfigError.isConfigError(error)) return describeConfigError(error)
  if (typeof error !== "object" || error === null) return "The process ended by an unknown fault."
  const fault = error as Partial<Record<"_tag" | "message" | "reason" | "dependency" | "operation", string>>
  switch (fault._tag) {
    case "DependencyUnavailable":
      if (fault.dependency === "postgres") return unusableDatabase
      return `${fault.dependency} cannot be used (${fault.operation}): check its address, its credentials and that it runs.`
    case "UnsuitableStore":
      return fault.reason ?? "The blob store cannot be used."
    case "ServeError":
      return "HOST and PORT cannot be listened on: another process uses them, or they are not this machine's."
    case "SqlError":
      return unusableDatabase
    default:
      return fault.message || `The process ended by ${fault._tag ?? "an unknown fault"}.`
  }
}

/** A key that is missing may be there under a misspelt name. */
const hints = (error: unknown) => (ConfigError.isConfigError(error) ? misspeltKeys : Effect.succeed([]))

/** Prints what ended the process to stderr and keeps the failure, so that the exit code is not 0. */
export const reportFailure = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.tapErrorCause(effect, (cause) =>
    Cause.isInterruptedOnly(cause)
      ? Effect.void
      : Option.match(Cause.failureOption(cause), {
          onSome: (error) =>
            Effect.flatMap(Effect.orDie(hints(error)), (lines) =>
              Console.error([describeFailure(error), ...lines].join("\n")),
            ),
          onNone: () => Console.error(`The process ended by a defect: ${Cause.pretty(cause)}`),
        }),
  )
