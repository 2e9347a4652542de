import { Effect } from "effect"
import { Outbox } from "../../../services/Outbox.ts"
import { encodeSourceEvent } from "../../domain/SourceEventJson.ts"

/** A page ends before its events are more bytes of JSON: a mebibyte, less what stands around them. One always fits. */
const mostPageBytes = 1024 * 1024 - 1024

/** How many events are loaded at a time: what a page has no room for is a part of one step. */
const stepEvents = 250

/** The events from a sequence on, as JSON, at most `limit` and at most a mebibyte of them. */
export const eventPage = Effect.fnUntraced(function* (from: number, limit: number) {
  const outbox = yield* Outbox
  const items: Array<ReturnType<typeof encodeSourceEvent>> = []
  let bytes = 0
  for (let next = from; ;) {
    const wanted = Math.min(stepEvents, limit - items.length + 1)
    const events = yield* outbox.read({ from: next, limit: wanted })
    for (const event of events) {
      const json = encodeSourceEvent(event)
      bytes += Buffer.byteLength(JSON.stringify(json)) + 1
      if (items.length === limit || (items.length > 0 && bytes > mostPageBytes)) return { items, hasMore: true }
      items.push(json)
      next = event.sequence + 1
    }
    if (events.length < wanted) return { items, hasMore: false }
  }
})
