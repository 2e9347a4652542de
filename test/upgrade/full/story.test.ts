import { expect, it } from "vitest"
import type { Migration } from "../../../layers/migrations/Migration.ts"
import { orNotRun } from "../../support/backends.ts"
import { notExpandOnly } from "../expandOnly.ts"
import { releaseBefore, releaseHere } from "../releases.ts"
import { here, spareColumns, upgradeStory } from "../story.ts"

const after = releaseHere(here)

it("an upgrade and a rollback under load lose no request", { timeout: 600_000 }, async () => {
  const found = await orNotRun("an upgrade from the release before", async () => ({
    release: await releaseBefore(here),
  }))
  if (found === null) return
  // The first release is followed by itself: what a later one may bring at the least is known.
  const report = await upgradeStory({ before: found.release ?? after, after, further: spareColumns })
  expect(report.faults, `with seed ${report.seed}`).toEqual([])
  expect(report.errors, `with seed ${report.seed}`).toEqual({})
  for (const [phase, requests] of Object.entries(report.requests)) expect(requests, phase).toBeGreaterThan(50)
  expect(Object.keys(report.requests)).toHaveLength(3)
})

it("a schema that lost a column in use is found, by its text and by the story", { timeout: 600_000 }, async () => {
  const contracted: Migration = {
    id: 1001,
    name: "contracted",
    kind: "transaction",
    statements: ["alter table events drop column received_at"],
  }
  expect(notExpandOnly([contracted, contracted])[0]).toContain("Migration 1001_contracted is not expand-only: it drops")
  const report = await upgradeStory({ before: after, after, further: async () => [contracted] })
  expect(report.faults.join("\n")).toMatch(
    /on the schema of .*: \d+ (?:facts are not in the stream|events are not in the stream)/,
  )
})
