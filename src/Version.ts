import { readFileSync } from "node:fs"
import { join } from "node:path"
import { Schema } from "effect"
import type { SettingsShape } from "./Config.ts"

const manifest = Schema.decodeUnknownSync(Schema.parseJson(Schema.Struct({ version: Schema.String })))(
  readFileSync(join(import.meta.dirname, "../package.json"), "utf8"),
)

/** What runs here: this program's release, the commit it was built from when that is known, and Node's version. */
export interface Build {
  readonly version: string
  readonly commit?: string
  readonly node: string
}

export const buildOf = ({ buildCommit }: Pick<SettingsShape, "buildCommit">): Build => ({
  version: manifest.version,
  ...(buildCommit !== undefined && { commit: buildCommit }),
  node: process.versions.node,
})
