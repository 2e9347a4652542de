import { SqlClient } from "@effect/sql"
import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { listStatement } from "../../layers/MetadataStore/list.ts"
import type { ListFilter } from "../../services/MetadataStore.ts"
import { as, newProject, Scene, sceneLayer } from "./postgresScene.ts"

const url = inject("postgresUrl")

interface Node {
  readonly "Node Type": string
  readonly "Index Name"?: string
  readonly "Relation Name"?: string
  readonly "Actual Rows": number
  readonly Plans?: ReadonlyArray<Node>
}

const nodes = (node: Node): ReadonlyArray<Node> => [node, ...(node.Plans ?? []).flatMap(nodes)]

if (url !== null)
  layer(sceneLayer(url), { excludeTestServices: true })("List plans at 200,000 artifacts", (it) => {
    it.effect(
      "each filter walks its own index in page order and reads no more than a page",
      () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const scene = yield* Scene
          const caller = yield* newProject()
          yield* scene.run(
            `insert into artifacts (id, project, state, blob_key, created_by_kind, created_by_id, name, mime, size, sha256,
             metadata, visibility, owner_kind, owner_id, run_id, step_id, job_id, worker_session_id, attempt, created_at)
           select 'art_' || n, $1::text, 'ready', 'k' || n, 'agent', 'worker', 'n' || n, 'text/plain', 1, repeat('ab', 32), '{}',
             'shared', 'agent', 'worker', 'run:' || n % 50, 'step:' || n % 500, 'job:' || n % 5000, 's', 1,
             timestamptz '2026-01-01' + n * interval '1 second'
           from generate_series(1, 200000) n`,
            [caller.project],
          )
          yield* scene.run("vacuum analyze artifacts")
          const viewer = as(caller, "viewer", ["mobius.project.view"])
          const after = { micros: "1767312000000000", id: "art_1" }
          for (const [filter, index] of [
            [{}, "artifacts_ready"],
            [{ runId: "run:1" }, "artifacts_ready_of_run"],
            [{ stepId: "step:1" }, "artifacts_ready_of_step"],
            [{ jobId: "job:1" }, "artifacts_ready_of_job"],
            [{ jobId: "job:1", stepId: "step:1", runId: "run:1" }, "artifacts_ready_of_job"],
          ] satisfies ReadonlyArray<readonly [Partial<ListFilter>, string]>)
            for (const position of [undefined, after]) {
              const statement = listStatement(sql, viewer, { state: "ready", limit: 20, ...filter }, position)
              const rows = yield* sql<{
                "QUERY PLAN": ReadonlyArray<{ Plan: Node }>
              }>`explain (analyze, format json) ${statement}`
              const plan = nodes(rows[0]?.["QUERY PLAN"][0]?.Plan as Node)
              const scans = plan.filter(
                (node) => node["Node Type"].includes("Scan") && node["Relation Name"] === "artifacts",
              )
              expect(scans.map((node) => node["Index Name"])).toEqual([index, index])
              expect(scans.map((node) => node["Node Type"])).not.toContain("Bitmap Heap Scan")
              const whole = plan.filter((node) => node["Node Type"].includes("Sort") && node["Actual Rows"] > 21)
              expect(whole).toEqual([])
              expect(Math.max(...scans.map((node) => node["Actual Rows"]))).toBeLessThanOrEqual(40)
            }
        }),
      60_000,
    )
  })
