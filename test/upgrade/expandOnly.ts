import { type Migration, titleOf } from "../../layers/migrations/Migration.ts"

/** What breaks the pods of the release before, or keeps a table's callers waiting; each with what it means. */
const contractions: ReadonlyArray<readonly [RegExp, string]> = [
  [
    /\bdrop (?:table|column|index|view|materialized view|function|type|trigger|constraint|sequence|default)\b/,
    "drops what the release before may use",
  ],
  [/\balter table [^;]*\bdrop (?!not null\b|expression\b)/, "drops what the release before may use"],
  [/\brename\b/, "renames: the release before knows the former name alone"],
  [/\b(?:set data type|alter (?:column )?\w+ type)\b/, "changes the type of a column"],
  [/\bset not null\b/, "forbids null, which the release before may write"],
  [
    /\badd (?:column )?(?!constraint\b)\w+ [^,;]*\bnot null\b(?![^,;]*\bdefault\b)/,
    "adds a column that the release before does not fill",
  ],
  [
    /\badd (?:column )?(?!constraint\b)\w+ [^,;]*\bdefault \w+ ?\(/,
    "adds a column whose values are computed: every row is written under the lock",
  ],
  [
    /\badd (?:column )?(?!constraint\b)\w+ [^,;]*\bgenerated\b/,
    "adds a column whose values are computed: every row is written under the lock",
  ],
  [
    /\badd (?:constraint \w+ )?(?:check|foreign key|unique|primary key|exclude)\b(?![^;]*\bnot valid\b)/,
    "adds a constraint that is not `not valid`: every row is read under the lock",
  ],
  [/\bcreate (?:unique )?index (?!concurrently\b)/, "makes an index under a lock: that is the kind `index`"],
  [
    /(?:^|;) ?(?:with\b[^;]*\b)?(?:update|delete from|truncate)\b/,
    "changes or removes rows under locks: that is the kind `backfill`",
  ],
]

/** Without comments, bodies of functions and literals, in lower case, with single spaces. */
const skeletonOf = (sql: string): string =>
  sql
    .replaceAll(/--.*$/gm, "")
    .replaceAll(/\/\*[\s\S]*?\*\//g, "")
    .replaceAll(/\$(\w*)\$[\s\S]*?\$\1\$/g, "''")
    .replaceAll(/'(?:[^']|'')*'/g, "''")
    .replaceAll(/\s+/g, " ")
    .trim()
    .toLowerCase()

/** `[name, parameters and result]` of each function made. */
const functionsIn = (skeleton: string): ReadonlyArray<readonly [string, string]> =>
  [...skeleton.matchAll(/\bcreate (?:or replace )?function (\w+) ?(\(.*?\) ?returns (?:setof )?\w+)/g)].map(
    ([, name = "", header = ""]) => [name, header.replaceAll(/\s*([(),])\s*/g, "$1")],
  )

const tablesMadeIn = (skeleton: string): ReadonlySet<string> =>
  new Set([...skeleton.matchAll(/\bcreate table (?:if not exists )?(\w+)/g)].map(([, name = ""]) => name))

/** Indexes, constraints and rows of a table that the same step makes keep nobody waiting. */
const withoutOwnTables = (skeleton: string): string => {
  const own = tablesMadeIn(skeleton)
  return skeleton
    .split(";")
    .filter((statement) => {
      const table = /\b(?:index (?:\w+ )?on|alter table|update|insert into)(?: only)? (\w+)/.exec(statement)?.[1]
      return table === undefined || !own.has(table)
    })
    .join(";")
}

/**
 * Sentences about the migrations after the first that pods of the release before would not survive, or that would hold
 * a lock for long. What a text cannot tell, the story of an upgrade shows.
 */
export const notExpandOnly = (migrations: ReadonlyArray<Migration>): ReadonlyArray<string> => {
  const known = new Map<string, string>()
  return migrations.flatMap((migration, step) => {
    const sentences = new Set<string>()
    const texts = migration.kind === "transaction" ? migration.statements : []
    const skeleton = skeletonOf(texts.join(";\n"))
    for (const [name, header] of functionsIn(skeleton)) {
      const before = known.get(name)
      if (before !== undefined && before !== header)
        sentences.add(`changes parameters or result of the function ${name}: a new one needs a new name`)
      known.set(name, header)
    }
    if (step > 0)
      for (const [pattern, meaning] of contractions)
        if (pattern.test(withoutOwnTables(skeleton))) sentences.add(meaning)
    return [...sentences].map((sentence) => `Migration ${titleOf(migration)} is not expand-only: it ${sentence}.`)
  })
}
