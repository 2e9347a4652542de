import { Agent } from "node:http"
import { Agent as SecureAgent } from "node:https"
import type { Duplex } from "node:stream"
import { releaseBytes } from "../../src/domain/Bytes.ts"

/**
 * Node's HTTP client copies a body out of each read of its socket and leaves the read to the collector, which marks the
 * whole heap for every 64 MiB of them: with large bodies many times a second. It is given back instead, once every
 * listener has seen it.
 */
const releasing = <S extends Duplex | null | undefined>(socket: S): S => {
  socket?.on("data", (read: Buffer) => queueMicrotask(() => releaseBytes(read)))
  return socket
}

/** `http.Agent`, for clients that take large bodies. */
export class ReleasingAgent extends Agent {
  override createConnection(...args: Parameters<Agent["createConnection"]>) {
    return releasing(super.createConnection(...args))
  }
}

/** `https.Agent`, likewise. */
export class ReleasingSecureAgent extends SecureAgent {
  override createConnection(...args: Parameters<SecureAgent["createConnection"]>) {
    return releasing(super.createConnection(...args))
  }
}
