import type { Model } from "./model.ts"

/** A row of artifacts as the driver gives it. */
export interface Row {
  readonly id: string
  readonly project: string
  readonly state: string
  readonly name: string
  readonly size: string
  readonly metadata: string
  /** Null: the size alone, charged by release 1.0.0. */
  readonly charged_bytes: string | null
  readonly sha256: string
  readonly blob_key: string
  readonly run_id: string
  readonly step_id: string
  readonly job_id: string
  readonly worker_session_id: string
  readonly attempt: number
  readonly owner_id: string
  readonly visibility: string
  /** Of the commit, and of the delete. */
  readonly created_at: Date | null
  readonly deleted_at: Date | null
}

/** An entry of the stream, as a consumer reads it. */
export interface Entry {
  readonly id: string
  readonly payload: any
}

type Say = (holds: boolean, sentence: string) => void

/** One entry a fact, dense from 1, each telling what its row says. */
const checkEntries = (entries: ReadonlyArray<Entry>, rows: ReadonlyArray<Row>, say: Say): void => {
  const gap = entries.findIndex(({ id }, index) => id !== `${index + 1}-0`)
  say(gap === -1, `the stream is not dense from 1: entry ${gap + 1} is ${entries[gap]?.id}`)
  const facts = entries.map(({ payload }) => `${payload.event_type} ${payload.source_id}`)
  const expected = rows.flatMap(({ id, state }) => {
    if (state === "pending") return []
    return state === "deleted" ? [`artifact.created ${id}`, `artifact.deleted ${id}`] : [`artifact.created ${id}`]
  })
  const seen = new Set(facts)
  say(seen.size === facts.length, `${facts.length - seen.size} facts stand in the stream twice`)
  const lost = expected.filter((fact) => !seen.has(fact))
  say(lost.length === 0, `${lost.length} facts are not in the stream, among them ${lost[0]}`)
  const foreign = new Set(expected)
  const invented = facts.filter((fact) => !foreign.has(fact))
  say(invented.length === 0, `${invented.length} events of what never was, among them ${invented[0]}`)

  const byId = new Map(rows.map((row) => [row.id, row]))
  for (const { id, payload } of entries) {
    const row = byId.get(payload.source_id)
    const { event, meta } = payload
    const told = [event.name, event.size, event.sha256, meta.project, meta.loop_run_id, meta.step_id, meta.job_id]
    const is = [row?.name, Number(row?.size), row?.sha256, row?.project, row?.run_id, row?.step_id, row?.job_id]
    say(told.join() === is.join() && meta.owner.id === row?.owner_id, `entry ${id} tells something else than its row`)
    say(`${meta.sequence}-0` === id, `entry ${id} tells another sequence`)
  }
}

/** An event whose request was answered before another's began comes first; a project's created before its deleted. */
const checkOrder = (entries: ReadonlyArray<Entry>, models: ReadonlyArray<Model>, say: Say): void => {
  const begun = new Map<string, number>()
  const answered = new Map<string, number>()
  for (const { deletions, facts } of models) {
    for (const fact of facts.values()) {
      begun.set(`artifact.created ${fact.id}`, fact.begun)
      answered.set(`artifact.created ${fact.id}`, fact.answered)
    }
    for (const [id, deletion] of deletions) {
      begun.set(`artifact.deleted ${id}`, deletion.begun)
      if (deletion.answered !== undefined) answered.set(`artifact.deleted ${id}`, deletion.answered)
    }
  }
  let latest = { at: Number.NEGATIVE_INFINITY, id: "" }
  for (const { id, payload } of entries) {
    const fact = `${payload.event_type} ${payload.source_id}`
    const over = answered.get(fact) ?? Number.POSITIVE_INFINITY
    say(over >= latest.at, `entry ${id} was answered before the request of ${latest.id} began, and comes after it`)
    const at = begun.get(fact) ?? Number.NEGATIVE_INFINITY
    if (at > latest.at) latest = { at, id }
  }
}

export const checkEvents = (
  entries: ReadonlyArray<Entry>,
  rows: ReadonlyArray<Row>,
  models: ReadonlyArray<Model>,
  say: Say,
): void => {
  checkEntries(entries, rows, say)
  checkOrder(entries, models, say)
}
