import { auditSuite } from "./Audit.ts"
import { authenticatorSuite } from "./Authenticator.ts"
import { claimStoreSuite } from "./ClaimStore.ts"
import { databaseAgeSuite } from "./DatabaseAge.ts"
import type { SqlLayer, SuiteOptions } from "./fixtures.ts"
import { leaseVerifierSuite } from "./LeaseVerifier.ts"
import { metadataStoreSuite } from "./MetadataStore.ts"
import { outboxSuite } from "./Outbox.ts"
import { projectDutiesSuite } from "./ProjectDuties.ts"
import { projectStoreSuite } from "./ProjectStore.ts"
import { removalQueueSuite } from "./RemovalQueue.ts"
import { storeGuardSuite } from "./StoreGuard.ts"

/** The suites of all services that stand on one database, each over a build of the layer of its own. */
export const sqlSuites = (name: string, subject: SqlLayer, options: SuiteOptions) => {
  projectStoreSuite(name, subject, options)
  auditSuite(name, subject)
  authenticatorSuite(name, subject)
  claimStoreSuite(name, subject, options)
  databaseAgeSuite(name, subject, { numbered: true })
  leaseVerifierSuite(name, subject)
  metadataStoreSuite(name, subject, options)
  outboxSuite(name, subject, options)
  projectDutiesSuite(name, subject)
  removalQueueSuite(name, subject, options)
  storeGuardSuite(name, subject, options)
}
