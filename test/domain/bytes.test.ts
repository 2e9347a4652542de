import { describe, expect, it } from "vitest"
import * as fc from "fast-check"
import { gathering } from "../../src/domain/Bytes.ts"

describe("bytes that come in pieces", () => {
  it("are put together in memory of at most twice their size", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 100 })), (pieces) => {
        const gathered = gathering()
        for (const piece of pieces) gathered.add(piece)
        const whole = Buffer.concat(pieces)
        expect(gathered.size()).toBe(whole.length)
        expect(gathered.bytes().equals(whole)).toBe(true)
        expect(gathered.bytes().buffer.byteLength).toBeLessThanOrEqual(2 * whole.length)
      }),
    )
  })
})
