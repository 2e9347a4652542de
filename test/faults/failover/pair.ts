import pg from "pg"
import { type PostgresServer, startPostgres } from "../../support/postgres.ts"
import { type Flavour, wantedFlavour } from "../../support/postgresPrograms.ts"
import { sleep } from "../../support/processes.ts"
import { startTcpSwitch } from "../../support/tcpSwitch.ts"

/** A primary and its streaming replica behind one address. */
export interface Pair {
  readonly primary: PostgresServer
  readonly replica: PostgresServer
  /** Of the address. */
  readonly url: string
  /** The replica gets nothing more of what the primary writes. */
  cutReplication(): Promise<void>
  /** Makes the replica the primary, and leads the address to it; returns when it took its first write, by Date.now(). */
  promote(): Promise<number>
  dispose(): Promise<void>
}

const replicaName = "replica_1"

/** What the runbook tells an operator to run. */
export const runbook = {
  waitForReplica: `alter system set synchronous_standby_names = 'FIRST 1 (${replicaName})'`,
  reload: "select pg_reload_conf()",
  inStep: "select 1 from pg_stat_replication where sync_state = 'sync'",
  promote: "select pg_promote()",
}

/** One connection for some questions. */
export const asking = async <A>(server: PostgresServer, questions: (client: pg.Client) => Promise<A>): Promise<A> => {
  const client = new pg.Client({ connectionString: server.url })
  client.on("error", () => {})
  await client.connect()
  try {
    return await questions(client)
  } finally {
    await client.end()
  }
}

/** pg_basebackup comes with a distribution's package, not with the npm binaries. */
export const replicatingFlavour = (): Flavour => (wantedFlavour() === "npm" ? "debian" : wantedFlavour())

/** A replica of a running server. `synchronous`: a commit is acknowledged once the replica has it too. */
export const startReplica = async (
  primary: PostgresServer,
  options: { readonly synchronous: boolean },
): Promise<PostgresServer> => {
  const replica = await startPostgres({ flavour: primary.flavour, replicaOf: { primary, name: replicaName } })
  if (options.synchronous)
    await asking(primary, async (client) => {
      await client.query(runbook.waitForReplica)
      await client.query(runbook.reload)
      const inStep = async () => (await client.query(runbook.inStep)).rowCount === 1
      while (!(await inStep())) await sleep(20)
    })
  return replica
}

/** Makes the replica a primary; returns when it took its first write. */
export const promote = (replica: PostgresServer): Promise<void> =>
  asking(replica, async (client) => {
    await client.query(runbook.promote)
    await client.query("create temporary table first_write ()")
  })

export const startPair = async (options: { readonly synchronous: boolean }): Promise<Pair> => {
  const primary = await startPostgres({ flavour: replicatingFlavour() })
  const replica = await startReplica(primary, options)
  const address = await startTcpSwitch([primary.port, replica.port])
  return {
    primary,
    replica,
    url: `postgres://postgres@127.0.0.1:${address.port}/postgres`,
    cutReplication: () =>
      asking(replica, async (client) => {
        await client.query("alter system set primary_conninfo = ''")
        await client.query(runbook.reload)
        const receiving = async () => (await client.query("select 1 from pg_stat_wal_receiver")).rowCount !== 0
        while (await receiving()) await sleep(20)
      }),
    promote: async () => {
      await promote(replica)
      const at = Date.now()
      await address.lead(1)
      return at
    },
    dispose: async () => {
      await address.dispose()
      await Promise.all([primary.dispose(), replica.dispose()])
    },
  }
}
