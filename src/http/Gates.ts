import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import type * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Context, Effect, Layer, type Scope } from "effect"
import { Settings } from "../Config.ts"
import { subjectOf } from "../telemetry/Subject.ts"
import { type ApiError, unavailable } from "./ApiErrors.ts"
import { makeSlots, type SlotsTaken } from "./Slots.ts"

/** Bytes that all clients together may leave waiting in this node's memory. */
const mostWaitingBytes = 64 * 1024 * 1024

/** What is smaller the system takes at once. */
const smallBytes = 16 * 1024

/** What the node holds for its readers, limited, with a share for each project. Over it: 503, at once. */
export class Gates extends Context.Tag("src/http/Gates")<
  Gates,
  {
    /** Takes one of `MAX_OPEN_DOWNLOADS` until the scope closes. */
    readonly download: (project: string) => Effect.Effect<void, ApiError, Scope.Scope>
    /** Takes one of `MAX_OPEN_STREAMS` until the scope closes. */
    readonly stream: (project: string) => Effect.Effect<void, ApiError, Scope.Scope>
    /** Says that so many bytes wait for a client until the scope closes; refused when too many do. Few are not counted. */
    readonly waiting: (project: string, bytes: number) => Effect.Effect<void, ApiError, Scope.Scope>
    /**
     * Refuses an answer that is whole in memory when too many bytes of such answers wait for clients that do not take
     * them. An answer counts until it was taken or its connection is gone; one without a project counts as nobody's.
     */
    readonly answers: <E, R>(app: HttpApp.Default<E, R>) => HttpApp.Default<E | ApiError, R>
  }
>() {}

const refusal =
  (what: string) =>
  ({ by }: SlotsTaken) =>
    by === "node"
      ? unavailable(`This node has as many ${what} as it may; try again.`)
      : unavailable(`The project has its share of this node's ${what}; try again when some of them have ended.`)

const bytesOf = ({ body }: HttpServerResponse.HttpServerResponse): number =>
  body._tag === "Uint8Array" ? body.body.byteLength : 0

export const layer = Layer.effect(
  Gates,
  Effect.map(Settings, ({ maxOpenDownloads, maxOpenStreams }) => {
    const downloads = makeSlots(maxOpenDownloads)
    const streams = makeSlots(maxOpenStreams)
    const waiting = makeSlots(mostWaitingBytes)

    const refuseBytes = <A, R>(taken: Effect.Effect<A, SlotsTaken, R>) =>
      Effect.mapError(taken, refusal("bytes waiting for clients"))
    const answer = (response: HttpServerResponse.HttpServerResponse) => {
      const bytes = bytesOf(response)
      if (bytes < smallBytes) return Effect.succeed(response)
      return Effect.withFiberRuntime<
        HttpServerResponse.HttpServerResponse,
        ApiError,
        HttpServerRequest.HttpServerRequest
      >((fiber) =>
        Effect.gen(function* () {
          const { project = "" } = subjectOf(fiber.getFiberRefs())
          const giveBack = yield* refuseBytes(waiting.take(project, bytes))
          const res = NodeHttpServerRequest.toServerResponse(yield* HttpServerRequest.HttpServerRequest)
          if (res.closed) giveBack()
          else res.once("close", giveBack)
          return response
        }),
      )
    }

    return Gates.of({
      download: (project) => Effect.mapError(downloads.enter(project), refusal("downloads open")),
      stream: (project) => Effect.mapError(streams.enter(project), refusal("event streams open")),
      waiting: (project, bytes) => (bytes < smallBytes ? Effect.void : refuseBytes(waiting.enter(project, bytes))),
      answers: (app) => Effect.flatMap(app, answer),
    })
  }),
)
