-- Metadata counts toward the quota: an artifact is charged its file's bytes and its metadata's, as they are kept, and a
-- tombstone keeps none. Empty files with metadata were free before, and their tombstones kept it for ever.
--
-- Pods of release 1.0.0 call the same functions with the same arguments, so they charge and refund alike; what they reserve
-- before a commit leaves the metadata out, and the commit decides. The doctor of 1.0.0 sums the files alone: until it was
-- replaced it reports projects with metadata as usage_differs, and its repair, recount_project, changes nothing.

-- What the project was charged for the artifact when it was committed, in bytes. Null: committed before this step, for its
-- size alone. No check, which would read every row under the lock.
alter table artifacts add column charged_bytes bigint;

-- What metadata, JSON as text, is charged: its bytes; an empty object nothing.
create function metadata_bytes(p_metadata text) returns bigint language sql immutable as $$
  select case when p_metadata = '{}' then 0 else octet_length(p_metadata) end::bigint
$$;

-- The point of truth. p_commits: artifact_commit as JSON objects. Answers with one object each, in any order:
-- {n, outcome, used, limit, count, version, created_at?, created_by_kind?, created_by_id?, reserved?}; outcome is
-- 'committed' or the refusal: 'superseded', 'fenced', 'lease_lost', 'unauthorized', 'quota'. Each is decided on its
-- own, and nothing is written for one that is refused; the figures are the project's as of that one's turn. Two more
-- outcomes say that nothing was decided and that the caller must ask again:
-- 'locked': another transaction has locked the upload's row, the claim or the key. These are never waited for, so that
-- one locked row holds up nobody but its own upload. A row that exists and could not be locked is not taken for absent.
-- 'busy': another transaction has locked the project's row, and p_wait was not set. With p_wait the function waits for
-- it, at most 1 s (then SQLSTATE 55P03), so that pods that publish into one project take turns.
-- An artifact is charged its size and its metadata as kept; the row keeps what it was charged, which a delete refunds.
-- All locks are taken before anything is decided and held until the end of the transaction, the claims' and the keys'
-- for share: superseding, releasing or revoking waits for it, and one that came first is seen.
-- The tables grow faster than their statistics; every access here is by key, whatever the length of the batch. So the
-- plans are fixed: a plan for the batch at hand always looks cheaper, and planning would take as long as running.
create or replace function commit_artifacts(p_commits jsonb, p_default_quota bigint, p_wait boolean) returns jsonb
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
    select c.n, c.project, c.size + metadata_bytes(c.metadata) as charge, c.id, a.state, a.fenced_at, a.superseded_by, a.created_at, a.created_by_kind,
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
      when used + turn.charge > turn.quota then 'quota'
      else 'committed'
    end;
    made := turn.created_at;
    if verdict = 'committed' and turn.state = 'pending' then
      used := used + turn.charge;
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
    from (select c.project, sum(c.size + metadata_bytes(c.metadata))::bigint as bytes, count(*) as items
      from unnest(asked) as c where c.n = any(accepted) group by c.project) as new
    where p.handle = new.project;
    update artifacts a set state = 'ready', reserved_bytes = 0, name = c.name, mime = c.mime, size = c.size,
      charged_bytes = c.size + metadata_bytes(c.metadata), sha256 = c.sha256, metadata = c.metadata, visibility = c.visibility, owner_kind = c.owner_kind,
      owner_id = c.owner_id, run_id = c.run_id, step_id = c.step_id, job_id = c.job_id,
      worker_session_id = c.worker_session_id, attempt = c.attempt, created_at = times[c.n]
    from unnest(asked) as c where c.n = any(accepted) and a.id = c.id;
    insert into events (id, type, project, artifact_id, artifact, visibility, owner_kind, owner_id, created_by_kind,
      created_by_id, occurred_at)
    select c.event_id, 'artifact.created', a.project, a.id, event_artifact(a), a.visibility, a.owner_kind,
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

-- Row to tombstone, books lowered, removal queued, event written: once. Returns {outcome, record?, blob_key?, books?}
-- with outcome 'not_found', 'denied', 'deleted' or, for a repeat, 'already'. Refunds what the artifact was charged, and
-- keeps none of its metadata.
-- Lock order: the artifact's row, then the project's.
create or replace function delete_artifact(
  p_id text, p_project text, p_caller_kind text, p_caller_id text, p_view boolean, p_edit boolean,
  p_event_id text, p_default_quota bigint
) returns jsonb language plpgsql volatile set lock_timeout = '4s' as $$
declare own record;
begin
  select a.state, coalesce(a.charged_bytes, a.size) as charged, a.owner_kind, a.owner_id, a.blob_key into own
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
  update projects set used_bytes = used_bytes - own.charged, artifact_count = artifact_count - 1,
    usage_version = usage_version + 1 where handle = p_project;
  update artifacts set state = 'deleted', metadata = '{}', deleted_at = clock_timestamp(), deleted_by_kind = p_caller_kind,
    deleted_by_id = p_caller_id where id = p_id;
  insert into removals (blob_key, project, artifact_id) values (own.blob_key, p_project, p_id);
  perform write_event(p_event_id, 'artifact.deleted', a) from artifacts a where a.id = p_id;
  return jsonb_build_object('outcome', 'deleted',
    'record', (select artifact_record(a) from artifacts a where a.id = p_id), 'blob_key', own.blob_key, 'books', project_books(p_project, p_default_quota));
end $$;

-- Makes the usage of a project what the sum of its ready artifacts is, each as it was charged. Commits and deletes change it under the same lock,
-- so none of them is half in the sum. Returns whether it differed; false for a project that is not there.
create or replace function recount_project(p_project text) returns boolean language plpgsql volatile as $$
declare
  bytes bigint;
  items bigint;
begin
  perform 1 from projects where handle = p_project for no key update;
  select coalesce(sum(coalesce(charged_bytes, size)), 0), count(*) into bytes, items from artifacts where project = p_project and state = 'ready';
  update projects set used_bytes = bytes, artifact_count = items, usage_version = usage_version + 1
  where handle = p_project and (used_bytes, artifact_count) <> (bytes, items);
  return found;
end $$;
