import { startPlane } from "./plane.ts"
import { quotaStory, sceneOf } from "./quotaStory.ts"

const plane = await startPlane()
try {
  console.log(
    JSON.stringify(
      {
        plain: await quotaStory(sceneOf(plane), { flush: false }),
        flushed: await quotaStory(sceneOf(plane), { flush: true }),
      },
      null,
      2,
    ),
  )
} finally {
  await plane.dispose()
}
process.exit(0)
