import { Context, Effect, FiberId, FiberRefs, Layer, Runtime, RuntimeFlags } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { ContentLost } from "../domain/Artifact.ts"
import { type ApiError, badRequest } from "./ApiErrors.ts"
import { inProject, makeAdmission } from "./Auth.ts"
import { serveContent } from "./content/Content.ts"
import { Drain } from "./Drain.ts"
import { type Answer, refusal, write } from "./Edge.ts"
import { currentAnswer } from "../telemetry/Subject.ts"
import { publishOverHttp } from "./PublishHttp.ts"
import { type Refusal, translated } from "./Refusals.ts"
import { matchOf, queryOf } from "./Routes.ts"
import { verifySignature } from "./SignedUrls.ts"
import { inSpan } from "./Trace.ts"
import { reading, Turns } from "../turns/Turns.ts"

/** A request for one of the routes below, with what its URL says. */
interface Call {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  /** Absent: that of the key. */
  readonly project: string | undefined
  readonly id: string
}

/** The calls that carry bytes: publishing, and the three ways to the content. */
const makeHandlers = Effect.gen(function* () {
  const admit = yield* makeAdmission
  const metadata = yield* MetadataStore
  const turns = yield* Turns
  const callerOf = ({ project, req }: Call) =>
    Effect.flatMap(admit(req.headers.authorization), (caller) => inProject(caller, project))

  /** Bytes that the store does not have were deleted since, unless the artifact is still ready: then they are lost. */
  const serve = ({ req, res }: Call, found: ReturnType<typeof metadata.findContent>) =>
    Effect.flatMap(found, (content) => serveContent(req, res, content)).pipe(
      Effect.catchTag("BlobMissing", () =>
        Effect.flatMap(found, ({ artifact: { id }, blobKey }) => new ContentLost({ id, blobKey })),
      ),
    )

  const publish = (call: Call) =>
    Effect.flatMap(callerOf(call), (caller) => publishOverHttp(call.req, call.res, caller))
  const content = (call: Call) =>
    Effect.flatMap(callerOf(call), (caller) =>
      serve(call, turns.run(caller.project, reading, metadata.findContent(caller, call.id))),
    )
  const signed = (call: Call) => {
    const told = new URLSearchParams(queryOf(call.req))
    return Effect.zipRight(
      verifySignature(call.id, told.get("expires") ?? undefined, told.get("signature") ?? undefined),
      serve(call, metadata.findSigned(call.id)),
    )
  }
  return { publish, content, signed }
})

type Services = Effect.Effect.Context<
  ReturnType<Effect.Effect.Success<typeof makeHandlers>[keyof Effect.Effect.Success<typeof makeHandlers>]>
>
type Handler = (call: Call) => Effect.Effect<Answer | undefined, Refusal, Services>

interface Route {
  readonly methods: ReadonlySet<string>
  readonly handler: Handler
  /** Where the path has them, counted in segments; -1: it does not. */
  readonly project: number
  readonly id: number
}

const segmentsOf = (path: string): Array<string> => path.split("/").filter(Boolean)

const route = (template: string, methods: ReadonlyArray<string>, handler: Handler): [string, Route] => {
  const names = segmentsOf(template)
  return [
    template,
    { methods: new Set(methods), handler, project: names.indexOf(":project"), id: names.indexOf(":id") },
  ]
}

/** Takes a request when it is one of the routes that carry bytes; says whether it did. */
export class BytesHttp extends Context.Tag("src/http/BytesHttp")<
  BytesHttp,
  (req: IncomingMessage, res: ServerResponse) => boolean
>() {}

/**
 * These few routes are served on Node's own requests, ahead of the platform's router and middleware, each in one fiber:
 * what the router, its decoders and its contexts cost is a third of a small read. `BytesApi.ts` describes them.
 */
export const layer = Layer.effect(
  BytesHttp,
  Effect.gen(function* () {
    const { content, publish, signed } = yield* makeHandlers
    const { count } = yield* Drain
    const reading = ["GET", "HEAD"]
    const routes = new Map<string, Route>([
      route("/v1/projects/:project/artifacts", ["POST"], publish),
      route("/v1/artifacts", ["POST"], publish),
      route("/v1/projects/:project/artifacts/:id/content", reading, content),
      route("/v1/artifacts/:id/content", reading, content),
      route("/v1/signed/:id/content", reading, signed),
    ])
    const runtime = Runtime.enableRuntimeFlag(yield* Effect.runtime<Services>(), RuntimeFlags.Interruption)
    const fork = Runtime.runFork(runtime)

    /** The call that a URL makes; fails when it cannot be read. */
    const callOf = (
      found: Route,
      segments: ReadonlyArray<string>,
      req: IncomingMessage,
      res: ServerResponse,
    ): Call | ApiError => {
      const named = (at: number) => (at === -1 ? undefined : decodeURIComponent(segments[at] ?? ""))
      try {
        return { req, res, project: named(found.project), id: named(found.id) ?? "" }
      } catch {
        return badRequest("The path has a percent sequence that cannot be read.")
      }
    }

    const handle = (found: Route, segments: ReadonlyArray<string>, req: IncomingMessage, res: ServerResponse) => {
      const call = callOf(found, segments, req, res)
      const answered = "req" in call ? translated(found.handler(call)) : Effect.fail(call)
      return Effect.catchAllCause(
        Effect.map(answered, (answer) => write(res, answer)),
        (cause) => Effect.map(refusal(req, res, cause), (answer) => write(res, answer)),
      )
    }

    return (req, res) => {
      const match = matchOf(req)
      const found = match._tag === "Route" ? routes.get(match.template) : undefined
      if (match._tag !== "Route" || found === undefined || !found.methods.has(req.method ?? "")) return false
      const fiber = fork(
        inSpan(req, res, handle(found, match.segments, req, res), () => res.statusCode),
        {
          updateRefs: (refs, fiberId) => FiberRefs.updateAs(refs, { fiberId, fiberRef: currentAnswer, value: res }),
        },
      )
      count(fiber)
      res.once("close", () => {
        if (!res.writableEnded) fiber.unsafeInterruptAsFork(FiberId.none)
      })
      return true
    }
  }),
)
