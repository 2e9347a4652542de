/**
 * The tables. Times are `timestamptz` by the database's own clock; sizes are bytes. Constraints, not the callers,
 * guarantee what must always hold.
 */
export const tables: ReadonlyArray<string> = [
  `create table projects (
    handle text primary key,
    quota_bytes bigint check (quota_bytes >= 0),
    used_bytes bigint not null default 0 check (used_bytes >= 0),
    artifact_count bigint not null default 0 check (artifact_count >= 0),
    -- rises with every change of limit, used bytes or count
    usage_version bigint not null default 1,
    created_at timestamptz not null default clock_timestamp()
  )`,

  `create table api_keys (
    id text primary key,
    project text not null references projects (handle),
    key_hash bytea not null unique,
    principal_kind text not null check (principal_kind in ('user', 'agent', 'service')),
    principal_id text not null,
    permissions text[] not null,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz
  )`,
  `create index api_keys_of_project on api_keys (project, created_at desc)`,

  // One row an attempt; the highest attempt of a job is the only one that can be live.
  `create table claims (
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
    primary key (project, job_id, attempt)
  )`,

  // Every token a claim ever had, until 24 h past the claim's end: an old one still says whose answer may be replayed.
  // Claims of a control plane of its own have no row in claims; what their tokens stood for is in introspected_claim.
  `create table lease_tokens (
    token_hash bytea primary key,
    project text not null,
    job_id text not null,
    attempt integer not null,
    introspected_claim jsonb,
    last_seen_at timestamptz not null default clock_timestamp()
  )`,
  `create index lease_tokens_of_claim on lease_tokens (project, job_id, attempt)`,
  `create index lease_tokens_by_age on lease_tokens (last_seen_at)`,

  // Highest attempt seen at a commit, for claims that live elsewhere.
  `create table job_attempts (
    project text not null,
    job_id text not null,
    highest_attempt integer not null,
    primary key (project, job_id)
  )`,

  `create table artifacts (
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
  )`,
  `create index artifacts_ready on artifacts (project, created_at desc, id desc) where state = 'ready'`,
  `create index artifacts_ready_of_run on artifacts (project, run_id, created_at desc, id desc) where state = 'ready' and run_id is not null`,
  `create index artifacts_ready_of_step on artifacts (project, step_id, created_at desc, id desc) where state = 'ready' and step_id is not null`,
  `create index artifacts_ready_of_job on artifacts (project, job_id, created_at desc, id desc) where state = 'ready' and job_id is not null`,
  `create index artifacts_deleted on artifacts (project, created_at desc, id desc) where state = 'deleted'`,
  `create index artifacts_deleted_of_run on artifacts (project, run_id, created_at desc, id desc) where state = 'deleted' and run_id is not null`,
  `create index artifacts_pending on artifacts (renewed_at) where state = 'pending'`,
  `create index artifacts_pending_of_project on artifacts (project) where state = 'pending'`,

  // Objects whose artifact is a tombstone; a row goes when the object is gone for certain.
  `create table removals (
    blob_key text primary key,
    project text not null,
    artifact_id text not null references artifacts (id),
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default clock_timestamp(),
    queued_at timestamptz not null default clock_timestamp()
  )`,
  `create index removals_due on removals (next_attempt_at)`,
  `create index removals_of_artifact on removals (artifact_id)`,

  // The outbox. position is the order of writing; sequence the place in the stream, given once by the relay.
  `create table events (
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
  )`,
  `create unique index events_one_per_fact on events (artifact_id, type)`,
  `create index events_unsequenced on events (position) where sequence is null`,
  `create index events_unpublished on events (sequence) where published_at is null and sequence is not null`,
  `create index events_of_project on events (project, sequence) where published_at is not null`,
  `create index events_by_publication on events (published_at) where published_at is not null`,
  `create table event_sequence (
    one boolean primary key default true check (one),
    last bigint not null default 0,
    last_published bigint not null default 0
  )`,
  `insert into event_sequence default values`,

  // The stream of the embedded node, in the place of Redis.
  `create table event_log (
    sequence bigint primary key,
    event_id text not null,
    type text not null,
    project text not null,
    payload text not null,
    appended_at timestamptz not null default clock_timestamp()
  )`,
  `create table event_log_head (one boolean primary key default true check (one), last bigint not null default 0)`,
  `insert into event_log_head default values`,

  `create table store_identity (one boolean primary key default true check (one), id text not null)`,
]
