import { sqlSuites } from "./allSql.ts"
import { embeddedLayer } from "./sql.ts"

sqlSuites("PGlite", embeddedLayer, { concurrent: false })
