import { expect, layer } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { createHash, randomBytes } from "node:crypto"
import { ContentHasher } from "../../services/ContentHasher.ts"

/** The contract of services/ContentHasher, a test a sentence. */
export const contentHasherSuite = (name: string, subject: Layer.Layer<ContentHasher, unknown>) =>
  layer(subject)(`ContentHasher: ${name}`, (it) => {
    it.effect("no bytes have the digest of nothing and the size 0", () =>
      Effect.gen(function* () {
        const running = (yield* ContentHasher).start()
        expect(running.size()).toBe(0)
        expect(running.digest()).toEqual({
          sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
          size: 0,
        })
      }),
    )
    it.effect("the digest does not depend on how the bytes are cut", () =>
      Effect.gen(function* () {
        const hasher = yield* ContentHasher
        const bytes = randomBytes(100_000)
        const expected = createHash("sha256").update(bytes).digest("hex")
        for (const step of [1_000, 65_536, 100_000]) {
          const running = hasher.start()
          for (let at = 0; at < bytes.length; at += step) running.update(bytes.subarray(at, at + step))
          expect(running.size()).toBe(100_000)
          expect(running.digest()).toEqual({ sha256: expected, size: 100_000 })
        }
      }),
    )
    it.effect("a chunk is not kept: changing it afterwards changes nothing", () =>
      Effect.gen(function* () {
        const running = (yield* ContentHasher).start()
        const chunk = new Uint8Array([97, 98, 99])
        running.update(chunk)
        chunk.fill(0)
        expect(running.digest().sha256).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
      }),
    )
    it.effect("hashes that run at once do not mix", () =>
      Effect.gen(function* () {
        const hasher = yield* ContentHasher
        const a = hasher.start()
        const b = hasher.start()
        a.update(new Uint8Array([1]))
        b.update(new Uint8Array([2]))
        expect([a.size(), b.size()]).toEqual([1, 1])
        expect(a.digest().sha256).not.toBe(b.digest().sha256)
      }),
    )
  })
