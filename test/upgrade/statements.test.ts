import { readdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { describe, expect, it } from "vitest"

const root = resolve(import.meta.dirname, "../..")

/** `*` as a list of columns: after `select`, `returning` or a comma, or of one table (`claims.*`). Not `count(*)`. */
const allColumns = /\b(?:select|returning)\s+(?:distinct\s+)?\*|\b[a-z_]+\.\*|,\s*\*\s*(?:,|from\b)/i

/** Without comments, whose lines are kept. */
const codeOf = (text: string): string =>
  text.replaceAll(/\/\*[\s\S]*?\*\//g, (comment) => comment.replaceAll(/[^\n]/g, "")).replaceAll(/(?:--|\/\/).*$/gm, "")

const offences = (file: string, text: string): ReadonlyArray<string> => {
  const code = codeOf(text)
  return [...code.matchAll(new RegExp(allColumns, "gi"))].map(
    ({ index, 0: found }) => `${file}:${code.slice(0, index).split("\n").length} ${found.replaceAll(/\s+/g, " ")}`,
  )
}

describe("statements name their columns", () => {
  it("knows a list of all columns when it sees one", () => {
    for (const wrong of ["select * from a", "returning *", "select a.*, b from a", "select b,\n  * from a"])
      expect(offences("x", wrong), wrong).toHaveLength(1)
    for (const right of ["select count(*) from a", "a * b", "// select *", "/** returning * */", "-- select *"])
      expect(offences("x", right), right).toEqual([])
  })

  it("none asks for whatever columns there are: a later release may add some while this one runs", () => {
    const files = ["src", "layers"].flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && /\.(?:ts|sql)$/.test(entry.name))
        .map((entry) => join(entry.parentPath, entry.name)),
    )
    expect(files.length).toBeGreaterThan(50)
    expect(files.flatMap((file) => offences(file.slice(root.length + 1), readFileSync(file, "utf8")))).toEqual([])
  })
})
