import { readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { ConfigProvider, Effect } from "effect"
import { describe, expect, it } from "vitest"
import * as Config from "../../src/Config.ts"
import { orNotRun } from "../support/backends.ts"
import { findKubectl, k8sDir } from "./kubectl.ts"
import { documentsOf, loadOverlay, overlayNames, selects } from "./overlays.ts"
import { faultsOf } from "./schemas.ts"

const root = resolve(import.meta.dirname, "../..")
const textOf = (file: string) => readFileSync(join(root, file), "utf8")

const kubectl = await orNotRun("kubectl", findKubectl)
const overlays = kubectl === null ? [] : await Promise.all(overlayNames.map((name) => loadOverlay(kubectl, name)))

const example = documentsOf(textOf("k8s/base/secret.example.yaml"))[0]

/** Environment variables of the libraries inside, which the node's own configuration does not read. */
const foreign = new Set(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])

const settingsOf = (environment: Readonly<Record<string, string>>) =>
  Config.Settings.pipe(
    Effect.provide(Config.layer),
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment)))),
    Effect.mapError(Config.describeConfigError),
    Effect.runPromise,
  )

/** What the production overlay expects to find in the cluster. */
const secret = {
  DATABASE_URL: "postgres://plane:secret@postgres.internal:5432/artifacts?sslmode=verify-full",
  REDIS_URL: "rediss://plane:secret@redis.internal:6379/0",
  BOOTSTRAP_API_KEY: `mbx_${"0".repeat(64)}`,
}

describe.each(overlays)("overlay $name", (overlay) => {
  const node = overlay.template("Deployment artifact-plane")
  const container = node.spec.containers[0]
  const settings: Readonly<Record<string, string>> = { ...secret, ...overlay.settings() }
  const fields = (container?.env ?? []).map(({ name, valueFrom }) => [name, valueFrom])

  it("is valid by the Kubernetes schemas, without an unknown field", async () => {
    expect(overlay.documents.length).toBeGreaterThanOrEqual(10)
    expect((await Promise.all(overlay.documents.map(faultsOf))).flat()).toEqual([])
  })

  it("puts everything into its namespace", () => {
    const [namespace] = overlay.of("Namespace")
    const elsewhere = overlay.documents.filter(
      ({ kind, metadata }) => kind !== "Namespace" && metadata.namespace !== namespace?.metadata.name,
    )
    expect(elsewhere).toEqual([])
  })

  it("sets only what the configuration knows, and what it accepts", async () => {
    const table = textOf("README.md").split("## Configuration")[1]?.split("\n## ")[0] ?? ""
    const documented = new Set([...table.matchAll(/`([A-Z0-9_]+)`/g)].map((match) => match[1]))
    const set = [...Object.keys(settings), ...fields.map(([name]) => String(name))]
    expect(set.filter((key) => !documented.has(key) && !foreign.has(key))).toEqual([])

    expect(fields).toEqual([["RUNNER_HOST", { fieldRef: { fieldPath: "status.podIP" } }]])
    const read = await settingsOf({ ...settings, RUNNER_HOST: "10.1.2.3" })
    expect(read.production).toBeDefined()
    expect(read.s3?.bucket).toBe(settings["S3_BUCKET"])
    expect(read.host).toBe("0.0.0.0")
    expect(read.runner).toEqual({ host: "10.1.2.3", port: 7946 })
  })

  it("opens the ports that the configuration names, under the names the rules use", () => {
    expect(
      Object.fromEntries((container?.ports ?? []).map(({ containerPort, name }) => [name, containerPort])),
    ).toEqual({
      http: Number(settings["PORT"]),
      metrics: Number(settings["METRICS_PORT"]),
      runner: Number(settings["RUNNER_PORT"]),
    })
  })

  it("gives a pod the time its drain may take", () => {
    const drain = Number(settings["DRAIN_DELAY_SECONDS"]) + Number(settings["DRAIN_SECONDS"])
    const afterwards = Number(/marginMillis = (\d+)/.exec(textOf("src/Shutdown.ts"))?.[1]) / 1000
    expect(afterwards).toBeGreaterThan(0)
    expect(Number(settings["DRAIN_DELAY_SECONDS"])).toBeGreaterThanOrEqual(5)
    // Ten seconds more, so that it is the process that decides, and says so in its log.
    expect(node.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(drain + afterwards + 10)
    // The process itself waits for the balancer; a sleep before its SIGTERM would only be added to that.
    expect(container?.lifecycle).toBeUndefined()
  })

  it("asks the endpoints that the node serves", () => {
    const probes = container as unknown as Record<string, { httpGet: { path: string; port: string } }>
    const paths = ["startupProbe", "readinessProbe", "livenessProbe"].map((probe) => probes[probe]?.httpGet)
    expect(paths).toEqual(["/healthz", "/readyz", "/healthz"].map((path) => ({ path, port: "http" })))
    const api = textOf("src/http/PublicApi.ts")
    for (const path of ["/readyz", "/healthz"]) expect(api).toContain(`"${path}"`)
  })

  it("means the node's pods, and no Job's, wherever pods are selected", () => {
    const selectors = [
      overlay.one("Deployment", "artifact-plane").spec.selector.matchLabels,
      overlay.one("Service", "artifact-plane").spec.selector,
      overlay.one("PodDisruptionBudget", "artifact-plane").spec.selector.matchLabels,
      overlay.one("NetworkPolicy", "artifact-plane").spec.podSelector.matchLabels,
    ]
    for (const selector of selectors) {
      const selected = overlay.templates().filter(({ labels }) => selects(selector, labels))
      expect(selected.map(({ owner }) => owner)).toEqual(["Deployment artifact-plane"])
    }
    const migration = overlay.one("NetworkPolicy", "artifact-plane-migrate").spec.podSelector.matchLabels
    expect(selects(migration, overlay.template("Job artifact-plane-migrate").labels)).toBe(true)
  })

  it("opens the runner port to the pods alone, and the metrics to the monitoring namespace alone", () => {
    const { ingress, podSelector } = overlay.one("NetworkPolicy", "artifact-plane").spec
    const admitted = (port: string) =>
      ingress
        .filter((rule: { ports?: ReadonlyArray<{ port: string }> }) => rule.ports?.some((open) => open.port === port))
        .map((rule: { from?: object }) => rule.from)
    expect(ingress.every((rule: { ports?: object }) => rule.ports !== undefined)).toBe(true)
    expect(admitted("runner")).toEqual([[{ podSelector }]])
    expect(admitted("metrics")).toEqual([
      [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "monitoring" } } }],
    ])
    expect(
      overlay
        .of("Service")
        .flatMap(({ spec }) => spec.ports)
        .map(({ port }) => port),
    ).not.toContain(7946)
  })

  it("lets out what the node needs by port alone, whoever answers there: names, Postgres, Redis and S3", () => {
    type Rule = { readonly to?: object; readonly ports: ReadonlyArray<{ readonly port: number }> }
    const policies = ["artifact-plane", "artifact-plane-migrate", "artifact-plane-doctor"].map(
      (name): ReadonlyArray<Rule> => {
        const { spec } = overlay.one("NetworkPolicy", name)
        return spec.egress
      },
    )
    const [node, migrate, doctor] = policies.map((rules) =>
      rules.filter(({ to }) => to === undefined).flatMap(({ ports }) => ports.map(({ port }) => port)),
    )
    const s3 = settings["S3_ENDPOINT"] === undefined ? 443 : Number(new URL(settings["S3_ENDPOINT"]).port)
    expect(new Set(node)).toEqual(new Set([53, 5432, 6379, 443, s3]))
    expect(new Set(migrate)).toEqual(new Set([53, 5432]))
    expect(new Set(doctor)).toEqual(new Set(node))
    const narrowed = policies.flat().filter(({ to }) => to !== undefined)
    expect(narrowed.map(({ ports }) => ports.map(({ port }) => port))).toEqual([[7946], [80], [4318], [80]])
  })

  it("after a lost zone its nodes count for nothing, so that the other zones take its pods", () => {
    const { topologySpreadConstraints } = overlay.one("Deployment", "artifact-plane").spec.template.spec
    expect(topologySpreadConstraints.map(({ nodeTaintsPolicy }: Record<string, string>) => nodeTaintsPolicy)).toEqual([
      "Honor",
      "Honor",
    ])
  })

  it("runs every pod without root, rights, or a writable root filesystem, from an image that has a version", () => {
    expect(overlay.of("Namespace")[0]?.metadata.labels?.["pod-security.kubernetes.io/enforce"]).toBe("restricted")
    for (const { owner, spec } of overlay.templates()) {
      expect(spec.securityContext, owner).toMatchObject({
        runAsNonRoot: true,
        runAsUser: expect.any(Number),
        seccompProfile: { type: "RuntimeDefault" },
      })
      expect(spec.automountServiceAccountToken, owner).toBe(false)
      for (const { image, resources, securityContext } of spec.containers) {
        expect(securityContext, owner).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        })
        expect(image, owner).toMatch(/(:(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})$/)
        expect(Object.keys(resources?.requests ?? {}).toSorted(), owner).toEqual(["cpu", "memory"])
      }
    }
  })

  it("leaves the number of pods to the autoscaler, by what fills first: CPU, or places for uploads", async () => {
    const { maxReplicas, metrics, minReplicas, scaleTargetRef } = overlay.one(
      "HorizontalPodAutoscaler",
      "artifact-plane",
    ).spec
    expect(overlay.one("Deployment", "artifact-plane").spec.replicas).toBeUndefined()
    expect(scaleTargetRef).toEqual({ apiVersion: "apps/v1", kind: "Deployment", name: "artifact-plane" })
    expect(minReplicas).toBeGreaterThanOrEqual(2)
    expect(maxReplicas).toBeGreaterThan(minReplicas)
    // Never by memory: Node keeps what it has, so that pods would be added and never taken away.
    const [cpu, uploads, ...more] = metrics
    expect(cpu).toMatchObject({ type: "Resource", resource: { name: "cpu", target: { type: "Utilization" } } })
    expect(more).toEqual([])
    if (overlay.name === "local") return expect(uploads).toBeUndefined()
    expect(uploads).toMatchObject({ type: "Pods", pods: { metric: { name: "artifact_open_uploads" } } })
    const { maxOpenUploads } = await settingsOf({ ...settings })
    const target = Number(uploads.pods.target.averageValue) / maxOpenUploads
    expect(target).toBeGreaterThan(0.4)
    expect(target).toBeLessThan(0.7)
  })

  it("gives no pod a right at the Kubernetes API", () => {
    const kinds = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]
    expect(kinds.flatMap((kind) => overlay.of(kind))).toEqual([])
  })

  it("migrates by the command that developers use, on the image that runs, before all else", () => {
    const first = overlay.documents.filter(({ metadata }) => metadata.labels?.["artifact-plane/stage"] === "prepare")
    expect(first.map(({ kind }) => kind).toSorted()).toEqual(["Job", "Namespace", "NetworkPolicy"])
    const job = overlay.template("Job artifact-plane-migrate").spec.containers[0]
    expect(job?.command?.join(" ")).toBe(JSON.parse(textOf("package.json")).scripts.migrate)
    expect(job?.image).toBe(container?.image)
    expect(job?.env?.map(({ name }) => name)).toEqual(["DATABASE_URL"])
  })

  it("has a doctor that runs only when asked to, once, on the image and the settings of the node", () => {
    const { spec } = overlay.one("CronJob", "artifact-plane-doctor")
    expect(spec).toMatchObject({ suspend: true, jobTemplate: { spec: { backoffLimit: 0 } } })
    const job = overlay.template("CronJob artifact-plane-doctor")
    const [doctor] = job.spec.containers as ReadonlyArray<NonNullable<typeof container> & { envFrom?: object }>
    expect(doctor?.command?.join(" ")).toBe(JSON.parse(textOf("package.json")).scripts.doctor)
    expect(doctor?.image).toBe(container?.image)
    expect(doctor?.envFrom).toEqual((container as typeof doctor)?.envFrom)
    const policy = overlay.one("NetworkPolicy", "artifact-plane-doctor").spec.podSelector.matchLabels
    expect(selects(policy, job.labels)).toBe(true)
  })
})

if (kubectl !== null) {
  const [local, production] = overlays
  const deployment = production?.one("Deployment", "artifact-plane")

  it("a misspelt field, a wrong type and an unknown kind are faults", async () => {
    const broken = structuredClone(deployment) as unknown as { spec: Record<string, unknown> & { template: any } }
    broken.spec["replicaz"] = 3
    broken.spec["minReadySeconds"] = "5"
    broken.spec.template.spec.containers[0].livenessProbe.periodSecond = 1
    expect(await faultsOf(broken as never)).toEqual([
      expect.stringMatching(/\/spec\/minReadySeconds type/),
      expect.stringMatching(/\/spec\/replicaz is no field/),
      expect.stringMatching(/containers\/0\/livenessProbe\/periodSecond is no field/),
    ])
    expect(await faultsOf({ apiVersion: "apps/v1", kind: "Deploiment", metadata: { name: "x" } })).toHaveLength(1)
  })

  it("production drains for 900 s and spreads over zones", () => {
    expect(production?.settings()["DRAIN_SECONDS"]).toBe("900")
    expect(deployment?.spec.template.spec.topologySpreadConstraints).toMatchObject([
      { topologyKey: "topology.kubernetes.io/zone", whenUnsatisfiable: "DoNotSchedule" },
      { topologyKey: "kubernetes.io/hostname", whenUnsatisfiable: "ScheduleAnyway" },
    ])
    expect(production?.of("Secret")).toEqual([])
  })

  it("the runbook's sum of connections is that of the code and of the production overlay", () => {
    const own = Number(/clusterConnections = (\d+)/.exec(textOf("layers/stacks/Production.ts"))?.[1])
    const pool = Number(production?.settings()["DATABASE_POOL_SIZE"])
    const maxReplicas = Number(production?.one("HorizontalPodAutoscaler", "artifact-plane").spec.maxReplicas)
    const [pods, each, rest] = [2 * maxReplicas, pool + own, 1 + 3]
    const runbook = textOf("k8s/README.md")
    expect(runbook).toContain(`P × (\`DATABASE_POOL_SIZE\` + ${own}) + 1`)
    expect(runbook).toContain(`with ${maxReplicas} pods at most: ${pods} × ${each} + ${rest} = ${pods * each + rest},`)
  })

  it("the local Redis holds the stream, evicts nothing, and the local S3 knows the node's key", () => {
    const redis = local?.template("StatefulSet redis").spec.containers[0]?.args ?? []
    expect(redis[redis.indexOf("--maxmemory-policy") + 1]).toBe("noeviction")
    // Bytes of the largest entry: names of 256 characters and ids of 200 stand in its payload twice.
    const entryBytes = 3 * 1024
    const memory = Number.parseInt(redis[redis.indexOf("--maxmemory") + 1] ?? "", 10) * 1024 ** 2
    expect(Number(local?.settings()["EVENT_STREAM_MAXLEN"]) * entryBytes).toBeLessThan(memory * 0.75)
    const { identities } = JSON.parse(readFileSync(join(k8sDir, "overlays/local/s3.json"), "utf8"))
    expect(identities[0].credentials).toEqual([
      { accessKey: local?.settings()["AWS_ACCESS_KEY_ID"], secretKey: local?.settings()["AWS_SECRET_ACCESS_KEY"] },
    ])
  })
}

describe("the example of the Secret", () => {
  it("is valid, and has each key that production needs", async () => {
    expect(example === undefined ? ["missing"] : await faultsOf(example)).toEqual([])
    expect(Object.keys(example?.stringData ?? {})).toEqual(expect.arrayContaining(Object.keys(secret)))
  })

  it("is refused unedited, whichever key is left", async () => {
    for (const key of Object.keys(secret)) {
      const left = { ...secret, [key]: example?.stringData?.[key] ?? "", S3_BUCKET: "bucket" }
      await expect(settingsOf(left)).rejects.toThrow(key)
    }
  })
})
