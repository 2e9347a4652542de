import { Metric } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import { secondBuckets } from "./buckets.ts"

const histogram = (name: string, description: string) => Metric.histogram(name, secondBuckets, description).register()

const receiving = histogram(
  "artifact_upload_receive_seconds",
  "Of a successful upload, from its head to the last byte of its body: mostly the client's line.",
)
const answering = histogram(
  "artifact_upload_answer_seconds",
  "Of a successful upload, from the last byte of its body to the end of the answer: the node's own time.",
)

/**
 * Times the two parts of an upload, once its answer has ended with 2xx. Others are left out: a refusal comes before the
 * body has, and would make the node look fast.
 */
export const observeUpload = (req: IncomingMessage, res: ServerResponse): void => {
  const begun = performance.now()
  let received: number | undefined
  req.once("end", () => {
    received = performance.now()
  })
  res.once("finish", () => {
    if (received === undefined || res.statusCode >= 300) return
    receiving.unsafeUpdate((received - begun) / 1000, [])
    answering.unsafeUpdate((performance.now() - received) / 1000, [])
  })
}
