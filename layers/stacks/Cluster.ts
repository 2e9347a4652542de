import * as RunnerAddress from "@effect/cluster/RunnerAddress"
import * as RunnerHealth from "@effect/cluster/RunnerHealth"
import * as Runners from "@effect/cluster/Runners"
import * as RunnerStorage from "@effect/cluster/RunnerStorage"
import * as Sharding from "@effect/cluster/Sharding"
import * as ShardingConfig from "@effect/cluster/ShardingConfig"
import * as SocketRunner from "@effect/cluster/SocketRunner"
import * as SqlRunnerStorage from "@effect/cluster/SqlRunnerStorage"
import * as NodeClusterSocket from "@effect/platform-node/NodeClusterSocket"
import * as RpcSerialization from "@effect/rpc/RpcSerialization"
import { Layer, Option } from "effect"
import type { SettingsShape } from "../../src/Config.ts"
import * as Messages from "../ActorMessages/Storage.ts"

/**
 * Shards are held by rows that expire, not by advisory locks: a pod that hangs with its connection open would keep
 * those for as long as it hangs. A dead or hanging pod's duties move within 9 s. Nothing is read from the environment
 * here: the engine's own configuration reads unprefixed HOST and PORT, which are the HTTP listener's.
 */
const timing = {
  shardsPerGroup: 300,
  shardLockDisableAdvisory: true,
  shardLockRefreshInterval: "2 seconds",
  shardLockExpiration: "9 seconds",
  runnerHealthCheckInterval: "3 seconds",
  refreshAssignmentsInterval: "1 second",
  entityMessagePollInterval: "2 seconds",
  entityTerminationTimeout: "10 seconds",
  entityMaxIdleTime: "2 minutes",
  entityMailboxCapacity: 256,
} satisfies Partial<ShardingConfig.ShardingConfig["Type"]>

/** A cluster of this one process. Two processes so composed do each duty twice, which every duty is made to bear. */
export const single = Sharding.layer.pipe(
  Layer.provide(Runners.layerNoop),
  Layer.provideMerge(Messages.layer),
  Layer.provide([RunnerStorage.layerMemory, RunnerHealth.layerNoop]),
  Layer.provide(ShardingConfig.layer(timing)),
)

/**
 * This process as one of many, reached by the others at `runner.host:runner.port`, which is not authenticated. A pod
 * that does not answer is found dead by pings; its duties move when its shard locks expire.
 */
export const pods = ({ host, port }: NonNullable<SettingsShape["runner"]>) => {
  const health = RunnerHealth.layerPing.pipe(
    Layer.provide(Runners.layerRpc),
    Layer.provide(NodeClusterSocket.layerClientProtocol),
  )
  return SocketRunner.layer.pipe(
    Layer.provide([NodeClusterSocket.layerSocketServer, NodeClusterSocket.layerClientProtocol]),
    Layer.provide(health),
    Layer.provideMerge(Messages.layer),
    Layer.provide(SqlRunnerStorage.layer),
    Layer.provide(ShardingConfig.layer({ ...timing, runnerAddress: Option.some(RunnerAddress.make(host, port)) })),
    Layer.provide(RpcSerialization.layerMsgPack),
  )
}
