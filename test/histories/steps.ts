import {
  bring,
  heartbeat,
  type Outcome,
  persistently,
  publishWrong,
  read,
  refusedUpload,
  remove,
  replay,
  replayLast,
  type Upload,
  url,
} from "../faults/clients.ts"
import { contentOf, type Fact, inWords, isTransient } from "../faults/model.ts"
import { type Answer, call, publish, sdkTimeout } from "../faults/plane.ts"
import { beginUpload } from "../faults/transfers.ts"
import { readEvents } from "./events.ts"
import type { Step } from "./plan.ts"
import { draftUpload, endRight, setLimit, takeNext, type Worker } from "./worker.ts"

const codeOf = ({ body }: Answer): unknown => body?.error?.code

/** What an upload may be answered, however honest it is, besides the artifact and "not now". */
const acceptable = ({ tight }: Worker, answer: Answer, allowed: ReadonlyArray<string>) =>
  isTransient(answer) ||
  allowed.some((code) => code === codeOf(answer)) ||
  (codeOf(answer) === "quota_exceeded" && tight())

const judge = (worker: Worker, { name }: Upload, outcome: Outcome, allowed: ReadonlyArray<string> = []): void => {
  if (outcome === undefined || "fact" in outcome) return
  const { certain, refusal } = outcome
  if (certain) {
    worker.model.doubtful.delete(name)
    worker.model.refused.add(name)
  }
  if (!acceptable(worker, refusal, allowed)) worker.chronicle.fault(`${name} was answered ${inWords(refusal)}`)
}

const publishNew = async (worker: Worker, file: Parameters<typeof draftUpload>[1]) => {
  const upload = draftUpload(worker, file)
  const outcome = await bring(worker, upload)
  judge(worker, upload, outcome)
  if (upload.key !== undefined && outcome !== undefined && "fact" in outcome)
    worker.last = { key: upload.key, fact: outcome.fact }
}

/** Other bytes under a key that has made an artifact. */
const conflict = async (worker: Worker) => {
  if (worker.last === undefined) return
  const { key } = worker.last
  const { name, token } = draftUpload(worker, { size: 900 })
  worker.model.refused.add(name)
  const answer = await persistently(worker, "conflict", () =>
    publish(worker.target().baseUrl, { ...worker.model.tenant, token }, { name, bytes: contentOf(name, 900), key }),
  )
  if (answer !== undefined && codeOf(answer) !== "idempotency_key_conflict")
    worker.chronicle.fault(`another file under the key of ${worker.last.fact.name} was answered ${inWords(answer)}`)
}

/** Two senders of one upload: whichever wins, there is one artifact. */
const twins = async (worker: Worker, size: number) => {
  const upload = draftUpload(worker, { size, keyed: true })
  const outcomes = await Promise.all([bring(worker, upload), bring(worker, upload)])
  const ids = new Set(
    outcomes.flatMap((outcome) => (outcome !== undefined && "fact" in outcome ? outcome.fact.id : [])),
  )
  if (ids.size > 1) worker.chronicle.fault(`two senders of ${upload.name} were told of two artifacts`)
  for (const outcome of outcomes) {
    if (outcome === undefined || "fact" in outcome) continue
    if (!acceptable(worker, outcome.refusal, ["idempotency_superseded"]))
      worker.chronicle.fault(`a sender of ${upload.name} was answered ${inWords(outcome.refusal)}`)
  }
}

/** An upload of which half is sent. What comes after it may find the connection broken. */
const sendHalf = async (worker: Worker, { key, name, size, token }: Upload) => {
  const bytes = contentOf(name, size)
  const tenant = { ...worker.model.tenant, token }
  const slow = beginUpload(worker.target().baseUrl, tenant, name, {
    ...(key !== undefined && { key }),
    signal: AbortSignal.timeout(sdkTimeout),
  })
  await slow.send(bytes.subarray(0, size >> 1)).catch(() => {})
  const rest = async () => {
    await slow.send(bytes.subarray(size >> 1)).catch(() => {})
    slow.finish()
    return slow.answer
  }
  return { rest, vanish: slow.vanish }
}

const leave = async (worker: Worker, size: number, keyed: boolean) => {
  const upload = draftUpload(worker, { size, keyed })
  const { vanish } = await sendHalf(worker, upload)
  vanish()
  if (keyed) judge(worker, upload, await bring(worker, upload))
  else worker.model.refused.add(upload.name)
}

/** The claim or the key ends, and an upload under it is refused from the acknowledgement on. */
const end = async (worker: Worker, { how, size, when }: Step & { do: "end" }) => {
  const refusal = how === "revoke" ? "unauthorized" : "lease_lost"
  if (when === "before") {
    const former = { ...worker }
    if (await endRight(worker, how)) {
      await refusedUpload(former, refusal, former.token, {})
      if (former.last !== undefined && how !== "revoke") await replay(worker, former.last, former.token)
    }
  } else if (when === "meanwhile") {
    const upload = draftUpload(worker, { size })
    const [outcome] = await Promise.all([bring(worker, upload), endRight(worker, how)])
    judge(worker, upload, outcome, [refusal])
  } else {
    const upload = draftUpload(worker, { size })
    worker.model.doubtful.add(upload.name)
    const { rest } = await sendHalf(worker, upload)
    const ended = await endRight(worker, how)
    if (ended) worker.model.refused.add(upload.name)
    const answer = await worker.chronicle.hear("publish across an end", rest)
    if (answer !== undefined && ended && !acceptable(worker, answer, [refusal]))
      worker.chronicle.fault(`${upload.name}, whose right ended midway (${how}), was answered ${inWords(answer)}`)
  }
  if (how === "release") await takeNext(worker)
}

const pick = (facts: ReadonlyArray<Fact>, which: number) => facts[which % Math.max(1, facts.length)]
const own = (worker: Worker, { claim }: Fact) => claim.owner === worker.claim.owner
const readable = (worker: Worker, fact: Fact) => fact.claim.visibility === "shared" || own(worker, fact)

const readOne = async (worker: Worker, which: number) => {
  const fact = pick([...worker.model.facts.values()], which)
  if (fact === undefined) return
  if (readable(worker, fact)) return read(worker, fact)
  const answer = await worker.chronicle.hear("read of another's", () =>
    call(url(worker, `/artifacts/${fact.id}/content`), worker.model.tenant.key),
  )
  if (answer !== undefined && answer.status !== 404 && !isTransient(answer))
    worker.chronicle.fault(`the private ${fact.id} of another was answered ${inWords(answer)}`)
}

const deleteOne = async (worker: Worker, which: number) => {
  const fact = pick(
    [...worker.model.facts.values()].filter((fact) => worker.edit || own(worker, fact)),
    which,
  )
  if (fact !== undefined) await remove(worker, fact)
}

/** Reads the whole list: all that was there all the while is in it, once; nothing that the caller may not see is. */
const list = async (worker: Worker) => {
  const { chronicle, edit, model } = worker
  const begun = Date.now()
  const before = [...model.facts.values()].filter(({ id }) => !model.deletions.has(id))
  const items: Array<any> = []
  let cursor = ""
  do {
    const page = await persistently(worker, "list", () =>
      call(url(worker, `/artifacts?limit=7${cursor}`), model.tenant.key),
    )
    if (page === undefined) return
    if (page.status !== 200) return chronicle.fault(`a list was answered ${inWords(page)}`)
    items.push(...page.body.items)
    cursor = page.body.has_more ? `&cursor=${encodeURIComponent(page.body.next_cursor)}` : ""
  } while (cursor !== "")
  chronicle.succeeded("list", begun)
  const listed = new Set(items.map(({ id }) => id))
  if (listed.size !== items.length) chronicle.fault("a list shows an artifact twice")
  for (const { id, owner, visibility } of items)
    if (!edit && visibility !== "shared" && owner.id !== worker.claim.owner)
      chronicle.fault(`a list shows ${id}, which is private to ${owner.id}, to ${worker.claim.owner}`)
  for (const fact of before)
    if (!listed.has(fact.id) && !model.deletions.has(fact.id) && (edit || readable(worker, fact)))
      chronicle.fault(`a list does not show ${fact.id}`)
}

export const take = async (worker: Worker, step: Step): Promise<void> => {
  switch (step.do) {
    case "publish":
      return publishNew(worker, step)
    case "repeat":
      return replayLast(worker)
    case "conflict":
      return conflict(worker)
    case "twins":
      return twins(worker, step.size)
    case "leave":
      return leave(worker, step.size, step.keyed)
    case "end":
      return end(worker, step)
    case "read":
      return readOne(worker, step.which)
    case "delete":
      return deleteOne(worker, step.which)
    case "quota":
      return setLimit(worker, step.bytes)
    case "list":
      return list(worker)
    case "events":
      return readEvents(worker, 250)
    case "heartbeat":
      return heartbeat(worker)
    case "wrong":
      return publishWrong(worker)
  }
}
