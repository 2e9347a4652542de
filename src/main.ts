import { enableCompileCache } from "node:module"
import { compileCacheDir } from "./config/compileCache.ts"

// From the second start on, what was compiled at the first is read back; where nothing can be kept, it is not.
const folder = compileCacheDir()
if (folder !== undefined) enableCompileCache(folder)
await import("./Launch.ts")
