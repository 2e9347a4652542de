import { ConfigProvider, Effect, Layer, Redacted } from "effect"
import { describe, expect, it } from "vitest"
import { Settings, layer as settingsLayer } from "../../src/Config.ts"
import * as Logs from "../../src/telemetry/Logs.ts"
import { concerning } from "../../src/telemetry/Subject.ts"

const password = "p4ssw0rd-of-the-database"
const production = {
  DATABASE_URL: `postgres://user:${password}@db/x`,
  REDIS_URL: "redis://redis",
  URL_SIGNING_SECRET: "a-secret-that-signs-urls",
  LOG_LEVEL: "debug",
}

/** What a program logs under a configuration. */
const logged = async (environment: Record<string, string>, program: Effect.Effect<unknown, unknown>) => {
  const lines: Array<string> = []
  const layer = Layer.unwrapEffect(
    Effect.map(Settings, (settings) => Logs.layer(settings, (line) => void lines.push(line))),
  ).pipe(
    Layer.provide(settingsLayer),
    Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment))))),
  )
  await Effect.runPromise(Effect.provide(Effect.ignore(program), layer))
  return lines
}

describe("log lines", () => {
  it("are one JSON object each in production, with the subject, annotations and the fault's words alone", async () => {
    const fault = Object.assign(new Error("connect ECONNREFUSED", { cause: new Error("the\nline broke") }), {
      code: "ECONNREFUSED",
      args: ["an argument"],
    })
    const [line, ...rest] = await logged(
      production,
      Effect.gen(function* () {
        yield* concerning({ project: "acme", artifactId: "art_1" })
        yield* Effect.logError("postgres unavailable", fault).pipe(Effect.annotateLogs("shard", 3))
      }),
    )
    expect(rest).toEqual([])
    expect(line).toMatch(/^\{.*\}\n$/)
    expect(JSON.parse(line ?? "")).toMatchObject({
      level: "error",
      message: "postgres unavailable",
      project: "acme",
      artifact_id: "art_1",
      shard: 3,
      error: "Error: connect ECONNREFUSED (ECONNREFUSED); by Error: the\nline broke",
    })
    expect(line).not.toContain("an argument")
  })

  it("are readable on an embedded node", async () => {
    expect(await logged({}, Effect.logWarning("something").pipe(Effect.annotateLogs("key", "value")))).toEqual([
      expect.stringMatching(/^\d\d:\d\d:\d\d\.\d{3} WARNING something key=value\n$/),
    ])
  })

  it("name their level as LOG_LEVEL does", async () => {
    const all = Effect.all([Effect.logDebug("x"), Effect.logInfo("x"), Effect.logWarning("x"), Effect.logError("x")])
    const levels = (await logged(production, all)).map((line) => JSON.parse(line).level)
    expect(levels).toEqual(["debug", "info", "warning", "error"])
    for (const [index, level] of levels.entries())
      expect(await logged({ LOG_LEVEL: level }, all)).toHaveLength(levels.length - index)
  })

  it("below the level are left out", async () => {
    expect(await logged({}, Effect.logDebug("something"))).toEqual([])
    expect(await logged({ LOG_LEVEL: "error" }, Effect.logWarning("something"))).toEqual([])
  })

  const key = `mbx_${"0123456789abcdef".repeat(4)}`
  const token = `lease_${"0123456789abcdef".repeat(4)}`
  const secrets: ReadonlyArray<readonly [string, string]> = [
    ["a key", key],
    ["a lease token", token],
    ["a bearer", "Authorization: Bearer abc.def-ghi"],
    ["a signature", "GET /v1/signed/art_1/content?expires=1&signature=abc-DEF_1"],
    ["S3's signature", "https://s3/b/k?X-Amz-Credential=AKIA1%2Fus&X-Amz-Signature=abcdef0123"],
    ["a password in a URL", "redis://default:hunter22@redis:6379"],
    ["the configuration's own", `${password} and a-secret-that-signs-urls`],
  ]
  for (const [what, text] of secrets)
    it(`do not hold ${what}, wherever it stands`, async () => {
      const all = await logged(
        production,
        Effect.gen(function* () {
          yield* Effect.logInfo(text)
          yield* Effect.logInfo("an annotation").pipe(Effect.annotateLogs("note", text))
          yield* Effect.logError("a fault", new Error(text, { cause: new Error(text) }))
          yield* Effect.tapErrorCause(Effect.die(new Error(text)), (cause) => Effect.logError("a defect", cause))
        }).pipe(Effect.catchAllCause(() => Effect.void)),
      )
      expect(all).toHaveLength(4)
      const hidden = /mbx_0|lease_0|abc\.def|abc-DEF|AKIA1|abcdef0123|hunter22|p4ssw0rd|that-signs/
      for (const line of all) {
        expect(line).not.toMatch(hidden)
        expect(line).toContain("[redacted]")
        expect(() => JSON.parse(line)).not.toThrow()
      }
    })

  it("name a redacted value only as such", async () => {
    const [line] = await logged(
      production,
      Effect.logInfo("something").pipe(Effect.annotateLogs("secret", Redacted.make("unknown"))),
    )
    expect(line).toContain("<redacted>")
    expect(line).not.toContain("unknown")
  })
})
