import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Audit } from "../../services/Audit.ts"
import { Outbox } from "../../services/Outbox.ts"
import { ProjectHandle } from "../../src/domain/Ids.ts"
import {
  beginUpload,
  blobKeyOf,
  callerOf,
  freshProject,
  live,
  publish,
  removeAs,
  sha,
  type SqlLayer,
} from "./fixtures.ts"

const newCaller = Effect.flatMap(freshProject(), (project) => callerOf(project))

/** The contract of services/Audit, a test a sentence. */
export const auditSuite = (name: string, subject: SqlLayer) =>
  layer(subject, live)(`Audit: ${name}`, (it) => {
    it.effect("ready artifacts come in pages by id, all of them and nothing else", () =>
      Effect.gen(function* () {
        const audit = yield* Audit
        const caller = yield* newCaller
        yield* beginUpload(caller)
        const deleted = yield* publish(caller)
        yield* removeAs(caller, deleted.artifact.id)
        const made = yield* Effect.replicateEffect(publish(caller), 5)
        const paged: Array<string> = []
        for (let after: string | undefined; ;) {
          const page = yield* audit.ready(after, 2)
          expect(page.length).toBeLessThanOrEqual(2)
          after = page.at(-1)?.id
          if (after === undefined) break
          paged.push(...page.map(({ id }) => id))
          for (const row of page.filter(({ project }) => project === caller.project))
            expect(row).toEqual({
              id: row.id,
              project: caller.project,
              blobKey: blobKeyOf(caller.project, row.id),
              size: 10,
              sha256: sha,
            })
        }
        const expected = made.map(({ artifact }) => artifact.id as string).sort()
        expect(paged.filter((id) => expected.includes(id))).toEqual(expected)
        expect([...paged].sort()).toEqual(paged)
        expect(paged).not.toContain(deleted.artifact.id)
        const ids = [deleted.artifact.id, ...made.map(({ artifact }) => artifact.id)]
        expect([...(yield* audit.stillReady(ids))].sort()).toEqual(expected)
      }),
    )
    it.effect("a project's usage is told as booked and as summed, and a sum that agrees is not recounted", () =>
      Effect.gen(function* () {
        const audit = yield* Audit
        const caller = yield* newCaller
        yield* Effect.replicateEffect(publish(caller), 3)
        const own = { bytes: 30, count: 3 }
        const found: Array<unknown> = []
        for (let after: string | undefined; ;) {
          const page = yield* audit.usage(after, 3)
          after = page.at(-1)?.project
          if (after === undefined) break
          found.push(...page.filter(({ project }) => project === caller.project))
        }
        expect(found).toEqual([{ project: caller.project, booked: own, summed: own }])
        expect(yield* audit.recount(caller.project)).toBe(false)
        expect(yield* audit.recount(ProjectHandle.make("nobody-s"))).toBe(false)
      }),
    )
    it.effect("events' places are told by id, of those that have one", () =>
      Effect.gen(function* () {
        const audit = yield* Audit
        const outbox = yield* Outbox
        const caller = yield* newCaller
        yield* publish(caller)
        const numbered = yield* outbox.sequence(10_000)
        yield* publish(caller)
        const [last] = numbered.slice(-1)
        if (last === undefined) return expect.fail("no event was numbered")
        expect(yield* audit.placesOf([last.id, "sevt_nobody"])).toEqual([{ id: last.id, sequence: last.sequence }])
        expect(yield* audit.placesOf([])).toEqual([])
      }),
    )
  })
