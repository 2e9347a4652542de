import { url } from "../faults/clients.ts"
import { isTransient } from "../faults/model.ts"
import type { Entry } from "../faults/auditEvents.ts"
import type { Worker } from "./worker.ts"

/** Fields of a server-sent frame by name. */
const fieldsOf = (frame: string) =>
  Object.fromEntries(
    frame.split("\n").flatMap((line) => {
      const at = line.indexOf(": ")
      return at > 0 ? [[line.slice(0, at), line.slice(at + 2)]] : []
    }),
  )

export const factOf = ({ payload }: Entry): string => `${payload.event_type} ${payload.source_id}`

/**
 * Reads the project's events as the worker sees them, from where it stopped, for up to `withinMs` or until `enough`. The
 * stream may end at any time: the next reading goes on.
 */
export const readEvents = async (worker: Worker, withinMs: number, enough = () => false): Promise<void> => {
  const { chronicle, events, model } = worker
  const take = (frame: string) => {
    const { data, id } = fieldsOf(frame)
    if (id === undefined) return
    const sequence = Number(id)
    if (data !== undefined) {
      if (sequence <= events.after)
        chronicle.fault(`event ${sequence} came to ${worker.claim.owner} after ${events.after}`)
      events.seen.push(factOf({ id, payload: JSON.parse(data) }))
    } else if (sequence < events.after) chronicle.fault(`the events of ${worker.claim.owner} went back to ${sequence}`)
    events.after = Math.max(events.after, sequence)
  }
  const stop = new AbortController()
  const timer = setTimeout(() => stop.abort(), withinMs)
  const begun = Date.now()
  await chronicle.hear("events", async () => {
    try {
      const response = await fetch(url(worker, `/events?after=${events.after}`), {
        headers: { authorization: `Bearer ${model.tenant.key}`, accept: "text/event-stream" },
        signal: stop.signal,
      })
      if (response.status !== 200) {
        await response.body?.cancel()
        if (!isTransient({ status: response.status, body: undefined }))
          chronicle.fault(`events after ${events.after} were answered ${response.status}`)
        return chronicle.failed("events", String(response.status))
      }
      let text = ""
      for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
        text += part
        const frames = text.split("\n\n")
        text = frames.pop() ?? ""
        frames.forEach(take)
        if (enough()) break
      }
    } catch (error) {
      if (!stop.signal.aborted) throw error
    } finally {
      clearTimeout(timer)
      stop.abort()
    }
    chronicle.succeeded("events", begun)
  })
}
