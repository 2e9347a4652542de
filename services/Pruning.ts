/** One step of pruning: small enough for one statement, whatever is due. */
export interface PruneStep {
  /** Rows looked at, at most; the oldest first. */
  readonly limit: number
  /** `next` of the step before; absent: begin with the oldest. */
  readonly after?: string | undefined
}

/** What a step did. */
export interface Pruned {
  /** Rows removed. */
  readonly removed: number
  /** Where the next step goes on; absent: nothing more is due. Good for the store that gave it alone. */
  readonly next: string | undefined
}
