import * as SqlClient from "@effect/sql/SqlClient"
import * as SqlError from "@effect/sql/SqlError"
import { Clock, DateTime, Effect } from "effect"
import { Unauthorized } from "../../services/Authenticator.ts"
import { type CommitRequest, UploadFenced, UploadSuperseded } from "../../services/MetadataStore.ts"
import { Artifact, chargeOf } from "../../src/domain/Artifact.ts"
import type { ExternalId } from "../../src/domain/Ids.ts"
import { Principal } from "../../src/domain/Principal.ts"
import { QuotaExceeded } from "../../src/domain/Quota.ts"
import { leaseLost } from "../ClaimStore/claims.ts"
import { batched } from "../clients/batched.ts"
import { sqlState, unavailable } from "../clients/sqlErrors.ts"
import { type Books, made, toUsage } from "./rows.ts"
import { traced } from "../../src/telemetry/Spans.ts"

/** What the SQL function commit_artifacts says of one request, `n`. */
type Decided = { readonly n: number } & (
  | ({
      readonly outcome: "committed"
      readonly created_at: string
      readonly created_by_kind: Principal["kind"]
      readonly created_by_id: ExternalId
    } & typeof Books.Type)
  | ({ readonly outcome: "quota"; readonly reserved: number } & typeof Books.Type)
  | { readonly outcome: "superseded" | "fenced" | "lease_lost" | "unauthorized" }
)
/** Rows of it were locked: the project's, or its upload, claim or key. Nothing was decided. */
interface Undecided {
  readonly n: number
  readonly outcome: "busy" | "locked"
}
type Answer = Decided | Undecided

const isDecided = (answer: Answer): answer is Decided => answer.outcome !== "busy" && answer.outcome !== "locked"

const artifactOf = (request: CommitRequest, createdBy: Principal, createdAt: DateTime.Utc): Artifact => {
  const { id, lineage, metadata, mime, name, owner, project, sha256, size, visibility } = request
  return new Artifact(
    {
      id,
      project,
      name,
      mime,
      size,
      sha256,
      visibility,
      owner,
      createdBy,
      ...(lineage && { lineage }),
      metadata,
      createdAt,
    },
    made,
  )
}

/** One request as `artifact_commit`; `now` is the time by which the age of an introspected proof is told. */
const rowOf = (request: CommitRequest, n: number, now: number) => {
  const { lease, lineage, owner } = request
  return {
    n,
    id: request.id,
    project: request.project,
    name: request.name,
    mime: request.mime,
    size: request.size,
    sha256: request.sha256,
    metadata: JSON.stringify(request.metadata),
    visibility: request.visibility,
    owner_kind: owner.kind,
    owner_id: owner.id,
    run_id: lineage?.runId,
    step_id: lineage?.stepId,
    job_id: lineage?.jobId,
    worker_session_id: lineage?.workerSessionId,
    attempt: lineage?.attempt,
    key_id: request.keyId,
    event_id: request.eventId,
    proof: lease === undefined ? "none" : lease._tag === "ClaimRow" ? "claim" : "introspected",
    token_hash: lease === undefined ? undefined : Buffer.from(lease.tokenHash).toString("hex"),
    proof_age_ms: lease?._tag === "Introspected" ? now - lease.askedAtMillis : undefined,
  }
}

/** SQLSTATE `lock_not_available`: the function waited for the project's row as long as it may. */
const isLockTimeout = (error: SqlError.SqlError): boolean => sqlState(error) === "55P03"

/**
 * How long a commit is asked again while rows it needs are locked: longer than the server lets a transaction idle that
 * a paused process left open (10 s). Milliseconds.
 */
const lockedMillis = 15_000
/** The pause before a commit whose row, claim or key was locked is asked again, doubled each time. Milliseconds. */
const firstPause = 5
const longestPause = 100

/** Faults of the server, not of one of the requests: asking again at once, each alone, would help none of them. */
const isOfTheServer = (error: SqlError.SqlError): boolean => /^(?:08|53|57|58)/.test(sqlState(error) ?? "08")

/** `MetadataStore.commit`: many at a time under load, each with an outcome of its own. */
export const makeCommit = (defaultQuotaBytes: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient

    const statement = (requests: ReadonlyArray<CommitRequest>, wait: boolean) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const rows = requests.map((request, index) => rowOf(request, index + 1, now))
        return sql<{ readonly result: ReadonlyArray<Answer> }>`
          select commit_artifacts(${JSON.stringify(rows)}::text::jsonb, ${defaultQuotaBytes}::bigint,
            ${wait}::boolean) as result`
      })

    /**
     * The age of an introspected proof is taken with the connection in hand, for waiting for one makes it older. The
     * statement is a transaction of its own: a process that is paused after it was sent leaves no lock behind.
     */
    const withConnection = <A>(effect: Effect.Effect<A, SqlError.SqlError>) =>
      Effect.scoped(
        Effect.flatMap(sql.reserve, (connection) =>
          Effect.provideService(effect, SqlClient.TransactionConnection, [connection, 0]),
        ),
      )
    const runStatement = (requests: ReadonlyArray<CommitRequest>, wait: boolean) =>
      requests.some(({ lease }) => lease?._tag === "Introspected")
        ? withConnection(statement(requests, wait))
        : statement(requests, wait)

    const commitAll = (requests: ReadonlyArray<CommitRequest>, wait: boolean) =>
      Effect.gen(function* () {
        const rows = yield* runStatement(requests, wait)
        const byNumber = new Map(rows[0]?.result.map((answer) => [answer.n, answer]))
        return requests.map((_, index): Effect.Effect<Answer, SqlError.SqlError> => {
          const answer = byNumber.get(index + 1)
          return answer === undefined ? Effect.dieMessage("a commit was not answered") : Effect.succeed(answer)
        })
      }).pipe(
        Effect.catchIf(isLockTimeout, () =>
          Effect.succeed(requests.map((_, index) => Effect.succeed<Answer>({ n: index + 1, outcome: "busy" }))),
        ),
      )

    type Commits = Effect.Effect<ReadonlyArray<Effect.Effect<Answer, SqlError.SqlError>>, SqlError.SqlError>
    const alone = (request: CommitRequest) =>
      Effect.flatMap(commitAll([request], true), ([answer]) => answer ?? Effect.dieMessage("a commit was not answered"))
    /** What one of them made the database refuse as a whole is tried again one by one: a commit may be repeated. */
    const orAlone = (requests: ReadonlyArray<CommitRequest>, commits: Commits): Commits =>
      Effect.catchIf(
        commits,
        (error) => requests.length > 1 && !isOfTheServer(error),
        () => Effect.succeed(requests.map(alone)),
      )

    const groupOf = ({ project }: CommitRequest) => project
    /**
     * For projects whose row another pod holds: each waits in that project's queue. A turn is short, then the project
     * goes to the end of the line, so that a few rows that are held for long do not keep all lanes.
     */
    const inQueue = yield* batched<CommitRequest, Answer, SqlError.SqlError>({
      lanes: 4,
      most: 64,
      groupOf,
      oneGroup: true,
      run: (requests) => orAlone(requests, commitAll(requests, true)),
    })
    const atOnce = yield* batched<CommitRequest, Answer, SqlError.SqlError>({
      lanes: 1,
      most: 64,
      run: (requests) => orAlone(requests, commitAll(requests, false)),
    })

    /** Asks until the commit was decided: at once for a locked row of its own, in its project's queue for the project's. */
    const decide = (request: CommitRequest): Effect.Effect<Decided, SqlError.SqlError> =>
      Effect.gen(function* () {
        const until = (yield* Clock.currentTimeMillis) + lockedMillis
        let pause = firstPause
        let answer = yield* atOnce(request)
        while (!isDecided(answer)) {
          if ((yield* Clock.currentTimeMillis) > until)
            return yield* new SqlError.SqlError({ cause: new Error(`rows of the commit stayed ${answer.outcome}`) })
          if (answer.outcome === "busy") answer = yield* inQueue(request)
          else {
            yield* Effect.sleep(pause)
            pause = Math.min(longestPause, pause * 2)
            answer = yield* atOnce(request)
          }
        }
        return answer
      })

    return traced("MetadataStore.commit")(
      function* (request: CommitRequest) {
        const answer = yield* decide(request)
        switch (answer.outcome) {
          case "committed": {
            const createdBy = new Principal({ kind: answer.created_by_kind, id: answer.created_by_id }, made)
            return {
              artifact: artifactOf(request, createdBy, DateTime.unsafeMake(answer.created_at)),
              usage: toUsage(answer),
            }
          }
          case "superseded":
            return yield* new UploadSuperseded({ id: request.id })
          case "fenced":
            return yield* new UploadFenced({ id: request.id })
          case "lease_lost":
            return yield* Effect.provideService(leaseLost(request), SqlClient.SqlClient, sql)
          case "unauthorized":
            return yield* new Unauthorized()
          case "quota":
            return yield* new QuotaExceeded({
              limitBytes: answer.limit,
              usedBytes: answer.used,
              reservedBytes: answer.reserved,
              requestedBytes: chargeOf(request),
            })
        }
      },
      Effect.catchTag("SqlError", unavailable("MetadataStore.commit")),
    )
  })
