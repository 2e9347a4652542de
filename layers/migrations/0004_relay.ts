/** The relay's numbering gives back what it numbered, so that a round in which nothing is amiss asks nothing else. */
export const relay: ReadonlyArray<string> = [
  `drop function sequence_events(integer)`,

  `create function event_record(e events) returns jsonb language sql stable as $$
    select jsonb_build_object('id', e.id, 'type', e.type, 'artifact', e.artifact, 'occurred_at', e.occurred_at,
      'received_at', e.received_at, 'sequence', e.sequence)
  $$`,

  // Numbers up to p_limit new events and returns them by number, as event_record. The lock comes first and the statement
  // after it takes a new snapshot, so that two callers never number the same event. Order: an event takes its position
  // inside its own transaction. If that transaction was over before another began to write, the other's position is
  // higher, and a snapshot that sees the other sees the first too; numbering what one snapshot sees by position keeps the
  // two in order. Events that overlap in time may come either way. Within a project the commits queue, so positions are
  // in the order of the commits.
  `create function sequence_events(p_limit integer) returns jsonb language plpgsql volatile as $$
  declare
    head bigint;
    given jsonb;
  begin
    if not exists (select from events where sequence is null) then
      return '[]';
    end if;
    select last into head from event_sequence for update;
    with numbered as (
      select id, row_number() over (order by position) as n
      from (select id, position from events where sequence is null order by position limit p_limit) as waiting
    ), placed as (
      update events set sequence = head + numbered.n, received_at = clock_timestamp()
      from numbered where events.id = numbered.id returning events.*
    )
    select coalesce(jsonb_agg(event_record(placed::events) order by placed.sequence), '[]') into given from placed;
    if given <> '[]' then
      update event_sequence set last = head + jsonb_array_length(given);
    end if;
    return given;
  end $$`,
]
