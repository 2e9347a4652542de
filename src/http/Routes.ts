import * as HttpApi from "@effect/platform/HttpApi"
import { expectAnswers } from "../telemetry/Requests.ts"
import { Api } from "./Api.ts"

interface Segment {
  readonly fixed: Map<string, Segment>
  parameter: Segment | undefined
  template: string | undefined
}

const segment = (): Segment => ({ fixed: new Map(), parameter: undefined, template: undefined })

/** The paths of the API as a tree of their segments. */
const root = segment()
const add = (template: string): void => {
  let at = root
  for (const name of template.split("/").filter(Boolean)) {
    if (name.startsWith(":")) at = at.parameter ??= segment()
    else {
      const next = at.fixed.get(name) ?? segment()
      at.fixed.set(name, next)
      at = next
    }
  }
  at.template = template
}
HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint, successes }) => {
    add(endpoint.path)
    expectAnswers(endpoint.path, endpoint.method, successes.keys())
  },
})
for (const page of ["/docs", "/openapi.json"]) add(page)

/** What is no route of the API, whatever it was. */
export const noRoute = "none"

/**
 * The template of the route that a URL names, e.g. `/v1/projects/:project/artifacts`; one of few, whatever comes. Like
 * the platform's router it takes several slashes for one, and does not mind one at the end.
 */
export const routeOf = (url: string): string => {
  const query = url.indexOf("?")
  const end = query === -1 ? url.length : query
  let at: Segment | undefined = root
  for (let from = 1; at !== undefined && from < end;) {
    const slash = url.indexOf("/", from)
    const to = slash === -1 || slash > end ? end : slash
    if (to > from) at = at.fixed.get(url.slice(from, to)) ?? at.parameter
    from = to + 1
  }
  return at?.template ?? noRoute
}
