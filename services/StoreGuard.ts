import { Context, type DateTime, type Effect, Schema } from "effect"
import type { DependencyUnavailable } from "./Unavailable.ts"

/** Another took the listing of the store over since: whoever holds this epoch records nothing more. */
export class StaleListing extends Schema.TaggedError<StaleListing>()("StaleListing", { epoch: Schema.Number }) {}

/** Why nothing unknown is removed from the store, in one sentence for an operator. */
export interface Hold {
  readonly reason: string
  readonly since: DateTime.Utc
}

/** A state of this database, as it is written into the store. */
export interface Mark {
  readonly id: string
  /** The highest event sequence of that state, for an operator to read. */
  readonly sequence: number
  readonly madeAt: DateTime.Utc
}

/**
 * What the database remembers of its blob store, so that nothing is removed on a doubt: whose store it is, whether
 * removals are held, which objects nobody knew at the first look, and how far the listing came. Each method is one
 * statement, or one transaction where it says so.
 */
export class StoreGuard extends Context.Tag("services/StoreGuard")<
  StoreGuard,
  {
    /** The identity of this database's store, and whether a store was ever given it. Never changes. */
    readonly identity: Effect.Effect<{ readonly id: string; readonly placed: boolean }, DependencyUnavailable>
    /**
     * Runs `place` with the identity unless it was placed already, in one transaction that only one caller has at a time,
     * and records the placing once `place` succeeded. `undefined`: it was placed before. `place` must end within 10 s and
     * must not use this database.
     */
    readonly placeOnce: <A, E>(
      place: (id: string) => Effect.Effect<A, E>,
    ) => Effect.Effect<A | undefined, E | DependencyUnavailable>

    /** Why unknown objects are not removed at present; `undefined`: they are. */
    readonly hold: Effect.Effect<Hold | undefined, DependencyUnavailable>
    /** Stops the removal of unknown objects until `release`. The first reason stays; returns whether this one is it. */
    readonly holdRemovals: (reason: string) => Effect.Effect<boolean, DependencyUnavailable>
    /** An operator's word: removals may go on. Candidates are forgotten, so that each object needs two new looks. */
    readonly release: Effect.Effect<void, DependencyUnavailable>

    /**
     * Makes a mark of this database's present state, to be written into the store; `undefined` when no event was written
     * since the mark `last`. Durable when it returns.
     */
    readonly mark: (last: string | undefined) => Effect.Effect<Mark | undefined, DependencyUnavailable>
    /** Whether this database made the mark. If not, the store has seen a state that this database has lost. */
    readonly knowsMark: (id: string) => Effect.Effect<boolean, DependencyUnavailable>
    /** The mark stands in the store: marks made more than 30 days before it are forgotten. */
    readonly markWritten: (id: string) => Effect.Effect<void, DependencyUnavailable>
    /** The highest event sequence this database has given out. */
    readonly sequence: Effect.Effect<number, DependencyUnavailable>

    /** Takes the listing over: where it goes on, and an epoch higher than any before it. */
    readonly takeListing: Effect.Effect<
      { readonly epoch: number; readonly after: string | undefined },
      DependencyUnavailable
    >
    /** The listing came to this key; `undefined`: to the end, and begins anew. */
    readonly advanceListing: (
      epoch: number,
      after: string | undefined,
    ) => Effect.Effect<void, StaleListing | DependencyUnavailable>

    /** First look: nobody knew these keys. Those remembered already keep their time. Returns how many are new. */
    readonly suspect: (keys: ReadonlyArray<string>) => Effect.Effect<number, DependencyUnavailable>
    /**
     * Second look: up to `limit` candidates first seen at least `confirmSeconds` ago, those longest without a turn first.
     * None while removals are held. Whoever gets them must ask once more whether they are unknown.
     */
    readonly dueCandidates: (options: {
      readonly confirmSeconds: number
      readonly limit: number
    }) => Effect.Effect<ReadonlyArray<string>, DependencyUnavailable>
    /** Forgets candidates, removed or known after all. Returns how many were still remembered: of two callers one counts each. */
    readonly settle: (keys: ReadonlyArray<string>) => Effect.Effect<number, DependencyUnavailable>
  }
>() {}
