/**
 * The functions that each publish runs keep their plans. They are planned with lists whose length is known at each call
 * only, and a plan for the list at hand always looks cheaper than one for any list, so that Postgres planned every
 * statement of theirs anew, at every call, which took about as long as running them. All they do is by key, whatever the
 * list.
 */
export const plans: ReadonlyArray<string> = [
  "commit_artifacts(jsonb, bigint, boolean)",
  "sequence_events(integer)",
  "mark_published(jsonb)",
].map((name) => `alter function ${name} set plan_cache_mode = force_generic_plan`)
