import { describe, expect, it } from "vitest"
import type { Migration } from "../../layers/migrations/Migration.ts"
import { migrations } from "../../layers/migrations/Migrations.ts"
import { notExpandOnly } from "./expandOnly.ts"

const base: Migration = {
  id: 1,
  name: "schema",
  kind: "transaction",
  statements: [
    "create table things (id text primary key, size bigint not null); drop table if exists older;",
    "create function size_of(p_id text) returns bigint language sql stable as $$ select size from things where id = p_id $$",
  ],
}
const second = (...statements: ReadonlyArray<string>): ReadonlyArray<Migration> => [
  base,
  { id: 2, name: "second", kind: "transaction", statements },
]

describe("migrations only expand", () => {
  it("those of this program do", () => {
    expect(notExpandOnly(migrations)).toEqual([])
  })

  it("ids rise by one from 1", () => {
    expect(migrations.map(({ id }) => id)).toEqual(migrations.map((_, index) => index + 1))
  })

  it.each([
    ["alter table things add column label text"],
    ["alter table things add label text, add column kind text not null default 'plain'"],
    ["alter table things alter column size drop not null"],
    ["alter table things add constraint small check (size < 10) not valid"],
    ["alter table things validate constraint small"],
    [
      "create table more (id text primary key, n integer not null); create index more_by_n on more (n); insert into more values ('a', 1)",
    ],
    [
      "create function size_twice(p_id text) returns bigint language plpgsql as $$ begin delete from things; drop table x; end $$",
    ],
    ["create or replace function size_of(p_id text)\n returns bigint language sql as $$ select 1 $$"],
    ["-- drop table things\nalter table things add column note text default 'rename; drop table'"],
  ])("%s: expands", (statement) => {
    expect(notExpandOnly(second(statement))).toEqual([])
  })

  it.each([
    ["drop table things", "drops"],
    ["alter table things drop column size", "drops"],
    ["alter table things drop size", "drops"],
    ["alter table things add column a text, drop constraint things_pkey", "drops"],
    ["drop function size_of(text)", "drops"],
    ["alter table things rename column size to bytes", "renames"],
    ["alter table things alter column size type integer", "changes the type"],
    ["alter table things alter size set data type integer", "changes the type"],
    ["alter table things alter column size set not null", "forbids null"],
    ["alter table things add column label text not null", "does not fill"],
    ["alter table things add column made timestamptz default clock_timestamp()", "computed"],
    ["alter table things add constraint small check (size < 10)", "not valid"],
    ["alter table things add unique (size)", "not valid"],
    ["create index things_by_size on things (size)", "kind `index`"],
    ["create unique index on things (size)", "kind `index`"],
    ["update things set size = 0", "kind `backfill`"],
    [
      "create or replace function size_of(p_id text, p_unit text) returns bigint language sql as $$ select 1 $$",
      "new name",
    ],
    ["create or replace function size_of(p_id text) returns integer language sql as $$ select 1 $$", "new name"],
  ])("%s: does not", (statement, meaning) => {
    const found = notExpandOnly(second(statement))
    expect(found).toHaveLength(1)
    expect(found[0]).toMatch(/^Migration 0002_second is not expand-only: it /)
    expect(found[0]).toContain(meaning)
  })
})
