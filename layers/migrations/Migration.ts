/**
 * One step of the schema. Pods of the release before run on it while it is applied and after it, so it only expands:
 * tables, nullable columns, indexes, functions with new names. What a release does not use any more, a later one drops.
 * Ids rise by one, and a step that was released never changes.
 */
export type Migration = { readonly id: number; readonly name: string } & (
  | {
      /**
       * One transaction, for all that needs an instant only. It holds its locks until its end, and whoever comes for
       * the table queues behind it while it waits for them: a try has two seconds, waiting and working, and is repeated.
       */
      readonly kind: "transaction"
      readonly statements: ReadonlyArray<string>
    }
  | {
      /**
       * An index of a table that may be large, made beside its readers and writers. No transaction holds it together:
       * a broken try leaves an invalid index, which the next one drops.
       */
      readonly kind: "index"
      /** `create [unique] index concurrently <name> on …` */
      readonly create: string
    }
  | {
      /** Values for rows that are there already, a batch at a time, each a transaction of its own; resumed where it stopped. */
      readonly kind: "backfill"
      /**
       * Carries out one batch: the rows by key after `$1::text` (empty at first), at most `$2::integer` of them. Returns
       * one row with `last`: the key it came to as text, null when there was none left.
       */
      readonly batch: string
    }
)

/** As it is called in messages: `0002_artifact_labels`. */
export const titleOf = ({ id, name }: Pick<Migration, "id" | "name">): string =>
  `${String(id).padStart(4, "0")}_${name}`
