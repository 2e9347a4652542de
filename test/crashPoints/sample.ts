import { makeRandom } from "../faults/random.ts"

/** No more than `most` of all; the same ones with the same seed. */
export interface Sample {
  readonly seed: number
  readonly most: number
}

/** In the order of all. */
export const sampled = <A>(all: ReadonlyArray<A>, sample: Sample | undefined): ReadonlyArray<A> => {
  if (sample === undefined) return all
  const random = makeRandom(sample.seed)
  const left = [...all]
  while (left.length > sample.most) left.splice(random.below(left.length), 1)
  return left
}
