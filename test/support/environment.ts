import { randomBytes } from "node:crypto"

/** What production nodes of one plane have in common: where they keep everything, and the administrator's key. */
export const productionEnvironment = (postgresUrl: string, redisUrl: string, dataDir: string) => {
  const adminKey = `mbx_${randomBytes(32).toString("hex")}`
  const env = {
    DATABASE_URL: postgresUrl,
    REDIS_URL: redisUrl,
    DATA_DIR: dataDir,
    BOOTSTRAP_API_KEY: adminKey,
    URL_SIGNING_SECRET: randomBytes(32).toString("hex"),
    EVENT_STREAM_KEY: "events",
  }
  return { adminKey, env }
}
