import { chmodSync, mkdirSync, statSync } from "node:fs"

/** What DATA_DIR is when the environment does not name one. */
export const defaultDataDir = ".data"

/**
 * What DATA_DIR is for. `own`: all that one embedded node has, its database included, which is closed to everybody
 * else. `store`: files that pods may share, on a volume whose owner and group are its administrator's choice.
 */
export type Use = "own" | "store"

/** Write permission for everybody, and any permission for those who are not the owner. */
const writableByAll = 0o002
const openToOthers = 0o077

/** The user this process runs as; `undefined` on systems without users by number. */
const me = () => process.getuid?.()

const octal = (mode: number) => (mode & 0o7777).toString(8).padStart(4, "0")

/** Makes the folder, closed to everybody else, unless it is there. */
export const makeOwn = (folder: string): void => void mkdirSync(folder, { recursive: true, mode: 0o700 })

/**
 * Why this folder must not be used: one sentence that says what is wrong and what to do; `undefined`: nothing is.
 * Whoever may write here may change artifacts and, of an embedded node, the functions of its database.
 * Throws when the folder is not there or cannot be looked at.
 */
export const objectionTo = (dataDir: string, use: Use): string | undefined => {
  const user = me()
  if (user === undefined) return undefined
  const { mode, uid } = statSync(dataDir)
  if ((mode & writableByAll) !== 0)
    return (
      `DATA_DIR "${dataDir}" can be written by every user of this machine (mode ${octal(mode)}): check that nobody ` +
      `changed what is in it, then run chmod ${use === "own" ? "700" : "o-w"} on it.`
    )
  if (use === "own" && uid !== user)
    return (
      `DATA_DIR "${dataDir}" belongs to another user (uid ${uid}), who can change what is in it: run as that user, or ` +
      `give it to this one with chown ${user}.`
    )
  return undefined
}

/** Closes a folder of ours to everybody else. Returns its mode of before when others could enter it, e.g. `0755`. */
export const closeToOthers = (dataDir: string): string | undefined => {
  const { mode } = statSync(dataDir)
  if (me() === undefined || (mode & openToOthers) === 0) return undefined
  chmodSync(dataDir, 0o700)
  return octal(mode)
}

/** Whether this user alone decides what stands in the folder: code that is read back from it may be executed. */
export const isOursAlone = (folder: string): boolean => {
  const { mode, uid } = statSync(folder)
  return me() === undefined || (uid === me() && (mode & 0o022) === 0)
}
