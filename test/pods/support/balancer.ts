import { BackendMissing } from "../../support/backends.ts"
import { inPath } from "../../support/processes.ts"
import { startHAProxy } from "./haproxy.ts"
import { startNginx } from "./nginx.ts"
import { startRoundRobin } from "./roundRobin.ts"

/**
 * Spreads requests over the pods on these loopback ports. A request goes to another pod only if its first pod refused
 * the connection, so that no byte of it was seen; bodies and answers stream through.
 */
export interface Balancer {
  readonly baseUrl: string
  /** Which program it is, for people. */
  readonly description: string
  logs(): string
  dispose(): Promise<void>
}

export const balancerKinds = ["haproxy", "nginx", "own"] as const
export type BalancerKind = (typeof balancerKinds)[number]

const starters: Record<BalancerKind, (ports: ReadonlyArray<number>) => Promise<Balancer>> = {
  haproxy: startHAProxy,
  nginx: startNginx,
  own: startRoundRobin,
}

/** The kind asked for; else HAProxy from PATH or Debian, else nginx from PATH, else the tests' own. */
export const startBalancer = async (ports: ReadonlyArray<number>, kind?: BalancerKind): Promise<Balancer> => {
  if (kind !== undefined) return starters[kind](ports)
  try {
    return await startHAProxy(ports)
  } catch (error) {
    if (!(error instanceof BackendMissing)) throw error
    return inPath("nginx") ? startNginx(ports) : startRoundRobin(ports)
  }
}
