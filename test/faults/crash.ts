import { crashStory } from "./crashStory.ts"

const report = await crashStory(Number(process.argv[2] ?? 50))
console.log(JSON.stringify(report, null, 2))
process.exit(report.faults.length === 0 ? 0 : 1)
