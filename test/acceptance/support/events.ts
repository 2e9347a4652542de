import * as Http from "node:http"
import { expect } from "vitest"
import { target } from "../target.ts"
import { api, expectStatus, sleep, until } from "./wire.ts"
import type { Wire } from "./wire.ts"

export const sequenceOf = (event: Wire): number => event.meta.sequence

/** All retained events of all projects, by sequence, after the given one. */
export const retainedEvents = async (after = 0): Promise<ReadonlyArray<Wire>> => {
  const events: Array<Wire> = []
  let last = after
  for (;;) {
    const answer = await api(target.adminKey, "GET", `/v1/admin/events?after=${last}&limit=100`)
    const page: ReadonlyArray<Wire> = expectStatus(answer, 200).json.items
    if (page.length === 0) return events
    events.push(...page)
    const next = sequenceOf(page.at(-1))
    expect(next, "events come by sequence").toBeGreaterThan(last)
    last = next
  }
}

/** The project's events once there are `count` of them. */
export const eventsOf = (project: string, count: number): Promise<ReadonlyArray<Wire>> =>
  until(
    async () => (await retainedEvents()).filter((event) => event.meta.project === project),
    (events) => events.length >= count,
  )

export interface LiveEvent {
  readonly id: string
  readonly data: Wire
}

/** An open server-sent event stream of a project. */
export class EventStream {
  readonly events: Array<LiveEvent> = []
  /** Ids that came without an event: where the stream stands. */
  readonly positions: Array<number> = []
  readonly status: number
  closed = false
  readonly #request: Http.ClientRequest

  private constructor(request: Http.ClientRequest, response: Http.IncomingMessage) {
    this.#request = request
    this.status = response.statusCode ?? 0
    let buffer = ""
    response.setEncoding("utf8")
    response.on("data", (text: string) => {
      buffer += text
      const blocks = buffer.split(/\r?\n\r?\n/)
      buffer = blocks.pop() ?? ""
      for (const block of blocks) this.#take(block)
    })
    response.on("error", () => {
      this.closed = true
    })
    response.on("close", () => {
      this.closed = true
    })
  }

  #take(block: string): void {
    const lines = block.split(/\r?\n/)
    const valuesOf = (name: string) =>
      lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).replace(/^ /, ""))
    const data = valuesOf("data")
    const [id] = valuesOf("id")
    if (data.length > 0) this.events.push({ id: id ?? "", data: JSON.parse(data.join("\n")) })
    else if (id !== undefined) this.positions.push(Number(id))
  }

  static open(project: string, key: string, query = "", headers: Record<string, string> = {}): Promise<EventStream> {
    return new Promise((resolve, reject) => {
      const request = Http.request(
        `${target.baseUrl}/v1/projects/${project}/events${query}`,
        { headers: { Authorization: `Bearer ${key}`, Accept: "text/event-stream", ...headers }, agent: false },
        (response) => {
          if (response.statusCode !== 200) {
            reject(new Error(`events answered ${response.statusCode}`))
            request.destroy()
            return
          }
          if (!response.headers["content-type"]?.startsWith("text/event-stream")) {
            reject(new Error(`events came as ${response.headers["content-type"]}`))
            request.destroy()
            return
          }
          resolve(new EventStream(request, response))
        },
      )
      request.on("error", reject)
      request.end()
    })
  }

  /** The events so far, once there are `count`. */
  async atLeast(count: number, millis = 10_000): Promise<ReadonlyArray<LiveEvent>> {
    const deadline = Date.now() + millis
    while (this.events.length < count) {
      if (Date.now() > deadline || this.closed) throw new Error(`${this.events.length} of ${count} events came`)
      await sleep(20)
    }
    return this.events
  }

  close(): void {
    this.#request.destroy()
  }
}
