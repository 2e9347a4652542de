import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { type ListFilter, mostPageBytes } from "../../services/MetadataStore.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import type { Position } from "./cursor.ts"
import { mostJsonBytesSql } from "./jsonBytes.ts"
import { recordColumns } from "./rows.ts"
import { metadataVisible } from "./visibility.ts"

/** How many index entries one page examines at most, whatever its filters leave of them. */
export const EXAMINED_ROWS = 2000

/**
 * One page as one row: its `items`, each as an `ArtifactRecord`, and `next`, the position that the page after it starts
 * from: its own last row when there is one more, else the last entry examined when the bound was reached before the page
 * was full. Of what matched, a page shows the first row and as many more as `mostPageBytes` holds. The inner query walks one index in the order of the page, by the narrowest of job, step and run; every other
 * condition is judged on what it yields, so that a page costs the same however rare its matches are. Both walks are of
 * one snapshot: no entry falls between pages.
 */
export const listStatement = (
  sql: SqlClient.SqlClient,
  caller: ProjectCaller,
  filter: ListFilter,
  after: Position | undefined,
): Statement.Statement<{ readonly page: unknown }> => {
  const none = sql.literal("")
  const state = sql.literal(filter.state === "ready" ? "'ready'" : "'deleted'")
  const narrowest =
    filter.state === "ready" && filter.jobId !== undefined
      ? sql`and a.job_id = ${filter.jobId}::text`
      : filter.state === "ready" && filter.stepId !== undefined
        ? sql`and a.step_id = ${filter.stepId}::text`
        : filter.runId !== undefined
          ? sql`and a.run_id = ${filter.runId}::text`
          : none
  const from =
    after === undefined
      ? none
      : sql`and (a.created_at, a.id) <
          (timestamptz 'epoch' + ${after.micros}::bigint * interval '1 microsecond', ${after.id}::text)`
  const walk = sql`
    from artifacts a where a.project = ${caller.project}::text and a.state = ${state} ${narrowest} ${from}
    order by a.created_at desc, a.id desc limit ${sql.literal(String(EXAMINED_ROWS))}`
  const equal = (column: string, value: string | undefined) =>
    value === undefined ? none : sql`and x.${sql.literal(column)} = ${value}::text`
  const prefix = (column: string, value: string | undefined) =>
    value === undefined ? none : sql`and starts_with(x.${sql.literal(column)}, ${value}::text)`
  const positionOf = (alias: string) =>
    sql.literal(`json_build_object('id', ${alias}.id,
      'micros', (extract(epoch from ${alias}.created_at) * 1000000)::bigint::text)`)
  return sql<{ readonly page: unknown }>`
    with matched as materialized (
      select ${recordColumns(sql, "x")}
      from (select ${recordColumns(sql, "a")} ${walk}) as x
      where ${metadataVisible(sql, caller, "x")}
        ${equal("run_id", filter.runId)} ${equal("step_id", filter.stepId)} ${equal("job_id", filter.jobId)}
        ${prefix("mime", filter.mime)} ${prefix("name", filter.namePrefix)}
      order by x.created_at desc, x.id desc limit ${filter.limit + 1}::integer
    ), measured as (
      select ${recordColumns(sql, "m")}, row_number() over newest as place, sum(${mostJsonBytesSql(sql, "m")}) over newest as bytes
      from matched m window newest as (order by m.created_at desc, m.id desc)
    ), shown as materialized (
      select ${recordColumns(sql, "d")} from measured d
      where d.place <= ${filter.limit}::integer and (d.place = 1 or d.bytes <= ${mostPageBytes}::bigint)
    )
    select json_build_object(
      'items', (select coalesce(json_agg(s order by s.created_at desc, s.id desc), '[]') from shown s),
      'next', case when (select count(*) from matched) > (select count(*) from shown) then (
        select ${positionOf("s")} from shown s order by s.created_at, s.id limit 1)
      else (
        select ${positionOf("y")} from (select a.created_at, a.id ${walk}) as y
        order by y.created_at desc, y.id desc offset ${sql.literal(String(EXAMINED_ROWS - 1))} limit 1) end
    ) as page`
}
