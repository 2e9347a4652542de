/**
 * The transactions that must not be cut in two, as functions: one statement from the node, no round trip while a lock
 * is held. All are VOLATILE, so that under READ COMMITTED each statement inside sees what was committed before it.
 *
 * Lock order, everywhere: artifact row, claim row, key row, project row, job_attempts row. A project's row is locked
 * `for no key update`, which queues its commits and deletes and still lets foreign keys be checked against it.
 */
export const functions: ReadonlyArray<string> = [
  // The one rule of who sees what. Metadata: with p_edit as the caller has it. Content: with p_edit false.
  `create function artifact_visible(
    p_visibility text, p_owner_kind text, p_owner_id text, p_creator_kind text, p_creator_id text,
    p_caller_kind text, p_caller_id text, p_view boolean, p_edit boolean
  ) returns boolean language sql immutable as $$
    select p_edit
      or (p_view and p_visibility = 'shared')
      or (p_owner_kind = p_caller_kind and p_owner_id = p_caller_id)
      or (p_creator_kind = p_caller_kind and p_creator_id = p_caller_id)
  $$`,

  // An artifact's row as readers and events get it: all but the upload's own bookkeeping.
  `create function artifact_record(a artifacts) returns jsonb language sql stable as $$
    select to_jsonb(a) - '{blob_key,idempotency_hash,reserved_bytes,renewed_at,fenced_at}'::text[]
  $$`,

  `create function project_books(p_project text, p_default_quota bigint) returns jsonb language sql volatile as $$
    select jsonb_build_object(
      'used', used_bytes, 'limit', coalesce(quota_bytes, p_default_quota), 'count', artifact_count,
      'version', usage_version)
    from projects where handle = p_project
  $$`,

  `create function write_event(p_event_id text, p_type text, a artifacts) returns void language sql volatile as $$
    insert into events (id, type, project, artifact_id, artifact, visibility, owner_kind, owner_id,
      created_by_kind, created_by_id, occurred_at)
    values (p_event_id, p_type, a.project, a.id, artifact_record(a), a.visibility, a.owner_kind, a.owner_id,
      a.created_by_kind, a.created_by_id, coalesce(a.deleted_at, a.created_at))
  $$`,

  // The point of truth. Returns {outcome, record?, books?, reserved?}; outcome is 'committed' or the refusal: 'fenced',
  // 'lease_lost', 'unauthorized', 'quota'. Every refusal returns before the first write. The claim and the key are
  // locked for share until the end of the transaction: superseding, releasing or revoking waits for it, and one that
  // came first is seen. Whatever time can take away is looked at again after the project's queue.
  `create function commit_artifact(
    p_id text, p_project text, p_name text, p_mime text, p_size bigint, p_sha256 text, p_metadata text,
    p_visibility text, p_owner_kind text, p_owner_id text,
    p_run_id text, p_step_id text, p_job_id text, p_worker_session_id text, p_attempt integer,
    p_key_id text, p_event_id text,
    p_proof text, p_token_hash bytea, p_proof_age_ms double precision, p_default_quota bigint
  ) returns jsonb language plpgsql volatile set lock_timeout = '10s' as $$
  declare
    own artifacts;
    claim_expires timestamptz;
    key_expires timestamptz;
    highest integer;
    used bigint;
    quota bigint;
  begin
    select * into own from artifacts where id = p_id and project = p_project for update;
    if not found or own.state = 'deleted' or (own.state = 'pending' and own.fenced_at is not null) then
      return jsonb_build_object('outcome', 'fenced');
    end if;
    if own.state = 'ready' then
      return jsonb_build_object('outcome', 'committed', 'record', artifact_record(own),
        'books', project_books(p_project, p_default_quota));
    end if;

    if p_proof = 'claim' then
      select expires_at into claim_expires from claims
      where project = p_project and job_id = p_job_id and attempt = p_attempt
        and token_hash = p_token_hash and ended_at is null and expires_at > clock_timestamp()
        and worker_session_id = p_worker_session_id
        and run_id is not distinct from p_run_id and step_id is not distinct from p_step_id
        and owner_kind = p_owner_kind and owner_id = p_owner_id and visibility = p_visibility
        and (worker_principal_id is null or worker_principal_id = own.created_by_id)
      for share;
      if not found then
        return jsonb_build_object('outcome', 'lease_lost');
      end if;
    elsif p_proof = 'introspected' then
      if p_job_id is null or p_attempt is null or p_proof_age_ms is null or abs(p_proof_age_ms) > 2000 then
        return jsonb_build_object('outcome', 'lease_lost');
      end if;
    elsif p_proof <> 'none' or p_job_id is not null or p_run_id is not null or p_step_id is not null
      or p_worker_session_id is not null or p_attempt is not null then
      return jsonb_build_object('outcome', 'lease_lost');
    end if;

    select coalesce(expires_at, 'infinity') into key_expires from api_keys
    where id = p_key_id and project = p_project and revoked_at is null
    for share;
    if not found then
      return jsonb_build_object('outcome', 'unauthorized');
    end if;

    select used_bytes, coalesce(quota_bytes, p_default_quota) into used, quota
    from projects where handle = p_project for no key update;

    if p_proof = 'claim' and claim_expires <= clock_timestamp() then
      return jsonb_build_object('outcome', 'lease_lost');
    end if;
    if p_proof = 'introspected' then
      if abs(p_proof_age_ms) + extract(epoch from clock_timestamp() - statement_timestamp()) * 1000 > 2000 then
        return jsonb_build_object('outcome', 'lease_lost');
      end if;
      select highest_attempt into highest from job_attempts where project = p_project and job_id = p_job_id for update;
      if highest > p_attempt then
        return jsonb_build_object('outcome', 'lease_lost');
      end if;
    end if;
    if key_expires <= clock_timestamp() then
      return jsonb_build_object('outcome', 'unauthorized');
    end if;
    if used + p_size > quota then
      return jsonb_build_object('outcome', 'quota', 'books', project_books(p_project, p_default_quota),
        'reserved', (select coalesce(sum(reserved_bytes), 0) from artifacts
          where project = p_project and state = 'pending' and fenced_at is null and id <> p_id));
    end if;

    update projects set used_bytes = used_bytes + p_size, artifact_count = artifact_count + 1,
      usage_version = usage_version + 1 where handle = p_project;
    update artifacts set state = 'ready', reserved_bytes = 0, name = p_name, mime = p_mime, size = p_size,
      sha256 = p_sha256, metadata = p_metadata, visibility = p_visibility, owner_kind = p_owner_kind,
      owner_id = p_owner_id, run_id = p_run_id, step_id = p_step_id, job_id = p_job_id,
      worker_session_id = p_worker_session_id, attempt = p_attempt, created_at = clock_timestamp()
    where id = p_id returning * into own;
    perform write_event(p_event_id, 'artifact.created', own);
    if p_proof = 'introspected' then
      insert into job_attempts as known (project, job_id, highest_attempt) values (p_project, p_job_id, p_attempt)
      on conflict (project, job_id) do update
        set highest_attempt = greatest(known.highest_attempt, excluded.highest_attempt);
    end if;
    return jsonb_build_object('outcome', 'committed', 'record', artifact_record(own),
      'books', project_books(p_project, p_default_quota));
  end $$`,

  // What became of an upload. Waits for a commit that is still under way on a lost connection, instead of answering
  // from before it.
  `create function upload_outcome(p_id text, p_default_quota bigint) returns jsonb
  language plpgsql volatile set lock_timeout = '10s' as $$
  declare own artifacts;
  begin
    select * into own from artifacts where id = p_id for share;
    if not found or (own.state = 'pending' and own.fenced_at is not null) then
      return jsonb_build_object('outcome', 'gone');
    end if;
    if own.state = 'pending' then
      return jsonb_build_object('outcome', 'pending');
    end if;
    return jsonb_build_object('outcome', 'ready', 'record', artifact_record(own),
      'books', project_books(own.project, p_default_quota));
  end $$`,

  // Row to tombstone, books lowered, removal queued, event written: once. Returns {outcome, record?, blob_key?, books?}
  // with outcome 'not_found', 'denied', 'deleted' or, for a repeat, 'already'.
  `create function delete_artifact(
    p_id text, p_project text, p_caller_kind text, p_caller_id text, p_view boolean, p_edit boolean,
    p_event_id text, p_default_quota bigint
  ) returns jsonb language plpgsql volatile set lock_timeout = '10s' as $$
  declare own artifacts;
  begin
    select * into own from artifacts a where id = p_id and project = p_project and state <> 'pending'
      and artifact_visible(a.visibility, a.owner_kind, a.owner_id, a.created_by_kind, a.created_by_id,
        p_caller_kind, p_caller_id, p_view, p_edit)
    for update;
    if not found then
      return jsonb_build_object('outcome', 'not_found');
    end if;
    if not (p_edit or (own.owner_kind = p_caller_kind and own.owner_id = p_caller_id)) then
      return jsonb_build_object('outcome', 'denied');
    end if;
    if own.state = 'deleted' then
      return jsonb_build_object('outcome', 'already', 'record', artifact_record(own),
        'blob_key', (select blob_key from removals where artifact_id = p_id));
    end if;

    perform 1 from projects where handle = p_project for no key update;
    update projects set used_bytes = used_bytes - own.size, artifact_count = artifact_count - 1,
      usage_version = usage_version + 1 where handle = p_project;
    update artifacts set state = 'deleted', deleted_at = clock_timestamp(), deleted_by_kind = p_caller_kind,
      deleted_by_id = p_caller_id where id = p_id returning * into own;
    insert into removals (blob_key, project, artifact_id) values (own.blob_key, p_project, p_id);
    perform write_event(p_event_id, 'artifact.deleted', own);
    return jsonb_build_object('outcome', 'deleted', 'record', artifact_record(own), 'blob_key', own.blob_key,
      'books', project_books(p_project, p_default_quota));
  end $$`,

  // Numbers up to p_limit new events and returns how many. The lock comes first and the statement after it takes a new
  // snapshot, so that two callers never number the same event. Order: an event takes its position inside its own
  // transaction. If that transaction was over before another began to write, the other's position is higher, and a
  // snapshot that sees the other sees the first too; numbering what one snapshot sees by position keeps the two in
  // order. Events that overlap in time may come either way. Within a project the commits queue, so positions are in
  // the order of the commits.
  `create function sequence_events(p_limit integer) returns bigint language plpgsql volatile as $$
  declare
    head bigint;
    given bigint;
  begin
    select last into head from event_sequence for update;
    with numbered as (
      select id, row_number() over (order by position) as n
      from (select id, position from events where sequence is null order by position limit p_limit) as waiting
    )
    update events set sequence = head + numbered.n, received_at = clock_timestamp()
    from numbered where events.id = numbered.id;
    get diagnostics given = row_count;
    if given > 0 then
      update event_sequence set last = head + given;
    end if;
    return given;
  end $$`,

  // The stream's top is p_top, more than this database knew. Everything unpublished is numbered anew, dense above the
  // top and in its order, by way of numbers no event has (sequence is unique at every moment). Nothing to do when all
  // unpublished numbers are above the top already: a second relay that saw the same leaves no gap.
  `create function raise_sequence(p_top bigint) returns void language plpgsql volatile as $$
  declare
    head event_sequence;
    base bigint;
    moved bigint;
  begin
    select * into head from event_sequence for update;
    if p_top <= head.last
      and not exists (select from events where published_at is null and sequence <= p_top) then
      return;
    end if;
    base := greatest(p_top, head.last_published);
    update events set sequence = sequence + base + head.last
    where published_at is null and sequence is not null;
    with numbered as (
      select id, row_number() over (order by sequence) as n
      from events where published_at is null and sequence is not null
    )
    update events set sequence = base + numbered.n from numbered where events.id = numbered.id;
    get diagnostics moved = row_count;
    update event_sequence set last = base + moved, last_published = greatest(last_published, p_top);
  end $$`,

  // p_events: [{"id", "sequence"}]. Takes the lock of sequencing first, like all who write numbers.
  `create function mark_published(p_events jsonb) returns void language plpgsql volatile as $$
  declare top bigint;
  begin
    perform 1 from event_sequence for update;
    update events set published_at = clock_timestamp()
    from jsonb_to_recordset(p_events) as told(id text, sequence bigint)
    where events.id = told.id and events.sequence = told.sequence and published_at is null;
    select max(events.sequence) into top
    from events join jsonb_to_recordset(p_events) as told(id text, sequence bigint)
      on events.id = told.id and events.sequence = told.sequence;
    update event_sequence set last_published = top where top > last_published;
  end $$`,
]
