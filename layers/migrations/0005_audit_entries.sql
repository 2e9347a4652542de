-- Who did what to whom: issued and revoked keys, changed projects, overridden claims. Written in the transaction of the
-- act. Kept for ever; an operator may delete rows by `at`. Never a secret.
create table audit_entries (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  action text not null,
  project text not null,
  -- The id of the key, or of the job; null: the project itself.
  subject text,
  actor_kind text not null,
  actor_id text not null,
  -- X-Request-Id of the call.
  request_id text not null,
  -- What was asked for.
  details jsonb not null
);

create index audit_entries_by_project on audit_entries (project, id);
