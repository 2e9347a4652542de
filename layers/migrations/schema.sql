-- The schema of release 1.0.0, whole. Times are timestamptz by the database's own clock; sizes are bytes.
-- Constraints, not the callers, guarantee what must always hold.
--
-- Functions hold the transactions that must not be cut in two: one statement from the node, no round trip while a lock
-- is held. Those that write are VOLATILE, so that under READ COMMITTED each statement inside sees what was committed
-- before it. Statements name their columns: a later release may add columns while this one runs.
--
-- Lock order, everywhere: duties row, artifact rows, claim rows, key rows, project rows, job_attempts rows. A project's
-- row is locked `for no key update`, which queues its commits and deletes and still lets foreign keys be checked.
-- A lock_timeout of a function is shorter than the statement_timeout of the node's sessions (5 s), so that who waits
-- too long hears of the lock.

-- Projects, keys, claims

create table projects (
  handle text primary key,
  quota_bytes bigint check (quota_bytes >= 0),
  used_bytes bigint not null default 0 check (used_bytes >= 0),
  artifact_count bigint not null default 0 check (artifact_count >= 0),
  -- rises with every change of limit, used bytes or count
  usage_version bigint not null default 1,
  created_at timestamptz not null default clock_timestamp()
);

create table api_keys (
  id text primary key,
  project text not null references projects (handle),
  key_hash bytea not null unique,
  principal_kind text not null check (principal_kind in ('user', 'agent', 'service')),
  principal_id text not null,
  permissions text[] not null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz,
  revoked_at timestamptz
);
create index api_keys_of_project on api_keys (project, created_at desc);

-- One row an attempt; the highest attempt of a job is the only one that can be live.
create table claims (
  project text not null references projects (handle),
  job_id text not null,
  attempt integer not null,
  run_id text,
  step_id text,
  worker_session_id text not null,
  owner_kind text not null,
  owner_id text not null,
  worker_principal_id text,
  visibility text not null check (visibility in ('shared', 'private')),
  -- the one token that is good now
  token_hash bytea not null,
  lease_seconds integer not null,
  expires_at timestamptz not null,
  ended_at timestamptz,
  released boolean not null default false,
  taken_at timestamptz not null default clock_timestamp(),
  primary key (project, job_id, attempt)
);
-- For pruning. By a time that heartbeats do not change, so that they touch no index.
create index claims_by_age on claims (taken_at);

-- Every token a claim ever had, until 24 h past the claim's end: an old one still says whose answer may be replayed.
-- Claims of a control plane of its own have no row in claims; what their tokens stood for is in introspected_claim.
create table lease_tokens (
  token_hash bytea primary key,
  project text not null,
  job_id text not null,
  attempt integer not null,
  introspected_claim jsonb,
  last_seen_at timestamptz not null default clock_timestamp()
);
create index lease_tokens_of_claim on lease_tokens (project, job_id, attempt);
create index lease_tokens_by_age on lease_tokens (last_seen_at);

-- The highest attempt of a job of which nothing else is known: of claims that were pruned, so that none of them can be
-- taken again, and, seen at a commit, of claims that live elsewhere. A small row a job, kept for ever.
create table job_attempts (
  project text not null,
  job_id text not null,
  highest_attempt integer not null,
  primary key (project, job_id)
);

-- Artifacts, and the objects of deleted ones

create table artifacts (
  id text primary key,
  project text not null references projects (handle),
  state text not null check (state in ('pending', 'ready', 'deleted')),
  blob_key text not null unique,
  created_by_kind text not null,
  created_by_id text not null,
  -- SHA-256 over project, principal, job, attempt and the caller's key; freed by a fence
  idempotency_hash bytea unique,
  -- pending only
  reserved_bytes bigint not null default 0,
  renewed_at timestamptz not null default clock_timestamp(),
  fenced_at timestamptz,
  -- who fenced it, when that was a newer upload with the same idempotency key: its id
  superseded_by text,
  -- set by the commit
  name text,
  mime text,
  size bigint check (size >= 0),
  sha256 text,
  -- JSON as text: jsonb refuses the escapes of NUL and of lone surrogates, which JSON objects may hold
  metadata text,
  visibility text check (visibility in ('shared', 'private')),
  owner_kind text,
  owner_id text,
  run_id text,
  step_id text,
  job_id text,
  worker_session_id text,
  attempt integer,
  created_at timestamptz,
  -- set by the delete
  deleted_at timestamptz,
  deleted_by_kind text,
  deleted_by_id text,
  check (state = 'pending' or (name is not null and mime is not null and size is not null and sha256 is not null
    and metadata is not null and visibility is not null and owner_id is not null and created_at is not null)),
  check ((state = 'deleted') = (deleted_at is not null))
);
create index artifacts_ready on artifacts (project, created_at desc, id desc) where state = 'ready';
create index artifacts_ready_of_run on artifacts (project, run_id, created_at desc, id desc) where state = 'ready' and run_id is not null;
create index artifacts_ready_of_step on artifacts (project, step_id, created_at desc, id desc) where state = 'ready' and step_id is not null;
create index artifacts_ready_of_job on artifacts (project, job_id, created_at desc, id desc) where state = 'ready' and job_id is not null;
create index artifacts_deleted on artifacts (project, created_at desc, id desc) where state = 'deleted';
create index artifacts_deleted_of_run on artifacts (project, run_id, created_at desc, id desc) where state = 'deleted' and run_id is not null;
create index artifacts_pending on artifacts (project, renewed_at) where state = 'pending';

-- Objects whose artifact is a tombstone; a row goes when the object is gone for certain.
create table removals (
  blob_key text primary key,
  project text not null,
  artifact_id text not null references artifacts (id),
  attempts integer not null default 0,
  next_attempt_at timestamptz not null default clock_timestamp(),
  queued_at timestamptz not null default clock_timestamp()
);
create index removals_due on removals (next_attempt_at);
-- 20: parkedAfter of services/RemovalQueue.ts
create index removals_parked on removals (queued_at) where attempts >= 20;
create index removals_of_artifact on removals (artifact_id);

-- Events

-- The outbox. position is the order of writing; sequence the place in the stream, given once by the relay.
create table events (
  id text primary key,
  position bigint generated always as identity unique,
  sequence bigint unique check (sequence > 0),
  type text not null check (type in ('artifact.created', 'artifact.deleted')),
  project text not null,
  artifact_id text not null,
  -- the artifact's row as it was at the fact (row_to_json of artifacts)
  artifact jsonb not null,
  visibility text not null,
  owner_kind text not null,
  owner_id text not null,
  created_by_kind text not null,
  created_by_id text not null,
  occurred_at timestamptz not null,
  received_at timestamptz,
  published_at timestamptz
);
create unique index events_one_per_fact on events (artifact_id, type);
create index events_unsequenced on events (position) where sequence is null;
create index events_unpublished on events (sequence) where published_at is null and sequence is not null;
create index events_of_project on events (project, sequence) where published_at is not null;

-- One row. Functions without sequential scans ask for it by its key (`where one`): a scan of it would count as 1e10, which
-- a server built with LLVM compiles anew at each call (jit_above_cost).
create table event_sequence (
  one boolean primary key default true check (one),
  last bigint not null default 0,
  last_published bigint not null default 0
);
insert into event_sequence default values;

-- The stream of the embedded node, in the place of Redis.
create table event_log (
  sequence bigint primary key,
  event_id text not null,
  type text not null,
  project text not null,
  payload text not null,
  appended_at timestamptz not null default clock_timestamp()
);
create table event_log_head (one boolean primary key default true check (one), last bigint not null default 0);
insert into event_log_head default values;

-- The blob store

-- What this database remembers of its blob store; see services/StoreGuard.ts.
create table blob_store (
  one boolean primary key default true check (one),
  -- the identity that this database gives its store
  id text not null default gen_random_uuid()::text,
  -- when the store was given it
  placed_at timestamptz,
  -- while set, nothing that this database does not know is removed
  held_at timestamptz,
  hold_reason text,
  -- the listing of the store: raised by each who takes it over, and the key behind which it goes on
  listing_epoch bigint not null default 0,
  listing_after text,
  check ((held_at is null) = (hold_reason is null))
);
insert into blob_store default values;

-- What was written into the store as its watermark. A database that does not know the store's mark is an older state.
create table store_marks (
  id text primary key default gen_random_uuid()::text,
  -- of the last event when the mark was made; null before the first
  position bigint,
  made_at timestamptz not null default clock_timestamp()
);

-- Objects that the listing found and no row knows. One is removed only when a second look finds it unknown still.
create table orphan_candidates (
  blob_key text primary key,
  first_seen_at timestamptz not null default clock_timestamp(),
  -- when the second look took its turn at it last
  handed_at timestamptz
);
create index orphan_candidates_due on orphan_candidates (handed_at nulls first, first_seen_at);

-- Duties

-- What the actor of each project has to do; see services/ProjectDuties.ts.
create table project_duties (
  project text primary key references projects (handle),
  -- raised by every actor that takes the project over; writes that name an earlier one are refused
  epoch bigint not null default 0,
  -- when the counters are held against the books next, how long after that again, and the books' version last time
  due_at timestamptz not null default clock_timestamp(),
  pause_seconds integer not null default 60,
  seen_version bigint
);
create index project_duties_due on project_duties (due_at);

-- A project has its row from its first moment, and a changed limit is looked at by the next tick even if the
-- counters could not be told of it. Neither trigger fires when bytes are booked.
create function watch_project() returns trigger language plpgsql as $$
begin
  insert into project_duties as known (project) values (new.handle)
  on conflict (project) do update set due_at = clock_timestamp(), pause_seconds = 60;
  return null;
end $$;
create trigger projects_made after insert on projects for each row execute function watch_project();
create trigger projects_limited after update of quota_bytes on projects for each row
  when (old.quota_bytes is distinct from new.quota_bytes) execute function watch_project();

-- Reading

-- The one rule of who sees what. Metadata: with p_edit as the caller has it. Content: with p_edit false.
create function artifact_visible(
  p_visibility text, p_owner_kind text, p_owner_id text, p_creator_kind text, p_creator_id text,
  p_caller_kind text, p_caller_id text, p_view boolean, p_edit boolean
) returns boolean language sql immutable as $$
  select p_edit
    or (p_view and p_visibility = 'shared')
    or (p_owner_kind = p_caller_kind and p_owner_id = p_caller_id)
    or (p_creator_kind = p_caller_kind and p_creator_id = p_caller_id)
$$;

-- An artifact as readers and events get it: all but the upload's own bookkeeping.
create function artifact_record(a artifacts) returns jsonb language sql stable as $$
  select jsonb_build_object('id', a.id, 'project', a.project, 'state', a.state,
    'created_by_kind', a.created_by_kind, 'created_by_id', a.created_by_id,
    'name', a.name, 'mime', a.mime, 'size', a.size, 'sha256', a.sha256, 'metadata', a.metadata,
    'visibility', a.visibility, 'owner_kind', a.owner_kind, 'owner_id', a.owner_id,
    'run_id', a.run_id, 'step_id', a.step_id, 'job_id', a.job_id, 'worker_session_id', a.worker_session_id,
    'attempt', a.attempt, 'created_at', a.created_at,
    'deleted_at', a.deleted_at, 'deleted_by_kind', a.deleted_by_kind, 'deleted_by_id', a.deleted_by_id)
$$;

create function project_books(p_project text, p_default_quota bigint) returns jsonb language sql volatile as $$
  select jsonb_build_object(
    'used', used_bytes, 'limit', coalesce(quota_bytes, p_default_quota), 'count', artifact_count,
    'version', usage_version)
  from projects where handle = p_project
$$;

-- Claims

-- Takes or renews a claim for p_lease_seconds; p_token_hash becomes its one good token. Returns {outcome, expires_at?,
-- highest_attempt?}: 'taken', lower attempts end; 'renewed': the same attempt in the same words while live, the former
-- token dies; 'superseded': of any other case; 'no_project'.
-- Lock order: the job (advisory: takers go one after the other; a handle cannot contain the separator), then its claim
-- rows. Waits for commits that hold an older attempt's or the former token's row; those that come later see the end.
-- claims is read before job_attempts: pruning moves an attempt from the one to the other in one transaction.
create function take_claim(
  p_project text, p_job_id text, p_attempt integer, p_run_id text, p_step_id text, p_worker_session_id text,
  p_owner_kind text, p_owner_id text, p_worker_principal_id text, p_visibility text, p_token_hash bytea,
  p_lease_seconds integer
) returns jsonb language plpgsql volatile as $$
declare
  latest record;
  forgotten integer;
  until timestamptz;
begin
  if not exists (select from projects where handle = p_project) then
    return jsonb_build_object('outcome', 'no_project');
  end if;
  perform pg_advisory_xact_lock(hashtextextended(p_project || '/' || p_job_id, 0));
  select c.attempt, c.run_id, c.step_id, c.worker_session_id, c.owner_kind, c.owner_id, c.worker_principal_id, c.visibility
  into latest from claims c where c.project = p_project and c.job_id = p_job_id order by c.attempt desc limit 1;
  select j.highest_attempt into forgotten from job_attempts j where j.project = p_project and j.job_id = p_job_id;

  if p_attempt > coalesce(greatest(latest.attempt, forgotten), -1) then
    update claims set ended_at = clock_timestamp()
    where project = p_project and job_id = p_job_id and attempt < p_attempt and ended_at is null;
    insert into claims (project, job_id, attempt, run_id, step_id, worker_session_id, owner_kind, owner_id,
      worker_principal_id, visibility, token_hash, lease_seconds, expires_at)
    values (p_project, p_job_id, p_attempt, p_run_id, p_step_id, p_worker_session_id, p_owner_kind, p_owner_id,
      p_worker_principal_id, p_visibility, p_token_hash, p_lease_seconds,
      clock_timestamp() + make_interval(secs => p_lease_seconds))
    returning expires_at into until;
  elsif p_attempt = latest.attempt and p_worker_session_id = latest.worker_session_id
    and p_run_id is not distinct from latest.run_id and p_step_id is not distinct from latest.step_id
    and p_owner_kind = latest.owner_kind and p_owner_id = latest.owner_id
    and p_worker_principal_id is not distinct from latest.worker_principal_id and p_visibility = latest.visibility then
    update claims set token_hash = p_token_hash, lease_seconds = p_lease_seconds,
      expires_at = clock_timestamp() + make_interval(secs => p_lease_seconds)
    where project = p_project and job_id = p_job_id and attempt = p_attempt
      and ended_at is null and expires_at > clock_timestamp()
    returning expires_at into until;
  end if;
  if until is null then
    return jsonb_build_object('outcome', 'superseded', 'highest_attempt', greatest(latest.attempt, forgotten));
  end if;
  insert into lease_tokens (token_hash, project, job_id, attempt) values (p_token_hash, p_project, p_job_id, p_attempt);
  return jsonb_build_object('outcome', case when p_attempt = latest.attempt then 'renewed' else 'taken' end,
    'expires_at', until);
end $$;

-- Uploads

-- Begins an upload, p_id, whose idempotency key another row has. A pending row is fenced and loses the key to the new
-- row; a ready one or a tombstone is replayed. p_token_hash: the lease token of job and attempt, which must be live for
-- a fence; null: none is asked for. Returns {outcome, superseded?, record?}: 'begun' with the id of the upload that was
-- fenced, 'replay' with the artifact, or 'in_progress' for a dead token.
-- Exactly once: the unique index gives the key to one row, and the fence waits for a commit of the pending row that is
-- under way and then matches nothing. Lock order: one artifact row, then the project's for key share. The insert waits for another transaction only when
-- nothing was fenced, so that no lock is held meanwhile; whoever loses that race looks again.
-- The disk is not waited for: a crash that takes the new row with it brings the earlier one back, unfenced.
create function take_over_key(
  p_id text, p_project text, p_blob_key text, p_creator_kind text, p_creator_id text, p_reserved bigint,
  p_hash bytea, p_job_id text, p_attempt integer, p_token_hash bytea
) returns jsonb language plpgsql volatile as $$
declare
  holder record;
  fenced text;
begin
  perform set_config('synchronous_commit', 'off', true);
  loop
    select a.state, case when a.state <> 'pending' then artifact_record(a) end as record into holder
    from artifacts a where a.idempotency_hash = p_hash;
    if holder.state <> 'pending' then
      return jsonb_build_object('outcome', 'replay', 'record', holder.record);
    end if;
    fenced := null;
    if holder.state = 'pending' then
      if p_token_hash is not null and not exists (
        select from claims c where c.project = p_project and c.job_id = p_job_id and c.attempt = p_attempt
          and c.token_hash = p_token_hash and c.ended_at is null and c.expires_at > clock_timestamp()) then
        return jsonb_build_object('outcome', 'in_progress');
      end if;
      update artifacts set fenced_at = clock_timestamp(), superseded_by = p_id, idempotency_hash = null
      where idempotency_hash = p_hash and state = 'pending'
      returning id into fenced;
    end if;
    insert into artifacts (id, project, state, blob_key, created_by_kind, created_by_id, idempotency_hash, reserved_bytes)
    values (p_id, p_project, 'pending', p_blob_key, p_creator_kind, p_creator_id, p_hash, p_reserved)
    on conflict (idempotency_hash) do nothing;
    if found then
      return jsonb_build_object('outcome', 'begun', 'superseded', fenced);
    end if;
  end loop;
end $$;

-- What a publisher asks to be made ready; n counts within a batch, from 1.
create type artifact_commit as (
  n integer, id text, project text, name text, mime text, size bigint, sha256 text, metadata text, visibility text,
  owner_kind text, owner_id text, run_id text, step_id text, job_id text, worker_session_id text, attempt integer,
  key_id text, event_id text, proof text, token_hash text, proof_age_ms double precision
);

-- The point of truth. p_commits: artifact_commit as JSON objects. Answers with one object each, in any order:
-- {n, outcome, used, limit, count, version, created_at?, created_by_kind?, created_by_id?, reserved?}; outcome is
-- 'committed' or the refusal: 'superseded', 'fenced', 'lease_lost', 'unauthorized', 'quota'. Each is decided on its
-- own, and nothing is written for one that is refused; the figures are the project's as of that one's turn. Two more
-- outcomes say that nothing was decided and that the caller must ask again:
-- 'locked': another transaction has locked the upload's row, the claim or the key. These are never waited for, so that
-- one locked row holds up nobody but its own upload. A row that exists and could not be locked is not taken for absent.
-- 'busy': another transaction has locked the project's row, and p_wait was not set. With p_wait the function waits for
-- it, at most 1 s (then SQLSTATE 55P03), so that pods that publish into one project take turns.
-- All locks are taken before anything is decided and held until the end of the transaction, the claims' and the keys'
-- for share: superseding, releasing or revoking waits for it, and one that came first is seen.
-- The tables grow faster than their statistics; every access here is by key, whatever the length of the batch. So the
-- plans are fixed: a plan for the batch at hand always looks cheaper, and planning would take as long as running.
create function commit_artifacts(p_commits jsonb, p_default_quota bigint, p_wait boolean) returns jsonb
language plpgsql volatile
set lock_timeout = '1s' set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  asked artifact_commit[] := array(select c from jsonb_populate_recordset(null::artifact_commit, p_commits) as c);
  -- What this transaction has locked: uploads and keys by id, claims by the number of the request, projects by handle.
  uploads text[];
  claimed integer[];
  keys text[];
  held text[];
  turn record;
  current text;
  used bigint;
  items bigint;
  version bigint;
  verdict text;
  made timestamptz;
  accepted integer[] := '{}';
  times timestamptz[] := array_fill(null::timestamptz, array[cardinality(asked)]);
  answers jsonb[] := '{}';
begin
  uploads := array(select a.id from artifacts a where a.id = any(array(select c.id from unnest(asked) as c))
    order by a.id for update skip locked);
  claimed := array(select c.n from unnest(asked) as c join claims k
    on k.project = c.project and k.job_id = c.job_id and k.attempt = c.attempt
    where c.proof = 'claim' order by k.project, k.job_id, k.attempt for share of k skip locked);
  keys := array(select k.id from api_keys k where k.id = any(array(select c.key_id from unnest(asked) as c))
    order by k.id for share skip locked);
  if p_wait then
    held := array(select handle from projects where handle = any(array(select c.project from unnest(asked) as c))
      order by handle for no key update);
  else
    held := array(select handle from projects where handle = any(array(select c.project from unnest(asked) as c))
      order by handle for no key update skip locked);
  end if;

  for turn in
    select c.n, c.project, c.size, c.id, a.state, a.fenced_at, a.superseded_by, a.created_at, a.created_by_kind,
      a.created_by_id, p.used_bytes, p.artifact_count, p.usage_version, coalesce(p.quota_bytes, p_default_quota) as quota,
      a.id = any(uploads) as own,
      c.proof = 'claim' and not c.n = any(claimed) and exists (
        select from claims l where l.project = c.project and l.job_id = c.job_id and l.attempt = c.attempt) as claim_locked,
      k.id is not null and not k.id = any(keys) as key_locked,
      k.id is not null and coalesce(k.expires_at, 'infinity') > clock_timestamp() as keyed,
      case c.proof
        when 'claim' then exists (
          select from claims l where l.project = c.project and l.job_id = c.job_id and l.attempt = c.attempt
            and l.token_hash = decode(c.token_hash, 'hex') and l.ended_at is null and l.expires_at > clock_timestamp()
            and l.worker_session_id = c.worker_session_id
            and l.run_id is not distinct from c.run_id and l.step_id is not distinct from c.step_id
            and l.owner_kind = c.owner_kind and l.owner_id = c.owner_id and l.visibility = c.visibility
            and (l.worker_principal_id is null or l.worker_principal_id = a.created_by_id))
        when 'introspected' then c.job_id is not null and c.attempt is not null and c.proof_age_ms is not null
          and abs(c.proof_age_ms) + extract(epoch from clock_timestamp() - statement_timestamp()) * 1000 <= 2000
          and not exists (
            select from job_attempts j
            where j.project = c.project and j.job_id = c.job_id and j.highest_attempt > c.attempt)
        when 'none' then c.job_id is null and c.run_id is null and c.step_id is null
          and c.worker_session_id is null and c.attempt is null
        else false
      end as leased
    from unnest(asked) as c
      left join artifacts a on a.id = c.id and a.project = c.project
      left join api_keys k on k.id = c.key_id and k.project = c.project and k.revoked_at is null
      left join projects p on p.handle = c.project
    -- attempts upwards: of two of one job in a batch the later one is the last
    order by c.project, c.attempt, c.n
  loop
    if turn.project is distinct from current then
      current := turn.project;
      used := turn.used_bytes;
      items := turn.artifact_count;
      version := turn.usage_version;
    end if;
    verdict := case
      when turn.state is null or turn.state = 'deleted' then 'fenced'
      when turn.state = 'ready' then 'committed'
      when turn.superseded_by is not null then 'superseded'
      when turn.fenced_at is not null then 'fenced'
      when not turn.own or turn.claim_locked or turn.key_locked then 'locked'
      when not turn.leased then 'lease_lost'
      when not turn.keyed then 'unauthorized'
      when not turn.project = any(held) then 'busy'
      when used + turn.size > turn.quota then 'quota'
      else 'committed'
    end;
    made := turn.created_at;
    if verdict = 'committed' and turn.state = 'pending' then
      used := used + turn.size;
      items := items + 1;
      version := version + 1;
      made := clock_timestamp();
      times[turn.n] := made;
      accepted := accepted || turn.n;
    end if;
    answers := answers || jsonb_build_object('n', turn.n, 'outcome', verdict, 'used', used, 'limit', turn.quota,
      'count', items, 'version', version, 'created_at', made, 'created_by_kind', turn.created_by_kind,
      'created_by_id', turn.created_by_id, 'reserved', case when verdict = 'quota' then (
        select coalesce(sum(reserved_bytes), 0) from artifacts
        where project = turn.project and state = 'pending' and fenced_at is null and id <> turn.id) end);
  end loop;

  if cardinality(accepted) > 0 then
    update projects p set used_bytes = used_bytes + new.bytes, artifact_count = artifact_count + new.items,
      usage_version = usage_version + new.items
    from (select c.project, sum(c.size)::bigint as bytes, count(*) as items
      from unnest(asked) as c where c.n = any(accepted) group by c.project) as new
    where p.handle = new.project;
    update artifacts a set state = 'ready', reserved_bytes = 0, name = c.name, mime = c.mime, size = c.size,
      sha256 = c.sha256, metadata = c.metadata, visibility = c.visibility, owner_kind = c.owner_kind,
      owner_id = c.owner_id, run_id = c.run_id, step_id = c.step_id, job_id = c.job_id,
      worker_session_id = c.worker_session_id, attempt = c.attempt, created_at = times[c.n]
    from unnest(asked) as c where c.n = any(accepted) and a.id = c.id;
    insert into events (id, type, project, artifact_id, artifact, visibility, owner_kind, owner_id, created_by_kind,
      created_by_id, occurred_at)
    select c.event_id, 'artifact.created', a.project, a.id, artifact_record(a), a.visibility, a.owner_kind,
      a.owner_id, a.created_by_kind, a.created_by_id, a.created_at
    from unnest(accepted) with ordinality as turns(n, place)
      join unnest(asked) as c on c.n = turns.n join artifacts a on a.id = c.id
    order by turns.place;
    insert into job_attempts as known (project, job_id, highest_attempt)
    select c.project, c.job_id, max(c.attempt)
    from unnest(asked) as c where c.n = any(accepted) and c.proof = 'introspected' group by c.project, c.job_id
    on conflict (project, job_id) do update
      set highest_attempt = greatest(known.highest_attempt, excluded.highest_attempt);
  end if;
  return to_jsonb(answers);
end $$;

-- What became of an upload. Waits for a commit that is still under way on a lost connection, instead of answering
-- from before it.
create function upload_outcome(p_id text, p_default_quota bigint) returns jsonb
language plpgsql volatile set lock_timeout = '4s' as $$
declare own record;
begin
  select a.state, a.fenced_at, a.project into own from artifacts a where a.id = p_id for share;
  if not found or (own.state = 'pending' and own.fenced_at is not null) then
    return jsonb_build_object('outcome', 'gone');
  end if;
  if own.state = 'pending' then
    return jsonb_build_object('outcome', 'pending');
  end if;
  return jsonb_build_object('outcome', 'ready',
    'record', (select artifact_record(a) from artifacts a where a.id = p_id),
    'books', project_books(own.project, p_default_quota));
end $$;

-- Projects with something to do, the most overdue first: sweep, an upload was not renewed for p_stale_seconds;
-- reconcile, its time has come. Every project with open uploads is looked at once, however many it has: from one project
-- the index is entered anew at the next, so that thousands of dead uploads of one do not hide the others. The plans keep
-- to the index's order: between two vacuums it is full of rows that are pending no more, and an index scan marks what it
-- finds dead, which a bitmap scan visits in the table each time.
create function due_projects(p_stale_seconds double precision, p_limit integer)
returns table (project text, sweep boolean, reconcile boolean) language sql stable
set enable_seqscan = off set enable_bitmapscan = off as $$
  with recursive oldest as (
    (select a.project, a.renewed_at from artifacts a where a.state = 'pending' order by a.project, a.renewed_at limit 1)
    union all
    select next.project, next.renewed_at
    from oldest, lateral (
      select a.project, a.renewed_at from artifacts a where a.state = 'pending' and a.project > oldest.project
      order by a.project, a.renewed_at limit 1) as next
  )
  select work.project, bool_or(work.sweep), bool_or(not work.sweep) from (
    select o.project, true as sweep, o.renewed_at as since from oldest o
    where o.renewed_at <= statement_timestamp() - p_stale_seconds * interval '1 second'
    union all
    (select d.project, false, d.due_at from project_duties d
      where d.due_at <= statement_timestamp() order by d.due_at limit p_limit)
  ) as work group by work.project order by min(work.since) limit p_limit
$$;

-- Lock order: duties row, then artifact rows. Returns null for a stale epoch, else [{id, blob_key}]. What is returned
-- takes its next turn after p_stale_seconds, so that leftovers which cannot be removed do not keep others waiting.
create function fence_stale_uploads(p_project text, p_epoch bigint, p_stale_seconds double precision, p_limit integer)
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
        and renewed_at <= statement_timestamp() - p_stale_seconds * interval '1 second'
      order by renewed_at limit p_limit for update skip locked)
    returning id, blob_key
  )
  select coalesce(jsonb_agg(jsonb_build_object('id', id, 'blobKey', blob_key)), '[]') into stale from taken;
  return stale;
end $$;

-- Returns whether the epoch was still the latest.
create function forget_upload(p_project text, p_epoch bigint, p_id text)
returns boolean language plpgsql volatile as $$
begin
  perform 1 from project_duties where project = p_project and epoch = p_epoch for share;
  if not found then
    return false;
  end if;
  delete from artifacts where id = p_id and project = p_project and state = 'pending' and fenced_at is not null;
  return true;
end $$;

-- Deleting

create function write_event(p_event_id text, p_type text, a artifacts) returns void language sql volatile as $$
  insert into events (id, type, project, artifact_id, artifact, visibility, owner_kind, owner_id,
    created_by_kind, created_by_id, occurred_at)
  values (p_event_id, p_type, a.project, a.id, artifact_record(a), a.visibility, a.owner_kind, a.owner_id,
    a.created_by_kind, a.created_by_id, coalesce(a.deleted_at, a.created_at))
$$;

-- Row to tombstone, books lowered, removal queued, event written: once. Returns {outcome, record?, blob_key?, books?}
-- with outcome 'not_found', 'denied', 'deleted' or, for a repeat, 'already'.
create function delete_artifact(
  p_id text, p_project text, p_caller_kind text, p_caller_id text, p_view boolean, p_edit boolean,
  p_event_id text, p_default_quota bigint
) returns jsonb language plpgsql volatile set lock_timeout = '4s' as $$
declare own record;
begin
  select a.state, a.size, a.owner_kind, a.owner_id, a.blob_key into own
  from artifacts a where a.id = p_id and a.project = p_project and a.state <> 'pending'
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
    return jsonb_build_object('outcome', 'already',
      'record', (select artifact_record(a) from artifacts a where a.id = p_id), 'blob_key', (select blob_key from removals where artifact_id = p_id));
  end if;

  perform 1 from projects where handle = p_project for no key update;
  update projects set used_bytes = used_bytes - own.size, artifact_count = artifact_count - 1,
    usage_version = usage_version + 1 where handle = p_project;
  update artifacts set state = 'deleted', deleted_at = clock_timestamp(), deleted_by_kind = p_caller_kind,
    deleted_by_id = p_caller_id where id = p_id;
  insert into removals (blob_key, project, artifact_id) values (own.blob_key, p_project, p_id);
  perform write_event(p_event_id, 'artifact.deleted', a) from artifacts a where a.id = p_id;
  return jsonb_build_object('outcome', 'deleted',
    'record', (select artifact_record(a) from artifacts a where a.id = p_id), 'blob_key', own.blob_key, 'books', project_books(p_project, p_default_quota));
end $$;

-- Checking

-- Makes the usage of a project what the sum of its ready artifacts is. Commits and deletes change it under the same lock,
-- so none of them is half in the sum. Returns whether it differed; false for a project that is not there.
create function recount_project(p_project text) returns boolean language plpgsql volatile as $$
declare
  bytes bigint;
  items bigint;
begin
  perform 1 from projects where handle = p_project for no key update;
  select coalesce(sum(size), 0), count(*) into bytes, items from artifacts where project = p_project and state = 'ready';
  update projects set used_bytes = bytes, artifact_count = items, usage_version = usage_version + 1
  where handle = p_project and (used_bytes, artifact_count) <> (bytes, items);
  return found;
end $$;

-- The relay

create function event_record(e events) returns jsonb language sql stable as $$
  select jsonb_build_object('id', e.id, 'type', e.type, 'artifact', e.artifact, 'occurred_at', e.occurred_at,
    'received_at', e.received_at, 'sequence', e.sequence)
$$;

-- Numbers up to p_limit new events and returns them by number, as event_record. The plans are fixed: one made while the
-- outbox was small would read all of it at each round for as long as it is cached. The lock comes first and the statement
-- after it takes a new snapshot, so that two callers never number the same event. Order: an event takes its position
-- inside its own transaction. If that transaction was over before another began to write, the other's position is
-- higher, and a snapshot that sees the other sees the first too; numbering what one snapshot sees by position keeps the
-- two in order. Events that overlap in time may come either way. Within a project the commits queue, so positions are
-- in the order of the commits.
create function sequence_events(p_limit integer) returns jsonb language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  head bigint;
  given jsonb;
begin
  if not exists (select from events where sequence is null) then
    return '[]';
  end if;
  select last into head from event_sequence where one for update;
  with numbered as (
    select id, row_number() over (order by position) as n
    from (select id, position from events where sequence is null order by position limit p_limit) as waiting
  ), placed as (
    update events set sequence = head + numbered.n, received_at = clock_timestamp()
    from numbered where events.id = numbered.id
    returning events.sequence, event_record(events) as record
  )
  select coalesce(jsonb_agg(placed.record order by placed.sequence), '[]') into given from placed;
  if given <> '[]' then
    update event_sequence set last = head + jsonb_array_length(given) where one;
  end if;
  return given;
end $$;

-- The stream's top is p_top, more than this database knew: it was restored, or failed over to a replica that lagged.
-- p_standing: [{"id", "sequence"}], events that stand in the stream up to there. Those of them that are unpublished here
-- take these places and are published, so that they are not appended twice; a place that another event has is not given
-- away. All other unpublished events that have a number get a new one, dense above the top and in their order, by way of
-- numbers no event has (sequence is unique at every moment). Nothing to do when none of p_standing is unpublished and
-- all unpublished numbers are above the top: a second relay that saw the same leaves no gap. Lock: event_sequence.
create function raise_sequence(p_top bigint, p_standing jsonb) returns void language plpgsql volatile as $$
declare
  head record;
  base bigint;
  moved bigint;
begin
  select last, last_published into head from event_sequence where one for update;
  if p_top <= head.last
    and not exists (select from events where published_at is null and sequence <= p_top)
    and not exists (
      select from jsonb_to_recordset(p_standing) as standing(id text, sequence bigint)
        join events on events.id = standing.id
      where events.published_at is null) then
    return;
  end if;
  base := greatest(p_top, head.last_published);
  update events set sequence = sequence + base + head.last
  where published_at is null and sequence is not null;
  update events set sequence = standing.sequence, published_at = clock_timestamp(),
    received_at = coalesce(received_at, clock_timestamp())
  from jsonb_to_recordset(p_standing) as standing(id text, sequence bigint)
  where events.id = standing.id and events.published_at is null and standing.sequence <= p_top
    and not exists (select from events as other where other.sequence = standing.sequence);
  with numbered as (
    select id, row_number() over (order by sequence) as n
    from events where published_at is null and sequence is not null
  )
  update events set sequence = base + numbered.n from numbered where events.id = numbered.id;
  get diagnostics moved = row_count;
  update event_sequence set last = base + moved, last_published = base where one;
end $$;

-- p_events: [{"id", "sequence"}]. Takes the lock of sequencing first, like all who write numbers.
create function mark_published(p_events jsonb) returns void language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare top bigint;
begin
  perform 1 from event_sequence where one for update;
  update events set published_at = clock_timestamp()
  from jsonb_to_recordset(p_events) as told(id text, sequence bigint)
  where events.id = told.id and events.sequence = told.sequence and published_at is null;
  select max(events.sequence) into top
  from events join jsonb_to_recordset(p_events) as told(id text, sequence bigint)
    on events.id = told.id and events.sequence = told.sequence;
  update event_sequence set last_published = top where one and top > last_published;
end $$;
