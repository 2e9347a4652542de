import { randomBytes } from "node:crypto"
import { mkdirSync } from "node:fs"
import { createServer } from "node:http"
import { createRequire } from "node:module"
import { join } from "node:path"
import { pathToFileURL } from "node:url"

/**
 * Another upload server, from packages in a folder outside this project. Arguments: which, where its packages are, and
 * where it stores.
 */
const [which = "", packages = "", storage = ""] = process.argv.slice(2)
const resolve = createRequire(join(packages, "package.json")).resolve
const load = (name: string): Promise<any> => import(pathToFileURL(resolve(name)).href)
mkdirSync(storage, { recursive: true })

/** As its README shows it. No key, no quota, no digest, no sync. */
const tus = async () => {
  const { Server } = await load("@tus/server")
  const { FileStore } = await load("@tus/file-store")
  const server = new Server({
    path: "/files",
    datastore: new FileStore({ directory: storage }),
    respectForwardedHeaders: false,
  })
  return createServer((req, res) => void server.handle(req, res))
}

/** Express with multer's disk storage, the common way to take a form's file. No key, no quota, no digest, no sync. */
const multer = async () => {
  const { default: express } = await load("express")
  const { default: multer } = await load("multer")
  const upload = multer({
    storage: multer.diskStorage({
      destination: storage,
      filename: (_req: unknown, _file: unknown, done: (error: null, name: string) => void) =>
        done(null, randomBytes(12).toString("hex")),
    }),
  })
  const app = express()
  app.post("/upload", upload.single("file"), (req: any, res: any) => {
    res.status(201).json({ id: req.file.filename, name: req.body.name, size: req.file.size })
  })
  return createServer(app)
}

const server = which === "tus" ? await tus() : await multer()
server.requestTimeout = 0
server.keepAliveTimeout = 60_000
server.listen(0, "127.0.0.1", () => {
  const address = server.address()
  process.send?.({ port: typeof address === "object" && address !== null ? address.port : 0 })
})
process.on("disconnect", () => process.exit(0))
