import { randomBytes } from "node:crypto"
import { HttpServer as Listening } from "@effect/platform"
import { expect, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Layer } from "effect"
import * as Embedded from "../../layers/stacks/Embedded.ts"
import { Authenticator } from "../../services/Authenticator.ts"
import { MetadataStore } from "../../services/MetadataStore.ts"
import * as Config from "../../src/Config.ts"
import { Settings } from "../../src/Config.ts"
import * as HttpServer from "../../src/http/HttpServer.ts"
import * as Readiness from "../../src/http/Readiness.ts"
import { call, makeTenant, publish, type Tenant } from "../faults/plane.ts"
import { privateDir, sleep } from "../support/processes.ts"

/** As many as a node's database connections. */
const connections = 10

/**
 * A node in this process whose lists and commits each take a connection for a while; in the order in which they got one,
 * with how many others got one while they waited for theirs.
 */
const scene = Effect.gen(function* () {
  const home = yield* Effect.acquireRelease(
    Effect.sync(() => privateDir("turns")),
    (folder) => Effect.sync(folder.remove),
  )
  const adminKey = `mbx_${randomBytes(32).toString("hex")}`
  const environment = ConfigProvider.fromMap(
    new Map([
      ["PORT", "0"],
      ["DATA_DIR", home.path],
      ["URL_SIGNING_SECRET", randomBytes(32).toString("hex")],
      ["BOOTSTRAP_API_KEY", adminKey],
    ]),
  )
  const settings = yield* Effect.provide(Settings, Layer.provide(Config.layer, Layer.setConfigProvider(environment)))
  const services = yield* Layer.build(Embedded.layer(settings))
  const metadata = Context.get(services, MetadataStore)
  const pool = yield* Effect.makeSemaphore(connections)
  const gate = yield* Effect.makeSemaphore(1)
  const begun: Array<{ readonly project: string; readonly ahead: number }> = []
  let gated = false
  const taking = <A, E, R>(project: string, work: Effect.Effect<A, E, R>) =>
    Effect.suspend(() => {
      if (!gated) return work
      const before = begun.length
      const begin = Effect.sync(() => void begun.push({ project, ahead: begun.length - before }))
      return pool.withPermits(1)(Effect.zipRight(begin, gate.withPermits(1)(Effect.zipRight(Effect.sleep(10), work))))
    })
  const slow = MetadataStore.of({
    ...metadata,
    list: (caller, filter) => taking(caller.project, metadata.list(caller, filter)),
    commit: (request) => taking(request.project, metadata.commit(request)),
  })
  const auth = Context.get(services, Authenticator)
  let arrived = 0
  const counting = Authenticator.of({
    ...auth,
    authenticate: (key) => Effect.tap(auth.authenticate(key), () => Effect.sync(() => void arrived++)),
  })
  const edge = yield* Layer.build(
    HttpServer.layer.pipe(
      Layer.provide(Readiness.layer({ redis: false })),
      Layer.provide(
        Layer.succeedContext(services.pipe(Context.add(MetadataStore, slow), Context.add(Authenticator, counting))),
      ),
    ),
  )
  const { address } = yield* Effect.provide(Listening.HttpServer, edge)
  const baseUrl = `http://127.0.0.1:${address._tag === "TcpAddress" ? address.port : 0}`
  const [honest, hostile] = yield* Effect.promise(() =>
    Promise.all([makeTenant(baseUrl, adminKey), makeTenant(baseUrl, adminKey)]),
  )

  /** 64 requests of the hostile tenant, and one of the honest once all of them are here and the first are at work. */
  const flood = (request: (tenant: Tenant) => Promise<{ readonly status: number }>, status: number) =>
    Effect.promise(async () => {
      // Another project has been here lately, as on any node that many share.
      expect((await request(honest)).status).toBe(status)
      gated = true
      begun.length = 0
      arrived = 0
      const flooding = Array.from({ length: 64 }, () => request(hostile))
      while (begun.length === 0 || arrived < flooding.length) await sleep(1)
      const victim = await request(honest)
      const all = await Promise.all(flooding)
      gated = false
      expect(new Set([victim, ...all].map((answer) => answer.status))).toEqual(new Set([status]))
      expect(begun).toHaveLength(65)
      return begun.find(({ project }) => project === honest.project)?.ahead
    })
  return { baseUrl, flood }
})

it.scopedLive(
  "64 lists or 64 publishes at once of one project let another's through at once",
  () =>
    Effect.gen(function* () {
      const { baseUrl, flood } = yield* scene
      const ahead = {
        list: yield* flood((tenant) => call(`${baseUrl}/v1/artifacts?mime=no/such`, tenant.key), 200),
        publish: yield* flood((tenant) => publish(baseUrl, tenant, { name: "f", bytes: randomBytes(100) }), 201),
      }
      expect(ahead.list).toBeLessThan(3)
      expect(ahead.publish).toBeLessThan(3)
    }),
  180_000,
)
