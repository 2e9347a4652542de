/** How far JSON from outside may be nested: what common readers take, and far below what exhausts a stack. */
export const maxJsonDepth = 100

/** Whether a parsed JSON value has more levels of objects and arrays than it may. */
export const isTooDeep = (value: unknown): boolean => {
  let level = [value]
  for (let depth = 0; depth <= maxJsonDepth; depth++) {
    level = level.flatMap((item) => (typeof item === "object" && item !== null ? Object.values(item) : []))
    if (level.length === 0) return false
  }
  return true
}
