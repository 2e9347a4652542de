import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { newsLook, visibleLook } from "../../layers/Outbox/looks.ts"
import { examinedAtMost } from "../../services/Outbox.ts"
import { writePrivate } from "./outboxSteps.ts"
import { as, newProject, Scene, sceneLayer } from "./postgresScene.ts"

const url = inject("postgresUrl")

interface Node {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Actual Rows": number
  readonly "Actual Loops": number
  readonly "Rows Removed by Filter"?: number
  readonly Plans?: ReadonlyArray<Node>
}

const nodes = (node: Node): ReadonlyArray<Node> => [node, ...(node.Plans ?? []).flatMap(nodes)]

/** How many rows of events a plan read, those it threw away included. */
const examined = (plan: Node) =>
  nodes(plan)
    .filter((node) => node["Relation Name"] === "events")
    .reduce(
      (sum, node) => sum + node["Actual Loops"] * (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0)),
      0,
    )

if (url !== null)
  layer(sceneLayer(url), { excludeTestServices: true })("Looks at 200,000 events that the viewer may not see", (it) => {
    it.effect(
      "examine a bounded number of rows wherever they begin, and next to none at the end, with the plan for any values, too",
      () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const { run } = yield* Scene
          const caller = yield* newProject()
          const viewer = as(caller, "viewer", ["mobius.project.view"])
          yield* writePrivate(caller.project, 200_000)
          yield* run("vacuum analyze events")
          const looks = (after: number) => [visibleLook(sql, viewer, { after, limit: 200 }), newsLook(sql, after)]
          let prepared = 0
          const cost = (statement: ReturnType<typeof visibleLook>, mode: string) =>
            Effect.gen(function* () {
              const [text, values] = statement.compile()
              const name = `look_${prepared++}`
              const literals = values.map((value) => (typeof value === "string" ? `'${value}'` : String(value)))
              yield* run(`set plan_cache_mode = ${mode}`)
              yield* run(`prepare ${name} as ${text}`)
              const rows = yield* run(
                `explain (analyze, format json) execute ${name}${literals.length === 0 ? "" : `(${literals.join(", ")})`}`,
              )
              const plans = rows[0]?.["QUERY PLAN"] as ReadonlyArray<{ readonly Plan: Node }> | undefined
              return plans?.[0] === undefined ? Infinity : examined(plans[0].Plan)
            })
          for (const mode of ["force_custom_plan", "force_generic_plan"])
            for (const [after, most] of [
              [0, examinedAtMost + 1],
              [100_000, examinedAtMost + 1],
              [200_000, 1],
            ] as const)
              for (const look of looks(after))
                expect(yield* cost(look, mode), `${mode}, after ${after}`).toBeLessThanOrEqual(most)
        }),
      60_000,
    )
  })
