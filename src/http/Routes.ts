import * as HttpApi from "@effect/platform/HttpApi"
import { expectAnswers } from "../telemetry/Requests.ts"
import type { IncomingMessage } from "node:http"
import * as AST from "effect/SchemaAST"
import { Api } from "./Api.ts"

/** One call of the API: a method of a path. */
export interface Route {
  /** E.g. `/v1/projects/:project/artifacts`. */
  readonly template: string
  /** The query parameters that the call knows. */
  readonly parameters: ReadonlySet<string>
}

interface Segment {
  readonly fixed: Map<string, Segment>
  parameter: Segment | undefined
  template: string | undefined
  /** By method. */
  readonly routes: Map<string, Route>
}

const segment = (): Segment => ({ fixed: new Map(), parameter: undefined, template: undefined, routes: new Map() })

/** The paths of the API as a tree of their segments. */
const root = segment()
const add = (template: string, method: string, parameters: ReadonlySet<string>): void => {
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
  at.routes.set(method, { template, parameters })
}
HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint, successes }) => {
    const schema = endpoint.urlParamsSchema
    const names = schema._tag === "Some" ? AST.getPropertySignatures(schema.value.ast).map(({ name }) => name) : []
    const parameters = new Set(names.map(String))
    add(endpoint.path, endpoint.method, parameters)
    expectAnswers(endpoint.path, endpoint.method, successes.keys())
    // RFC 9110, section 9.3.2: where GET is served, HEAD is.
    if (endpoint.method === "GET") add(endpoint.path, "HEAD", parameters)
  },
})
for (const page of ["/docs", "/openapi.json"]) for (const method of ["GET", "HEAD"]) add(page, method, new Set())

/** What a request's path and method name. `template` is `none` for a path that is no path of the API. */
export type Match =
  | {
      readonly _tag: "Route"
      readonly template: string
      readonly route: Route
      readonly segments: ReadonlyArray<string>
    }
  /** The path is one of the API's, the method is not: these are. */
  | { readonly _tag: "OtherMethod"; readonly template: string; readonly allowed: ReadonlyArray<string> }
  | { readonly _tag: "None"; readonly template: "none" }

const none: Match = { _tag: "None", template: "none" }

/**
 * Text that a segment in normal form does not have (RFC 3986, section 6.2.2): nothing at all, dots alone, a delimiter
 * that other software cuts at, or a percent-encoded character that needs no encoding (letters, digits, `-._~`).
 */
const notNormal = /^\.{0,2}$|[;#\\]|%(?:2[DdEe]|3\d|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])/

const matches = new WeakMap<IncomingMessage, Match>()

const find = (method: string, url: string): Match => {
  const query = url.indexOf("?")
  const path = query === -1 ? url : url.slice(0, query)
  if (!path.startsWith("/")) return none
  const segments = path.slice(1).split("/")
  let at: Segment | undefined = root
  for (const name of segments) {
    if (notNormal.test(name)) return none
    at = at.fixed.get(name) ?? at.parameter
    if (at === undefined) return none
  }
  const { routes, template } = at
  if (template === undefined) return none
  const route = routes.get(method)
  return route === undefined
    ? { _tag: "OtherMethod", template, allowed: [...routes.keys()].toSorted() }
    : { _tag: "Route", template, route, segments }
}

/**
 * What a request is for, found once a request. A path has one normal form, which no router or proxy reads in another
 * way: exact case, no empty segment, none that is encoded for nothing. All other forms are no path of the API.
 */
export const matchOf = (req: IncomingMessage): Match => {
  let match = matches.get(req)
  if (match === undefined) matches.set(req, (match = find(req.method ?? "", req.url ?? "")))
  return match
}

/** The query of a request, as it came; empty without one. */
export const queryOf = (req: IncomingMessage): string => {
  const url = req.url ?? ""
  const at = url.indexOf("?")
  return at === -1 ? "" : url.slice(at + 1)
}
