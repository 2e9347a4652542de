import type { Random } from "../faults/random.ts"

/** What a node has that requests may name. */
export interface World {
  readonly project: string
  readonly key: string
  readonly adminKey: string
  readonly token: string
  readonly jobId: string
  /** Ids of artifacts that were made, deleted ones included. */
  readonly artifacts: ReadonlyArray<string>
  readonly cursors: ReadonlyArray<string>
  /** Paths of signed URLs, with their queries. */
  readonly signed: ReadonlyArray<string>
}

/** A request as bytes, and what it was meant to be. */
export interface Fuzzed {
  readonly kind: string
  readonly bytes: Buffer
}

const pieces = [
  "\0",
  "\r",
  "\n",
  "\r\n",
  " ",
  "%",
  "%00",
  "%2f",
  "%zz",
  "..",
  "/",
  "//",
  ";",
  "#",
  "?",
  "&",
  "=",
  '"',
  "'",
  "\\",
  "\u202e",
  "é",
  "😀",
  "-",
  "--",
  ":",
  ",",
  "{",
  "}",
  "[",
  "]",
  "null",
  "1e20",
  "-1",
  "9".repeat(30),
  "a".repeat(300),
  "art_",
  "\uFFFF",
  "\x7F",
  "\x80",
]

const some = <A>(random: Random, among: ReadonlyArray<A>): A => among[random.below(among.length)] as A
const chance = (random: Random, oneIn: number) => random.below(oneIn) === 0

/** Text of a few pieces that have broken other software. */
const text = (random: Random, most = 6) =>
  Array.from({ length: random.below(most) }, () =>
    chance(random, 2) ? some(random, pieces) : String.fromCharCode(random.between(32, 127)),
  ).join("")

const query = (random: Random, known: ReadonlyArray<string>) => {
  const pairs = Array.from({ length: random.below(4) }, () => {
    const name = chance(random, 8) ? text(random, 3) : some(random, known)
    return `${name}=${chance(random, 3) ? encodeURIComponent(text(random)) : text(random).replace(/[\r\n \0]/g, "+")}`
  })
  return pairs.length === 0 ? "" : `?${pairs.join("&")}`
}

const json = (random: Random, depth = 0): unknown => {
  switch (random.below(depth > 3 ? 5 : 8)) {
    case 0:
      return text(random)
    case 1:
      return random.below(2 ** 31) - 2 ** 30
    case 2:
      return some(random, [0, -0, 1e20, 1e308, 5e-324, 2 ** 53, -1, 0.1])
    case 3:
      return null
    case 4:
      return chance(random, 2)
    case 5:
      return Array.from({ length: random.below(4) }, () => json(random, depth + 1))
    default:
      return Object.fromEntries(
        Array.from({ length: random.below(4) }, () => [text(random, 3), json(random, depth + 1)]),
      )
  }
}

const request = (line: string, headers: ReadonlyArray<string>, body: Buffer | string = "") =>
  Buffer.concat([
    Buffer.from(`${line} HTTP/1.1\r\nHost: here\r\n${headers.map((header) => `${header}\r\n`).join("")}\r\n`, "latin1"),
    Buffer.from(body),
  ])

const bearer = (key: string) => `Authorization: Bearer ${key}`

/** A body that is multipart, more or less. */
const multipartBody = (random: Random, boundary: string): Buffer => {
  const names = ["name", "file", "mime", "size_bytes", "sha256", "metadata", "run_id", "visibility", "", "x"]
  const values: Record<string, () => string> = {
    name: () => (chance(random, 3) ? text(random, 20) : `f/${random.below(1000)}.txt`),
    mime: () => some(random, ["text/plain", "image/png", "x", "a/b; c=d", text(random)]),
    size_bytes: () => some(random, ["0", "5", "-1", "1e3", "00", "9007199254740993", text(random, 3)]),
    sha256: () => some(random, ["0".repeat(64), "F".repeat(64), text(random)]),
    metadata: () => (chance(random, 4) ? text(random) : JSON.stringify(json(random))),
  }
  const parts: Array<Buffer> = []
  const add = (name: string) => {
    const value =
      name === "file"
        ? Buffer.alloc(random.below(chance(random, 10) ? 300_000 : 300), some(random, ["x", "\r\n--", boundary, "\0"]))
        : Buffer.from((values[name] ?? (() => text(random)))())
    const filename =
      name === "file" && !chance(random, 8) ? `; filename="${chance(random, 4) ? text(random) : "f"}"` : ""
    const type = chance(random, 3)
      ? `Content-Type: ${some(random, ["text/plain", "text/html;charset=utf-8", text(random, 4).replace(/[\r\n]/g, "")])}\r\n`
      : ""
    const extra = chance(random, 12) ? `X-${text(random, 2)}: ${"y".repeat(random.below(6000))}\r\n` : ""
    parts.push(
      Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"${filename}\r\n${type}${extra}\r\n`),
      value,
      Buffer.from("\r\n"),
    )
  }
  const order = chance(random, 3)
    ? Array.from({ length: random.below(6) }, () => some(random, names))
    : ["name", "file"]
  if (chance(random, 4)) order.push(some(random, names))
  for (const name of order) add(name)
  if (!chance(random, 10)) parts.push(Buffer.from(`--${boundary}--\r\n`))
  return Buffer.concat(parts)
}

const upload = (random: Random, world: World): Buffer => {
  const boundary = some(random, ["b", "----form123", "a'b", "x".repeat(70)])
  const body = multipartBody(random, boundary)
  const headers = [
    bearer(world.key),
    `Content-Type: multipart/form-data; boundary=${chance(random, 10) ? text(random, 3).replace(/[\r\n]/g, "") : boundary}`,
    ...(chance(random, 8) ? [] : [`X-Mobius-Lease-Token: ${chance(random, 12) ? "lease_x" : world.token}`]),
    ...(chance(random, 3) ? [`Idempotency-Key: k${random.below(20)}`] : []),
  ]
  const path = chance(random, 2) ? `/v1/projects/${world.project}/artifacts` : "/v1/artifacts"
  if (chance(random, 4)) {
    const chunks: Array<Buffer> = []
    for (let at = 0; at < body.length;) {
      const size = random.between(1, 3000)
      const chunk = body.subarray(at, at + size)
      chunks.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from("\r\n"))
      at += size
    }
    return request(
      `POST ${path}`,
      [...headers, "Transfer-Encoding: chunked"],
      Buffer.concat([...chunks, Buffer.from("0\r\n\r\n")]),
    )
  }
  const length = chance(random, 12) ? Math.max(0, body.length + random.between(-20, 20)) : body.length
  return request(`POST ${path}`, [...headers, `Content-Length: ${length}`], body)
}

const withJson = (line: string, key: string, body: string, extra: ReadonlyArray<string> = []) =>
  request(
    line,
    [bearer(key), "Content-Type: application/json", `Content-Length: ${Buffer.byteLength(body)}`, ...extra],
    body,
  )

const anyId = (random: Random, world: World) =>
  chance(random, 4) || world.artifacts.length === 0
    ? `art_${text(random, 4).replace(/[\r\n ?#]/g, "")}`
    : some(random, world.artifacts)
const pathText = (random: Random) => text(random, 5).replace(/[\r\n \0]/g, "%00")

/** By kind: how each is made, and how often compared with the others. */
const makers: Record<string, { readonly weight: number; readonly make: (random: Random, world: World) => Buffer }> = {
  upload: { weight: 10, make: upload },
  list: {
    weight: 4,
    make: (random, world) => {
      const known = ["run_id", "step_id", "job_id", "mime", "name_prefix", "state", "cursor", "limit"]
      const cursor = world.cursors.length > 0 && chance(random, 3) ? some(random, world.cursors) : undefined
      const broken =
        cursor === undefined
          ? ""
          : `?cursor=${cursor.slice(0, random.between(1, cursor.length + 1))}${chance(random, 2) ? "" : text(random, 2).replace(/[\r\n \0]/g, "")}`
      return request(`GET /v1/artifacts${cursor === undefined ? query(random, known) : broken}`, [bearer(world.key)])
    },
  },
  events: {
    weight: 2,
    make: (random, world) =>
      request(`GET /v1/events${query(random, ["after", "limit", "type", "run_id", "mime"])}`, [bearer(world.key)]),
  },
  content: {
    weight: 4,
    make: (random, world) => {
      const range = some(random, [
        "bytes=0-",
        "bytes=-5",
        "bytes=5-2",
        "bytes=0-0,2-3",
        `bytes=${text(random, 4).replace(/[\r\n]/g, "")}`,
        "bytes=99999999999999999999-",
        "lines=1-2",
      ])
      const conditions = [
        `If-Match: ${text(random, 3).replace(/[\r\n]/g, "")}`,
        'If-None-Match: "x", *',
        "If-Range: yesterday",
        `If-Modified-Since: ${text(random, 2).replace(/[\r\n]/g, "")}`,
      ]
      return request(
        `${some(random, ["GET", "HEAD"])} /v1/artifacts/${anyId(random, world)}/content${chance(random, 8) ? query(random, ["x"]) : ""}`,
        [bearer(world.key), `Range: ${range}`, ...(chance(random, 2) ? [some(random, conditions)] : [])],
      )
    },
  },
  signed: {
    weight: 2,
    make: (random, world) => {
      const path =
        world.signed.length === 0 ? "/v1/signed/art_x/content?expires=1&signature=x" : some(random, world.signed)
      const at = random.below(path.length)
      return request(
        `GET ${chance(random, 2) ? path : path.slice(0, at) + pathText(random) + path.slice(at + random.below(3))}`,
        [],
      )
    },
  },
  sign: {
    weight: 1,
    make: (random, world) =>
      withJson(
        `POST /v1/artifacts/${anyId(random, world)}/signed-url${query(random, ["ttl_seconds"])}`,
        world.key,
        JSON.stringify(json(random)),
      ),
  },
  one: {
    weight: 2,
    make: (random, world) =>
      request(`GET /v1/artifacts/${anyId(random, world)}${query(random, ["include"])}`, [bearer(world.key)]),
  },
  remove: {
    weight: 1,
    make: (random, world) => request(`DELETE /v1/artifacts/${anyId(random, world)}`, [bearer(world.key)]),
  },
  claim: {
    weight: 2,
    make: (random, world) => {
      const body = {
        worker_session_id: text(random),
        attempt: 1,
        owner: { kind: "agent", id: text(random) },
        [text(random, 2)]: json(random),
      }
      const path = `/v1/projects/${world.project}/claims/fuzz-${pathText(random)}`
      return chance(random, 2)
        ? withJson(
            `PUT ${path}`,
            world.adminKey,
            chance(random, 4) ? JSON.stringify(json(random)) : JSON.stringify(body),
          )
        : request(`${some(random, ["DELETE", "GET"])} ${path}`, [bearer(world.adminKey)])
    },
  },
  heartbeat: {
    weight: 1,
    make: (random, world) =>
      request(`POST /v1/projects/${world.project}/claims/${pathText(random)}/heartbeat`, [
        bearer(world.key),
        `X-Mobius-Lease-Token: ${world.token}`,
        "Content-Length: 0",
      ]),
  },
  admin: {
    weight: 2,
    make: (random, world) =>
      withJson(
        some(random, [
          `POST /v1/admin/projects/${world.project}/api-keys`,
          `PUT /v1/admin/projects/fuzz-${pathText(random)}`,
          `DELETE /v1/admin/projects/${world.project}/api-keys/cred_${pathText(random)}`,
        ]),
        world.adminKey,
        JSON.stringify(json(random)),
      ),
  },
  path: {
    weight: 2,
    make: (random, world) =>
      request(
        `${some(random, ["GET", "PUT", "OPTIONS", "PATCH", "TRACE"])} /${pathText(random)}/v1/${pathText(random)}`,
        [bearer(chance(random, 2) ? world.key : text(random, 4).replace(/[\r\n]/g, ""))],
      ),
  },
}
const kinds = Object.entries(makers).flatMap(([kind, { weight }]) => Array.from({ length: weight }, () => kind))

/** Breaks bytes anywhere: cuts, repeats, swaps, flips and inserts. */
const mutate = (random: Random, bytes: Buffer): Buffer => {
  const at = random.below(bytes.length)
  const to = Math.min(bytes.length, at + random.between(1, 40))
  switch (random.below(5)) {
    case 0:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(to)])
    case 1:
      return Buffer.concat([bytes.subarray(0, to), bytes.subarray(at)])
    case 2:
      return Buffer.concat([bytes.subarray(0, at), Buffer.from(text(random)), bytes.subarray(at)])
    case 3: {
      const copy = Buffer.from(bytes)
      copy[at] = random.below(256)
      return copy
    }
    default:
      return bytes.subarray(0, at)
  }
}

/** The next request of a seed's row. One in three is broken as bytes; the others are well-formed HTTP. */
export const nextRequest = (random: Random, world: World): Fuzzed => {
  const kind = some(random, kinds)
  const whole = makers[kind]?.make(random, world) ?? Buffer.alloc(0)
  return chance(random, 3) ? { kind: `${kind}, broken`, bytes: mutate(random, whole) } : { kind, bytes: whole }
}
