/**
 * Who may do what. The tables are the promise; `suite.ts` asks a running node for each cell.
 *
 * A cell is the answer's status, for a refusal with the code that belongs to it: 401 `unauthorized`, 404 `not_found`,
 * 403p `permission_denied`, 403r `lease_required`, 403i `lease_invalid`, 409 `lease_lost`.
 *
 * `{P}` stands for both ways to name a project: `/v1/projects/{project}`, and `/v1` with the project of the key. Where
 * the two differ the cell is `first|second`.
 */

/**
 * The callers, all but the first six of the project in question:
 *
 *     none      no key                          revoked   a key that was revoked
 *     unknown   a key that nobody issued        expired   a key whose time is over
 *     foreign   a key of another project with all permissions
 *     admin     the administrator's key
 *     bare      a key without any permission
 *     view edit execute claims                  a key with this permission alone
 *     owner     owns the artifacts, without any permission
 *     creator   published them, with `execute` alone
 *     twin      has the owner's id and another kind, without any permission
 */
export const callers = [
  "none",
  "unknown",
  "revoked",
  "expired",
  "foreign",
  "bare",
  "twin",
  "view",
  "edit",
  "execute",
  "claims",
  "owner",
  "creator",
  "admin",
] as const
export type CallerName = (typeof callers)[number]

/**
 * Every call that takes no lease. `of` is the artifact that is meant (`shared`, `private`; `gone-…`: deleted), or the
 * signature that a signed URL has.
 */
export const calls = `
method route                                   of              none unknown revoked expired foreign bare twin view edit execute claims owner creator admin
GET    /healthz                                -               200  200     200     200     200     200  200  200  200  200     200    200   200     200
GET    /readyz                                 -               200  200     200     200     200     200  200  200  200  200     200    200   200     200
GET    /version                                -               200  200     200     200     200     200  200  200  200  200     200    200   200     200
GET    /docs                                   -               200  200     200     200     200     200  200  200  200  200     200    200   200     200
GET    /openapi.json                           -               200  200     200     200     200     200  200  200  200  200     200    200   200     200

GET    {P}/artifacts                           -               401  401     401     401     404|200 200  200  200  200  200     200    200   200     403p
GET    {P}/artifacts/quota                     -               401  401     401     401     404|200 403p 403p 200  403p 403p    403p   403p  403p    403p
GET    {P}/settings/artifact-storage/quota     -               401  401     401     401     404|200 403p 403p 200  403p 403p    403p   403p  403p    403p
GET    {P}/artifacts/{id}                      shared          401  401     401     401     404     404  404  200  200  404     404    200   200     403p
GET    {P}/artifacts/{id}                      private         401  401     401     401     404     404  404  404  200  404     404    200   200     403p
GET    {P}/artifacts/{id}                      gone-shared     401  401     401     401     404     404  404  404  404  404     404    404   404     403p
GET    {P}/artifacts/{id}?include=deleted      gone-shared     401  401     401     401     404     404  404  200  200  404     404    200   200     403p
GET    {P}/artifacts/{id}?include=deleted      gone-private    401  401     401     401     404     404  404  404  200  404     404    200   200     403p
GET    {P}/artifacts/{id}/content              shared          401  401     401     401     404     404  404  200  404  404     404    200   200     403p
GET    {P}/artifacts/{id}/content              private         401  401     401     401     404     404  404  404  404  404     404    200   200     403p
GET    {P}/artifacts/{id}/content              gone-shared     401  401     401     401     404     404  404  404  404  404     404    404   404     403p
HEAD   {P}/artifacts/{id}/content              shared          401  401     401     401     404     404  404  200  404  404     404    200   200     403p
HEAD   {P}/artifacts/{id}/content              private         401  401     401     401     404     404  404  404  404  404     404    200   200     403p
POST   {P}/artifacts/{id}/signed-url           shared          401  401     401     401     404     404  404  200  404  404     404    200   200     403p
POST   {P}/artifacts/{id}/signed-url           private         401  401     401     401     404     404  404  404  404  404     404    200   200     403p
POST   {P}/artifacts/{id}/signed-url           gone-shared     401  401     401     401     404     404  404  404  404  404     404    404   404     403p
DELETE {P}/artifacts/{id}                      shared          401  401     401     401     404     404  404  403p 204  404     404    204   403p    403p
DELETE {P}/artifacts/{id}                      private         401  401     401     401     404     404  404  404  204  404     404    204   403p    403p
DELETE {P}/artifacts/{id}                      gone-shared     401  401     401     401     404     404  404  403p 204  404     404    204   403p    403p
DELETE {P}/artifacts/{id}                      gone-private    401  401     401     401     404     404  404  404  204  404     404    204   403p    403p
GET    /v1/projects/{project}/events           -               401  401     401     401     404     200  200  200  200  200     200    200   200     403p
GET    /v1/signed/{id}/content                 signed          200  200     200     200     200     200  200  200  200  200     200    200   200     200
GET    /v1/signed/{id}/content                 signed-gone     404  404     404     404     404     404  404  404  404  404     404    404   404     404
GET    /v1/signed/{id}/content                 signed-other    403p 403p    403p    403p    403p    403p 403p 403p 403p 403p    403p   403p  403p    403p
GET    /v1/signed/{id}/content                 unsigned        403p 403p    403p    403p    403p    403p 403p 403p 403p 403p    403p   403p  403p    403p

PUT    /v1/projects/{project}/claims/{job_id}  -               401  401     401     401     404     403p 403p 403p 403p 403p    201    403p  403p    201

PUT    /v1/admin/projects/{project}            -               401  401     401     401     403p    403p 403p 403p 403p 403p    403p   403p  403p    200
GET    /v1/admin/projects/{project}            -               401  401     401     401     403p    403p 403p 403p 403p 403p    403p   403p  403p    200
POST   /v1/admin/projects/{project}/api-keys   -               401  401     401     401     403p    403p 403p 403p 403p 403p    403p   403p  403p    201
GET    /v1/admin/projects/{project}/api-keys   -               401  401     401     401     403p    403p 403p 403p 403p 403p    403p   403p  403p    200
DELETE /v1/admin/projects/{project}/api-keys/{id}  -           401  401     401     401     403p    403p 403p 403p 403p 403p    403p   403p  403p    204
GET    /v1/admin/events                        -               401  401     401     401     403p    403p 403p 403p 403p 403p    403p   403p  403p    200
`

/**
 * Every call that takes a lease. An upload is refused from its head, before its body is asked for. The columns are the
 * token that is sent:
 *
 *     none      no lease header                 expired     of a claim whose time is over
 *     unknown   a token that nobody issued      released    of a claim that was ended
 *     live      of a live claim                 superseded  of a claim that a later attempt superseded
 *     bound     of another worker's live claim  former      replaced by a renewal of its claim
 *     theirs    of another project's live claim
 */
export const leases = [
  "none",
  "unknown",
  "live",
  "bound",
  "theirs",
  "expired",
  "released",
  "superseded",
  "former",
] as const
export type LeaseName = (typeof leases)[number]

export const leasedCalls = `
method route                                             callers                             none unknown  live     bound    theirs   expired  released superseded former
POST   {P}/artifacts                                     none,unknown,revoked,expired        401  401      401      401      401      401      401      401        401
POST   {P}/artifacts                                     foreign                             404|403r 404|403i 404|403i 404|403i 404|201 404|403i 404|403i 404|403i 404|403i
POST   {P}/artifacts                                     bare,twin,view,edit,claims,owner    403r 403p     403p     403p     403p     403p     403p     403p       403p
POST   {P}/artifacts                                     execute,creator                     403r 403i     201      403i     403i     409      409      409        409
POST   {P}/artifacts                                     admin                               403p 403p     403p     403p     403p     403p     403p     403p       403p

POST   /v1/projects/{project}/claims/{job_id}/heartbeat  none,unknown,revoked,expired        401  401      401      401      401      401      401      401        401
POST   /v1/projects/{project}/claims/{job_id}/heartbeat  foreign                             404  404      404      404      404      404      404      404        404
POST   /v1/projects/{project}/claims/{job_id}/heartbeat  bare,twin,view,edit,claims,owner    403p 403p     403p     403p     403p     403p     403p     403p       403p
POST   /v1/projects/{project}/claims/{job_id}/heartbeat  execute,creator                     403r 403i     200      403i     403i     409      409      409        409
POST   /v1/projects/{project}/claims/{job_id}/heartbeat  admin                               403p 403p     403p     403p     403p     403p     403p     403p       403p

DELETE /v1/projects/{project}/claims/{job_id}            none,unknown,revoked,expired        401  401      401      401      401      401      401      401        401
DELETE /v1/projects/{project}/claims/{job_id}            foreign                             404  404      404      404      404      404      404      404        404
DELETE /v1/projects/{project}/claims/{job_id}            bare,twin,view,edit,owner           403p 403i     204      403i     403i     409      204      409        409
DELETE /v1/projects/{project}/claims/{job_id}            execute,creator                     403p 403i     204      403i     403i     409      204      409        409
DELETE /v1/projects/{project}/claims/{job_id}            claims                              204  403i     204      403i     403i     409      204      409        409
DELETE /v1/projects/{project}/claims/{job_id}            admin                               204  204      204      204      204      204      204      204        204
`

/** What a caller finds in lists, lists of tombstones and events, where the answer to the call itself is always 200. */
export const seen = `
in       what          foreign bare twin view edit execute claims owner creator
list     shared        no      no   no   yes  yes  no      no     yes   yes
list     private       no      no   no   no   yes  no      no     yes   yes
list     gone-shared   no      no   no   no   no   no      no     no    no
deleted  gone-shared   no      no   no   yes  yes  no      no     yes   yes
deleted  gone-private  no      no   no   no   yes  no      no     yes   yes
events   shared        -       no   no   yes  yes  no      no     yes   yes
events   private       -       no   no   no   yes  no      no     yes   yes
`

/** The rows of a table as records by the names in its first line. */
export const rowsOf = (table: string): ReadonlyArray<Readonly<Record<string, string>>> => {
  const [names = [], ...rows] = table
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => line.trim().split(/\s+/))
  return rows.map((cells) => {
    if (cells.length !== names.length) throw new Error(`${cells.length} cells of ${names.length}: ${cells.join(" ")}`)
    return Object.fromEntries(names.map((name, at) => [name, cells[at] ?? ""]))
  })
}

const roots = ["/v1/projects/{project}", "/v1"]

/** A row for each way to name the project, with the cell that belongs to it. */
export const spelledOut = (table: string): ReadonlyArray<Readonly<Record<string, string>>> =>
  rowsOf(table).flatMap((row) =>
    (row["route"]?.startsWith("{P}") ? roots : [""]).map((root, way) =>
      Object.fromEntries(
        Object.entries(row).map(([name, cell]) => [
          name,
          name === "route" ? cell.replace("{P}", root) : (cell.split("|")[way] ?? cell),
        ]),
      ),
    ),
  )
