/** How many letters must be put in, left out, replaced, or swapped with their neighbour to make one text the other. */
const editDistance = (from: string, to: string): number => {
  let before: ReadonlyArray<number> = []
  let row: ReadonlyArray<number> = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1)
      const swapped =
        from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1] ? (before[j - 2] ?? replaced) + 1 : replaced
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, replaced, swapped))
    }
    before = row
    row = next
  }
  return row[to.length] ?? 0
}

/** A short name is near many others by chance, and a long one by none. */
const allowed = (key: string): number => (key.length <= 6 ? 1 : key.length <= 12 ? 2 : 3)

/** Names that are not known but differ so little from a known one that they were hardly meant otherwise. */
export const misspelt = (
  names: ReadonlyArray<string>,
  known: ReadonlyArray<string>,
): ReadonlyArray<{ readonly given: string; readonly meant: string }> =>
  names.flatMap((given) => {
    if (known.includes(given)) return []
    const [nearest] = known
      .map((meant) => ({ given, meant, distance: editDistance(given.toUpperCase(), meant) }))
      .filter(({ distance, meant }) => distance <= allowed(meant))
      .toSorted((a, b) => a.distance - b.distance)
    return nearest === undefined ? [] : [{ given, meant: nearest.meant }]
  })
