import { afterEach, beforeAll, expect } from "vitest"
import { Scene } from "./scene.ts"
import { head, RawSocket } from "./socket.ts"
import { expectStatus, send, until } from "./wire.ts"
import type { Answer } from "./wire.ts"

export const type = "multipart/form-data; boundary=b"

export const part = (name: string, value: string, headers = "") =>
  `--b\r\nContent-Disposition: form-data; name="${name}"\r\n${headers}\r\n${value}\r\n`
export const file = (value: string, headers = "") =>
  `--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n${headers}\r\n${value}\r\n`
export const end = "--b--\r\n"
export const good = part("name", "hostile.bin") + file("content") + end

/**
 * A project of the calling file, and bytes written to the node as they are. After each test the node must be alive and
 * nothing stored, charged or under way in that project.
 */
export class HostileUploads {
  scene!: Scene
  readonly #sockets: Array<RawSocket> = []

  constructor() {
    beforeAll(async () => {
      this.scene = await Scene.open()
    })
    afterEach(async () => {
      for (const socket of this.#sockets.splice(0)) socket.close()
      expectStatus(await send("/healthz"), 200)
      await this.scene.expectUntouched()
      const pending = await until(
        () => this.scene.quota(),
        ({ pending_count }) => pending_count === 0,
      )
      expect(pending).toMatchObject({ used_bytes: 0, artifact_count: 0 })
    })
  }

  async connect(): Promise<RawSocket> {
    const socket = await RawSocket.open()
    this.#sockets.push(socket)
    return socket
  }

  head(headers: Record<string, string>, path = this.scene.path): string {
    return head(path, { ...this.scene.headers(), ...headers })
  }

  /** What is answered to these bytes and nothing after them. */
  async answerTo(bytes: string | Uint8Array, millis?: number): Promise<Answer> {
    const socket = await this.connect()
    socket.write(bytes)
    return socket.answer(millis)
  }

  /** What is answered to a body that has the length it says. */
  post(body: string, headers: Record<string, string> = {}): Promise<Answer> {
    const bytes = Buffer.from(body, "latin1")
    const lengths = { "Content-Type": type, "Content-Length": String(bytes.length) }
    return this.answerTo(Buffer.concat([Buffer.from(this.head({ ...lengths, ...headers })), bytes]))
  }
}
