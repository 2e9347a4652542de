import { type ProductNode, startNode } from "../../support/node.ts"
import { sleep } from "../../support/processes.ts"

/** One place in a cluster, with ports of its own, in which one process after another runs. */
export interface Pod {
  readonly name: string
  readonly port: number
  /** Of this pod alone, past the balancer. */
  readonly baseUrl: string
  /** Of its process, if one runs. */
  pid(): number | undefined
  serves(): boolean
  /** Whether its process ended by itself. */
  crashed(): boolean
  /** Until it serves. A process that ends before, because something it needs is away, is followed by the next. `source`: the folder of the release to run, default the last one's. */
  start(source?: string): Promise<void>
  kill9(): Promise<void>
  /** SIGTERM, and the exit code it came to. */
  stop(): Promise<number | null>
  pause(): void
  resume(): void
  /** The last words of all its processes. */
  logs(): string
}

const keptCharacters = 40_000

export const makePod = (options: {
  readonly name: string
  readonly port: number
  readonly env: Readonly<Record<string, string>>
}): Pod => {
  let node: ProductNode | undefined
  let serving = false
  let earlier = ""
  let release: string | undefined
  const remember = (words: string) => {
    earlier = (earlier + words).slice(-keptCharacters)
  }
  const current = (): ProductNode => {
    if (node === undefined) throw new Error(`${options.name} does not run`)
    return node
  }
  const over = (how: string) => {
    remember(`${current().logs().slice(-keptCharacters)}\n-- ${options.name} ${how}\n`)
    serving = false
    node = undefined
  }
  const env = { ...options.env, PORT: String(options.port) }

  return {
    name: options.name,
    port: options.port,
    baseUrl: `http://127.0.0.1:${options.port}`,
    pid: () => node?.pid,
    serves: () => serving,
    crashed: () => node !== undefined && (node.child.exitCode !== null || node.child.signalCode !== null),
    start: async (source) => {
      release = source ?? release
      const until = Date.now() + 90_000
      for (;;) {
        try {
          node = await startNode({ env, source: release, readyWithinMs: 150_000 })
          serving = true
          return
        } catch (error) {
          remember(`-- ${options.name} did not start: ${String(error)}\n`)
          if (Date.now() > until) throw error
          await sleep(500)
        }
      }
    },
    kill9: async () => {
      const dying = current()
      serving = false
      await dying.kill9()
      over("was killed")
    },
    stop: async () => {
      const stopping = current()
      serving = false
      await stopping.stop()
      const { exitCode } = stopping.child
      over(`ended with ${exitCode}`)
      return exitCode
    },
    pause: () => {
      serving = false
      current().pause()
    },
    resume: () => {
      current().resume()
      serving = true
    },
    logs: () => (earlier + (node?.logs() ?? "")).slice(-keptCharacters),
  }
}
