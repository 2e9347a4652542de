import { createHash } from "node:crypto"
import { type FileHandle, open, rename } from "node:fs/promises"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { join } from "node:path"

/**
 * The ceilings that take HTTP: a bare Node server that knows nothing of keys, leases, quotas or a database.
 * `PUT /drain` reads and forgets; `PUT /store` hashes and writes; `PUT /store-sync` makes that durable too;
 * `GET /files/NAME` sends a file of the folder.
 */
const folder = process.argv[2] ?? "."
const gathered = 256 * 1024

/** Hashes as bytes come, writes 256 KiB at a time with one write under way, pauses the sender at 1 MiB. */
const store = async (req: IncomingMessage, turn: number, durable: boolean): Promise<string> => {
  const draft = join(folder, `draft-${turn}`)
  const target = join(folder, `stored-${turn}`)
  const hash = createHash("sha256")
  const file = await open(draft, "w", 0o640)
  let waiting: Array<Buffer> = []
  let bytes = 0
  let writing: Promise<void> | undefined
  const write = async () => {
    while (bytes >= gathered) {
      const now = waiting
      waiting = []
      bytes = 0
      await file.writev(now)
    }
    if (req.isPaused()) req.resume()
    writing = undefined
  }
  await new Promise<void>((resolve, reject) => {
    req.on("data", (chunk: Buffer) => {
      hash.update(chunk)
      waiting.push(chunk)
      bytes += chunk.length
      if (bytes >= gathered) writing ??= write()
      writing?.catch(reject)
      if (bytes >= 4 * gathered) req.pause()
    })
    req.on("end", resolve)
    req.on("error", reject)
  })
  await writing
  if (bytes > 0) await file.writev(waiting)
  if (durable) await file.datasync()
  await file.close()
  await rename(draft, target)
  if (durable) await syncFolder()
  return hash.digest("hex")
}

const syncFolder = async () => {
  const handle = await open(folder, "r")
  await handle.sync()
  await handle.close()
}

const written = (res: ServerResponse, chunk: Buffer, last: boolean) =>
  new Promise<void>((resolve, reject) => {
    const done = (error?: Error | null) => (error ? reject(error) : resolve())
    if (last) res.end(chunk, () => done())
    else res.write(chunk, done)
  })

const pool: Array<Buffer> = []

const send = async (res: ServerResponse, path: string): Promise<void> => {
  let file: FileHandle | undefined
  const buffer = pool.pop() ?? Buffer.allocUnsafeSlow(gathered)
  try {
    file = await open(path, "r")
    const { size } = await file.stat()
    res.writeHead(200, { "content-type": "application/octet-stream", "content-length": size })
    for (let at = 0; at < size;) {
      const { bytesRead } = await file.read(buffer, 0, gathered, at)
      at += bytesRead
      await written(res, buffer.subarray(0, bytesRead), at >= size)
    }
  } finally {
    pool.push(buffer)
    await file?.close()
  }
}

let turns = 0
const server = createServer({ keepAliveTimeout: 60_000, requestTimeout: 0 }, (req, res) => {
  const answer = (text: string) => {
    res.writeHead(201, { "content-type": "text/plain", "content-length": Buffer.byteLength(text) })
    res.end(text)
  }
  const work =
    req.method === "GET"
      ? send(res, join(folder, (req.url ?? "").replace("/files/", "")))
      : req.url === "/drain"
        ? new Promise<void>((resolve) => {
            req.on("end", resolve)
            req.resume()
          }).then(() => answer("ok"))
        : store(req, ++turns, req.url === "/store-sync").then(answer)
  work.catch((error: unknown) => {
    console.error(error)
    res.destroy()
  })
})
server.listen(0, "127.0.0.1", () => {
  const address = server.address()
  process.send?.({ port: typeof address === "object" && address !== null ? address.port : 0 })
})
process.on("disconnect", () => process.exit(0))
