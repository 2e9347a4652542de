import { randomUUID } from "node:crypto"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { call, makeTenant, type Plane, startPlane, type Tenant } from "../faults/plane.ts"

describe("the audit trail", { timeout: 120_000 }, () => {
  let plane: Plane
  let db: pg.Client
  let tenant: Tenant

  beforeAll(async () => {
    plane = await startPlane()
    db = new pg.Client({ connectionString: plane.postgres.url })
    db.on("error", () => {})
    await db.connect()
    tenant = await makeTenant(plane.node().baseUrl, plane.adminKey)
  }, 120_000)
  afterAll(async () => {
    await db?.end()
    await plane?.dispose()
  })

  const ask = async (
    method: string,
    path: string,
    options: { readonly key?: string; readonly body?: unknown } = {},
  ) => {
    const requestId = randomUUID()
    const answer = await call(`${plane.node().baseUrl}${path}`, options.key ?? plane.adminKey, {
      method,
      headers: { "x-request-id": requestId },
      ...(options.body !== undefined && { body: JSON.stringify(options.body) }),
    })
    return { ...answer, requestId }
  }
  const entriesFrom = async (id: number) =>
    (
      await db.query(
        `select action, project, subject, actor_kind, actor_id, request_id, details from audit_entries
         where project = $1 and id > $2 order by id`,
        [tenant.project, id],
      )
    ).rows
  const lastId = async () => Number((await db.query("select coalesce(max(id), 0) as id from audit_entries")).rows[0].id)
  const admin = () => `/v1/admin/projects/${tenant.project}`
  const keyBody = (permissions: ReadonlyArray<string>) => ({ principal: { kind: "service", id: "ci" }, permissions })

  it("has who, what, to whom and the request of each act, in the table and in the log, and no secret", async () => {
    const before = await lastId()
    const changed = await ask("PUT", admin(), { body: { quota_bytes: 5_000_000 } })
    const issued = await ask("POST", `${admin()}/api-keys`, { body: keyBody(["mobius.claims.manage"]) })
    const overridden = await ask("DELETE", `/v1/projects/${tenant.project}/claims/${tenant.jobId}`, {
      key: issued.body.key,
    })
    const revoked = await ask("DELETE", `${admin()}/api-keys/${issued.body.id}`)
    expect([changed, issued, overridden, revoked].map(({ status }) => status)).toEqual([200, 201, 204, 204])

    const administrator = { project: tenant.project, actor_kind: "administrator", actor_id: "administrator" }
    const entries = await entriesFrom(before)
    expect(entries).toEqual([
      {
        ...administrator,
        action: "project.changed",
        subject: null,
        request_id: changed.requestId,
        details: { quota_bytes: 5_000_000 },
      },
      {
        ...administrator,
        action: "key.issued",
        subject: issued.body.id,
        request_id: issued.requestId,
        details: { principal: "service:ci", permissions: ["mobius.claims.manage"] },
      },
      {
        project: tenant.project,
        action: "claim.overridden",
        subject: tenant.jobId,
        actor_kind: "service",
        actor_id: "ci",
        request_id: overridden.requestId,
        details: {},
      },
      { ...administrator, action: "key.revoked", subject: issued.body.id, request_id: revoked.requestId, details: {} },
    ])

    const lines = plane
      .node()
      .logs()
      .split("\n")
      .filter((line) => line.includes('"message":"Audit: '))
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .slice(-4)
    expect(lines.map(({ actor, message, request_id, subject }) => ({ actor, message, request_id, subject }))).toEqual(
      entries.map((entry) => ({
        message: `Audit: ${entry.action}.`,
        actor: `${entry.actor_kind}:${entry.actor_id}`,
        request_id: entry.request_id,
        ...(entry.subject === null ? { subject: undefined } : { subject: entry.subject }),
      })),
    )
    expect(JSON.stringify([entries, lines])).not.toMatch(/mbx_|lease_[A-Za-z0-9]{10}/)
  })

  it("has no entry for what was refused or changed nothing", async () => {
    const before = await lastId()
    const path = `/v1/projects/${tenant.project}/claims/${tenant.jobId}`
    expect((await ask("DELETE", path)).status).toBe(204)
    expect((await ask("DELETE", `${admin()}/api-keys/cred_00000000000000000000000000`)).status).toBe(404)
    expect((await ask("PUT", admin(), { body: { quota_bytes: -1 } })).status).toBe(400)
    expect((await ask("PUT", admin(), { key: tenant.key, body: { quota_bytes: 1 } })).status).toBe(403)
    expect(await entriesFrom(before)).toEqual([])
  })

  it("is no act's to leave out: without a place for the entry nothing is done", async () => {
    const keys = async () => (await ask("GET", `${admin()}/api-keys`)).body.items.length
    const before = await keys()
    await db.query("alter table audit_entries rename to audit_entries_away")
    const refused = await ask("POST", `${admin()}/api-keys`, { body: keyBody(["mobius.project.view"]) })
    await db.query("alter table audit_entries_away rename to audit_entries")
    expect(refused.status).toBe(503)
    expect(await keys()).toBe(before)
  })
})
