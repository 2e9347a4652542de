import { readFile, readlink } from "node:fs/promises"
import type { Socket } from "node:net"

/** What Node keeps of a socket for itself, as its own socket timeout looks at it. */
interface Handle {
  readonly fd?: number
  /** Bytes of the write under way that the system has not taken. */
  readonly writeQueueSize?: number
}

const handleOf = (socket: Socket): Handle => (socket as Socket & { readonly _handle?: Handle | null })._handle ?? {}

/** How much of the write under way waits in this process; falls while the system takes it. */
export const waitingBytes = (socket: Socket): number => handleOf(socket).writeQueueSize ?? 0

const inodeOf = async (socket: Socket): Promise<string | undefined> => {
  const { fd } = handleOf(socket)
  if (fd === undefined || fd < 0) return undefined
  const link = await readlink(`/proc/self/fd/${fd}`).catch(() => "")
  return /^socket:\[(\d+)\]$/.exec(link)?.[1]
}

/** Bytes sent and not acknowledged, by the socket's inode: `tx_queue` of proc_net_tcp(5). Empty where there is no such file. */
const queuesOf = async (file: string): Promise<ReadonlyArray<readonly [inode: string, bytes: number]>> => {
  const text = await readFile(file, "latin1").catch(() => "")
  return text
    .split("\n")
    .slice(1)
    .flatMap((line) => {
      const [, , , , queues, , , , , inode] = line.trim().split(/\s+/)
      return inode === undefined ? [] : [[inode, Number.parseInt(queues ?? "", 16)] as const]
    })
}

/**
 * How many bytes the system holds for each of these sockets because their clients have not taken them. It takes megabytes
 * at once and asks for more only when a third of them is gone: within, this alone tells a slow client from one that reads
 * no more. Says nothing of a socket where the system tells nothing (it is no Linux).
 */
export const heldBySystem = async (sockets: ReadonlyArray<Socket>): Promise<ReadonlyMap<Socket, number>> => {
  const inodes = await Promise.all(sockets.map(inodeOf))
  const queues = new Map((await Promise.all([queuesOf("/proc/net/tcp"), queuesOf("/proc/net/tcp6")])).flat())
  const held = new Map<Socket, number>()
  for (const [at, socket] of sockets.entries()) {
    const bytes = queues.get(inodes[at] ?? "")
    if (bytes !== undefined) held.set(socket, bytes)
  }
  return held
}
