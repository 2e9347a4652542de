-- Tombstones of before keep no metadata either. $1: the id behind which this batch begins; $2: how many rows of any state it
-- reads. Returns the last id read. Locks tombstones alone, each of which others lock for an instant.
with step as materialized (
  select id from artifacts where id > $1::text order by id limit $2::integer
), emptied as (
  update artifacts as a set metadata = '{}' from step
  where a.id = step.id and a.state = 'deleted' and a.metadata <> '{}'
)
select max(id) as last from step
