import * as Http from "node:http"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { EventStream } from "../support/events.ts"
import { field, filePart, multipart } from "../support/multipart.ts"
import { permissions } from "../support/scene.ts"
import { api, expectRefusal, expectStatus, send, sleep, unique, until, type Wire } from "../support/wire.ts"
import { target } from "../target.ts"
import { Cast, castRun, type Lease } from "./cast.ts"
import {
  type CallerName,
  callers,
  calls,
  leasedCalls,
  type LeaseName,
  leases,
  rowsOf,
  seen,
  spelledOut,
} from "./table.ts"

const codes: Readonly<Record<string, string>> = {
  "401": "unauthorized",
  "403p": "permission_denied",
  "403r": "lease_required",
  "403i": "lease_invalid",
  "404": "not_found",
  "409": "lease_lost",
}

/** Pages of the node that its own description does not name. */
const undescribed = ["GET /docs", "GET /openapi.json"]

const leaseHeader = "x-mobius-lease-token"

interface Outcome {
  readonly status: number
  readonly code?: string
  /** Refused only once the body was asked for. */
  readonly late?: boolean
}

const told = ({ code, late, status }: Outcome) =>
  (code === undefined ? String(status) : `${status} ${code}`) + (late === true ? ", after the body" : "")

const expected = (cell: string): Outcome => {
  const code = codes[cell]
  return { status: Number(cell.slice(0, 3)), ...(code === undefined ? {} : { code }) }
}

/** The answer to one call; a refusal must come in the one envelope there is. */
const ask = async (
  method: string,
  path: string,
  key: string | undefined,
  headers: Record<string, string> = {},
  body?: unknown,
): Promise<Outcome> => {
  if (path.endsWith("/events") && !path.startsWith("/v1/admin")) return await askStream(path, key)
  const answer = await api(key, method, path, body, headers)
  if (answer.status < 400 || method === "HEAD") return { status: answer.status }
  return { status: answer.status, code: expectRefusal(answer, answer.status).code }
}

/** A stream that is given has no end: its head is the answer. */
const askStream = (path: string, key: string | undefined): Promise<Outcome> =>
  new Promise((resolve, reject) => {
    const headers = { Accept: "text/event-stream", ...(key === undefined ? {} : { Authorization: `Bearer ${key}` }) }
    const request = Http.get(target.baseUrl + path, { headers, agent: false }, (response) => {
      const status = response.statusCode ?? 0
      if (status === 200) {
        resolve({ status })
        request.destroy()
        return
      }
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("end", () => resolve({ status, code: JSON.parse(Buffer.concat(chunks).toString()).error.code }))
    })
    request.on("error", reject)
  })

const upload = multipart([field("name", "access.bin"), filePart("bytes")])

/** Publishes, but sends the body only when the node asks for it: what can be refused from the head must be. */
const askPublish = (path: string, key: string | undefined, lease: Record<string, string>): Promise<Outcome> =>
  new Promise((resolve, reject) => {
    const headers = {
      ...lease,
      ...(key === undefined ? {} : { Authorization: `Bearer ${key}` }),
      "Content-Type": upload.contentType,
      "Content-Length": String(upload.bytes.length),
      Expect: "100-continue",
    }
    let asked = false
    const request = Http.request(target.baseUrl + path, { method: "POST", headers, agent: false }, (response) => {
      const status = response.statusCode ?? 0
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("error", reject)
      response.on("end", () => {
        request.destroy()
        if (status < 400) return resolve({ status })
        resolve({ status, code: JSON.parse(Buffer.concat(chunks).toString()).error.code, late: asked })
      })
    })
    request.on("continue", () => {
      asked = true
      request.end(upload.bytes)
    })
    request.on("error", reject)
    request.flushHeaders()
  })

/** Every call that the node says it has, as `METHOD path`, and whether it takes a lease. */
const describedCalls = async (): Promise<ReadonlyMap<string, boolean>> => {
  const { paths } = expectStatus(await send("/openapi.json"), 200).json
  return new Map(
    Object.entries<Wire>(paths).flatMap(([path, methods]) =>
      Object.entries<Wire>(methods).map(([method, operation]) => [
        `${method.toUpperCase()} ${path}`,
        operation.parameters.some((one: Wire) => one.in === "header" && one.name.toLowerCase() === leaseHeader),
      ]),
    ),
  )
}

const callOf = (row: Readonly<Record<string, string>>) => `${row["method"]} ${row["route"]?.split("?")[0]}`

/** What the tables say, asked of the node that `target` names. */
export const describeAccess = () =>
  describe("access", () => {
    const plain = spelledOut(calls)
    const leased = spelledOut(leasedCalls)
    let cast: Cast
    /** What was admitted, and so is there now. */
    let published = 0
    beforeAll(async () => {
      cast = await Cast.open()
    }, 60_000)

    it("has a row for every call of the node, and none for others", async () => {
      const described = await describedCalls()
      const withLease = [...described].filter(([, takesLease]) => takesLease).map(([call]) => call)
      const without = [...described].filter(([, takesLease]) => !takesLease).map(([call]) => call)
      expect([...new Set(plain.map(callOf))].toSorted()).toEqual([...without, ...undescribed].toSorted())
      expect([...new Set(leased.map(callOf))].toSorted()).toEqual(withLease.toSorted())
    })

    it("has a column for every permission", async () => {
      const { components, paths } = expectStatus(await send("/openapi.json"), 200).json
      const body = paths["/v1/admin/projects/{project}/api-keys"].post.requestBody.content["application/json"].schema
      const schema = body.$ref === undefined ? body : components.schemas[body.$ref.split("/").at(-1)]
      expect(schema.properties.permissions.items.enum.toSorted()).toEqual(Object.values(permissions).toSorted())
      expect(callers).toEqual(expect.arrayContaining(Object.keys(permissions)))
    })

    it("names every caller once for each call that takes a lease", () => {
      for (const call of new Set(leased.map(callOf)))
        expect(
          leased
            .filter((row) => callOf(row) === call)
            .flatMap((row) => row["callers"]?.split(",") ?? [])
            .toSorted(),
          call,
        ).toEqual([...callers].toSorted())
    })

    /** The path of a row, with all that it needs made beforehand. */
    const pathOf = async (row: Readonly<Record<string, string>>): Promise<string> => {
      const { method = "", of = "", route = "" } = row
      const path = route.replace("{project}", cast.scene.handle).replace("{job_id}", unique("job"))
      if (route.startsWith("/v1/signed/")) return await signedPath(of)
      if (route.startsWith("/v1/admin/"))
        return path.includes("{id}") ? path.replace("{id}", (await cast.scene.newKey("agent", [])).id) : path
      if (!path.includes("{id}")) return path
      const known = cast.artifacts[of as keyof typeof cast.artifacts]
      return path.replace("{id}", method === "DELETE" ? await cast.publish(of) : known)
    }

    const signedPath = async (how: string): Promise<string> => {
      const { shared } = cast.artifacts
      if (how === "unsigned") return `/v1/signed/${shared}/content`
      const id = how === "signed-gone" ? await cast.publish("shared") : shared
      const answer = await api(cast.keys.owner, "POST", `${cast.scene.path}/${id}/signed-url`)
      const { pathname, search } = new URL(expectStatus(answer, 200).json.url)
      if (how === "signed-gone") expectStatus(await cast.scene.remove(id), 204)
      return how === "signed-other" ? `/v1/signed/${cast.artifacts.private}/content${search}` : pathname + search
    }

    const bodyOf = (row: Readonly<Record<string, string>>): unknown => {
      if (row["method"] !== "PUT" && row["method"] !== "POST") return undefined
      if (row["route"]?.endsWith("/api-keys")) return { principal: { kind: "user", id: "made" }, permissions: [] }
      if (row["route"]?.includes("/claims/")) return cast.scene.claimBody()
      return row["method"] === "PUT" ? {} : undefined
    }

    // A store that signs its URLs itself serves them itself.
    const served = plain.filter((row) => target.store === "files" || !row["of"]?.startsWith("signed"))
    const titled = served.map(
      (row) => [`${row["method"]} ${row["route"]} of ${row["of"]}`.replace(/ of -$/, ""), row] as const,
    )
    it.each(titled)("%s", async (_, row) => {
      const { method = "" } = row
      const wrong: Array<string> = []
      for (const caller of callers) {
        const wanted = expected(row[caller] ?? "")
        const outcome = await ask(method, await pathOf(row), cast.keys[caller], {}, bodyOf(row))
        if (method === "HEAD" ? outcome.status !== wanted.status : told(outcome) !== told(wanted))
          wrong.push(`${caller}: ${told(outcome)} instead of ${told(wanted)}`)
      }
      expect(wrong).toEqual([])
    })

    const askLeased = async (row: Readonly<Record<string, string>>, caller: CallerName, { jobId, token }: Lease) => {
      const path = (row["route"] ?? "").replace("{project}", cast.scene.handle).replace("{job_id}", jobId)
      const key = cast.keys[caller]
      const headers = token === undefined ? {} : { [leaseHeader]: token }
      if (!path.endsWith("/artifacts")) return await ask(row["method"] ?? "", path, key, headers)
      const outcome = await askPublish(path, key, headers)
      if (outcome.status === 201 && caller !== "foreign") published++
      return outcome
    }

    it.each(leased.map((row) => [`${callOf(row)} by ${row["callers"]}`, row] as const))("%s", async (_, row) => {
      const before = await cast.scene.artifactCount()
      published = 0
      const wrong: Array<string> = []
      for (const caller of (row["callers"] ?? "").split(",") as Array<CallerName>)
        for (const lease of leases) {
          const wanted = expected(row[lease] ?? "")
          const outcome = await askLeased(row, caller, await cast.lease(lease as LeaseName))
          if (told(outcome) !== told(wanted))
            wrong.push(`${caller}, lease ${lease}: ${told(outcome)} instead of ${told(wanted)}`)
        }
      expect(wrong).toEqual([])
      // What was refused left nothing.
      expect(await cast.scene.artifactCount()).toBe(before + published)
      await until(
        () => cast.scene.books(),
        ({ reserved }) => reserved === 0,
      )
    })

    describe("what is seen", () => {
      const open: Array<EventStream> = []
      afterAll(() => {
        for (const stream of open) stream.close()
      })

      const listed = async (caller: CallerName, query: string): Promise<ReadonlyArray<string>> => {
        const found = await api(cast.keys[caller], "GET", `/v1/artifacts?limit=100&run_id=${castRun}${query}`)
        return expectStatus(found, 200).json.items.map(({ id }: Wire) => id)
      }

      it.each(["list", "deleted"])("in %s", async (where) => {
        const wrong: Array<string> = []
        for (const row of rowsOf(seen).filter((one) => one["in"] === where))
          for (const caller of callers) {
            if (row[caller] === undefined) continue
            const ids = await listed(caller, where === "deleted" ? "&state=deleted" : "")
            const sees = ids.includes(cast.artifacts[row["what"] as keyof typeof cast.artifacts])
            if (sees !== (row[caller] === "yes")) wrong.push(`${caller} ${sees ? "sees" : "misses"} ${row["what"]}`)
          }
        expect(wrong).toEqual([])
      })

      it("in events", async () => {
        const rows = rowsOf(seen).filter((one) => one["in"] === "events")
        const watching = callers.filter((caller) => ["yes", "no"].includes(rows[0]?.[caller] ?? ""))
        const streams = new Map<CallerName, EventStream>()
        for (const caller of watching)
          streams.set(caller, await EventStream.open(cast.scene.handle, cast.keys[caller] ?? ""))
        open.push(...streams.values())
        const ids = new Map<string, string>()
        for (const what of ["private", "shared"]) ids.set(what, await cast.publish(what))
        const idsSeenBy = (caller: CallerName) =>
          (streams.get(caller)?.events ?? []).map(({ data }) => data.meta.artifact_id as string)
        const sees = (caller: CallerName, what: string) => idsSeenBy(caller).includes(ids.get(what) ?? "")
        await until(
          async () =>
            rows.every((row) => watching.every((caller) => row[caller] === "no" || sees(caller, row["what"] ?? ""))),
          (all) => all,
        )
        // Those who see it have it; what the others should not have would have come by now.
        await sleep(1_000)
        const wrong = rows.flatMap((row) =>
          watching
            .filter((caller) => sees(caller, row["what"] ?? "") !== (row[caller] === "yes"))
            .map((caller) => `${caller} has an event of ${row["what"]}`),
        )
        expect(wrong).toEqual([])
      })
    })
  })
