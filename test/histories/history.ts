import { setTimeout as sleep } from "node:timers/promises"
import { settle } from "../faults/audit.ts"
import type { Target } from "../faults/clients.ts"
import type { Insides, Look } from "../faults/insides.ts"
import { Chronicle, type Fact, makeModel, type Model } from "../faults/model.ts"
import { makeTenant } from "../faults/plane.ts"
import { makeRandom } from "../faults/random.ts"
import { takeClaim } from "../faults/clients.ts"
import { factOf, readEvents } from "./events.ts"
import { checkLimits, checkRights } from "./judge.ts"
import { type ClientPlan, type Fault, type Plan, showStep } from "./plan.ts"
import { take } from "./steps.ts"
import { issueKey, type Worker, type World } from "./worker.ts"

/** A running plane that histories happen to. */
export interface Stack {
  readonly adminKey: string
  /** Base URLs of pods that are one plane. */
  readonly pods: ReadonlyArray<string>
  readonly insides: Insides
  /** Does what the plan says, and returns once it is over and all pods serve again. */
  wreak(fault: Fault): Promise<void>
  /** Names of pods whose processes ended by themselves. */
  crashed(): ReadonlyArray<string>
  /** Makes what was left behind by faults agree sooner than by its timeouts. */
  hasten(): Promise<void>
  /** The last words of its processes. */
  logs(): string
  dispose(): Promise<void>
}

export interface Report {
  /** Sentences about what did not hold; empty when all did. */
  readonly faults: ReadonlyArray<string>
  readonly summary: string
}

/** How long the clients and faults of one history may take, and how long until all of it agrees. Milliseconds. */
const endsWithin = 180_000
const settlesWithin = 90_000
/** Limits above this refuse nothing that a history publishes. Bytes. */
const roomy = 500_000_000

const makeWorld = async ({ adminKey, pods }: Stack): Promise<World> => ({
  model: makeModel(await makeTenant(pods[0] ?? "", adminKey, { name: "history" })),
  limits: [],
  rights: new Map(),
})

/** All that a worker saw of its project's events is all that it may see, each once, in order. */
const checkSeen = async (worker: Worker, look: Look, say: (holds: boolean, sentence: string) => void) => {
  const { claim, edit, events, model } = worker
  const expected = look.entries
    .filter(({ payload: { meta } }) => meta.project === model.tenant.project)
    .filter(({ payload: { meta } }) => edit || meta.visibility === "shared" || meta.owner.id === claim.owner)
    .map(factOf)
  const enough = () => events.seen.length >= expected.length
  for (const until = Date.now() + 20_000; !enough() && Date.now() < until;) await readEvents(worker, 5000, enough)
  say(
    events.seen.join() === expected.join(),
    `${claim.owner} read ${events.seen.length} events where it may see ${expected.length}: ${events.seen.join(", ")} for ${expected.join(", ")}`,
  )
}

/** Lets a plan happen, and judges it by what clients were told and by what is there in the end. */
export const runHistory = async (stack: Stack, plan: Plan): Promise<Report> => {
  const began = Date.now()
  const chronicle = new Chronicle()
  const worlds = await Promise.all([makeWorld(stack), makeWorld(stack)])
  const workers: Array<Worker> = []
  let stopped = false
  let steps = 0
  /** What goes on, and since when. */
  const doings = new Map<string, number>()
  const busy = async (what: string, doing: Promise<void>) => {
    doings.set(what, Date.now())
    await doing.finally(() => doings.delete(what))
  }

  const work = async (client: ClientPlan, index: number) => {
    const world = worlds[client.project]
    if (world === undefined) return
    let requests = client.pod
    const target = (): Target => ({
      baseUrl: stack.pods[requests++ % stack.pods.length] ?? "",
      adminKey: stack.adminKey,
    })
    const owner = `agent-${index}`
    const claim = {
      jobId: `job-of-${index}`,
      runId: `run-${index % 2}`,
      stepId: `step-${index}`,
      session: "session-1",
      attempt: 1,
      owner,
      visibility: client.visibility,
    }
    const worker: Worker = {
      target,
      index,
      world,
      chronicle,
      random: makeRandom(index),
      stopped: () => stopped,
      tight: () => world.limits.some(({ bytes }) => bytes < roomy),
      edit: client.edit,
      model: world.model,
      keyId: "",
      right: { claim: {}, key: {} },
      uploads: 0,
      events: { after: 0, seen: [] },
      claim,
      token: "",
      last: undefined,
    }
    if (!(await issueKey(worker))) return
    await takeClaim(worker, claim)
    workers.push(worker)
    for (const step of client.steps) {
      if (stopped) return
      await busy(`client ${index}: ${showStep(step)}`, take(worker, step))
      steps++
    }
  }
  let working = true
  const wreaking = async () => {
    for (const fault of plan.faults.toSorted((a, b) => a.after - b.after)) {
      while (steps < fault.after && working) await sleep(2)
      if (working) await busy(`${fault.what} of pod ${fault.pod}`, stack.wreak(fault))
    }
  }
  const all = Promise.all([
    Promise.all(plan.clients.map(work)).finally(() => {
      working = false
    }),
    wreaking(),
  ])
  all.catch(() => {})
  const ended = new AbortController()
  const inTime = await Promise.race([
    all.then(() => true),
    sleep(endsWithin, false, { signal: ended.signal }).catch(() => false),
  ])
  ended.abort()
  stopped = true
  for (const pod of stack.crashed()) chronicle.fault(`the process of ${pod} ended by itself`)
  if (!inTime) {
    const open = [...doings].map(([what, since]) => `${what}, for ${Date.now() - since} ms`).join("; ")
    const heard = [...chronicle.errors].map(([what, times]) => `${what} (${times} times)`).join("; ")
    const late = `the history did not end within ${endsWithin} ms: ${open}. Heard before: ${heard}`
    return { faults: [...chronicle.faults, late], summary: "" }
  }
  // What is broken already may never settle.
  if (chronicle.faults.length > 0) return { faults: chronicle.faults, summary: "" }
  if (plan.hastened) await stack.hasten()

  const models = worlds.map(({ model }): Model => {
    const keys = new Map(workers.filter((one) => one.world.model === model).map((one) => [one.claim.owner, one.model]))
    return { ...model, keyOf: (owner) => keys.get(owner)?.tenant.key ?? model.tenant.key }
  })
  const target = { baseUrl: stack.pods[0] ?? "", adminKey: stack.adminKey }
  const found = await settle(target, stack.insides, models, settlesWithin)
  const faults = [...chronicle.faults, ...found.sentences]
  const say = (holds: boolean, sentence: string) => {
    if (!holds) faults.push(sentence)
  }
  for (const world of worlds) {
    const rows = found.look.rows.filter(({ project }) => project === world.model.tenant.project)
    checkRights(world, rows, say)
    checkLimits(world, rows, say)
  }
  for (const worker of workers) await checkSeen(worker, found.look, say)
  const facts = worlds.flatMap(({ model }): ReadonlyArray<Fact> => [...model.facts.values()])
  return {
    faults,
    summary:
      `${steps} steps, ${plan.faults.length} faults, ${facts.length} artifacts, ` +
      `${Date.now() - began} ms, of which ${found.settledAfterMs} until all agreed`,
  }
}
