import { enableCompileCache } from "node:module"

// From the second start on a machine, what was compiled at the first is read back; where nothing can be kept, it is not.
enableCompileCache()
await import("./Launch.ts")
