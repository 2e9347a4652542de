import { randomBytes } from "node:crypto"
import { constants } from "node:fs"
import { access, link, open, readdir, readFile, stat, unlink } from "node:fs/promises"
import { join } from "node:path"
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
    const buffers = new Buffers(mostIdle)
    const readBuffers = new Buffers(mostIdleRead)
    const openFiles = new OpenFiles()
    yield* attempt("open", () => makeFolder(temporary))
    const folders = yield* Effect.acquireRelease(
      attempt("open", () => Folders.open(objects)),
      (opened) => Effect.promise(() => opened.close()),
    )
    const pathOf = (key: string) => folders.pathOf(key, nameOf(key))
    const missingOr = (key: string, operation: string) => (error: unknown) =>
      isMissing(error) ? new BlobMissing({ key }) : fault(operation)(error)

    /** Files of a folder tree with their times; what vanishes meanwhile is left out. */
    async function* walk(folder: string): AsyncGenerator<{ name: string; size: number; modified: number }> {
      for (const entry of await readdir(folder, { withFileTypes: true }).catch(orVanished([]))) {
        const path = join(folder, entry.name)
        if (entry.isDirectory()) yield* walk(path)
        else {
          const found = await stat(path).catch(orVanished(undefined))
          if (found) yield { name: entry.name, size: found.size, modified: found.mtimeMs }
        }
      }
    }

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
            catch: missingOr(key, "read"),
          }),
          (reader) => Effect.sync(() => reader.close()),
        )
      }),
      stat: traced("BlobStore.stat")((key) => {
        const path = pathOf(key)
        return Effect.tryPromise({ try: () => stat(path), catch: missingOr(key, "stat") }).pipe(
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
      list: ({ before }) =>
        Stream.fromAsyncIterable(walk(objects), fault("list")).pipe(
          Stream.filter(({ modified }) => modified < before.epochMillis),
          Stream.map(({ modified, name, size }) => ({
            key: keyOf(name),
            size,
            modifiedAt: DateTime.unsafeMake(modified),
          })),
        ),
      removePartials: traced("BlobStore.removePartials")(({ before }) =>
        attempt("removePartials", async () => {
          let count = 0
          for await (const { modified, name } of walk(temporary)) {
            if (modified >= before.epochMillis) continue
            await unlink(join(temporary, name)).catch(orVanished(undefined))
            count++
          }
          return count
        }),
      ),
      signedUrl: () => Effect.succeed(undefined),
      identify: traced("BlobStore.identify")((storeId) =>
        attempt("identify", async () => {
          // Written whole under another name first: a link either makes the name or finds it taken.
          const draft = join(temporary, `store-id.${randomBytes(6).toString("hex")}`)
          const handle = await open(draft, "wx", 0o640)
          await handle.writeFile(storeId)
          await handle.sync()
          await handle.close()
          await link(draft, identity).catch((error: NodeJS.ErrnoException) => {
            if (error.code !== "EEXIST") throw error
          })
          await unlink(draft)
          await syncFolder(directory)
          return (await readFile(identity, "utf8")).trim()
        }),
      ),
      ping: attempt("ping", () => access(objects, constants.W_OK)),
    })
  })

/** Files under `directory`, which pods may share. Durable by POSIX: synced, renamed, folder synced. */
export const layer = (options: { readonly directory: string }) => Layer.scoped(BlobStore, make(options.directory))
