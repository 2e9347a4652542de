import { Metric } from "effect"

/** Bytes on their way through this node, and who holds a connection open for them. */
const gauge = (name: string, description: string) => Metric.gauge(name, { description }).register()
const counter = (name: string, description: string) =>
  Metric.counter(name, { description, incremental: true }).register()

export const openUploads = gauge("artifact_open_uploads", "Uploads on their way through this node.")
export const openDownloads = gauge("artifact_open_downloads", "Downloads on their way through this node.")
export const openEventStreams = gauge("artifact_open_event_streams", "Event streams open on this node.")

const received = counter("artifact_bytes_received_total", "Bytes of upload bodies that came, accepted or not.")
const sent = counter("artifact_bytes_sent_total", "Bytes of artifacts handed to connections.")

const refusedConnections = counter(
  "artifact_connections_refused_total",
  "Connections that were closed as they came, for there were too many.",
)

export const connectionRefused = (): void => refusedConnections.unsafeUpdate(1, [])
export const bytesReceived = (bytes: number): void => received.unsafeUpdate(bytes, [])
export const bytesSent = (bytes: number): void => sent.unsafeUpdate(bytes, [])

/** One more of them, or one less. */
export const moved = (open: Metric.Metric.Gauge<number>, by: 1 | -1): void => open.unsafeModify(by, [])
