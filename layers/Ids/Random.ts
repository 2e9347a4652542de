import { Clock, Effect, Layer, Redacted } from "effect"
import { randomBytes } from "node:crypto"
import { Ids } from "../../services/Ids.ts"
import { ArtifactId, CredentialId, EventId } from "../../src/domain/Ids.ts"

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
const randomMask = (1n << 80n) - 1n

const encode = (value: bigint): string => {
  let text = ""
  for (let shift = 125n; shift >= 0n; shift -= 5n) text += alphabet[Number((value >> shift) & 31n)]
  return text
}

const secret = (prefix: string) => Effect.sync(() => Redacted.make(prefix + randomBytes(32).toString("hex")))

/**
 * ULIDs by the Effect clock: 48 bits of milliseconds, 80 random bits. Within one millisecond, or when the clock steps
 * back, the next id is the last one plus one, so that ids of a process only ever rise.
 */
export const layer = Layer.sync(Ids, () => {
  let last = -1n
  const ulid = Clock.currentTimeMillis.pipe(
    Effect.map((millis) => {
      const time = BigInt(millis)
      last =
        time > last >> 80n ? (time << 80n) | (BigInt(`0x${randomBytes(10).toString("hex")}`) & randomMask) : last + 1n
      return encode(last)
    }),
  )
  return {
    artifact: Effect.map(ulid, (id) => ArtifactId.make(`art_${id}`, true)),
    credential: Effect.map(ulid, (id) => CredentialId.make(`cred_${id}`)),
    event: Effect.map(ulid, (id) => EventId.make(`sevt_${id}`, true)),
    apiKey: secret("mbx_"),
    leaseToken: secret("lease_"),
  }
})
