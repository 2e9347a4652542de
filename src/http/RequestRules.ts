import type { IncomingMessage, ServerResponse } from "node:http"
import { namesLineage } from "../publish/Fields.ts"
import { LineageNotAllowed } from "../publish/Refusals.ts"
import { refused } from "../telemetry/Refused.ts"
import { type ApiError, apiError, badRequest, notFound } from "./ApiErrors.ts"
import { write } from "./Edge.ts"
import { toApiError } from "./Refusals.ts"
import { matchOf, queryOf, type Route } from "./Routes.ts"
import { answerEarly, bodyPending } from "./upload/EarlyAnswer.ts"

const publishing = new Set(["/v1/projects/:project/artifacts", "/v1/artifacts"])

/** Which calls a listener serves: `admin` those under `/v1/admin`, `public` all others. */
export type Surface = "all" | "public" | "admin"

const serves = (surface: Surface, template: string): boolean =>
  surface === "all" || template.startsWith("/v1/admin/") === (surface === "admin")

/** A parameter that the call does not know is a slip, which would otherwise widen a filter without a word. */
const refuseQuery = (method: string | undefined, { parameters, template }: Route, query: string) => {
  const unknown = [...new URLSearchParams(query).keys()].filter((name) => !parameters.has(name))
  const lineage = method === "POST" && publishing.has(template) ? unknown.find(namesLineage) : undefined
  if (lineage !== undefined) return toApiError(new LineageNotAllowed({ field: lineage.slice(0, 200) }))
  const shown = unknown[0]?.slice(0, 200)
  if (shown === undefined) return undefined
  const known = parameters.size === 0 ? "This call has none." : `Known here: ${[...parameters].join(", ")}.`
  return apiError(400, "unknown_field", `There is no query parameter ${JSON.stringify(shown)}. ${known}`, {
    details: { field: shown },
  })
}

/** What is wrong with a request whatever its route does, or `undefined`. */
const refusalOf = (req: IncomingMessage, surface: Surface): ApiError | undefined => {
  // RFC 9112, section 3.2.
  if (req.headers.host === undefined && req.httpVersion === "1.1")
    return badRequest("The request has no Host header, which HTTP/1.1 requires.")
  const match = matchOf(req)
  if (match._tag === "None" || !serves(surface, match.template))
    return notFound("There is no such path here: paths are case-sensitive and have no empty segments.")
  switch (match._tag) {
    case "OtherMethod": {
      const allow = match.allowed.join(", ")
      return apiError(405, "method_not_allowed", `This path has no ${req.method}; it has ${allow}.`, {
        headers: { allow },
      })
    }
    case "Route": {
      const query = queryOf(req)
      return query === "" ? undefined : refuseQuery(req.method, match.route, query)
    }
  }
}

/** Answers a request that no router may see; says whether it did. `surface`: of the listener that it came to. */
export const refuseByRule = (req: IncomingMessage, res: ServerResponse, surface: Surface): boolean => {
  const error = refusalOf(req, surface)
  if (error === undefined) return false
  refused(error.error.code)
  const answer = {
    status: error.status,
    headers: { "content-type": "application/json", ...error.headers },
    body: JSON.stringify({ error: error.error }),
  }
  if (bodyPending(req)) void answerEarly(req, res, answer)
  else write(res, answer)
  return true
}
