import { randomBytes } from "node:crypto"
import { constants } from "node:fs"
import { access, link, open, readdir, readFile, rename, stat, unlink } from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import { DateTime, Effect, Layer, Stream } from "effect"
import { BlobMissing, BlobStore } from "../../services/BlobStore.ts"
import { DependencyUnavailable } from "../../services/Unavailable.ts"
import { Buffers } from "./Buffers.ts"
import { FileReader } from "./files/FileReader.ts"
import { FileWriter } from "./files/FileWriter.ts"
import { Folders, makeFolder, syncFolder } from "./files/Folders.ts"
import { OpenFiles } from "./files/OpenFiles.ts"
import { checkKey } from "./keys.ts"
import { held } from "../../src/Held.ts"
import { spanned, traced } from "../../src/telemetry/Spans.ts"

/** Memory of finished writes and of finished reads that is kept for the next ones, in bytes. */
const mostIdle = 4 * 1024 * 1024
const mostIdleRead = 16 * 1024 * 1024

const isMissing = (error: unknown) => (error as NodeJS.ErrnoException).code === "ENOENT"
const orVanished =
  <A>(instead: A) =>
  (error: unknown): A => {
    if (isMissing(error)) return instead
    throw error
  }
const fault = (operation: string) => (cause: unknown) =>
  new DependencyUnavailable({ dependency: "blob_store", operation, cause })
const attempt = <A>(operation: string, run: () => Promise<A>) =>
  Effect.tryPromise({ try: run, catch: fault(operation) })

/** A key's file name: `/` may not stand in one, and `+` may not stand in a key. */
const nameOf = (key: string) => checkKey(key).replaceAll("/", "+")
const keyOf = (name: string) => name.replaceAll("+", "/")

const make = (directory: string) =>
  Effect.gen(function* () {
    const objects = join(directory, "objects")
    const temporary = join(directory, "tmp")
    const identity = join(directory, "store-id")
    const watermark = join(directory, "store-watermark")
    const buffers = new Buffers(mostIdle)
    const readBuffers = new Buffers(mostIdleRead)
    const openFiles = new OpenFiles()
    yield* attempt("open", () => makeFolder(temporary))
    const folders = yield* Effect.acquireRelease(
      attempt("open", () => Folders.open(objects)),
      (opened) => Effect.promise(() => opened.close()),
    )
    const pathOf = (key: string) => folders.pathOf(key, nameOf(key))
    /** What is not in a folder that is not there either, of a volume that is not mounted say, is not known to be gone. */
    const missingOr = (key: string, operation: string) => (error: unknown) =>
      isMissing(error)
        ? Effect.zipRight(
            attempt(operation, () => access(dirname(pathOf(key)))),
            new BlobMissing({ key }),
          )
        : fault(operation)(error)

    /** Files of one folder by name, those behind `after` only, with their times; what vanishes meanwhile is left out. */
    async function* filesIn(folder: string, after = "") {
      for (const name of (await readdir(folder)).sort()) {
        if (name <= after) continue
        const found = await stat(join(folder, name)).catch(orVanished(undefined))
        if (found) yield { name, size: found.size, modified: DateTime.unsafeMake(found.mtimeMs) }
      }
    }

    /** All objects, folder by folder: that and their names is the order of the list. */
    async function* objectsBehind(key: string | undefined) {
      const [from, after] = key === undefined ? ["", ""] : [dirname(pathOf(key)), nameOf(key)]
      for (const folder of folders.paths) if (folder >= from) yield* filesIn(folder, folder === from ? after : "")
    }

    /** A file whole under another name first, for `link` or `rename` to make it the one meant. */
    const drafted = async (target: string, text: string, place: (draft: string) => Promise<void>) => {
      const draft = join(temporary, `${basename(target)}.${randomBytes(6).toString("hex")}`)
      const handle = await open(draft, "wx", 0o640)
      await handle.writeFile(text)
      await handle.sync()
      await handle.close()
      await place(draft)
      await syncFolder(directory)
    }
    const textOf = async (path: string) => (await readFile(path, "utf8").catch(orVanished(undefined)))?.trim()

    return BlobStore.of({
      open: traced("BlobStore.open")(function* (key, { size }) {
        let finished = false
        const writer = yield* held(
          Effect.sync(() => new FileWriter(temporary, pathOf(key), nameOf(key), folders, buffers)),
          (draft) => (finished ? Effect.void : Effect.promise(() => draft.discard())),
        )
        return {
          write: (chunk) => writer.write(chunk),
          finish: attempt("finish", async () => {
            if (size !== undefined && size !== writer.size)
              throw new Error(`${writer.size} bytes came instead of ${size}`)
            await writer.finish()
            finished = true
          }).pipe(Effect.uninterruptible, spanned("BlobStore.finish")),
        }
      }),
      read: traced("BlobStore.read")((key, range) => {
        const path = pathOf(key)
        return held(
          Effect.tryPromise({
            try: async () => new FileReader(await openFiles.join(path), range, readBuffers),
            catch: (error) => error,
          }).pipe(Effect.catchAll(missingOr(key, "read"))),
          (reader) => Effect.sync(() => reader.close()),
        )
      }),
      stat: traced("BlobStore.stat")((key) => {
        const path = pathOf(key)
        return Effect.tryPromise({ try: () => stat(path), catch: (error) => error }).pipe(
          Effect.catchAll(missingOr(key, "stat")),
          Effect.map(({ mtimeMs, size }) => ({ key, size, modifiedAt: DateTime.unsafeMake(mtimeMs) })),
        )
      }),
      remove: traced("BlobStore.remove")((key) => {
        const path = pathOf(key)
        return attempt("remove", async () => {
          try {
            await unlink(path)
            openFiles.removed(path)
          } catch (error) {
            if (!isMissing(error)) throw error
            // Without the store itself, an unmounted volume say, nothing is known to be gone.
            await access(objects)
            return
          }
          await folders.sync(path)
        })
      }),
      list: ({ after } = {}) =>
        Stream.fromAsyncIterable(objectsBehind(after), fault("list")).pipe(
          Stream.map(({ modified, name, size }) => ({ key: keyOf(name), size, modifiedAt: modified })),
        ),
      partials: Stream.suspend(() => Stream.fromAsyncIterable(filesIn(temporary), fault("partials"))).pipe(
        Stream.map(({ modified, name }) => ({
          key: keyOf(name.slice(0, name.lastIndexOf("."))),
          handle: name,
          touchedAt: modified,
        })),
      ),
      removePartial: traced("BlobStore.removePartial")(({ handle }) =>
        attempt("removePartial", () => unlink(join(temporary, basename(handle))).catch(orVanished(undefined))),
      ),
      signedUrl: () => Effect.succeed(undefined),
      identify: traced("BlobStore.identify")((storeId, { place }) =>
        attempt("identify", async () => {
          const found = await textOf(identity)
          if (found !== undefined || !place) return found
          // A link either makes the name or finds it taken.
          await drafted(identity, storeId, async (draft) => {
            await link(draft, identity).catch((error: NodeJS.ErrnoException) => {
              if (error.code !== "EEXIST") throw error
            })
            await unlink(draft)
          })
          return await textOf(identity)
        }),
      ),
      watermark: attempt("watermark", () => textOf(watermark)),
      setWatermark: traced("BlobStore.setWatermark")((text) =>
        attempt("setWatermark", () => drafted(watermark, text, (draft) => rename(draft, watermark))),
      ),
      ping: attempt("ping", () => access(objects, constants.W_OK)),
    })
  })

/** Files under `directory`, which pods may share. Durable by POSIX: synced, renamed, folder synced. */
export const layer = (options: { readonly directory: string }) => Layer.scoped(BlobStore, make(options.directory))
