/** What a step counts while it runs. `page`: a walk over many rows, so that one is a project's whole share. */
export const sizes = { step: 1, page: 8 } as const
export type Size = keyof typeof sizes

/**
 * Steps that read do not wait behind the same project's steps that write, which wait for locks and for the disk, nor a
 * heartbeat behind uploads.
 */
export type Lane = "read" | "write" | "upload"

/** What may run at once in all, in units of `sizes`: 64 steps are one full batch of the stores' group commit. */
const mostInAll = 64
/**
 * What one lane of a project may run at once while another project is active, in the same units. Uploads have less,
 * because each waits for the disk more than once, and the syncs of all projects queue there.
 */
const shares = { read: 8, write: 8, upload: 4 } satisfies Record<Lane, number>
/** How long a project counts as active after its last step, in milliseconds. */
const activeMillis = 10_000
/**
 * A step that runs for longer does not count any more, in milliseconds. It waits for something that is no work of this
 * node: a lock, a dependency, the bytes of a slow client.
 */
const countedMillis = 100
/** The share of the time that a project's pages may take while another project is active. */
const pageShare = 0.5

/** The steps of one lane of a project. */
interface Line {
  readonly key: string
  readonly share: number
  /** Sizes of its running steps that count, together. */
  running: number
  /** Steps that run and count. */
  steps: number
  readonly waiting: Array<Turn>
  /** When the next one may begin, in milliseconds of the queue's clock. */
  notBefore: number
  /** The line's finish tag: how much it was served, in the queue's virtual time. */
  served: number
}

/** One step's way through the queue. */
export interface Turn {
  readonly line: Line
  readonly size: number
  state: "waiting" | "running" | "ended"
  /** When it began to run, in milliseconds of the queue's clock. */
  since: number
  /** Called when it may run, unless it may from the beginning. */
  readonly admit: () => void
}

/**
 * Lets the steps of all projects run, a bounded number at once, and when some must wait, fairly by project:
 * - a line that runs nothing is let in at once: nobody waits for another project's backlog;
 * - while another project is active, a line that has pages waiting rests after each for as long as it took;
 * - a line runs at most its share while another project is active, and all together at most `mostInAll`;
 * - within a line first come is first served; between lines the one that was served least by size comes next
 *   (start-time fair queueing: Goyal, Vin and Cheng, 1996).
 * A step never waits for a second one of its own request: it takes one turn at a time.
 */
export class TurnQueue {
  /** Lines that have something running or waiting. */
  readonly #lines = new Map<string, Line>()
  /** Those of them that wait, in the order in which they began to. */
  readonly #waiting = new Set<Line>()
  readonly #running = new Set<Turn>()
  readonly #now: () => number
  #total = 0
  #virtual = 0
  /** The project that had a step last, and the last time that another one had. */
  #latest = { project: "", at: Number.NEGATIVE_INFINITY }
  #othersAt = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Steps that wait. */
  get waiting(): number {
    let sum = 0
    for (const line of this.#waiting) sum += line.waiting.length
    return sum
  }

  /** Takes a turn: it runs already, or `admit` is called when it may. It must be given to `end` in either case, once. */
  enter(project: string, lane: Lane, size: Size, admit: () => void): Turn {
    const now = this.#now()
    this.#saw(project, now)
    const key = `${project}/${lane}`
    let line = this.#lines.get(key)
    if (line === undefined)
      this.#lines.set(
        key,
        (line = { key, share: shares[lane], running: 0, steps: 0, waiting: [], notBefore: 0, served: 0 }),
      )
    const turn: Turn = { line, size: sizes[size], state: "waiting", since: now, admit }
    if (line.waiting.length === 0 && this.#mayRun(line, turn, now)) {
      this.#start(turn, now)
      return turn
    }
    line.waiting.push(turn)
    this.#waiting.add(line)
    this.#timer ??= setInterval(() => this.#passOver(), countedMillis / 4).unref()
    return turn
  }

  /** The step is over, or whoever waited for it has left. */
  end(turn: Turn): void {
    if (turn.state === "waiting") {
      const { line } = turn
      line.waiting.splice(line.waiting.indexOf(turn), 1)
      this.#settle(line)
    } else if (turn.state === "running") this.#release(turn)
    turn.state = "ended"
    if (this.#waiting.size > 0) this.#admitWaiting(this.#now())
  }

  #saw(project: string, now: number): void {
    if (this.#latest.project !== project) this.#othersAt = this.#latest.at
    this.#latest = { project, at: now }
  }

  /** Whether a project other than that of the line is active. */
  #contended(line: Line, now: number): boolean {
    const othersAt = line.key.startsWith(`${this.#latest.project}/`) ? this.#othersAt : this.#latest.at
    return now - othersAt < activeMillis
  }

  #mayRun(line: Line, turn: Turn, now: number): boolean {
    if (now < line.notBefore && this.#contended(line, now)) return false
    if (line.steps === 0) return true
    return (
      this.#total + turn.size <= mostInAll && (line.running + turn.size <= line.share || !this.#contended(line, now))
    )
  }

  #start(turn: Turn, now: number): void {
    const { line, size } = turn
    turn.state = "running"
    turn.since = now
    this.#running.add(turn)
    this.#total += size
    line.running += size
    line.steps++
    this.#virtual = Math.max(this.#virtual, line.served)
    line.served = this.#virtual + size
  }

  #release(turn: Turn): void {
    if (!this.#running.delete(turn)) return
    const { line, size } = turn
    this.#total -= size
    line.running -= size
    line.steps--
    if (size === sizes.page) this.#rest(turn)
    this.#settle(line)
  }

  /** The line's next page, if one waits already, leaves others the time that is theirs. */
  #rest({ line, since }: Turn): void {
    const now = this.#now()
    const restMillis = ((now - since) * (1 - pageShare)) / pageShare
    if (line.waiting.length === 0 || !this.#contended(line, now)) return
    line.notBefore = now + restMillis
    setTimeout(() => this.#admitWaiting(this.#now()), Math.ceil(restMillis)).unref()
  }

  /** Forgets a line that has nothing left. */
  #settle(line: Line): void {
    if (line.waiting.length > 0) return
    this.#waiting.delete(line)
    if (line.steps === 0) this.#lines.delete(line.key)
    if (this.#waiting.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #admitWaiting(now: number): void {
    for (;;) {
      let next: Line | undefined
      for (const line of this.#waiting) {
        const first = line.waiting[0]
        if (first === undefined || !this.#mayRun(line, first, now)) continue
        if (next === undefined || line.served < next.served) next = line
      }
      const turn = next?.waiting.shift()
      if (next === undefined || turn === undefined) return
      this.#start(turn, now)
      this.#settle(next)
      turn.admit()
    }
  }

  /** While somebody waits: steps that have run for long count no more. */
  #passOver(): void {
    const now = this.#now()
    for (const turn of this.#running) {
      if (now - turn.since < countedMillis) break
      this.#release(turn)
    }
    this.#admitWaiting(now)
  }
}
