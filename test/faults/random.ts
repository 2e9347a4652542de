/** Chance that can be had again: the same seed gives the same numbers (mulberry32). */
export interface Random {
  /** An integer from 0 to below `end`, or from `start` to below `end`. */
  below(end: number): number
  between(start: number, end: number): number
  pick<A>(among: ReadonlyArray<A>): A | undefined
}

export const makeRandom = (seed: number): Random => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (end: number) => Math.floor(next() * end)
  return {
    below,
    between: (start, end) => start + below(end - start),
    pick: (among) => among[below(among.length)],
  }
}
