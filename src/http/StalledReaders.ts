import type { Server, ServerResponse } from "node:http"
import type { Socket } from "node:net"
import { heldBySystem, waitingBytes } from "./SendQueues.ts"

/** How often a wait is looked at before it has lasted too long. */
const looks = 12
const longestPauseMillis = 5_000

/** A socket that has something to send and whose client does not take it. */
interface Wait {
  /** Bytes that the system has taken in writes that are done, and what waits of the one that is not. */
  readonly written: number
  readonly waiting: number
  /** What the system held at the last look; `undefined`: it tells nothing. */
  held: number | undefined
  /** Looks in a row that saw no progress. */
  still: number
}

/** The answer goes first, so that who writes it finds its client gone and nothing wrong. */
const cut = (socket: Socket): void => {
  const { _httpMessage: answer } = socket as Socket & { readonly _httpMessage?: ServerResponse | null }
  answer?.destroy()
  socket.destroy()
}

/**
 * Cuts off clients of a server that take nothing of what is sent to them for `idleSeconds`, whatever the answer is: JSON,
 * a download or an event stream. A slow client makes progress and stays; so does one to which there is nothing to send.
 * What a client sends meanwhile counts for nothing. Looks are counted and not time, so that a pause of this process is not
 * taken for one of its clients. Returns what ends it.
 */
export const cutStalledReaders = (server: Server, idleSeconds: number): (() => void) => {
  const pauseMillis = Math.min((idleSeconds * 1000) / looks, longestPauseMillis)
  const mostLooks = Math.ceil((idleSeconds * 1000) / pauseMillis)
  const sockets = new Set<Socket>()
  const waits = new Map<Socket, Wait>()
  server.on("connection", (socket: Socket) => {
    sockets.add(socket)
    socket.once("close", () => {
      sockets.delete(socket)
      waits.delete(socket)
    })
  })

  /** Whether a socket waits as it did at the last look, as far as this process can see. */
  const isStill = (socket: Socket): boolean => {
    const written = socket.bytesWritten - socket.writableLength
    const waiting = waitingBytes(socket)
    const wait = waits.get(socket)
    if (socket.writableLength > 0 && wait?.written === written && wait.waiting === waiting) return true
    if (socket.writableLength > 0) waits.set(socket, { written, waiting, held: undefined, still: 0 })
    else waits.delete(socket)
    return false
  }

  const look = async () => {
    const still = [...sockets].filter(isStill)
    if (still.length === 0) return
    const held = await heldBySystem(still)
    for (const socket of still.filter(isStill)) {
      const wait = waits.get(socket)
      if (wait === undefined) continue
      const now = held.get(socket)
      const taken = now !== undefined && wait.held !== undefined && now < wait.held
      wait.held = now
      wait.still = taken ? 0 : wait.still + 1
      if (wait.still >= mostLooks) cut(socket)
    }
  }

  let looking = false
  const timer = setInterval(() => {
    if (looking) return
    looking = true
    void look().finally(() => {
      looking = false
    })
  }, pauseMillis)
  return () => clearInterval(timer)
}
