/** What the harness asks its worker processes to do, and what they answer. Plain data: it crosses a process boundary. */

/** One HTTP request, built once and sent as often as wanted; the body's payload is made by the sender. */
export interface RequestSpec {
  /** Request line and headers, lines ended by CRLF, without Content-Length and the empty line. */
  readonly head: string
  readonly body?: { readonly prefix: string; readonly bytes: number; readonly suffix: string }
  /** The one status that is no error. */
  readonly status: number
  /** How many bytes the answer's body must have. */
  readonly answerBytes?: number
}

export interface HttpJob {
  readonly kind: "http"
  /** Connections are spread over these by turns. */
  readonly ports: ReadonlyArray<number>
  readonly clients: number
  /** No request begins later; those under way are finished and counted. */
  readonly seconds: number
  readonly requests: ReadonlyArray<RequestSpec>
  /** Client i begins with request i; each goes on by as many as there are clients. With `once`, each is sent once. */
  readonly once?: boolean
  /** At most so many in all. */
  readonly atMost?: number
  /** Arrivals a second, whatever the answers do; without it each client sends when it has its answer. */
  readonly rate?: number
  /** Return the ids of the artifacts made, with the time (µs, monotonic) each was due to be sent and was answered. */
  readonly keepIds?: boolean
}

/** Files of so many bytes written, synced, renamed, folder synced: what durability costs without a server. */
export interface DurableFilesJob {
  readonly kind: "durable-files"
  readonly folder: string
  readonly bytes: number
  readonly clients: number
  readonly seconds: number
}

/** SHA-256 of so many bytes that lie in memory, in one thread, by the 64 KiB in which sockets give them. */
export interface HashJob {
  readonly kind: "sha256"
  readonly bytes: number
  readonly seconds: number
}

/** Transactions of one insert of a few hundred bytes each, over that many connections. */
export interface InsertsJob {
  readonly kind: "inserts"
  readonly databaseUrl: string
  readonly clients: number
  readonly seconds: number
}

/** The store's own SDK without a node in between. */
export interface S3Job {
  readonly kind: "s3-put" | "s3-get"
  readonly endpoint: string
  readonly region: string
  readonly bucket: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly bytes: number
  readonly clients: number
  readonly seconds: number
}

/** Begin to read the stream; answers once it waits. `collect` ends it. */
export interface WatchJob {
  readonly kind: "watch"
  readonly redisUrl: string
  readonly stream: string
}

/** Waits until so many entries were seen, or for five seconds. */
export interface CollectJob {
  readonly kind: "collect"
  readonly count: number
}

/**
 * Memory used once and given back: a virtual machine takes memory that lies idle away from its guest, and each page of
 * it that comes back costs more than the bytes that are then written to it.
 */
export interface WarmMemoryJob {
  readonly kind: "warm-memory"
  readonly bytes: number
}

export type Job = HttpJob | DurableFilesJob | HashJob | InsertsJob | S3Job | WatchJob | CollectJob | WarmMemoryJob

export interface Made {
  readonly id: string
  /** Of the request in the job. */
  readonly index: number
  readonly dueMicros: number
  readonly answeredMicros: number
}

export interface JobResult {
  readonly requests: number
  readonly seconds: number
  readonly latencyMicros: ReadonlyArray<number>
  readonly errorCount: number
  /** The first few. */
  readonly errors: ReadonlyArray<string>
  readonly made: ReadonlyArray<Made>
  /** Of the worker itself: a generator that uses a whole core is the limit of what it measures. */
  readonly workerCpuMicros: number
}

/** Monotonic and the same in every process of the machine. */
export const nowMicros = (): number => Number(process.hrtime.bigint() / 1000n)
