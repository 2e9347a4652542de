/** What waits is counted for metrics up to here: beyond it an exact number helps nobody and costs as much as it is large. */
export const countedAtMost = 100_000
