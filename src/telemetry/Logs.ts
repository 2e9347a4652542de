import { Cause, FiberRefs, HashMap, Layer, Logger } from "effect"
import type { SettingsShape } from "../Config.ts"
import { nameOfLevel } from "../config/parse.ts"
import { scrubber } from "./Scrub.ts"
import { attributes, currentAnswer, type Subject, subjectOf } from "./Subject.ts"

type Fields = Record<string, unknown>

/** Ids that a path of the API names; never its query, which may hold a signature. */
const subjectOfUrl = (url: string): Subject => {
  const path = url.split("?", 1)[0] ?? ""
  const project = /^\/v1\/(?:admin\/)?projects\/([a-z0-9-]{1,100})(?:\/|$)/.exec(path)?.[1]
  const artifactId = /\/(art_[A-Za-z0-9]{1,64})(?:\/|$)/.exec(path)?.[1]
  return { ...(project !== undefined && { project }), ...(artifactId !== undefined && { artifactId }) }
}

/**
 * Which request a line belongs to, and what about. Read from the fiber when a line is written, so that the many requests
 * that write none pay nothing for it.
 */
const origin = (refs: FiberRefs.FiberRefs): Fields => {
  const answer = FiberRefs.getOrDefault(refs, currentAnswer)
  const subject = attributes(subjectOf(refs))
  if (answer === undefined) return subject
  const id = answer.getHeader("x-request-id")
  return {
    ...(typeof id === "string" && { request_id: id }),
    ...attributes(subjectOfUrl(answer.req.url ?? "")),
    ...subject,
  }
}

/** A fault in words: what it is, its code, and what caused it. Not its other fields: drivers keep arguments there. */
const describeFault = (fault: Error, depth = 0): string => {
  const code = "code" in fault && typeof fault.code === "string" ? ` (${fault.code})` : ""
  const parts = fault instanceof AggregateError ? fault.errors.slice(0, 3) : []
  const causes = depth >= 3 ? [] : [...parts, fault.cause].filter((cause) => cause instanceof Error)
  const own = `${fault.name}: ${fault.message}${code}`
  return [own, ...causes.map((cause) => describeFault(cause, depth + 1))].join("; by ")
}

const isText = (part: unknown) => typeof part !== "object" || part === null

const fieldsOf = ({ annotations, cause, context, date, logLevel, message }: Logger.Logger.Options<unknown>): Fields => {
  const args: ReadonlyArray<unknown> = Array.isArray(message) ? message : [message]
  const faults = args.filter((arg) => arg instanceof Error).map((fault) => describeFault(fault))
  if (!Cause.isEmpty(cause)) faults.push(Cause.pretty(cause, { renderErrorCause: true }))
  return {
    time: date.toISOString(),
    level: nameOfLevel(logLevel),
    message: args.filter(isText).map(String).join(" "),
    ...origin(context),
    ...Object.fromEntries(HashMap.toEntries(annotations)),
    ...(faults.length > 0 && { error: faults.join("; ") }),
  }
}

/** One JSON object a line. */
export const jsonLine = (fields: Fields): string => JSON.stringify(fields)

/** For a person's eyes: `12:00:00.000 WARNING message key=value`, and a fault on lines of its own. */
export const readableLine = ({ error, level, message, time, ...rest }: Fields): string => {
  const pairs = Object.entries(rest).map(
    ([key, value]) => ` ${key}=${typeof value === "string" ? value : JSON.stringify(value)}`,
  )
  const fault = error === undefined ? "" : `\n  ${String(error).replaceAll("\n", "\n  ")}`
  return `${String(time).slice(11, 23)} ${String(level).toUpperCase()} ${String(message)}${pairs.join("")}${fault}`
}

/** Replaces every logger there is: JSON for production, readable lines for a developer, to stdout, scrubbed. */
export const layer = (
  settings: SettingsShape,
  write: (line: string) => void = (line) => void process.stdout.write(line),
) => {
  const scrub = scrubber(settings)
  const render = settings.production ? jsonLine : readableLine
  const logger = Logger.make((options) => write(`${scrub(render(fieldsOf(options)))}\n`))
  return Layer.mergeAll(
    Logger.remove(Logger.defaultLogger),
    Logger.remove(Logger.prettyLoggerDefault),
    Logger.add(logger),
    Logger.minimumLogLevel(settings.logLevel),
  )
}
