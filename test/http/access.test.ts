import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { afterAll } from "vitest"
import { startNode } from "../support/node.ts"
import { privateDir } from "../support/processes.ts"

/** The table of the acceptance suite, on an embedded node of its own. */
const home = privateDir("access")
const adminKey = `mbx_${randomBytes(32).toString("hex")}`
const node = await startNode({ env: { DATA_DIR: join(home.path, "data"), BOOTSTRAP_API_KEY: adminKey } })
afterAll(async () => {
  await node.stop()
  home.remove()
})

process.env["TARGET_BASE_URL"] = node.baseUrl
process.env["ADMIN_KEY"] = adminKey
const { describeAccess } = await import("../acceptance/access/suite.ts")
describeAccess()
