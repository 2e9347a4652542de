import { Effect, FiberRef, FiberRefs, GlobalValue } from "effect"
import type { ServerResponse } from "node:http"

/** What a piece of work is about; ids only. */
export interface Subject {
  readonly project?: string
  readonly artifactId?: string
}

const current = GlobalValue.globalValue("src/telemetry/Subject", () => FiberRef.unsafeMake<Subject>({}))

/** From here on, log lines of this fiber and its children say what they are about, and so does the span it is in. */
export const concerning = (subject: Subject): Effect.Effect<void> =>
  Effect.withFiberRuntime((fiber) => {
    const told = FiberRef.set(current, subject)
    return fiber.getFiberRef(FiberRef.currentTracerEnabled)
      ? Effect.zipRight(told, Effect.annotateCurrentSpan(attributes(subject)))
      : told
  })

export const subjectOf = (refs: FiberRefs.FiberRefs): Subject => FiberRefs.getOrDefault(refs, current)

/** Its names in logs and traces. */
export const attributes = ({ artifactId, project }: Subject): Record<string, string> => ({
  ...(project !== undefined && { project }),
  ...(artifactId !== undefined && { artifact_id: artifactId }),
})

/** The answer that a fiber and its children work for, and by it the request. */
export const currentAnswer = GlobalValue.globalValue("src/telemetry/Subject/answer", () =>
  FiberRef.unsafeMake<ServerResponse | undefined>(undefined),
)
