import { permissions, Scene } from "../support/scene.ts"
import { api, expectStatus, sleep, type Wire } from "../support/wire.ts"
import { target } from "../target.ts"
import type { CallerName, LeaseName } from "./table.ts"

const everything = Object.values(permissions)

/** The run of the artifacts of the tables, and of no others. */
export const castRun = "run:cast"

/** A token as it is sent, and the job whose path it is sent to. */
export interface Lease {
  readonly token: string | undefined
  readonly jobId: string
}

/** The artifacts of the tables, by their names there; each was published by `creator` for `owner`. */
export type Artifacts = Readonly<Record<"shared" | "private" | "gone-shared" | "gone-private", string>>

/** The projects, keys, leases and artifacts that the tables speak of. */
export class Cast {
  readonly scene: Scene
  readonly other: Scene
  readonly keys: Readonly<Record<CallerName, string | undefined>>
  #leases!: Readonly<Record<Exclude<LeaseName, "live">, Lease>>
  #tokens!: Readonly<Record<"shared" | "private", string>>
  artifacts!: Artifacts

  private constructor(scene: Scene, other: Scene, keys: Readonly<Record<CallerName, string | undefined>>) {
    this.scene = scene
    this.other = other
    this.keys = keys
  }

  static async open(): Promise<Cast> {
    const scene = await Scene.open()
    const other = await Scene.open()
    const keyOf = async (granted: ReadonlyArray<string>) => (await scene.newKey("agent", granted)).key
    const revoked = await scene.newKey("agent", everything)
    expectStatus(await scene.revoke(revoked), 204)
    const keys = {
      none: undefined,
      unknown: `mbx_${"0".repeat(64)}`,
      revoked: revoked.key,
      expired: await brief(scene),
      foreign: (await other.newKey("agent", everything)).key,
      bare: await keyOf([]),
      twin: (await scene.newKey("service", [], scene.owner.id)).key,
      view: await keyOf([permissions.view]),
      edit: await keyOf([permissions.edit]),
      execute: await keyOf([permissions.execute]),
      claims: await keyOf([permissions.claims]),
      owner: (await scene.newKey(scene.owner.kind, [], scene.owner.id)).key,
      creator: await keyOf([permissions.execute]),
      admin: target.adminKey,
    }
    const cast = new Cast(scene, other, keys)
    await cast.#takeLeases()
    await cast.#publishArtifacts()
    return cast
  }

  async #takeLeases(): Promise<void> {
    const { other, scene } = this
    const expired = await scene.claim({ lease_seconds: 5 })
    const released = await scene.claim()
    expectStatus(await scene.release(released), 204)
    const superseded = await scene.claim()
    await scene.claim({ job_id: superseded.jobId, attempt: 2 })
    const former = await scene.claim()
    expectStatus(await scene.putClaim(former.jobId, former.body), 200)
    const { jobId } = await scene.claim()
    this.#leases = {
      none: { token: undefined, jobId },
      unknown: { token: `lease_${"0".repeat(64)}`, jobId },
      bound: await scene.claim({ worker_principal_id: "somebody-else" }),
      theirs: { token: (await other.claim()).token, jobId },
      expired,
      released,
      superseded,
      former,
    }
    // Longer than the shortest lease there is, and than the key that was to expire.
    await sleep(5_500)
  }

  async #publishArtifacts(): Promise<void> {
    const { scene } = this
    const claims = async (run_id: string) => ({
      shared: (await scene.claim({ run_id })).token,
      private: (await scene.claim({ run_id, visibility: "private" })).token,
    })
    this.#tokens = await claims(castRun)
    this.artifacts = {
      shared: await this.publish("shared"),
      private: await this.publish("private"),
      "gone-shared": await this.publish("gone-shared"),
      "gone-private": await this.publish("gone-private"),
    }
    this.#tokens = await claims("run:1")
  }

  /** A fresh artifact's id; `gone-…`: deleted at once. */
  async publish(what: string): Promise<string> {
    const visibility = what.endsWith("private") ? "private" : "shared"
    const options = { lease: this.#tokens[visibility], key: this.keys.creator ?? "", name: what }
    const artifact: Wire = await this.scene.publish("bytes", options)
    if (what.startsWith("gone-")) expectStatus(await this.scene.remove(artifact.id), 204)
    return artifact.id
  }

  /** The lease of a column. A live one is fresh, because the call may end it. */
  async lease(name: LeaseName): Promise<Lease> {
    return name === "live" ? await this.scene.claim() : this.#leases[name]
  }
}

/** A key that ends in a moment. */
const brief = async (scene: Scene): Promise<string> => {
  const answer = await api(target.adminKey, "POST", `/v1/admin/projects/${scene.handle}/api-keys`, {
    principal: { kind: "agent", id: "brief" },
    permissions: everything,
    expires_at: new Date(Date.now() + 1_000).toISOString(),
  })
  return expectStatus(answer, 201).json.key
}
