import { describe, expect, inject, it } from "vitest"
import { sqlSuites } from "./allSql.ts"
import { postgresLayer } from "./sql.ts"

const url = inject("postgresUrl")

if (url === null) describe("Postgres", () => it("is not here", () => expect(url).toBeNull()))
else sqlSuites("Postgres", postgresLayer(url), { concurrent: true })
