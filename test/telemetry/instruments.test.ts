import type { IncomingMessage } from "node:http"
import { Context, Effect, Exit, FiberRef, Layer, Metric, MetricBoundaries, Stream, Tracer } from "effect"
import { describe, expect, it } from "vitest"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { Api } from "../../src/http/Api.ts"
import { matchOf } from "../../src/http/Routes.ts"
import { observe } from "../../src/telemetry/Dependencies.ts"
import { prometheusText } from "../../src/telemetry/PrometheusText.ts"
import { traced } from "../../src/telemetry/Spans.ts"

const text = () => prometheusText(Metric.unsafeSnapshot())
const lines = (start: string) =>
  text()
    .split("\n")
    .filter((line) => line.startsWith(start))
const value = (series: string) => Number(lines(`${series} `)[0]?.split(" ").at(-1) ?? 0)

describe("Prometheus' text", () => {
  it("has cumulative buckets up to +Inf, sum and count", () => {
    const histogram = Metric.histogram("artifact_text_seconds", MetricBoundaries.fromIterable([0.1, 1]), "Of a test.")
    for (const seconds of [0.05, 0.1, 0.5, 7]) histogram.unsafeUpdate(seconds, [])
    expect(lines("artifact_text_seconds")).toEqual([
      'artifact_text_seconds_bucket{le="0.1"} 2',
      'artifact_text_seconds_bucket{le="1"} 3',
      'artifact_text_seconds_bucket{le="+Inf"} 4',
      "artifact_text_seconds_sum 7.65",
      "artifact_text_seconds_count 4",
    ])
    expect(text()).toContain("# HELP artifact_text_seconds Of a test.\n# TYPE artifact_text_seconds histogram\n")
  })

  it("escapes labels and writes what is not known as NaN", () => {
    const gauge = Metric.gauge("artifact_text_gauge").pipe(Metric.tagged("who", 'a"b\\c\nd'))
    gauge.unsafeUpdate(Number.NaN, [])
    expect(lines("artifact_text_gauge")).toEqual(['artifact_text_gauge{who="a\\"b\\\\c\\nd"} NaN'])
  })

  it("leaves out what libraries count for themselves", () => {
    Metric.counter("effect_something_total").unsafeUpdate(1, [])
    expect(text()).not.toContain("effect_something_total")
  })
})

describe("the route of a URL", () => {
  const paths = Object.values(Api.groups).flatMap((group) =>
    Object.values(group.endpoints as Record<string, { readonly path: string }>).map(({ path }) => path),
  )

  const routeOf = (url: string) => matchOf({ method: "GET", url } as IncomingMessage).template

  it("is the template of each endpoint, whatever its parameters and query", () => {
    expect(paths.length).toBeGreaterThan(20)
    for (const path of paths) {
      const url = path.replaceAll(/:\w+/g, "a-1%2Fx")
      expect(routeOf(url)).toBe(path)
      expect(routeOf(`${url}?state=deleted&x=/a/b`)).toBe(path)
    }
  })

  it.each([
    "//v1/artifacts",
    "/v1/artifacts/",
    "/V1/artifacts",
    "/v1/%61rtifacts",
    "/v1/artifacts;x",
    "/v1/artifacts#x",
  ])("is none for a path that is not in normal form: %s", (url) => {
    expect(routeOf(url)).toBe("none")
  })

  it("prefers a fixed segment to a parameter", () => {
    expect(routeOf("/v1/projects/acme/artifacts/quota")).toBe("/v1/projects/:project/artifacts/quota")
  })

  for (const url of [
    "",
    "*",
    "/",
    "/v1",
    "/v1/projects/a/b/c/d/e",
    "//",
    "/wp-login.php",
    "/__proto__",
    "/v1/signed/x",
  ])
    it(`is none for ${JSON.stringify(url)}`, () => {
      expect(routeOf(url)).toBe("none")
    })
})

class Shelf extends Context.Tag("test/Shelf")<
  Shelf,
  {
    readonly read: (name: string) => Effect.Effect<string, DependencyUnavailable | "refused">
    readonly ping: Effect.Effect<void>
    readonly known: Effect.Effect<void>
    readonly all: Stream.Stream<string>
    readonly open: Effect.Effect<{ readonly write: () => number; readonly finish: Effect.Effect<void> }>
    readonly size: number
  }
>() {}

const away = new DependencyUnavailable({ dependency: "redis", operation: "read", cause: new Error("gone") })
const shelf = Layer.succeed(Shelf, {
  read: (name) =>
    name === "away" ? Effect.fail(away) : name === "no" ? Effect.fail("refused" as const) : Effect.succeed(name),
  ping: Effect.void,
  known: Effect.void,
  all: Stream.make("a", "b"),
  open: Effect.succeed({ write: () => 1, finish: Effect.void }),
  size: 3,
})
const observed = observe(Shelf, "postgres", { remembered: ["known"], later: { open: "finish" } })(shelf)
const use = <A, E>(f: (shelf: Context.Tag.Service<Shelf>) => Effect.Effect<A, E>) =>
  Effect.runPromiseExit(Effect.provide(Effect.flatMap(Shelf, f), observed))
const taken = (operation: string) =>
  value(`artifact_dependency_duration_seconds_count{dependency="postgres",operation="Shelf.${operation}"}`)

describe("an observed service", () => {
  it("answers as it did, and is timed by operation", async () => {
    expect(await use(({ read }) => read("x"))).toEqual(Exit.succeed("x"))
    expect(await use(({ read }) => read("no"))).toEqual(Exit.fail("refused"))
    await use(({ ping }) => ping)
    expect([taken("read"), taken("ping")]).toEqual([2, 1])
    expect(await use(({ all }) => Stream.runCollect(all).pipe(Effect.map((all) => [...all])))).toEqual(
      Exit.succeed(["a", "b"]),
    )
    expect(await use(({ size }) => Effect.succeed(size))).toEqual(Exit.succeed(3))
  })

  it("counts a fault once, under the dependency that had it, and not among the times", async () => {
    const faults = () => value('artifact_dependency_errors_total{dependency="redis"}')
    const [times, before] = [taken("read"), faults()]
    expect(await use(({ read }) => read("away"))).toEqual(Exit.fail(away))
    expect([taken("read"), faults()]).toEqual([times, before + 1])
  })

  it("times what a result does later, and not what is remembered", async () => {
    expect(await use(({ open }) => Effect.flatMap(open, (made) => Effect.as(made.finish, made.write())))).toEqual(
      Exit.succeed(1),
    )
    await use(({ known }) => known)
    expect([taken("open"), taken("finish"), taken("known")]).toEqual([1, 1, 0])
  })
})

describe("a traced function", () => {
  const names: Array<string> = []
  const recording = Layer.setTracer(
    Tracer.make({
      span: (name, parent, context, links, startTime, kind) => {
        names.push(name)
        return {
          _tag: "Span",
          name,
          spanId: "1",
          traceId: "1",
          parent,
          context,
          status: { _tag: "Started", startTime },
          attributes: new Map(),
          links,
          sampled: true,
          kind,
          end: () => {},
          attribute: () => {},
          event: () => {},
          addLinks: () => {},
        }
      },
      context: (f) => f(),
    }),
  )
  const add = traced("add")(
    function* (a: number, b: number) {
      return a + (yield* Effect.succeed(b))
    },
    (sum, a) => Effect.map(sum, (value) => [value, a] as const),
  )
  const double = traced("double")((n: number) => Effect.succeed(2 * n))

  it("has a span of its name, and steps that see its arguments", () => {
    names.length = 0
    expect(Effect.runSync(Effect.provide(Effect.all([add(1, 2), double(4)]), recording))).toEqual([[3, 1], 8])
    expect(names).toEqual(["add", "double"])
  })

  it("makes none while tracing is off", () => {
    names.length = 0
    const off = Effect.locally(Effect.all([add(1, 2), double(4)]), FiberRef.currentTracerEnabled, false)
    expect(Effect.runSync(Effect.provide(off, recording))).toEqual([[3, 1], 8])
    expect(names).toEqual([])
  })
})
