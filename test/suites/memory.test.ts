import { Layer } from "effect"
import * as AuditMemory from "../../layers/Audit/Memory.ts"
import * as AuthenticatorMemory from "../../layers/Authenticator/Memory.ts"
import * as ClaimStoreMemory from "../../layers/ClaimStore/Memory.ts"
import * as MemoryDatabase from "../../layers/clients/Memory.ts"
import * as NodeCrypto from "../../layers/ContentHasher/NodeCrypto.ts"
import * as DatabaseAgeMemory from "../../layers/DatabaseAge/Memory.ts"
import * as IdsRandom from "../../layers/Ids/Random.ts"
import * as LeaseVerifierMemory from "../../layers/LeaseVerifier/Memory.ts"
import * as MetadataStoreMemory from "../../layers/MetadataStore/Memory.ts"
import * as OutboxMemory from "../../layers/Outbox/Memory.ts"
import * as ProjectDutiesMemory from "../../layers/ProjectDuties/Memory.ts"
import * as ProjectStoreMemory from "../../layers/ProjectStore/Memory.ts"
import * as RemovalQueueMemory from "../../layers/RemovalQueue/Memory.ts"
import * as StoreGuardMemory from "../../layers/StoreGuard/Memory.ts"
import { auditSuite } from "./Audit.ts"
import { authenticatorSuite } from "./Authenticator.ts"
import { claimStoreSuite } from "./ClaimStore.ts"
import { contentHasherSuite } from "./ContentHasher.ts"
import { databaseAgeSuite } from "./DatabaseAge.ts"
import { idsSuite } from "./Ids.ts"
import { leaseVerifierSuite } from "./LeaseVerifier.ts"
import { metadataStoreSuite } from "./MetadataStore.ts"
import { outboxSuite } from "./Outbox.ts"
import { projectDutiesSuite } from "./ProjectDuties.ts"
import { projectStoreSuite } from "./ProjectStore.ts"
import { removalQueueSuite } from "./RemovalQueue.ts"
import { storeGuardSuite } from "./StoreGuard.ts"

const quota = { defaultQuotaBytes: 5_000 }

const memory = Layer.mergeAll(
  AuditMemory.layer,
  AuthenticatorMemory.layer,
  ClaimStoreMemory.layer,
  DatabaseAgeMemory.layer,
  LeaseVerifierMemory.layer,
  MetadataStoreMemory.layer(quota),
  OutboxMemory.layer,
  ProjectDutiesMemory.layer,
  ProjectStoreMemory.layer(quota),
  RemovalQueueMemory.layer,
  StoreGuardMemory.layer,
).pipe(Layer.provideMerge(Layer.merge(MemoryDatabase.layer, IdsRandom.layer)))

const concurrent = { concurrent: true }

idsSuite("Random", IdsRandom.layer)
contentHasherSuite("NodeCrypto", NodeCrypto.layer)
projectStoreSuite("Memory", memory, concurrent)
auditSuite("Memory", memory)
authenticatorSuite("Memory", memory)
claimStoreSuite("Memory", memory, concurrent)
databaseAgeSuite("Memory", memory, { numbered: false })
leaseVerifierSuite("Memory", memory)
metadataStoreSuite("Memory", memory, concurrent)
outboxSuite("Memory", memory, concurrent)
projectDutiesSuite("Memory", memory)
removalQueueSuite("Memory", memory, concurrent)
storeGuardSuite("Memory", memory, concurrent)
