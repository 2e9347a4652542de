import { Effect } from "effect"
import { BadCursor } from "../../services/MetadataStore.ts"

/** A place in the order (created_at, id), newest first. `micros`: µs since the epoch, which a JS date would round. */
export interface Position {
  readonly micros: string
  readonly id: string
}

const shape = /^1\|(\d{1,16})\|(art_[A-Za-z0-9]{1,100})$/

export const encodeCursor = ({ id, micros }: Position): string =>
  Buffer.from(`1|${micros}|${id}`, "utf8").toString("base64url")

export const decodeCursor = (cursor: string): Effect.Effect<Position, BadCursor> =>
  Effect.suspend(() => {
    const [, micros, id] = shape.exec(Buffer.from(cursor, "base64url").toString("utf8")) ?? []
    return micros !== undefined && id !== undefined && encodeCursor({ micros, id }) === cursor
      ? Effect.succeed({ micros, id })
      : Effect.fail(new BadCursor())
  })
