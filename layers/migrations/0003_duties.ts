/** What actors do for each project, fenced by an epoch; see services/ProjectDuties.ts. */
export const duties: ReadonlyArray<string> = [
  `create table project_duties (
    project text primary key references projects (handle),
    -- raised by every actor that takes the project over; writes that name an earlier one are refused
    epoch bigint not null default 0,
    -- when the counters are held against the books next, how long after that again, and the books' version last time
    due_at timestamptz not null default clock_timestamp(),
    pause_seconds integer not null default 60,
    seen_version bigint
  )`,
  `create index project_duties_due on project_duties (due_at)`,
  `insert into project_duties (project) select handle from projects`,

  // A project has its row from its first moment, and a changed limit is looked at by the next tick even if the
  // counters could not be told of it. Neither trigger fires when bytes are booked.
  `create function watch_project() returns trigger language plpgsql as $$
  begin
    insert into project_duties as known (project) values (new.handle)
    on conflict (project) do update set due_at = clock_timestamp(), pause_seconds = 60;
    return null;
  end $$`,
  `create trigger projects_made after insert on projects for each row execute function watch_project()`,
  `create trigger projects_limited after update of quota_bytes on projects for each row
    when (old.quota_bytes is distinct from new.quota_bytes) execute function watch_project()`,

  // Lock order: duties row, then artifact rows. Returns null for a stale epoch, else [{id, blob_key}]. What is returned
  // takes its next turn after p_stale_seconds, so that leftovers which cannot be removed do not keep others waiting.
  `create function fence_stale_uploads(p_project text, p_epoch bigint, p_stale_seconds double precision, p_limit integer)
  returns jsonb language plpgsql volatile as $$
  declare stale jsonb;
  begin
    perform 1 from project_duties where project = p_project and epoch = p_epoch for share;
    if not found then
      return null;
    end if;
    with taken as (
      update artifacts set fenced_at = coalesce(fenced_at, clock_timestamp()), idempotency_hash = null,
        renewed_at = clock_timestamp()
      where id in (
        select id from artifacts where project = p_project and state = 'pending'
          and renewed_at <= clock_timestamp() - p_stale_seconds * interval '1 second'
        order by renewed_at limit p_limit for update skip locked)
      returning id, blob_key
    )
    select coalesce(jsonb_agg(jsonb_build_object('id', id, 'blobKey', blob_key)), '[]') into stale from taken;
    return stale;
  end $$`,

  // Returns whether the epoch was still the latest.
  `create function forget_upload(p_project text, p_epoch bigint, p_id text)
  returns boolean language plpgsql volatile as $$
  begin
    perform 1 from project_duties where project = p_project and epoch = p_epoch for share;
    if not found then
      return false;
    end if;
    delete from artifacts where id = p_id and project = p_project and state = 'pending' and fenced_at is not null;
    return true;
  end $$`,
]
