/**
 * Uploads are committed many at a time: one transaction, one sync and one turn in each project's queue for all of them.
 * `commit_artifact`, which commits one, stays for pods of the release before, in the same order of locks; a later
 * migration removes it.
 */
export const batches: ReadonlyArray<string> = [
  // What a publisher asks to be made ready; n counts within a batch, from 1.
  `create type artifact_commit as (
    n integer, id text, project text, name text, mime text, size bigint, sha256 text, metadata text, visibility text,
    owner_kind text, owner_id text, run_id text, step_id text, job_id text, worker_session_id text, attempt integer,
    key_id text, event_id text, proof text, token_hash text, proof_age_ms double precision
  )`,

  // The point of truth. p_commits: artifact_commit as JSON objects. Answers with one object each, in any order:
  // {n, outcome, used, limit, count, version, created_at?, created_by_kind?, created_by_id?, reserved?}; outcome is
  // 'committed' or the refusal: 'fenced', 'lease_lost', 'unauthorized', 'quota'. Each is decided on its own, and nothing
  // is written for one that is refused; the figures are the project's as of that one's turn. Without p_wait, 'busy' says
  // that the project's row is held elsewhere and nothing was decided, so that one project's queue holds up no other.
  // All locks are taken before anything is decided and held until the end of the transaction, the claims' and the keys'
  // for share: superseding, releasing or revoking waits for it, and one that came first is seen.
  // The tables grow faster than their statistics; every access here is by key.
  `create function commit_artifacts(p_commits jsonb, p_default_quota bigint, p_wait boolean) returns jsonb
  language plpgsql volatile
  set lock_timeout = '10s' set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
  declare
    asked artifact_commit[] := array(select c from jsonb_populate_recordset(null::artifact_commit, p_commits) as c);
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
    perform 1 from artifacts a where a.id = any(array(select c.id from unnest(asked) as c)) order by a.id for update;
    perform 1 from unnest(asked) as c join claims k
      on k.project = c.project and k.job_id = c.job_id and k.attempt = c.attempt
    where c.proof = 'claim' order by k.project, k.job_id, k.attempt for share of k;
    perform 1 from api_keys k where k.id = any(array(select c.key_id from unnest(asked) as c)) order by k.id for share;
    if p_wait then
      held := array(select handle from projects where handle = any(array(select c.project from unnest(asked) as c))
        order by handle for no key update);
    else
      held := array(select handle from projects where handle = any(array(select c.project from unnest(asked) as c))
        order by handle for no key update skip locked);
    end if;

    for turn in
      select c.n, c.project, c.size, c.id, a.state, a.fenced_at, a.created_at, a.created_by_kind, a.created_by_id,
        p.used_bytes, p.artifact_count, p.usage_version, coalesce(p.quota_bytes, p_default_quota) as quota,
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
        when turn.fenced_at is not null then 'fenced'
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
  end $$`,

  // A plan made while the outbox was small would read all of it at each round of the relay for as long as it is cached.
  ...["sequence_events(integer)", "mark_published(jsonb)"].map(
    (name) => `alter function ${name} set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off`,
  ),
]
