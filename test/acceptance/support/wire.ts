import { randomUUID } from "node:crypto"
import * as Http from "node:http"
import * as Https from "node:https"
import { expect } from "vitest"
import { target } from "../target.ts"

/** JSON as it came; the tests say what they expect of it. */
export type Wire = any

export interface Answer {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly bytes: Buffer
  /** The body as JSON; throws when it is none. */
  readonly json: Wire
}

export interface Call {
  readonly method?: string
  readonly headers?: Record<string, string>
  /** A string or bytes are sent with their length, an iterable chunked, chunk by chunk as it yields. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>
}

const answerOf = (response: Http.IncomingMessage, bytes: Buffer): Answer => ({
  status: response.statusCode ?? 0,
  headers: response.headers,
  bytes,
  get json(): Wire {
    return JSON.parse(bytes.toString("utf8"))
  },
})

/**
 * One request on a connection of its own. Settles with the answer even when it comes before the body was sent whole;
 * rejects when the connection ends without a complete answer.
 */
export const send = (pathOrUrl: string, call: Call = {}): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const url = new URL(pathOrUrl.startsWith("/") ? target.baseUrl + pathOrUrl : pathOrUrl)
    const headers: Record<string, string> = { ...call.headers }
    const fixed = typeof call.body === "string" ? Buffer.from(call.body) : call.body
    if (fixed instanceof Uint8Array) headers["Content-Length"] = String(fixed.byteLength)
    let answered = false
    const request = (url.protocol === "https:" ? Https : Http).request(
      url,
      { method: call.method ?? "GET", headers, agent: false },
      (response) => {
        answered = true
        const chunks: Array<Buffer> = []
        response.on("data", (chunk: Buffer) => chunks.push(chunk))
        response.on("error", reject)
        response.on("end", () => {
          resolve(answerOf(response, Buffer.concat(chunks)))
          request.destroy()
        })
      },
    )
    request.on("error", (error) => {
      if (!answered) reject(error)
    })
    const stream = async (chunks: AsyncIterable<Uint8Array>) => {
      for await (const chunk of chunks) {
        if (answered || request.destroyed) return
        if (!request.write(chunk)) {
          await new Promise<void>((resolve) => {
            const next = () => {
              request.off("drain", next).off("close", next)
              resolve()
            }
            request.on("drain", next).on("close", next)
          })
        }
      }
      if (!request.destroyed) request.end()
    }
    if (fixed === undefined) request.end()
    else if (fixed instanceof Uint8Array) request.end(fixed)
    else stream(fixed).catch((error: Error) => request.destroy(error))
  })

/** A call with a bearer key and, when given, a JSON body. */
export const api = (
  key: string | undefined,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> =>
  send(path, {
    method,
    headers: {
      ...(key === undefined ? {} : { Authorization: `Bearer ${key}` }),
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })

/** The answer is a refusal in the one envelope there is. */
export const expectRefusal = (answer: Answer, status: number | ReadonlyArray<number>, code?: string): Wire => {
  const body = answer.bytes.toString("utf8")
  expect(typeof status === "number" ? [status] : status, body).toContain(answer.status)
  expect(answer.headers["content-type"], body).toMatch(/^application\/json/)
  expect(answer.headers["x-request-id"], "X-Request-Id").toBeTruthy()
  const json = answer.json
  expect(Object.keys(json)).toEqual(["error"])
  expect(Object.keys(json.error).filter((key) => !["code", "message", "details"].includes(key))).toEqual([])
  expect(json.error.code).toMatch(/^[a-z]+(_[a-z0-9]+)*$/)
  expect(typeof json.error.message).toBe("string")
  if ("details" in json.error) expect(json.error.details).toBeTypeOf("object")
  if (code !== undefined) expect(json.error.code).toBe(code)
  return json.error
}

/** The answer has this status; a failure shows the body. */
export const expectStatus = (answer: Answer, status: number): Answer => {
  expect(answer.status, answer.bytes.toString("utf8").slice(0, 2000)).toBe(status)
  return answer
}

export const sleep = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

/** Asks again every 100 ms until `done`; fails with the last value after `millis`. */
export const until = async <A>(ask: () => Promise<A>, done: (value: A) => boolean, millis = 10_000): Promise<A> => {
  const deadline = Date.now() + millis
  for (;;) {
    const value = await ask()
    if (done(value)) return value
    if (Date.now() > deadline) throw new Error(`not so within ${millis} ms: ${JSON.stringify(value)?.slice(0, 2000)}`)
    await sleep(100)
  }
}

export const unique = (prefix: string): string => `${prefix}-${randomUUID().slice(0, 8)}`
