import type * as SqlClient from "@effect/sql/SqlClient"
import * as Statement from "@effect/sql/Statement"
import { expect, layer } from "@effect/vitest"
import { randomBytes } from "node:crypto"
import { Context, Effect, Exit, Layer, Redacted } from "effect"
import { inject } from "vitest"
import * as Authenticators from "../../layers/Authenticator/Postgres.ts"
import { Authenticator } from "../../services/Authenticator.ts"
import { Ids } from "../../services/Ids.ts"
import { all, freshProject, live, refusal, type SqlServices, worker } from "./fixtures.ts"
import { embeddedLayer, postgresLayer } from "./sql.ts"

const url = inject("postgresUrl")
const together = { concurrency: "unbounded" } as const
const badKey = () => Redacted.make(`mbx_${randomBytes(32).toString("hex")}`)

/** An authenticator with empty caches over the database at hand, as another pod has one, whose statements are counted. */
const pod = Effect.gen(function* () {
  let statements = 0
  const counting = Statement.setTransformer((statement) => {
    statements++
    return Effect.succeed(statement)
  })
  const scope = yield* Effect.scope
  const built = yield* Layer.buildWithScope(Layer.fresh(Authenticators.layer).pipe(Layer.provide(counting)), scope)
  const auth = Context.get(built, Authenticator)
  /** The number of statements that `work` caused. */
  const counted = <A, E, R>(work: Effect.Effect<A, E, R>) =>
    Effect.suspend(() => {
      const before = statements
      return Effect.map(work.pipe(Effect.provide(counting)), () => statements - before)
    })
  return { auth, counted }
})

const issue = (key: Redacted.Redacted) =>
  Effect.gen(function* () {
    const project = yield* freshProject()
    return { project, options: { project, principal: worker, permissions: all, key } }
  })

const suite = (name: string, subject: Layer.Layer<SqlServices | SqlClient.SqlClient, unknown>) =>
  layer(subject, live)(`Look-ups of API keys: ${name}`, (it) => {
    it.scoped("many unknown keys at once share a few statements", () =>
      Effect.gen(function* () {
        const { auth, counted } = yield* pod
        const keys = Array.from({ length: 500 }, badKey)
        const statements = yield* counted(
          Effect.forEach(
            keys,
            (key) => Effect.map(refusal(auth.authenticate(key)), (tag) => expect(tag).toBe("Unauthorized")),
            together,
          ),
        )
        expect(statements).toBeGreaterThan(0)
        expect(statements).toBeLessThan(10)
      }),
    )

    it.scoped("a good key is found in the same batch as unknown ones, and each caller gets its own answer", () =>
      Effect.gen(function* () {
        const { auth, counted } = yield* pod
        const issued = yield* Effect.replicateEffect(
          Effect.flatMap(
            Effect.suspend(() => issue(badKey())),
            ({ options }) => auth.issue(options),
          ),
          3,
        )
        const other = yield* pod
        const keys = issued.flatMap(({ key }) => [badKey(), key, badKey(), key])
        const found = yield* Effect.forEach(
          keys,
          (key) =>
            Effect.match(other.auth.authenticate(key), { onFailure: () => undefined, onSuccess: ({ keyId }) => keyId }),
          together,
        )
        expect(found).toEqual(issued.flatMap(({ record: { id } }) => [undefined, id, undefined, id]))
        expect(yield* counted(Effect.void)).toBe(0)
      }),
    )

    it.scoped("one unknown key again and again is asked for once a second at most", () =>
      Effect.gen(function* () {
        const { auth, counted } = yield* pod
        const key = badKey()
        const statements = yield* counted(Effect.repeatN(refusal(auth.authenticate(key)), 99))
        expect(statements).toBeGreaterThan(0)
        expect(statements).toBeLessThan(10)
      }),
    )

    it.scoped("a malformed key is refused without a statement", () =>
      Effect.gen(function* () {
        const { auth, counted } = yield* pod
        expect(yield* counted(refusal(auth.authenticate(Redacted.make("mbx_short"))))).toBe(0)
      }),
    )

    it.scoped("a key that was refused before it existed works at once where it is issued, and soon elsewhere", () =>
      Effect.gen(function* () {
        const [here, there] = [yield* pod, yield* pod]
        const key = yield* (yield* Ids).apiKey
        for (const { auth } of [here, there]) expect(yield* refusal(auth.authenticate(key))).toBe("Unauthorized")
        const { options } = yield* issue(key)
        const { record } = yield* here.auth.issue(options)
        expect((yield* here.auth.authenticate(key)).keyId).toBe(record.id)
        yield* Effect.sleep("1200 millis")
        expect((yield* there.auth.authenticate(key)).keyId).toBe(record.id)
      }),
    )

    it.scoped("a look-up that was under way when its key was issued is not remembered", () =>
      Effect.gen(function* () {
        const { auth } = yield* pod
        const { options } = yield* issue(badKey())
        // The look-ups and the insert race; whoever wins, what is asked for after the answer is there.
        for (let turn = 0; turn < 20; turn++) {
          const key = badKey()
          const looking = yield* Effect.fork(
            Effect.forEach(Array.from({ length: 4 }), () => Effect.exit(auth.authenticate(key)), together),
          )
          const { record } = yield* auth.issue({ ...options, key })
          expect(yield* Effect.exit(Effect.map(auth.authenticate(key), ({ keyId }) => keyId))).toEqual(
            Exit.succeed(record.id),
          )
          yield* looking.await
          expect((yield* auth.authenticate(key)).keyId).toBe(record.id)
        }
      }),
    )

    it.scoped("a revoked key is refused at once by the pod that revoked it, again without a statement each", () =>
      Effect.gen(function* () {
        const { auth, counted } = yield* pod
        const { options, project } = yield* issue(badKey())
        const { key, record } = yield* auth.issue(options)
        yield* auth.authenticate(key)
        yield* auth.revoke(project, record.id)
        const statements = yield* counted(
          Effect.repeatN(
            Effect.map(refusal(auth.authenticate(key)), (tag) => expect(tag).toBe("Unauthorized")),
            49,
          ),
        )
        expect(statements).toBeLessThan(10)
      }),
    )
  })

suite("embedded", embeddedLayer)
if (url !== null) suite("Postgres", postgresLayer(url))
