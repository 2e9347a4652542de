import { Console, Effect, Redacted, Schedule } from "effect"
import { Authenticator } from "../../services/Authenticator.ts"
import { ClaimStore } from "../../services/ClaimStore.ts"
import { ProjectStore } from "../../services/ProjectStore.ts"
import { Settings } from "../Config.ts"
import { Claim } from "../domain/Claim.ts"
import { ProjectHandle } from "../domain/Ids.ts"
import { type Permission, Principal } from "../domain/Principal.ts"
import { type DevCredentials, fileIn, loadOrMake, save } from "./DevCredentials.ts"

/** Long enough to outlive a restart, short enough to end by itself. */
const leaseSeconds = 86_400

const worker = new Principal({ kind: "agent", id: "demo-worker" })
const reader = new Principal({ kind: "user", id: "demo-reader" })

/**
 * Makes the demo project, its keys and a claim unless they are there, renews that one claim while the node runs, and
 * prints how to publish the first file.
 */
export const welcome = Effect.gen(function* () {
  const { bootstrapApiKeys, dataDir, publicUrl } = yield* Settings
  const projects = yield* ProjectStore
  let credentials = yield* loadOrMake(dataDir)
  const project = ProjectHandle.make(credentials.project)
  yield* projects.put(project, undefined)
  const workerKey = yield* keyFor(project, credentials.worker_key, worker, [
    "mobius.work.execute",
    "mobius.project.view",
    "mobius.project.edit",
  ])
  const readerKey = yield* keyFor(project, credentials.reader_key, reader, ["mobius.project.view"])
  credentials = { ...credentials, worker_key: workerKey, reader_key: readerKey }
  credentials = yield* holdClaim(project, credentials)
  yield* save(dataDir, credentials)
  const kept = bootstrapApiKeys.some((key) => Redacted.value(key) === credentials.admin_key)
  const adminKey = kept ? `admin_key in ${fileIn(dataDir)}` : "BOOTSTRAP_API_KEY"
  yield* Console.log(instructions(publicUrl, credentials, adminKey))
  const claims = yield* ClaimStore
  yield* claims
    .heartbeat({
      project,
      jobId: credentials.job_id,
      token: Redacted.make(credentials.lease_token ?? ""),
      principal: worker,
    })
    .pipe(Effect.ignoreLogged, Effect.schedule(Schedule.spaced("1 hour")), Effect.forkScoped)
})

const keyFor = Effect.fnUntraced(function* (
  project: ProjectHandle,
  existing: string | undefined,
  principal: Principal,
  permissions: ReadonlyArray<Permission>,
) {
  const keys = yield* Authenticator
  if (existing !== undefined) {
    const known = yield* Effect.either(keys.authenticate(Redacted.make(existing)))
    if (known._tag === "Right") return existing
  }
  const { key } = yield* keys.issue({ project, principal, permissions })
  return Redacted.value(key)
})

const holdClaim = Effect.fnUntraced(function* (project: ProjectHandle, credentials: DevCredentials) {
  const claims = yield* ClaimStore
  if (credentials.lease_token !== undefined) {
    const held = yield* Effect.either(
      claims.heartbeat({
        project,
        jobId: credentials.job_id,
        token: Redacted.make(credentials.lease_token),
        principal: worker,
      }),
    )
    if (held._tag === "Right") return credentials
  }
  const take = (attempt: number) =>
    Effect.map(
      claims.put(
        new Claim({
          project,
          jobId: credentials.job_id,
          attempt,
          runId: "run-1",
          stepId: "step-1",
          workerSessionId: "session-1",
          owner: worker,
          visibility: "shared",
        }),
        leaseSeconds,
      ),
      ({ token }): DevCredentials => ({ ...credentials, attempt, lease_token: Redacted.value(token) }),
    )
  return yield* take(credentials.attempt + 1).pipe(
    Effect.catchTag("ClaimSuperseded", (refusal) => take(refusal.highestAttempt + 1)),
  )
})

const instructions = (baseUrl: string, credentials: DevCredentials, adminKey: string) => `
The node is ready at ${baseUrl} (its API: ${baseUrl}/docs). Paste these, then publish the first file:

  export BASE_URL=${baseUrl} PROJECT=${credentials.project}
  export WORKER_KEY=${credentials.worker_key}
  export READER_KEY=${credentials.reader_key}
  export LEASE_TOKEN=${credentials.lease_token}

  curl -sS "$BASE_URL/v1/projects/$PROJECT/artifacts" -H "Authorization: Bearer $WORKER_KEY" -H "X-Mobius-Lease-Token: $LEASE_TOKEN" -F name=README.md -F mime=text/markdown -F file=@README.md
  curl -sS "$BASE_URL/v1/projects/$PROJECT/artifacts?run_id=run-1" -H "Authorization: Bearer $READER_KEY"
  curl -sS "$BASE_URL/v1/projects/$PROJECT/artifacts/$(curl -sS "$BASE_URL/v1/projects/$PROJECT/artifacts?limit=1" -H "Authorization: Bearer $READER_KEY" | grep -o 'art_[A-Za-z0-9]*' | head -n 1)/content" -H "Authorization: Bearer $READER_KEY"

The admin key is ${adminKey}: it opens /v1/admin and the claims.
`
