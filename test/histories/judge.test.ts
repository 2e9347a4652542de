import { describe, expect, it } from "vitest"
import type { Row } from "../faults/auditEvents.ts"
import { makeModel } from "../faults/model.ts"
import { checkLimits, checkRights } from "./judge.ts"
import type { World } from "./worker.ts"

const world = (more: Partial<World>): World => ({
  model: makeModel({ project: "p", key: "", jobId: "", runId: "", token: "" }),
  limits: [],
  rights: new Map(),
  ...more,
})

const row = (id: string, created: number, bytes: number, deleted?: number): Row =>
  ({
    id,
    name: id,
    size: String(bytes),
    // What a tombstone is charged.
    charged_bytes: deleted === undefined ? String(bytes) : "0",
    created_at: new Date(created),
    deleted_at: deleted === undefined ? null : new Date(deleted),
  }) as Row

const said = (check: typeof checkLimits, one: World, rows: ReadonlyArray<Row>) => {
  const sentences: Array<string> = []
  check(one, rows, (holds, sentence) => void (holds || sentences.push(sentence)))
  return sentences
}

it("a commit after the acknowledged end of its claim or key is found, one before it is not", () => {
  const rights = new Map([
    ["a", { claim: { at: 100 }, key: {} }],
    ["b", { claim: {}, key: { at: 100 } }],
    ["c", { claim: {}, key: {} }],
  ])
  const rows = (at: number) => ["a", "b", "c"].map((name) => row(name, at, 1))
  expect(said(checkRights, world({ rights }), rows(100))).toEqual([])
  expect(said(checkRights, world({ rights }), rows(101))).toEqual([
    "a (a) was committed 1 ms after the end of its claim was acknowledged",
    "b (b) was committed 1 ms after the end of its key was acknowledged",
  ])
})

describe("usage over the limit", () => {
  const lowered = [
    { bytes: 100, begun: 10, answered: 20 },
    { bytes: 50, begun: 30, answered: 40 },
  ]

  it("is found at the commit that brings it, by the limit of that time; a delete gives room", () => {
    const late = said(checkLimits, world({ limits: lowered }), [row("a", 21, 40), row("b", 41, 40)])
    expect(late).toEqual(["the commit of b brought p to 80 bytes of 50"])
    expect(said(checkLimits, world({ limits: lowered }), [row("a", 21, 40), row("b", 39, 40)])).toEqual([])
    expect(said(checkLimits, world({ limits: lowered }), [row("a", 21, 40, 41), row("b", 41, 40)])).toEqual([])
    expect(said(checkLimits, world({ limits: lowered }), [row("a", 5, 1000)])).toEqual([])
  })

  it("is not what deletes leave, of empty artifacts neither", () => {
    const rows = [row("a", 21, 90), row("b", 22, 0, 41), row("c", 23, 1, 42)]
    expect(said(checkLimits, world({ limits: lowered }), rows)).toEqual([])
  })

  it("is not what a change may allow whose answer was lost", () => {
    const limits = [lowered[0]!, { bytes: 500, begun: 22 }, lowered[1]!]
    expect(said(checkLimits, world({ limits }), [row("a", 41, 400)])).toEqual([])
    expect(said(checkLimits, world({ limits }), [row("a", 41, 501)])).toHaveLength(1)
  })
})
