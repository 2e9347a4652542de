import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { examinedAtMost } from "../../services/Outbox.ts"
import type { ProjectCaller } from "../../src/domain/Principal.ts"
import { metadataVisible } from "../MetadataStore/visibility.ts"

type Sql = SqlClient.SqlClient

/**
 * How far a look may see: below the first event that is not known to be in the stream. A sequence is given in the
 * transaction that raises `last`.
 */
const end = (sql: Sql): Statement.Fragment =>
  sql.literal(`coalesce(
    (select min(sequence) from events where published_at is null and sequence is not null) - 1,
    (select last from event_sequence where one))`)

/** A literal: the plan for a limit that is a parameter would be made for many more rows. */
const most = (sql: Sql): Statement.Fragment => sql.literal(String(examinedAtMost))

/** `readVisible`: one row {upto, examined, events}, events as event_record by sequence. `upto` is how far a look may see. */
export const visibleLook = (
  sql: Sql,
  caller: ProjectCaller,
  { after, limit }: { readonly after: number; readonly limit: number },
) => sql`
  with head as materialized (select ${end(sql)} as upto),
  looked as materialized (
    select e.sequence, ${metadataVisible(sql, caller, "e")} as shown from events e
    where e.project = ${caller.project}::text and e.published_at is not null
      and e.sequence > ${after}::bigint and e.sequence <= (select upto from head)
    order by e.sequence limit ${most(sql)}
  ),
  page as materialized (select sequence from looked where shown order by sequence limit ${limit}::integer)
  select upto, greatest(${after}::bigint, case
      when (select count(*) from page) = ${limit}::integer then (select max(sequence) from page)
      when (select count(*) from looked) = ${most(sql)} then (select max(sequence) from looked)
      else upto end) as examined,
    (select coalesce(jsonb_agg(event_record(e) order by e.sequence), '[]') from events e
      where e.sequence = any(array(select sequence from page))) as events
  from head`

/** `news`: one row {upto, examined, projects}, projects as [{project, last}]. Without a position nothing is examined. */
export const newsLook = (sql: Sql, after: number | undefined) => sql`
  with head as materialized (select ${end(sql)} as upto),
  looked as materialized (
    select e.sequence, e.project from events e
    where e.sequence > ${after ?? null}::bigint and e.sequence <= (select upto from head)
    order by e.sequence limit ${most(sql)}
  )
  select upto, case when (select count(*) from looked) = ${most(sql)} then (select max(sequence) from looked)
      else upto end as examined,
    (select coalesce(jsonb_agg(jsonb_build_object('project', project, 'last', last)), '[]')
      from (select project, max(sequence) as last from looked group by project) as ends) as projects
  from head`
