import { Clock, Effect, Layer, Redacted } from "effect"
import { randomBytes, randomUUID } from "node:crypto"
import { Ids } from "../../services/Ids.ts"
import { ArtifactId, CredentialId, EventId } from "../../src/domain/Ids.ts"

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

/** 26 digits of base 32, by way of JavaScript's own, which are others. */
const encode = (value: bigint): string => {
  let text = ""
  for (const digit of value.toString(32).padStart(26, "0")) text += alphabet[Number.parseInt(digit, 32)]
  return text
}

/** 80 random bits, out of the 122 that a version 4 UUID has; Node keeps UUIDs in store, and random bytes it does not. */
const random = (): bigint => {
  const uuid = randomUUID()
  return BigInt(`0x${uuid.slice(0, 8)}${uuid.slice(24)}`)
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
      last = time > last >> 80n ? (time << 80n) | random() : last + 1n
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
