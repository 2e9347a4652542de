import type * as Sharding from "@effect/cluster/Sharding"
import type { Effect, Scope } from "effect"
import type { ProjectHandle } from "../../src/domain/Ids.ts"
import type { Journal, Tenant } from "./journal.ts"
import type { Home, Services, StackName } from "./stacks.ts"
import type { Trap } from "./trap.ts"

/** What a walk needs. `product` runs what is watched; all else reaches the services behind the traps. */
export interface Scene {
  readonly journal: Journal
  readonly tenant: Tenant
  readonly project: ProjectHandle
  readonly home: Home
  /** Whether `product` has come by the step. */
  readonly passed: (step: string) => boolean
  readonly product: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, Services>>
  readonly aside: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, Services>>
}

export interface Walk {
  readonly name: string
  /** Faults that bring the walk to the steps it is about. */
  readonly given?: ReadonlyArray<Trap>
  /** It works on the whole plane, not on one project: no other case may run meanwhile. */
  readonly alone?: true
  /** Its steps are tried also where an earlier walk came by them. */
  readonly whole?: true
  /** Its steps are done by actors, whose fibers belong to no case. */
  readonly byActors?: true
  /** Its uploads say several times a second that they live; those of other walks never come to it. */
  readonly renewing?: true
  /** Only here can it be brought about; `why` says so in the report. */
  readonly only?: { readonly stack: StackName; readonly why: string }
  readonly run: (scene: Scene) => Effect.Effect<unknown, unknown, Scope.Scope | Sharding.Sharding>
}
