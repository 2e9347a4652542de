import { describe, expect, it } from "@effect/vitest"
import { DateTime, Effect } from "effect"
import { Outbox } from "../../services/Outbox.ts"
import { ArtifactId, EventId, ProjectHandle, Sha256 } from "../../src/domain/Ids.ts"
import { Principal } from "../../src/domain/Principal.ts"
import { EventArtifact, SourceEvent } from "../../src/domain/SourceEvent.ts"
import { eventPage } from "../../src/http/events/EventPage.ts"

const MiB = 1024 * 1024
const time = DateTime.unsafeMake(0)
const someone = new Principal({ kind: "agent", id: "someone" })

const eventOf = (sequence: number, name: string) =>
  new SourceEvent({
    id: EventId.make(`sevt_${sequence}`),
    type: "artifact.created",
    artifact: new EventArtifact({
      id: ArtifactId.make(`art_${sequence}`),
      project: ProjectHandle.make("acme"),
      name,
      mime: "text/plain",
      size: 1,
      sha256: Sha256.make("ab".repeat(32)),
      visibility: "shared",
      owner: someone,
      createdBy: someone,
      createdAt: time,
    }),
    occurredAt: time,
    receivedAt: time,
    sequence,
  })

/** Pages over events with these names, from the first on, and what each call of the outbox asked for. */
const pagesOf = (names: ReadonlyArray<string>, limit: number) =>
  Effect.gen(function* () {
    const asked: Array<number> = []
    const events = names.map((name, at) => eventOf(at + 1, name))
    const read = (options: { readonly from: number; readonly limit: number }) =>
      Effect.sync(() => {
        asked.push(options.limit)
        return events.slice(options.from - 1, options.from - 1 + options.limit)
      })
    const pages: Array<{ readonly sequences: ReadonlyArray<number>; readonly bytes: number }> = []
    for (let from = 1; ;) {
      const { hasMore, items } = yield* Effect.provideService(eventPage(from, limit), Outbox, { read } as never)
      const sequences = items.map(({ meta }) => meta.sequence)
      pages.push({ sequences, bytes: Buffer.byteLength(JSON.stringify(items)) })
      if (!hasMore) return { pages, asked }
      from = (sequences.at(-1) ?? 0) + 1
    }
  })

const upTo = (last: number) => Array.from({ length: last }, (_, at) => at + 1)

describe("a page of events", () => {
  it.effect("ends at its limit, and says whether there is more", () =>
    Effect.gen(function* () {
      for (const [count, limit, lengths] of [
        [0, 3, [0]],
        [3, 3, [3]],
        [7, 3, [3, 3, 1]],
        [600, 1000, [600]],
      ] as const) {
        const { pages } = yield* pagesOf(
          upTo(count).map((n) => `file-${n}`),
          limit,
        )
        expect(pages.map(({ sequences }) => sequences.length)).toEqual(lengths)
        expect(pages.flatMap(({ sequences }) => sequences)).toEqual(upTo(count))
      }
    }),
  )

  it.effect("ends before a mebibyte of JSON, and loads little more than it shows", () =>
    Effect.gen(function* () {
      const { asked, pages } = yield* pagesOf(
        upTo(900).map(() => "\u{1f600}".repeat(1_000)),
        1000,
      )
      expect(pages.flatMap(({ sequences }) => sequences)).toEqual(upTo(900))
      expect(pages.length).toBeGreaterThan(3)
      for (const { bytes } of pages) expect(bytes).toBeLessThanOrEqual(MiB)
      for (const { bytes } of pages.slice(0, -1)) expect(bytes).toBeGreaterThan(MiB * 0.9)
      expect(Math.max(...asked)).toBeLessThanOrEqual(250)
    }),
  )

  it.effect("shows an event that is larger alone", () =>
    Effect.gen(function* () {
      const { pages } = yield* pagesOf(["x".repeat(2 * MiB), "y".repeat(2 * MiB)], 10)
      expect(pages.map(({ sequences }) => sequences)).toEqual([[1], [2]])
    }),
  )
})
