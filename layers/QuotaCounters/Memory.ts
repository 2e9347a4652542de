import { Clock, Effect, Layer } from "effect"
import type { Usage } from "../../src/domain/Quota.ts"
import { QuotaCounters } from "../../services/QuotaCounters.ts"
import { missing, type RawCounters, rebuilding } from "./Rebuilding.ts"

/** How long a reservation lives unless it is renewed, in milliseconds. */
const lifetime = 45_000

/** How long figures that came before those that precede them wait for these, in milliseconds. */
const patience = 1_000

interface Counters {
  usage: Pick<Usage, "usedBytes" | "limitBytes" | "version">
  readonly reservations: Map<string, { bytes: number; until: number }>
  /** Commits whose figures are not the next ones yet, by version: their reservations stand for them so long. */
  early: ReadonlyArray<{ readonly uploadId: string; readonly usage: Usage; readonly since: number }>
}

const advance = (counters: Counters, now: number) => {
  for (let first = counters.early[0]; first !== undefined; first = counters.early[0]) {
    const { since, uploadId, usage } = first
    if (usage.version > counters.usage.version + 1 && now - since < patience) return
    counters.early = counters.early.slice(1)
    counters.reservations.delete(uploadId)
    if (usage.version > counters.usage.version) counters.usage = usage
  }
}

const make = Effect.gen(function* () {
  const projects = new Map<string, Counters>()

  /** Runs on the project's counters in one step, after expired reservations are dropped. */
  const step = <A>(project: string, run: (counters: Counters, now: number) => A) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      const counters = projects.get(project)
      if (counters === undefined) return missing
      for (const [id, { until }] of counters.reservations) if (until <= now) counters.reservations.delete(id)
      advance(counters, now)
      return run(counters, now)
    })
  const reserved = (counters: Counters) =>
    [...counters.reservations.values()].reduce((sum, { bytes }) => sum + bytes, 0)
  const reading = (counters: Counters) => ({
    usedBytes: counters.usage.usedBytes,
    limitBytes: counters.usage.limitBytes,
    reservedBytes: reserved(counters),
  })

  const grant = (counters: Counters, now: number, uploadId: string, need: number, want: number) => {
    const held = counters.reservations.get(uploadId)?.bytes ?? 0
    const room = counters.usage.limitBytes - counters.usage.usedBytes - (reserved(counters) - held)
    if (need > held && need > room) return { _tag: "Refused", ...reading(counters) } as const
    const bytes = Math.max(held, Math.min(want, room))
    counters.reservations.set(uploadId, { bytes, until: now + lifetime })
    return { _tag: "Granted", bytes } as const
  }

  const raw: RawCounters = {
    reserve: (project, uploadId, need, want, superseded) =>
      step(project, (counters, now) => {
        if (superseded !== undefined) counters.reservations.delete(superseded)
        return grant(counters, now, uploadId, need, want)
      }),
    extend: (project, uploadId, need, want) =>
      step(project, (counters, now) =>
        counters.reservations.has(uploadId) ? grant(counters, now, uploadId, need, want) : ({ _tag: "Lost" } as const),
      ),
    renew: (project, uploadId, bytes) =>
      step(project, (counters, now) => {
        const held = counters.reservations.get(uploadId)?.bytes
        const room = counters.usage.limitBytes - counters.usage.usedBytes - reserved(counters)
        if (held !== undefined || bytes <= room)
          counters.reservations.set(uploadId, { bytes: held ?? bytes, until: now + lifetime })
        return true as const
      }),
    settle: (project, uploadId, usage) =>
      step(project, (counters, now) => {
        if (uploadId !== undefined && usage !== undefined && usage.version > counters.usage.version + 1) {
          const early = [...counters.early, { uploadId, usage, since: now }]
          counters.early = early.sort((a, b) => a.usage.version - b.usage.version)
          return true as const
        }
        if (uploadId !== undefined) counters.reservations.delete(uploadId)
        if (usage !== undefined && usage.version > counters.usage.version) {
          counters.usage = usage
          advance(counters, now)
        }
        return true as const
      }),
    read: (project) => step(project, (counters) => ({ ...reading(counters), version: counters.usage.version })),
    load: (project, snapshot, unlessMoved) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const counters = projects.get(project)
        if (counters === undefined) {
          const reservations = snapshot.reservations.map(
            ({ uploadId, bytes }) => [uploadId, { bytes, until: now + lifetime }] as const,
          )
          projects.set(project, { usage: snapshot.usage, reservations: new Map(reservations), early: [] })
        } else {
          if (counters.usage.version === unlessMoved) counters.early = []
          if (counters.usage.version === unlessMoved || snapshot.usage.version > counters.usage.version)
            counters.usage = snapshot.usage
        }
      }),
    ping: Effect.void,
  }
  return yield* rebuilding(raw)
})

/** Counters of one process, gone with it and rebuilt from the truth. */
export const layer = Layer.effect(QuotaCounters, make)
