import pg from "pg"
import { type Liveness, patienceMillis } from "./Liveness.ts"
import { Watch, watchedBy } from "./WatchedClient.ts"

type Watched = InstanceType<ReturnType<typeof watchedBy>> & pg.PoolClient

/**
 * A pool whose callers do not hang on a server that is away: a statement fails within two seconds, at once when the
 * server is known to be away. One that waits for a lock on a server that lives goes on waiting. After a failover the
 * connections to the former server are given up, see Watch. A standby is refused like a server that is away.
 * A statement whose result has other columns since it was prepared is asked once more, and its connection leaves the pool; so is one that lost in a deadlock.
 * A caller who leaves lets its statement run to its end: nobody else gets the connection before.
 */
export class ImpatientPool extends pg.Pool {
  readonly #liveness: Liveness

  /** `prepares`: statements with parameters are prepared by name. */
  constructor(options: pg.PoolConfig, prepares: boolean) {
    const watch = new Watch(options)
    super({ ...options, Client: watchedBy(watch, prepares) })
    this.#liveness = watch.liveness
  }

  override connect(): Promise<pg.PoolClient>
  override connect(done: Parameters<pg.Pool["connect"]>[0]): void
  override connect(done?: Parameters<pg.Pool["connect"]>[0]): Promise<pg.PoolClient> | void {
    if (done === undefined)
      return new Promise((resolve, reject) =>
        this.connect((error, client) => (client === undefined ? reject(error) : resolve(client))),
      )
    if (this.#liveness.away) return void process.nextTick(done, this.#liveness.noAnswer(), undefined, () => {})
    // All connections may be taken for long by others who queue for a project: whoever waits for one waits on while the
    // server lives.
    let answered = false
    const look = async (): Promise<void> => {
      const alive = await this.#liveness.check()
      if (answered) return
      if (alive) timer = setTimeout(look, patienceMillis)
      else {
        answered = true
        done(this.#liveness.noAnswer(), undefined, () => {})
      }
    }
    let timer = setTimeout(look, patienceMillis)
    super.connect((error, client, release) => {
      clearTimeout(timer)
      if (answered) return void release()
      answered = true
      if (error !== undefined) void this.#liveness.check()
      if (client === undefined) return done(error, client, release)
      const { release: giveBack } = client
      client.release = (broken) =>
        broken ? giveBack(broken) : (client as Watched).settle((unusable) => giveBack(unusable))
      done(error, client, client.release)
    })
  }

  override end(): Promise<void>
  override end(done: () => void): void
  override end(done?: () => void): Promise<void> | void {
    this.#liveness.close()
    return done === undefined ? super.end() : super.end(done)
  }
}
