import type { IncomingMessage, ServerResponse } from "node:http"
import { BadRequest, ClientGone, UploadStalled } from "../../publish/Refusals.ts"
import { gathering, releaseBytes } from "../../domain/Bytes.ts"
import type { FileSink, ReceiveHandlers } from "../../publish/Receive.ts"
import { bytesReceived } from "../../telemetry/Transfers.ts"
import { continueIfAsked } from "./EarlyAnswer.ts"
import { makeParser } from "./MultipartParser.ts"
import { watchPace } from "./Pace.ts"
import { parseBoundary, type PartInfo } from "./PartHeaders.ts"

/** The part that is the file; whatever else its headers say, only the name makes it so. */
const fileName = "file"
const maxFieldBytes = 256 * 1024

export interface ReceiveOptions extends ReceiveHandlers {
  /** Aborting stops the reading at once. */
  readonly signal: AbortSignal
  /** How long the client may send nothing while it is waited for, in seconds. */
  readonly idleSeconds: number
}

type Step =
  | { readonly _tag: "Field"; readonly name: string; readonly value: Uint8Array }
  | { readonly _tag: "File"; readonly info: PartInfo }
  | { readonly _tag: "Chunk"; readonly bytes: Uint8Array }
  /** No step before this one needs the bytes any longer, and none after it. */
  | { readonly _tag: "Done"; readonly bytes: Uint8Array }

/** Collects the parts of a body as steps, and refuses what no body may have. */
const collector = (boundary: string, steps: Array<Step>) => {
  const seen = new Set<string>()
  let info: PartInfo | undefined
  let value = gathering()
  return makeParser(boundary, {
    begin: (part) => {
      if (seen.has(part.name))
        throw new BadRequest({ message: `The body has more than one part ${JSON.stringify(part.name.slice(0, 200))}.` })
      seen.add(part.name)
      info = part
      if (part.name === fileName) steps.push({ _tag: "File", info: part })
    },
    data: (chunk) => {
      if (info?.name === fileName) return void steps.push({ _tag: "Chunk", bytes: chunk })
      if (value.size() + chunk.length > maxFieldBytes)
        throw new BadRequest({
          message: `The part ${JSON.stringify(info?.name.slice(0, 200))} is larger than ${maxFieldBytes} bytes.`,
        })
      value.add(chunk)
    },
    end: () => {
      if (info !== undefined && info.name !== fileName)
        steps.push({ _tag: "Field", name: info.name, value: value.bytes() })
      info = undefined
      value = gathering()
    },
  })
}

/**
 * Reads a multipart body to its very end and hands its parts on one at a time, in order. While a handler's promise is
 * open nothing is read, so that memory stays flat and a slow store slows the client. Rejects with BadRequest,
 * UploadStalled, UploadTooSlow, ClientGone or what a handler threw, and leaves the socket paused; what comes then is the caller's.
 */
export const receiveMultipart = (req: IncomingMessage, res: ServerResponse, options: ReceiveOptions): Promise<void> =>
  new Promise((resolve, reject) => {
    const steps: Array<Step> = []
    let sink: FileSink | undefined
    let busy = false
    let ended = false
    let settled = false

    const settle = (finish: () => void) => {
      if (settled) return
      settled = true
      clearTimeout(idle)
      pace.stop()
      req.off("data", onData).off("end", onEnd).off("error", onGone).off("close", onGone)
      options.signal.removeEventListener("abort", onAbort)
      req.pause()
      finish()
    }
    const fail = (error: unknown) => settle(() => reject(error))

    const perform = (step: Step): Promise<void> | undefined => {
      switch (step._tag) {
        case "Field":
          options.onField(step.name, step.value)
          return undefined
        case "File":
          return options.onFile({ contentType: step.info.contentType }).then((opened) => {
            sink = opened
          })
        case "Chunk":
          return sink?.write(step.bytes)
        case "Done":
          releaseBytes(step.bytes)
          return undefined
      }
    }

    /** Performs what is queued until it is done or must wait. Throws what a handler throws. */
    const work = (): void => {
      if (settled || busy) return
      for (let step = steps.shift(); step !== undefined; step = steps.shift()) {
        const waiting = perform(step)
        if (waiting === undefined) continue
        busy = true
        clearTimeout(idle)
        pace.busy()
        req.pause()
        waiting.then(goOn, fail)
        return
      }
      if (ended) finishUp()
    }
    const guarded = (action: () => void) => {
      try {
        action()
      } catch (error) {
        fail(error)
      }
    }
    const goOn = () => {
      busy = false
      if (settled) return
      guarded(work)
      if (settled || busy || ended) return
      idle = setTimeout(onIdle, options.idleSeconds * 1000)
      pace.waiting()
      req.resume()
    }
    const finishUp = () => {
      if (parser.complete()) return settle(resolve)
      fail(new BadRequest({ message: "The multipart body is malformed: it ends before its closing boundary." }))
    }

    const parse = (chunk: Buffer) => {
      const bytes = parser.push(chunk)
      if (bytes !== chunk) releaseBytes(chunk)
      steps.push({ _tag: "Done", bytes })
    }
    const onData = (chunk: Buffer) => {
      idle.refresh()
      pace.came(chunk.length)
      bytesReceived(chunk.length)
      guarded(() => {
        parse(chunk)
        work()
      })
    }
    const onEnd = () => {
      ended = true
      clearTimeout(idle)
      pace.stop()
      guarded(work)
    }
    // A body that ended closes too, perhaps while its last bytes are still being stored.
    const onGone = () => {
      if (!ended) fail(new ClientGone())
    }
    const onAbort = () => fail(options.signal.reason)
    const onIdle = () => fail(new UploadStalled({ idleSeconds: options.idleSeconds }))
    let idle = setTimeout(onIdle, options.idleSeconds * 1000)
    const pace = watchPace(fail)
    pace.waiting()

    let parser: ReturnType<typeof collector>
    try {
      parser = collector(parseBoundary(req.headers["content-type"]), steps)
    } catch (error) {
      return fail(error)
    }
    if (options.signal.aborted) return onAbort()
    if (req.destroyed && !req.complete) return onGone()
    options.signal.addEventListener("abort", onAbort)
    continueIfAsked(req, res)
    req.on("data", onData).on("end", onEnd).on("error", onGone).on("close", onGone)
    req.resume()
  })
