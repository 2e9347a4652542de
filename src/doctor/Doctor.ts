import { Console, Effect } from "effect"
import type { Audit } from "../../services/Audit.ts"
import type { BlobStore } from "../../services/BlobStore.ts"
import type { ContentHasher } from "../../services/ContentHasher.ts"
import { EventBus } from "../../services/EventBus.ts"
import type { MetadataStore } from "../../services/MetadataStore.ts"
import { Outbox } from "../../services/Outbox.ts"
import type { ProjectStore } from "../../services/ProjectStore.ts"
import type { QuotaCounters } from "../../services/QuotaCounters.ts"
import type { RemovalQueue } from "../../services/RemovalQueue.ts"
import { StoreGuard } from "../../services/StoreGuard.ts"
import type { DependencyUnavailable } from "../../services/Unavailable.ts"
import { acceptRestore } from "../actors/Watermark.ts"
import { describeFailure } from "../Failure.ts"
import { placeStoreId } from "../Startup.ts"
import { eventsArrive, eventsStandOnce } from "./Events.ts"
import { objectsHaveRows, rowsHaveObjects } from "./Objects.ts"
import type { Task } from "./Options.ts"
import { type Check, exitCodes, type Findings, jsonWriter, report, tableWriter } from "./Report.ts"
import { isItsStore, NotItsStore, storeIsTrusted } from "./Store.ts"
import { countersAgree, usageIsSum } from "./Usage.ts"

const print = (line: string) => Console.log(line)

type Checked =
  | Audit
  | BlobStore
  | ContentHasher
  | EventBus
  | Findings
  | MetadataStore
  | Outbox
  | ProjectStore
  | QuotaCounters
  | RemovalQueue
  | StoreGuard

/** All checks, in this order: usage before counters, which are rebuilt from it. */
const check = Effect.fnUntraced(function* (task: Extract<Task, { readonly _tag: "Check" }>) {
  yield* isItsStore
  const checks: ReadonlyArray<Check<DependencyUnavailable, Checked>> = [
    { name: "store", run: storeIsTrusted },
    { name: "rows", run: rowsHaveObjects(task.scrubBytesPerSecond) },
    { name: "objects", run: objectsHaveRows },
    { name: "usage", run: usageIsSum(task.repair) },
    { name: "counters", run: countersAgree(task.repair) },
    { name: "outbox", run: eventsArrive },
    { name: "stream", run: eventsStandOnce },
  ]
  const writer = task.json ? jsonWriter(print) : tableWriter(print)
  return exitCodes[yield* report(checks, writer, describeFailure)]
})

/** Not before the relay has settled a stream that is ahead: it would hold removals once more. */
const accept = Effect.gen(function* () {
  yield* isItsStore
  const top = yield* (yield* EventBus).top
  const { lastSequence } = yield* (yield* Outbox).state
  if (top > lastSequence)
    return yield* new NotItsStore({
      message:
        "The event stream is ahead of the database: start a node, wait until its relay has settled that, then repeat this.",
    })
  const hold = yield* (yield* StoreGuard).hold
  yield* acceptRestore
  yield* print(
    hold === undefined
      ? "Nothing was held. The store has a fresh mark of this database."
      : "Accepted. Objects that the database does not know are removed again, each after two new looks.",
  )
  return 0
})

const place = Effect.gen(function* () {
  const { id } = yield* (yield* StoreGuard).identity
  yield* placeStoreId(id)
  yield* print("The blob store carries this database's store id.")
  return 0
})

/** Does what was asked for; returns the exit code. */
export const doctor = Effect.fnUntraced(function* (task: Exclude<Task, { readonly _tag: "Help" }>) {
  switch (task._tag) {
    case "Check":
      return yield* check(task)
    case "AcceptRestore":
      return yield* accept
    case "PlaceStoreId":
      return yield* place
  }
})
