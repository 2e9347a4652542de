import { startPostgres } from "../support/postgres.ts"
import { startRedis } from "../support/redis.ts"
import { faultStory, killStory } from "./scene.ts"
import { stackNames } from "./stacks.ts"

/**
 * `node test/crashPoints/long.ts [stack] [walk]`: each step of each walk, before and after, fails, hangs and is the
 * process's last, on each stack that outlives its process.
 */
const [stack, walk] = process.argv.slice(2)
const [postgres, redis] = await Promise.all([startPostgres(), startRedis()])
const servers = { postgresUrl: postgres.url, redisUrl: redis.url }
const every = { steps: "always", moments: ["before", "after"] } as const
/** Kills take a process each, but for those of several workers at once. */
const once = { steps: "once", moments: ["before", "after"] } as const
let bad = 0
const started = Date.now()
const say = (line: string) => console.log(`${((Date.now() - started) / 1000).toFixed(1)} s  ${line}`)
try {
  for (const name of stackNames.filter((one) => stack === undefined || stack === one)) {
    const stories = {
      "fail and hang": () => faultStory(name, servers, every, { walk, say }),
      ...(name !== "memory" && {
        kill: () => killStory(name, servers, once, { walk, say }),
      }),
    }
    for (const [what, story] of Object.entries(stories)) {
      const began = Date.now()
      const { cases, sentences } = await story()
      console.log(`${name}, ${what}: ${cases} cases in ${Math.round((Date.now() - began) / 1000)} s`)
      for (const sentence of sentences) console.log(`  ${sentence}`)
      bad += sentences.length
    }
  }
} finally {
  await Promise.all([postgres.dispose(), redis.dispose()])
}
process.exit(bad === 0 ? 0 : 1)
