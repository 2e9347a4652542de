import { beforeAll, describe, expect, it } from "vitest"
import { field, filePart, sha256 } from "./support/multipart.ts"
import { Scene } from "./support/scene.ts"
import { expectRefusal, expectStatus } from "./support/wire.ts"
import { target } from "./target.ts"

describe("publishing: rules of the parts", () => {
  let scene: Scene
  let accepting: Scene
  beforeAll(async () => {
    scene = await Scene.open()
    accepting = await Scene.open()
  })

  const content = "content"

  it.each([
    ["empty", ""],
    ["257 characters", "n".repeat(257)],
    ["a leading /", "/etc/passwd"],
    ["a .. segment", "a/../b"],
    ["a . segment", "./a"],
    ["a trailing .. segment", "a/.."],
    ["a control character", "a\u0001b"],
    ["a DEL", "a\u007fb"],
  ])("refuses a name with %s", async (_, name) => {
    expectRefusal(await scene.postParts([field("name", name), filePart(content)]), 400, "bad_request")
    await scene.expectUntouched()
  })

  it("refuses a body without a name", async () => {
    expectRefusal(await scene.postParts([filePart(content)]), 400, "bad_request")
    await scene.expectUntouched()
  })

  it.each([["n".repeat(256)], ["a/b/c.txt"], ["..a/b..c"], ["Überblick 日本.txt"]])(
    "takes the name %s",
    async (name) => {
      expect((await accepting.publish(content, { name })).name).toBe(name)
    },
  )

  it("takes the mime part before the part's own Content-Type", async () => {
    const parts = [field("name", "m"), field("mime", "text/csv"), filePart(content, "image/png")]
    expect(expectStatus(await accepting.postParts(parts), 201).json.mime).toBe("text/csv")
  })

  it("takes the part's own Content-Type when there is no mime part", async () => {
    const parts = [field("name", "m"), filePart(content, "image/png")]
    expect(expectStatus(await accepting.postParts(parts), 201).json.mime).toBe("image/png")
  })

  it("takes an untyped part for application/octet-stream", async () => {
    const parts = [field("name", "m"), filePart(content)]
    expect(expectStatus(await accepting.postParts(parts), 201).json.mime).toBe("application/octet-stream")
  })

  it.each(["html", "text/", "/plain", "text/html, image/png", "te xt/plain"])("refuses the mime %s", async (mime) => {
    const parts = [field("name", "m"), field("mime", mime), filePart(content)]
    expectRefusal(await scene.postParts(parts), 400, "bad_request")
    await scene.expectUntouched()
  })

  it.each([true, false])("refuses a size_bytes that the file does not have (file first: %s)", async (first) => {
    for (const size of [content.length - 1, content.length + 1]) {
      const fields = [field("name", "s"), field("size_bytes", String(size))]
      const parts = first ? [filePart(content), ...fields] : [...fields, filePart(content)]
      expectRefusal(await scene.postParts(parts), 400, "size_mismatch")
    }
    await scene.expectUntouched()
  })

  it.each(["-1", "1.5", "seven", "1e400"])("refuses the size_bytes %s", async (size) => {
    const parts = [field("name", "s"), field("size_bytes", size), filePart(content)]
    expectRefusal(await scene.postParts(parts), 400, "bad_request")
    await scene.expectUntouched()
  })

  it.each([true, false])("refuses a sha256 that the file does not have (file first: %s)", async (first) => {
    const fields = [field("name", "d"), field("sha256", sha256("other"))]
    const parts = first ? [filePart(content), ...fields] : [...fields, filePart(content)]
    expectRefusal(await scene.postParts(parts), 400, "digest_mismatch")
    await scene.expectUntouched()
  })

  it.each(["[]", "1", "null", '"a"', "{", `{"a":"${"x".repeat(64 * 1024)}"}`])(
    "refuses metadata %.20s",
    async (json) => {
      const parts = [field("name", "d"), field("metadata", json), filePart(content)]
      expectRefusal(await scene.postParts(parts), [400, 413])
      await scene.expectUntouched()
    },
  )

  it("refuses metadata that is larger than 64 KiB as it is kept, though smaller as it was sent", async () => {
    const json = (count: number) => `{"a":[${Array.from({ length: count }, () => "1e20").join(",")}]}`
    const parts = (count: number) => [field("name", "d"), field("metadata", json(count)), filePart(content)]
    expectRefusal(await scene.postParts(parts(3000)), 400, "bad_request")
    await scene.expectUntouched()
    const { metadata } = expectStatus(await accepting.postParts(parts(2900)), 201).json
    expect(metadata.a).toHaveLength(2900)
  })

  const lineage = [
    "run_id",
    "step_id",
    "job_id",
    "worker_session_id",
    "attempt",
    "owner",
    "owner_id",
    "owner_kind",
    "visibility",
    "project",
    "project_id",
  ]

  it.each(lineage)("refuses the part %s, before and after the file", async (name) => {
    const good = [field("name", "l"), filePart(content)]
    for (const at of [0, 1, 2]) {
      const parts = good.toSpliced(at, 0, field(name, "1"))
      expectRefusal(await scene.postParts(parts), 400, "lineage_not_allowed")
    }
    await scene.expectUntouched()
  })

  it.each(lineage)("refuses the query parameter %s", async (name) => {
    const answer = await scene.postParts([field("name", "l"), filePart(content)], { query: `?${name}=1` })
    expectRefusal(answer, 400, "lineage_not_allowed")
    await scene.expectUntouched()
  })

  it("refuses an unknown part wherever it stands", async () => {
    const good = [field("name", "u"), filePart(content)]
    for (const at of [0, 1, 2]) {
      const parts = good.toSpliced(at, 0, field("colour", "red"))
      expectRefusal(await scene.postParts(parts), 400, "unknown_field")
    }
    await scene.expectUntouched()
  })

  it.each([true, false])(
    "refuses a file over MAX_ARTIFACT_BYTES with 413 (chunked: %s)",
    async (chunked) => {
      if (target.maxArtifactBytes > 64 * 1024 ** 2) await scene.setQuota(target.maxArtifactBytes * 2)
      async function* tooMuch() {
        yield Buffer.from(
          '--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nbig\r\n' +
            '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n',
        )
        const piece = Buffer.alloc(1024 ** 2)
        for (let sent = 0; sent <= target.maxArtifactBytes; sent += piece.length) yield piece
        yield Buffer.from("\r\n--b--\r\n")
      }
      const body = { contentType: "multipart/form-data; boundary=b", bytes: Buffer.alloc(0) }
      const answer = chunked
        ? await scene.post(body, { chunked: tooMuch() })
        : await scene.postParts([
            field("name", "big"),
            field("size_bytes", String(target.maxArtifactBytes + 1)),
            filePart(content),
          ])
      expectRefusal(answer, 413, "payload_too_large")
      await scene.expectUntouched()
    },
    120_000,
  )
})
