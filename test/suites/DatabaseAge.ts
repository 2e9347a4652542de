import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { DatabaseAge } from "../../services/DatabaseAge.ts"
import { callerOf, freshProject, live, publish, type SqlLayer } from "./fixtures.ts"

/** The contract of services/DatabaseAge, a test a sentence. */
export const databaseAgeSuite = (name: string, subject: SqlLayer, options: { readonly numbered: boolean }) =>
  layer(subject, live)(`DatabaseAge: ${name}`, (it) => {
    it.effect("both ages are counts below the server's limit", () =>
      Effect.gen(function* () {
        const ages = yield* (yield* DatabaseAge).ages
        for (const age of [ages.transactionIds, ages.multixacts]) {
          expect(Number.isInteger(age)).toBe(true)
          expect(age).toBeGreaterThanOrEqual(0)
          expect(age).toBeLessThan(2 ** 31)
        }
      }),
    )
    it.effect("a transaction that writes is counted where transactions have numbers", () =>
      Effect.gen(function* () {
        const { ages } = yield* DatabaseAge
        const before = yield* ages
        yield* publish(yield* callerOf(yield* freshProject()))
        const grown = (yield* ages).transactionIds - before.transactionIds
        expect(grown > 0).toBe(options.numbered)
      }),
    )
  })
