import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { expect, layer } from "@effect/vitest"
import { Context, Effect, Inspectable, Layer, Redacted } from "effect"
import * as Introspection from "../../layers/LeaseVerifier/Introspection.ts"
import { LeaseVerifier } from "../../services/LeaseVerifier.ts"
import { callerOf, claimOf, freshProject, lineageOf, live, principal, publish, refusal, worker } from "./fixtures.ts"
import { embeddedLayer } from "./sql.ts"

type Respond = (body: { readonly project: string; readonly token: string }, response: ServerResponse) => void

/** A control plane that answers as the test says. */
class ControlPlane extends Context.Tag("test/ControlPlane")<
  ControlPlane,
  { respond: Respond; readonly asked: Array<IncomingMessage["headers"]>; readonly url: URL }
>() {}

const bearer = "introspection-secret"

const controlPlane = Layer.scoped(
  ControlPlane,
  Effect.acquireRelease(
    Effect.promise(async () => {
      const asked: Array<IncomingMessage["headers"]> = []
      const server = createServer((request, response) => {
        let text = ""
        request.setEncoding("utf8").on("data", (chunk: string) => (text += chunk))
        request.on("end", () => {
          asked.push(request.headers)
          plane.respond(JSON.parse(text), response)
        })
      })
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
      const { port } = server.address() as AddressInfo
      const plane = { respond: (() => {}) as Respond, asked, url: new URL(`http://127.0.0.1:${port}/leases`), server }
      return plane
    }),
    ({ server }) =>
      Effect.promise(
        () =>
          new Promise((resolve) => {
            server.close(resolve)
            server.closeAllConnections()
          }),
      ),
  ),
)

const verifier = Layer.unwrapEffect(
  Effect.map(ControlPlane, ({ url }) => Introspection.layer({ url, token: Redacted.make(bearer) })),
)

const subject = verifier.pipe(Layer.provideMerge(embeddedLayer), Layer.provideMerge(controlPlane))

const send =
  (body: unknown, status = 200): Respond =>
  (_, response) =>
    void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body))

const answer = (project: string, over: Record<string, unknown> = {}) => ({
  active: true,
  project,
  run_id: "run:1",
  step_id: "step:1",
  job_id: "job:1",
  worker_session_id: "session:1",
  attempt: 1,
  owner: { kind: "agent", id: "owner" },
  ...over,
})

const newToken = () => Redacted.make(`token-${crypto.randomUUID()}`)

layer(subject, live)("LeaseVerifier: introspection", (it) => {
  it.effect("an active answer is Live, and its proof commits", () =>
    Effect.gen(function* () {
      const plane = yield* ControlPlane
      const caller = yield* callerOf(yield* freshProject())
      const { project } = caller
      const token = newToken()
      const seen: Array<unknown> = []
      plane.respond = (body, response) => {
        seen.push(body)
        send(answer(project))(body, response)
      }
      const before = Date.now()
      const lease = yield* (yield* LeaseVerifier).verify({ project, principal: worker, token })
      expect(lease).toMatchObject({ _tag: "Live", claim: claimOf(project), proof: { _tag: "Introspected" } })
      expect(seen).toEqual([{ project, token: Redacted.value(token) }])
      expect(plane.asked.at(-1)?.authorization).toBe(`Bearer ${bearer}`)
      const proof = yield* (yield* LeaseVerifier).confirm({ claim: lease.claim, principal: worker, token })
      expect(proof._tag === "Introspected" && proof.askedAtMillis >= before).toBe(true)
      expect(seen.length).toBe(2)
      const { artifact } = yield* publish(caller, { lineage: lineageOf(lease.claim), lease: proof })
      expect(artifact.lineage).toEqual(lineageOf(lease.claim))
    }),
  )
  it.effect("inactive is Ended for a token seen alive, LeaseInvalid for any other", () =>
    Effect.gen(function* () {
      const plane = yield* ControlPlane
      const project = yield* freshProject()
      const other = yield* freshProject()
      const token = newToken()
      const verify = (over: object = {}) =>
        Effect.flatMap(LeaseVerifier, (it) => it.verify({ project, principal: worker, token, ...over }))
      plane.respond = send(answer(project, { worker_principal_id: "worker" }))
      const { claim } = yield* verify()
      plane.respond = send({ active: false })
      expect(yield* verify()).toEqual({ _tag: "Ended", claim })
      expect(yield* refusal(verify({ token: newToken() }))).toBe("LeaseInvalid")
      expect(yield* refusal(verify({ project: other }))).toBe("LeaseInvalid")
      expect(yield* refusal(verify({ principal: principal("other") }))).toBe("LeaseInvalid")
      expect(yield* refusal((yield* LeaseVerifier).confirm({ claim, principal: worker, token }))).toBe("LeaseLost")
    }),
  )
  it.effect("another project's or another worker's claim is LeaseInvalid", () =>
    Effect.gen(function* () {
      const plane = yield* ControlPlane
      const project = yield* freshProject()
      for (const body of [answer("elsewhere"), answer(project, { worker_principal_id: "other" })]) {
        plane.respond = send(body)
        const asked = { project, principal: worker, token: newToken() }
        expect(yield* refusal((yield* LeaseVerifier).verify(asked))).toBe("LeaseInvalid")
      }
    }),
  )
  it.effect("a claim that changed since it was verified is LeaseLost", () =>
    Effect.gen(function* () {
      const plane = yield* ControlPlane
      const project = yield* freshProject()
      const token = newToken()
      plane.respond = send(answer(project))
      const { claim } = yield* (yield* LeaseVerifier).verify({ project, principal: worker, token })
      plane.respond = send(answer(project, { attempt: 2 }))
      expect(yield* refusal((yield* LeaseVerifier).confirm({ claim, principal: worker, token }))).toBe("LeaseLost")
    }),
  )
  it.effect(
    "silence, other statuses, redirects and malformed answers are DependencyUnavailable, without the token",
    () =>
      Effect.gen(function* () {
        const plane = yield* ControlPlane
        const project = yield* freshProject()
        const token = newToken()
        const cases: ReadonlyArray<Respond> = [
          () => {},
          (_, response) => void response.destroy(),
          send(answer(project), 500),
          send(answer(project), 204),
          (_, response) => void response.writeHead(307, { location: plane.url.href }).end(),
          (_, response) => void response.end("active"),
          send({}),
          (body, response) => send(answer(project, { attempt: body.token }))(body, response),
        ]
        for (const respond of cases) {
          plane.respond = respond
          const error = yield* Effect.flip((yield* LeaseVerifier).verify({ project, principal: worker, token }))
          expect(error).toMatchObject({ _tag: "DependencyUnavailable", dependency: "lease_introspection" })
          const told = Inspectable.format(error) + String("cause" in error ? error.cause : "")
          expect(told).not.toContain(Redacted.value(token))
          expect(told).not.toContain(bearer)
        }
      }),
  )
})
