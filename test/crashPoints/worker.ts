import { Effect, Redacted, Schedule } from "effect"
import { Authenticator } from "../../services/Authenticator.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { deleteArtifact } from "../../src/artifacts/Delete.ts"
import { Claim } from "../../src/domain/Claim.ts"
import { CredentialId, ProjectHandle } from "../../src/domain/Ids.ts"
import { Principal, ProjectCaller } from "../../src/domain/Principal.ts"
import { publish } from "../../src/publish/Publish.ts"
import type { Receive } from "../../src/publish/Receive.ts"
import { contentOf } from "../faults/model.ts"
import { sleep } from "../support/processes.ts"
import { all } from "../suites/fixtures.ts"
import type { Journal, Tenant, Upload } from "./journal.ts"

const principal = new Principal({ kind: "agent", id: "worker" })

export const callerOf = ({ keyId, project }: Tenant) =>
  new ProjectCaller({
    keyId: CredentialId.make(keyId),
    project: ProjectHandle.make(project),
    principal,
    permissions: all,
  })

/** A project, a key and a live claim of a case's own. */
export const hire = Effect.fnUntraced(function* (journal: Journal, title: string) {
  const project = ProjectHandle.make(`c-${crypto.randomUUID().slice(0, 13)}`)
  yield* (yield* ProjectStore).put(project, 20_000_000)
  const { record } = yield* (yield* Authenticator).issue({ project, principal, permissions: all })
  const claim = new Claim({
    project,
    jobId: "job:1",
    attempt: 1,
    workerSessionId: "session:1",
    runId: "run:1",
    stepId: "step:1",
    owner: principal,
    visibility: "shared",
  })
  const { token } = yield* (yield* ClaimStore).put(claim, 3600)
  const tenant: Tenant = { title, project, keyId: record.id, token: Redacted.value(token) }
  journal.write({ kind: "tenant", ...tenant })
  return tenant
})

export interface Manner {
  /** The body's length is not said, so that the reservation grows. */
  readonly chunked?: boolean
  /** Done before the file's first bytes are sent. */
  readonly before?: () => Promise<unknown>
  /** The body ends once this is so, or after ten seconds. */
  readonly pause?: () => boolean
  /** A digest is said that is not the file's. */
  readonly wrong?: true
  /** Settled before the body ends; `waiting` is called when nothing but that is awaited. */
  readonly until?: Promise<void>
  readonly waiting?: () => void
}

const bytes = (text: string) => new TextEncoder().encode(text)

/** The body of an upload, as the edge hands it on. */
const bodyOf =
  ({ name, size }: Upload, { before, pause = () => true, until, waiting, wrong }: Manner): Receive =>
  async (handlers, signal) => {
    const whole = contentOf(name, size)
    const goOn = () => signal.throwIfAborted()
    handlers.onField("name", bytes(name))
    handlers.onField("metadata", bytes(`{"of":"${name}"}`))
    if (wrong) handlers.onField("sha256", bytes("0".repeat(64)))
    const sink = await handlers.onFile({ contentType: "text/plain" })
    await before?.()
    for (let at = 0; at < size; at += 65_536) {
      goOn()
      await sink.write(whole.slice(at, at + 65_536))
    }
    for (const end = Date.now() + 10_000; !pause() && Date.now() < end; await sleep(20)) goOn()
    waiting?.()
    const aborted = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }))
    await Promise.race([until, ...(until === undefined ? [] : [aborted])])
    goOn()
  }

/** One request of an upload. What the plane acknowledges stands in the journal. */
export const send = (journal: Journal, tenant: Tenant, upload: Upload, manner: Manner = {}) =>
  publish({
    caller: callerOf(tenant),
    leaseToken: Redacted.make(tenant.token),
    idempotencyKey: upload.key,
    contentLength: manner.chunked === true ? undefined : upload.size + 600,
    receive: bodyOf(upload, manner),
  }).pipe(
    Effect.tap(({ artifact }) =>
      Effect.sync(() => journal.write({ kind: "made", project: tenant.project, name: upload.name, id: artifact.id })),
    ),
  )

export const remove = (journal: Journal, tenant: Tenant, id: string, once?: boolean) =>
  Effect.sync(() => journal.write({ kind: "delete", project: tenant.project, id, once })).pipe(
    Effect.zipRight(deleteArtifact(callerOf(tenant), id)),
    Effect.tap(() => Effect.sync(() => journal.write({ kind: "deleted", project: tenant.project, id }))),
  )

/** As the platform's SDK: the same request again, three times. */
const retried = Schedule.intersect(Schedule.spaced("400 millis"), Schedule.recurs(3))

/** What a worker does that heard no answer: the same again, until it is answered. Returns sentences about what failed. */
export const goOn = Effect.fnUntraced(function* (journal: Journal, tenant: Tenant) {
  const { project, title } = tenant
  const own = <A extends { readonly project: string }>(entries: ReadonlyArray<A>) =>
    entries.filter((entry) => entry.project === project)
  const sentences: Array<string> = []
  const attempt = <E, R>(what: string, request: Effect.Effect<unknown, E, R>) =>
    Effect.catchAllCause(Effect.timeout(Effect.retry(request, retried), "20 seconds"), (cause) =>
      Effect.sync(() => void sentences.push(`${title}: ${what} was never answered: ${String(cause).slice(0, 300)}`)),
    )
  const made = new Set(own(journal.of("made")).map(({ name }) => name))
  for (const upload of own(journal.of("upload")))
    if (upload.key !== undefined && upload.refused === undefined && !made.has(upload.name))
      yield* attempt(`the upload of ${upload.name}`, send(journal, tenant, upload))
  const deleted = new Set(own(journal.of("deleted")).map(({ id }) => id))
  for (const { id, once } of own(journal.of("delete")))
    if (once !== true && !deleted.has(id)) yield* attempt(`the delete of ${id}`, remove(journal, tenant, id))
  return sentences
})
