import { expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { MetadataStore } from "../../services/MetadataStore.ts"
import { as, newProject, published, Scene, sceneLayer } from "./postgresScene.ts"

const url = inject("postgresUrl")

if (url !== null)
  layer(sceneLayer(url), { excludeTestServices: true })("MetadataStore's rows, native Postgres", (it) => {
    it.effect("metadata comes back as it was, whatever JSON it is", () =>
      Effect.gen(function* () {
        const metadata = { z: "\0", a: "\ud800", n: 1e300, deep: [{ "": null }] }
        expect((yield* published(yield* newProject(), { metadata })).metadata).toEqual(metadata)
      }),
    )

    it.effect("pages follow microseconds, and a page of rows one may not see is short but goes on", () =>
      Effect.gen(function* () {
        const store = yield* MetadataStore
        const scene = yield* Scene
        const caller = yield* newProject()
        yield* scene.run(
          `insert into artifacts (id, project, state, blob_key, created_by_kind, created_by_id, name, mime, size, sha256,
             metadata, visibility, owner_kind, owner_id, run_id, created_at)
           select 'art_' || md5($1::text || n), $1::text, 'ready', $1::text || n, 'agent', 'worker', 'n%_' || n, 'text/plain', 1,
             repeat('ab', 32), '{}', case when n <= 5 then 'shared' else 'private' end, 'agent', 'worker', 'run:1',
             timestamptz '2026-01-01' + n * interval '1 microsecond'
           from generate_series(1, 2500) n`,
          [caller.project],
        )
        const viewer = as(caller, "viewer", ["mobius.project.view"])
        const names: Array<string> = []
        const sizes: Array<number> = []
        let cursor: string | undefined
        do {
          const page = yield* store.list(viewer, { state: "ready", limit: 2, cursor, namePrefix: "n%_" })
          names.push(...page.items.map(({ name }) => name))
          sizes.push(page.items.length)
          cursor = page.nextCursor
        } while (cursor !== undefined)
        expect(names).toEqual(["n%_5", "n%_4", "n%_3", "n%_2", "n%_1"])
        expect(sizes).toEqual([0, 2, 2, 1])
        expect((yield* store.list(viewer, { state: "ready", limit: 2, namePrefix: "n%%" })).items).toEqual([])
      }),
    )
  })
