import type { Row } from "../faults/auditEvents.ts"
import type { LimitChange, World } from "./worker.ts"

type Say = (holds: boolean, sentence: string) => void

/** No artifact was committed after the end of its claim or of its key was acknowledged. */
export const checkRights = ({ rights }: World, rows: ReadonlyArray<Row>, say: Say): void => {
  for (const { created_at, id, name } of rows) {
    const right = rights.get(name)
    if (right === undefined || created_at === null) continue
    for (const what of ["claim", "key"] as const) {
      const { at } = right[what]
      const late = at === undefined ? 0 : created_at.getTime() - at
      say(late <= 0, `${id} (${name}) was committed ${late} ms after the end of its ${what} was acknowledged`)
    }
  }
}

/** The limits that may have been in force at a time: a change whose answer was lost may take place at any later time. */
const inForce = (limits: ReadonlyArray<LimitChange>, at: number): ReadonlyArray<number> => {
  const settled = limits.filter(({ answered }) => answered !== undefined && answered <= at)
  const replaced = ({ answered }: LimitChange) =>
    answered !== undefined && settled.some((later) => later.begun >= answered)
  const possible = limits.filter((change) => change.begun <= at && !replaced(change)).map(({ bytes }) => bytes)
  return settled.length === 0 ? [...possible, Number.POSITIVE_INFINITY] : possible
}

/**
 * What the ready artifacts of a project were charged never passed its limit at the commit of one of them. A tombstone
 * does not tell any more what its metadata was charged: then its size counts alone.
 */
export const checkLimits = ({ limits, model }: World, rows: ReadonlyArray<Row>, say: Say): void => {
  const changes = rows.flatMap(({ charged_bytes, created_at, deleted_at, id, size }) => {
    const bytes = Math.max(Number(charged_bytes), Number(size))
    if (created_at === null) return []
    const commit = { at: created_at.getTime(), bytes, commits: id }
    return deleted_at === null ? [commit] : [commit, { at: deleted_at.getTime(), bytes: -bytes, commits: undefined }]
  })
  let used = 0
  for (const { at, bytes, commits } of changes.toSorted((a, b) => a.at - b.at || a.bytes - b.bytes)) {
    used += bytes
    const limit = Math.max(...inForce(limits, at))
    say(
      commits === undefined || used <= limit,
      `the commit of ${commits} brought ${model.tenant.project} to ${used} bytes of ${limit}`,
    )
  }
}
