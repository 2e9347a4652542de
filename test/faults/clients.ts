import { randomUUID } from "node:crypto"
import { sleep } from "../support/processes.ts"
import { type Chronicle, type Claim, contentOf, type Fact, inWords, isTransient, type Model } from "./model.ts"
import { type Answer, call, publish, sdkTimeout, sha256 } from "./plane.ts"
import type { Random } from "./random.ts"

/** The plane as its callers see it. */
export interface Target {
  readonly baseUrl: string
  readonly adminKey: string
}

/** One file on its way, under the claim of its first try. */
export interface Upload {
  readonly name: string
  readonly size: number
  readonly chunked: boolean
  /** With metadata. */
  readonly noted: boolean
  readonly key: string | undefined
  readonly claim: Claim
  readonly token: string
  readonly begun: number
}

/** One client: a worker that holds a job of its own, and tells what it learned to its project's model. */
export interface Client {
  /** Asked before each request, for a plane may come back somewhere else. */
  target(): Target
  readonly model: Model
  readonly chronicle: Chronicle
  readonly random: Random
  stopped(): boolean
  /** Whether an upload may find the quota full; absent: it never does. */
  readonly tight?: () => boolean
  claim: Claim
  token: string
  /** The latest keyed upload under the present claim. */
  last: { readonly key: string; readonly fact: Fact } | undefined
}

export const url = ({ model, target }: Client, path: string) =>
  `${target().baseUrl}/v1/projects/${model.tenant.project}${path}`

/** Asks until there is a final answer, or the client is to stop. */
export const persistently = async (
  client: Client,
  what: string,
  ask: () => Promise<Answer>,
): Promise<Answer | undefined> => {
  while (!client.stopped()) {
    const answer = await client.chronicle.hear(what, ask)
    if (answer !== undefined && !isTransient(answer)) return answer
    if (answer !== undefined) client.chronicle.failed(what, inWords(answer))
    await sleep(150)
  }
  return undefined
}

/** Takes the job for the next attempt. Whatever was begun under the one before can then not be committed any more. */
export const takeClaim = async (client: Client, claim: Claim): Promise<void> => {
  const begun = Date.now()
  const answer = await persistently(client, "claim", () =>
    call(url(client, `/claims/${claim.jobId}`), client.target().adminKey, {
      method: "PUT",
      body: JSON.stringify({
        run_id: claim.runId,
        step_id: claim.stepId,
        worker_session_id: claim.session,
        attempt: claim.attempt,
        owner: { kind: "agent", id: claim.owner },
        visibility: claim.visibility,
        lease_seconds: 300,
      }),
    }),
  )
  if (answer === undefined) return
  if (answer.status !== 201 && answer.status !== 200)
    return client.chronicle.fault(`attempt ${claim.attempt} of ${claim.jobId} was answered ${inWords(answer)}`)
  client.chronicle.succeeded("claim", begun)
  client.claim = claim
  client.token = answer.body.lease_token
  client.last = undefined
}

const sizes = [0, 1, 900, 4096, 4096, 70_000, 70_000, 300_000, 1_500_000]
const largeSizes = [6_000_000, 24_000_000]

const draft = ({ random }: Client) => {
  const size = random.below(40) === 0 ? random.pick(largeSizes) : random.pick(sizes)
  const name = `files/${randomUUID()}.bin`
  return { name, size: size ?? 0, chunked: random.below(2) === 0, noted: random.below(2) === 0 }
}

/** How long the platform's SDK waits before each of its retries, in milliseconds; after the last one it gives up. */
const sdkPauses = [1000, 2000, 4000]

/** How an upload ended. */
export type Outcome =
  | { readonly fact: Fact }
  /** A final refusal. `certain`: no earlier try was left without an answer, so there is no artifact. */
  | { readonly refusal: Answer; readonly certain: boolean }
  /** Nobody knows: the answers were lost, or said no more than "not now". */
  | undefined

/**
 * One upload as the platform's SDK makes it: with a key, broken connections and 429, 502, 503 and 504 are retried three
 * times; any other answer is final, 409 too. Without a key it is sent once.
 */
export const bring = async (client: Client, upload: Upload): Promise<Outcome> => {
  const { chronicle, model } = client
  const { begun, claim, key, name, noted, size, token } = upload
  const bytes = contentOf(name, size)
  const fields = noted ? { metadata: JSON.stringify({ file: name, note: "ü".repeat(100) }) } : {}
  const file = { name, bytes, fields, chunked: upload.chunked, ...(key !== undefined && { key }) }
  const send = () => publish(client.target().baseUrl, { ...model.tenant, token }, file)
  model.doubtful.add(name)
  for (let retries = 0; ; retries++) {
    const answer = await chronicle.hear("publish", send)
    if (answer?.status === 201 || (answer?.status === 200 && key !== undefined)) {
      const fact = { id: answer.body.id, name, size, sha256: sha256(bytes), claim, begun, answered: Date.now() }
      model.facts.set(fact.id, fact)
      model.doubtful.delete(name)
      chronicle.succeeded(answer.status === 201 ? "publish" : "publish, answered by a replay", begun)
      if (retries > 0) chronicle.succeeded(`publish, by retry ${retries}`, begun)
      return { fact }
    }
    if (answer !== undefined) {
      chronicle.failed("publish", inWords(answer))
      if (!isTransient(answer)) return { refusal: answer, certain: retries === 0 }
    }
    if (key === undefined || client.stopped()) return undefined
    const pause = sdkPauses[retries]
    if (pause === undefined) {
      chronicle.failed("publish", "given up after three retries")
      return undefined
    }
    await sleep(pause)
  }
}

/** Publishes a new file, most often with a key. */
export const publishOnce = async (client: Client): Promise<void> => {
  const { chronicle, claim, random, token } = client
  const key = random.below(5) === 0 ? undefined : randomUUID()
  const outcome = await bring(client, { ...draft(client), key, claim, token, begun: Date.now() })
  if (outcome === undefined) return
  if ("refusal" in outcome) return chronicle.fault(`an honest upload was answered ${inWords(outcome.refusal)}`)
  if (key !== undefined) client.last = { key, fact: outcome.fact }
}

/** The same upload again, under the same key, with the token given: the same artifact, however often. */
export const replay = async (client: Client, last: NonNullable<Client["last"]>, token: string): Promise<void> => {
  const { key, fact } = last
  const begun = Date.now()
  const file = { name: fact.name, bytes: contentOf(fact.name, fact.size), key }
  const answer = await persistently(client, "replay", () =>
    publish(client.target().baseUrl, { ...client.model.tenant, token }, file),
  )
  if (answer === undefined) return
  if (answer.status !== 200 || answer.body.id !== fact.id)
    return client.chronicle.fault(`a replay for ${fact.id} was answered ${inWords(answer)} ${answer.body?.id}`)
  client.chronicle.succeeded("replay", begun)
}

export const replayLast = async (client: Client): Promise<void> => {
  if (client.last !== undefined) await replay(client, client.last, client.token)
}

/** Uploads something that must be refused; whatever the answer is, it must never be seen. */
export const refusedUpload = async (
  client: Client,
  expected: string,
  token: string,
  fields: Record<string, string>,
): Promise<void> => {
  const { chronicle, model, target } = client
  const file = draft(client)
  model.refused.add(file.name)
  const begun = Date.now()
  const answer = await chronicle.hear("refused publish", () =>
    publish(target().baseUrl, { ...model.tenant, token }, { ...file, bytes: contentOf(file.name, file.size), fields }),
  )
  if (answer === undefined) return
  const code = answer.body?.error?.code
  if (code === expected || (code === "quota_exceeded" && client.tight?.() === true))
    return chronicle.succeeded(`publish, refused: ${code}`, begun)
  chronicle.failed("refused publish", inWords(answer))
  if (!isTransient(answer)) chronicle.fault(`instead of ${expected} the answer was ${inWords(answer)}`)
}

export const publishWrong = (client: Client): Promise<void> => {
  switch (client.random.below(3)) {
    case 0:
      return refusedUpload(client, "digest_mismatch", client.token, { sha256: "0".repeat(64) })
    case 1:
      return refusedUpload(client, "lineage_not_allowed", client.token, { run_id: "forged" })
    default:
      return refusedUpload(client, "lease_invalid", `lease_${"0".repeat(64)}`, {})
  }
}

/** The next attempt takes the job over: the former token publishes nothing more, and still fetches what it made. */
export const supersede = async (client: Client): Promise<void> => {
  const { claim, last, token } = client
  const attempt = claim.attempt + 1
  await takeClaim(client, { ...claim, attempt, session: `session-${attempt}` })
  if (client.claim.attempt !== attempt) return
  await refusedUpload(client, "lease_lost", token, {})
  if (last !== undefined) await replay(client, last, token)
}

export const heartbeat = async (client: Client): Promise<void> => {
  const { chronicle, claim, model } = client
  const begun = Date.now()
  const answer = await chronicle.hear("heartbeat", () =>
    call(url(client, `/claims/${claim.jobId}/heartbeat`), model.tenant.key, {
      method: "POST",
      headers: { "x-mobius-lease-token": client.token },
    }),
  )
  if (answer === undefined) return
  if (answer.status === 200) return chronicle.succeeded("heartbeat", begun)
  chronicle.failed("heartbeat", inWords(answer))
  if (!isTransient(answer)) chronicle.fault(`a heartbeat was answered ${inWords(answer)}`)
}

const someFact = ({ model, random }: Client): Fact | undefined => random.pick([...model.facts.values()])

export const deleteOne = async (client: Client): Promise<void> => {
  const fact = someFact(client)
  if (fact !== undefined) await remove(client, fact)
}

/** Deletes an acknowledged artifact, unless that was tried before. */
export const remove = async (client: Client, fact: Fact): Promise<void> => {
  const { chronicle, model } = client
  if (model.deletions.has(fact.id)) return
  const deletion = { begun: Date.now(), answered: undefined as number | undefined }
  model.deletions.set(fact.id, deletion)
  const answer = await chronicle.hear("delete", () =>
    call(url(client, `/artifacts/${fact.id}`), model.tenant.key, { method: "DELETE" }),
  )
  if (answer === undefined) return
  if (answer.status === 204) {
    deletion.answered = Date.now()
    return chronicle.succeeded("delete", deletion.begun)
  }
  chronicle.failed("delete", inWords(answer))
  if (!isTransient(answer)) chronicle.fault(`the delete of ${fact.id} was answered ${inWords(answer)}`)
}

export const readOne = async (client: Client): Promise<void> => {
  const fact = someFact(client)
  if (fact !== undefined) await read(client, fact)
}

/** Reads an acknowledged artifact, whole or a range of it, and compares every byte that came. */
export const read = async (client: Client, fact: Fact): Promise<void> => {
  const { chronicle, model, random } = client
  const begun = Date.now()
  const from = random.below(2) === 0 ? random.below(Math.max(1, fact.size)) : 0
  const until = from + random.below(Math.max(1, fact.size - from)) + 1
  const ranged = fact.size > 0 && random.below(3) === 0
  const what = ranged ? "read of a range" : "read"
  const heard = await chronicle.hear(what, async () => {
    const response = await fetch(url(client, `/artifacts/${fact.id}/content`), {
      headers: { authorization: `Bearer ${model.tenant.key}`, ...(ranged && { range: `bytes=${from}-${until - 1}` }) },
      signal: AbortSignal.timeout(sdkTimeout),
    })
    return { response, bytes: new Uint8Array(await response.arrayBuffer()) }
  })
  if (heard === undefined) return
  const { bytes, response } = heard
  if (response.status === 404 && model.deletions.has(fact.id)) return chronicle.succeeded("read, deleted", begun)
  if (response.status === (ranged ? 206 : 200)) {
    const whole = contentOf(fact.name, fact.size)
    const expected = ranged ? whole.subarray(from, until) : whole
    if (Buffer.compare(bytes, expected) !== 0) chronicle.fault(`${fact.id} was read with other bytes`)
    return chronicle.succeeded(what, begun)
  }
  const json = response.headers.get("content-type")?.startsWith("application/json") === true
  const answer = { status: response.status, body: json ? JSON.parse(new TextDecoder().decode(bytes)) : undefined }
  chronicle.failed(what, inWords(answer))
  if (!isTransient(answer)) chronicle.fault(`the read of ${fact.id} was answered ${inWords(answer)}`)
}
