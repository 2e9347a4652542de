import { setFlagsFromString } from "node:v8"

/**
 * V8 begins to compile no more functions by its optimizing compilers, from now on. Exiting waits for them, and one that
 * needs the garbage collector waits for the main thread: for ever (github.com/nodejs/node/issues/54918).
 */
export const stopOptimizer = (): void => {
  setFlagsFromString("--no-maglev")
  setFlagsFromString("--no-turbofan")
}
