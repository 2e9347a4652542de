import { Either, LogLevel, Redacted } from "effect"

/** The value that a text means, or what is wrong with it: the rest of a sentence that begins with the key. */
export type Parse<A> = (text: string) => Either.Either<A, string>

export const anyText: Parse<string> = Either.right

/** A decimal integer within bounds. */
export const integer =
  (min: number, max: number): Parse<number> =>
  (text) => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
    return Number.isSafeInteger(value) && value >= min && value <= max
      ? Either.right(value)
      : Either.left(`must be an integer from ${min} to ${max}`)
  }

/** Requests a second and burst, e.g. `200/400`. */
export const rateLimit: Parse<{ readonly perSecond: number; readonly burst: number }> = (text) => {
  const [, perSecond = 0, burst = 0] = (/^(\d{1,6})\/(\d{1,6})$/.exec(text) ?? []).map(Number)
  return perSecond > 0 && burst > 0
    ? Either.right({ perSecond, burst })
    : Either.left("must be requests a second and the burst, both from 1 to 999999, such as 200/400")
}

export const flag: Parse<boolean> = (text) =>
  text === "true" || text === "false" ? Either.right(text === "true") : Either.left("must be true or false")

/** `protocols` end with a colon. Slashes at the end are dropped, for paths are appended. */
export const url =
  (...protocols: ReadonlyArray<string>): Parse<string> =>
  (text) =>
    URL.canParse(text) && protocols.includes(new URL(text).protocol)
      ? Either.right(text.replace(/\/+$/, ""))
      : Either.left(`must be a URL of ${protocols.join(" or ")}`)

/** A URL that may hold a password; kept as it is. */
export const connectionUrl = (...protocols: ReadonlyArray<string>): Parse<Redacted.Redacted> => {
  const check = url(...protocols)
  return (text) => Either.map(check(text), () => Redacted.make(text))
}

export const secret: Parse<Redacted.Redacted> = (text) => Either.right(Redacted.make(text))

/** One secret, or two separated by a comma while they are rotated. `rule` is told when one is not `valid`. */
export const secrets =
  (valid: RegExp, rule: string): Parse<ReadonlyArray<Redacted.Redacted>> =>
  (text) => {
    const all = text.split(",").map((part) => part.trim())
    return all.length <= 2 && all.every((part) => valid.test(part))
      ? Either.right(all.map((part) => Redacted.make(part)))
      : Either.left(rule)
  }

const levels = [LogLevel.Debug, LogLevel.Info, LogLevel.Warning, LogLevel.Error]

/** A level's one name, in the setting and in log lines. */
export const nameOfLevel = (level: LogLevel.LogLevel): string => level._tag.toLowerCase()

export const logLevel: Parse<LogLevel.LogLevel> = (text) =>
  Either.fromNullable(
    levels.find((level) => nameOfLevel(level) === text),
    () => `must be one of ${levels.map(nameOfLevel).join(", ")}`,
  )
