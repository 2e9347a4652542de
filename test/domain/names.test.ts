import { describe, expect, it } from "vitest"
import { isArtifactName } from "../../src/domain/ArtifactName.ts"
import { isMediaType } from "../../src/domain/MediaType.ts"
import { acceptField, type Fields, namesLineage } from "../../src/publish/Fields.ts"
import { BadRequest, LineageNotAllowed, UnknownField } from "../../src/publish/Refusals.ts"

const bytes = (text: string) => new TextEncoder().encode(text)

describe("artifact names", () => {
  it.each(["a", "report.md", "reports/2026/a b.md", "…/ü.png", "x".repeat(256), "😀".repeat(256), "..a", "a/..b"])(
    "admits %s",
    (name) => expect(isArtifactName(name)).toBe(true),
  )
  it.each(["", "/a", ".", "..", "a/../b", "a/.", "a\nb", "a\u0000", "\u0085", "x".repeat(257), "\ud800"])(
    "refuses %j",
    (name) => expect(isArtifactName(name)).toBe(false),
  )
})

describe("media types", () => {
  it.each(["text/plain", "text/html; charset=utf-8", 'a/b;c="d;\\"e"', "application/vnd.x+json"])("admits %s", (type) =>
    expect(isMediaType(type)).toBe(true),
  )
  it.each(["", "text", "text/", "/plain", "text/plain;", "text/plain\r\nx: y", "a/b; c", `a/${"b".repeat(300)}`])(
    "refuses %j",
    (type) => expect(isMediaType(type)).toBe(false),
  )
})

describe("parts of the body", () => {
  const accept = (name: string, value: string) => {
    const fields: Fields = {}
    acceptField(fields, name, bytes(value))
    return fields
  }
  it("takes the five it knows", () => {
    expect(accept("name", "a.md")).toEqual({ name: "a.md" })
    expect(accept("mime", " text/plain ")).toEqual({ mime: "text/plain" })
    expect(accept("size_bytes", "0")).toEqual({ size: 0 })
    expect(accept("sha256", "a".repeat(64))).toEqual({ sha256: "a".repeat(64) })
    expect(accept("metadata", '{"a":[1]}')).toEqual({ metadata: { a: [1] }, metadataBytes: 9 })
  })
  it.each([
    "run_id",
    "step_id",
    "job_id",
    "worker_session_id",
    "attempt",
    "visibility",
    "owner",
    "owner_id",
    "project",
    "project_id",
  ])("refuses %s as lineage", (name) => {
    expect(namesLineage(name)).toBe(true)
    expect(() => accept(name, "x")).toThrow(LineageNotAllowed)
  })
  it.each(["__proto__", "constructor", "colour", ""])("refuses %j as unknown", (name) =>
    expect(() => accept(name, "x")).toThrow(UnknownField),
  )
  it.each([
    ["metadata", "[]"],
    ["metadata", "null"],
    ["metadata", "{"],
    ["metadata", '{"a":"\\u0000"}'],
    ["metadata", `{"a":"${"x".repeat(64 * 1024)}"}`],
    ["size_bytes", "-1"],
    ["size_bytes", "1.5"],
    ["size_bytes", "1e3"],
    ["sha256", "A".repeat(64)],
    ["name", "../up"],
    ["mime", "nonsense"],
  ])("refuses %s=%s as a bad request", (name, value) => expect(() => accept(name, value)).toThrow(BadRequest))
})
