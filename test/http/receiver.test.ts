import { describe, expect, it } from "vitest"
import * as fc from "fast-check"
import { createHash } from "node:crypto"
import { makeParser } from "../../src/http/upload/MultipartParser.ts"
import { end, filePart, head, part, post, raw, withReceiver } from "./receiving.ts"

describe("the receiver takes", () => {
  it("parts in any order, and leaves an untyped file untyped", () =>
    withReceiver(async (port, outcomes) => {
      expect(await post(port, filePart("hello") + part("name", "a.txt") + end)).toMatch(/^HTTP\/1.1 200/)
      expect(outcomes[0]?.fields.get("name")).toBe("a.txt")
      expect(outcomes[0]?.file).toMatchObject({ type: undefined, size: 5 })
      expect(await post(port, part("name", "b") + filePart("x", "Content-Type: text/csv\r\n") + end)).toMatch(/200/)
      expect(outcomes[1]?.file?.type).toBe("text/csv")
    }))

  it("a file without a filename, an empty file, an empty field and bytes like half a boundary", () =>
    withReceiver(async (port, outcomes) => {
      await post(port, part("file", "") + part("name", "") + end)
      expect(outcomes[0]?.file?.size).toBe(0)
      expect(outcomes[0]?.fields.get("name")).toBe("")
      await post(port, filePart("\r\n--\r\n--a\r\n\r\n-") + end)
      expect(outcomes[1]?.file?.size).toBe(14)
    }))

  it("one byte at a time, chunked, with every boundary cut", () =>
    withReceiver(async (port, outcomes) => {
      const body = part("name", "x") + filePart("line\r\n--not it\r\n") + end
      const answer = await raw(port, (socket) => {
        socket.setNoDelay(true)
        socket.write(head("chunked"))
        for (const byte of body) socket.write(`1\r\n${byte}\r\n`)
        socket.write("0\r\n\r\n")
      })
      expect(answer).toMatch(/^HTTP\/1.1 200/)
      expect(outcomes[0]?.file?.size).toBe(16)
    }))

  it("more than a slow sink can take at once, whole", () =>
    withReceiver(
      async (port, outcomes) => {
        const content = Buffer.alloc(3_000_000, "0123456789\r\n--")
        await post(port, Buffer.concat([Buffer.from(filePart("").slice(0, -2)), content, Buffer.from(`\r\n${end}`)]))
        expect(outcomes[0]?.error).toBeUndefined()
        // The memory of what was taken is given back at once, but for reads that hold the end of one chunk and the
        // beginning of another: their memory is nobody's alone.
        const large = outcomes[0]?.buffers ?? []
        expect(large.length).toBeGreaterThan(20)
        expect(large.filter(({ detached }) => detached).length).toBeGreaterThan(large.length / 2)
        expect(outcomes[0]?.file).toEqual({
          type: undefined,
          size: content.length,
          sha256: createHash("sha256").update(content).digest("hex"),
        })
      },
      { slowSinkMillis: 2, idleSeconds: 1 },
    ))

  it("the same parts however the bytes are cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.constantFrom("\r", "\n", "-", "b", "x"), { maxLength: 12 }), {
          minLength: 1,
          maxLength: 4,
        }),
        fc.array(fc.nat({ max: 400 }), { maxLength: 30 }),
        (values, cuts) => {
          // "b" may not follow "\r\n--" in a value, or it is a boundary by definition.
          const texts = values.map((value) => value.join("").replaceAll("\r\n--b", "\r\n--x"))
          const body = Buffer.from(texts.map((text, index) => part(`p${index}`, text)).join("") + end, "latin1")
          const got: Array<[string, string]> = []
          const parser = makeParser("b", {
            begin: ({ name }) => void got.push([name, ""]),
            data: (chunk) => {
              const last = got.at(-1)
              if (last) last[1] += chunk.toString("latin1")
            },
            end: () => undefined,
          })
          let at = 0
          for (const cut of [...cuts.filter((cut) => cut < body.length).sort((a, b) => a - b), body.length]) {
            parser.push(body.subarray(at, cut))
            at = cut
          }
          expect(parser.complete()).toBe(true)
          expect(got).toEqual(texts.map((text, index) => [`p${index}`, text]))
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe("a body in chunks of one byte", () => {
  it("is searched once for the end of its headers, however long they are", () => {
    const pad = `X-Pad: ${"a".repeat(3900)}\r\n`
    const body = Buffer.from(Array.from({ length: 6 }, (_, n) => part(`p${n}`, "x", pad)).join("") + end)
    let searchedBytes = 0
    const { indexOf } = Buffer.prototype
    Buffer.prototype.indexOf = function (this: Buffer, value: any, from?: any, encoding?: any) {
      if (value === "\r\n\r\n") searchedBytes += this.length - Number(from ?? 0)
      return indexOf.call(this, value, from, encoding)
    } as never
    try {
      const seen: Array<string> = []
      const parser = makeParser("b", { begin: ({ name }) => void seen.push(name), data: () => {}, end: () => {} })
      for (let at = 0; at < body.length; at++) parser.push(body.subarray(at, at + 1))
      expect(seen).toEqual(["p0", "p1", "p2", "p3", "p4", "p5"])
    } finally {
      Buffer.prototype.indexOf = indexOf
    }
    expect(searchedBytes).toBeLessThan(body.length * 8)
  })

  it("is parsed by the turn of the event loop, and not by the byte", () =>
    withReceiver(async (port, outcomes) => {
      const body = part("name", "x", `X-Pad: ${"a".repeat(3900)}\r\n`) + filePart("y".repeat(60_000)) + end
      const answer = await raw(port, (socket) => {
        const chunks = [...body].map((byte) => `1\r\n${byte}\r\n`).join("")
        socket.write(`${head("chunked")}${chunks}0\r\n\r\n`)
      })
      expect(answer).toMatch(/^HTTP\/1.1 200/)
      expect(outcomes[0]?.file?.size).toBe(60_000)
      expect(outcomes[0]?.writes).toBeLessThan(600)
    }))
})

const badDisposition = (value: string) => `--b\r\nContent-Disposition: ${value}\r\n\r\nx\r\n${end}`

const hostile: ReadonlyArray<readonly [string, string]> = [
  ["a bad percent sequence in filename*", badDisposition(`form-data; name="file"; filename*=UTF-8''%E0%A4%A`)],
  ["a broken UTF-8 sequence in filename*", badDisposition(`form-data; name="file"; filename*=UTF-8''%E0%A4`)],
  ["an empty body", ""],
  ["a body without any boundary", "hello"],
  ["a body cut inside a part's headers", `--b\r\nContent-Disposition: form-d`],
  ["a body cut inside the file", `--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nhalf`],
  ["a body cut right before its closing dashes", `${part("name", "x")}--b`],
  ["a body cut between its closing dashes", `${part("name", "x")}--b-`],
  ["a part without headers", `--b\r\n\r\nx\r\n${end}`],
  ["a part whose headers never end", `${part("name", "x")}--b\r\nContent-Disposition: form-data; name="y"\r\n${end}`],
  ["a header without a colon", `--b\r\nnonsense\r\n\r\nx\r\n${end}`],
  ["a folded header", `--b\r\nContent-Disposition: form-data;\r\n name="x"\r\n\r\nx\r\n${end}`],
  ["the same header twice", part("x", "y", "Content-Type: a/b\r\nContent-Type: c/d\r\n") + end],
  ["giant headers", part("x", "y", `X-Pad: ${"a".repeat(20_000)}\r\n`) + end],
  ["headers that go on and on", part("x", "y", "X: y\r\n".repeat(100)) + end],
  ["2,000 fields", Array.from({ length: 2000 }, (_, i) => part(`f${i}`, "x")).join("") + end],
  ["a giant field", part("name", "x".repeat(300_000)) + end],
  ["two files", filePart("a") + filePart("b") + end],
  ["the same field twice", part("name", "a") + part("name", "b") + end],
  ["a part without a name", badDisposition("form-data")],
  ["an empty name", badDisposition(`form-data; name=""`)],
  ["a name given twice", badDisposition(`form-data; name="a"; name="b"`)],
  ["an unquoted rest", badDisposition(`form-data; name="a" b"`)],
  ["an attachment", badDisposition(`attachment; name="a"`)],
  ["a NUL in a name", part("na\0me", "x") + end],
  ["a CR in a name", part("na\rme", "x") + end],
  ["a line feed in a name", part("na\nme", "x") + end],
  ["a base64 part", part("name", "eA==", "Content-Transfer-Encoding: base64\r\n") + end],
  ["a flood before the first boundary", "x".repeat(100_000) + part("name", "x") + end],
  ["a flood after the last boundary", part("name", "x") + end + "x".repeat(100_000)],
]

describe("the receiver refuses", () => {
  it.each(hostile)("%s", (_, body) =>
    withReceiver(async (port, outcomes) => {
      expect(await post(port, body)).toMatch(/^HTTP\/1.1 400 [\s\S]*"tag":"BadRequest"/)
      expect(outcomes[0]?.error?._tag).toBe("BadRequest")
      expect(await post(port, part("name", "still alive") + end)).toMatch(/^HTTP\/1.1 200/)
    }),
  )

  it.each(["", "; boundary=", `; boundary=""`, `; boundary="${"x".repeat(71)}"`, "; boundary=a\tb;"])(
    "the Content-Type multipart/form-data%s",
    (rest) =>
      withReceiver(async (port, outcomes) => {
        const answer = await raw(port, (socket) =>
          socket.write(
            `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data${rest}\r\nContent-Length: 1\r\n\r\nx`,
          ),
        )
        expect(answer).toMatch(/^HTTP\/1.1 400/)
        expect(outcomes[0]?.error?._tag).toBe("BadRequest")
      }),
  )

  it("a Content-Length that is too small", () =>
    withReceiver(async (port, outcomes) => {
      const body = part("name", "x") + end
      const answer = await raw(port, (socket) => socket.write(head(body.length - 10) + body))
      expect(answer).toMatch(/^HTTP\/1.1 400/)
      expect(outcomes[0]?.error?._tag).toBe("BadRequest")
    }))

  it("broken chunks, with an answer and without a crash", () =>
    withReceiver(async (port) => {
      const answer = await raw(port, (socket) => socket.write(`${head("chunked")}5\r\n--b\r\n\r\nZZ\r\nnonsense`))
      expect(answer).toMatch(/^HTTP\/1.1 400 Bad Request[\s\S]*"code":"bad_request"/)
      expect(await post(port, part("name", "x") + end)).toMatch(/^HTTP\/1.1 200/)
    }))

  it("a sender that stalls, after the idle time", () =>
    withReceiver(
      async (port, outcomes) => {
        const began = Date.now()
        const answer = await raw(port, (socket) => socket.write(`${head(1000)}--b\r\nContent-Disp`))
        expect(answer).toMatch(/^HTTP\/1.1 400/)
        expect(outcomes[0]?.error?._tag).toBe("UploadStalled")
        expect(Date.now() - began).toBeGreaterThan(900)
      },
      { idleSeconds: 1 },
    ))

  it("nobody for being slow, as long as bytes come", () =>
    withReceiver(
      async (port, outcomes) => {
        const body = part("name", "slow") + end
        const answer = await raw(port, (socket) => {
          socket.write(head(body.length))
          const cuts = [0, 20, 40, 60, body.length]
          cuts.slice(1).forEach((cut, index) => {
            setTimeout(() => socket.write(body.slice(cuts[index], cut)), 500 * (index + 1))
          })
        })
        expect(answer).toMatch(/^HTTP\/1.1 200/)
        expect(outcomes[0]?.error).toBeUndefined()
      },
      { idleSeconds: 1 },
    ))

  it("a client that leaves, as ClientGone", () =>
    withReceiver(async (port, outcomes) => {
      await raw(port, (socket) => {
        socket.write(`${head(1000)}--b\r\n`)
        setTimeout(() => socket.destroy(), 50)
      })
      await expect.poll(() => outcomes[0]?.error?._tag).toBe("ClientGone")
    }))
})
