import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { parse } from "yaml"
import { readFileSync } from "node:fs"
import { orNotRun } from "../support/backends.ts"
import { run } from "../support/processes.ts"
import { build, findHelm, findKubectl, k8sDir } from "./kubectl.ts"
import { documentsOf } from "./overlays.ts"
import { faultsOf } from "./schemas.ts"

const chart = join(k8sDir, "chart")
const helm = await orNotRun("helm", findHelm)
const kubectl = await orNotRun("kubectl", findKubectl)

const render = async (...args: ReadonlyArray<string>) =>
  documentsOf(await run(helm ?? "", ["template", "release", chart, "--namespace", "artifact-plane", ...args]))

const checksum = "artifact-plane/config"

type Documents = Awaited<ReturnType<typeof render>>

/**
 * What both say, by kind and name. Each has its own way to roll pods when a setting changes: kustomize by a hash in the
 * name of the ConfigMap, the chart by an annotation of the pods. The namespace is kustomize's to write, and helm's to be told.
 */
const comparable = (documents: Documents) => {
  const hashed = documents.find(({ kind }) => kind === "ConfigMap")?.metadata.name ?? ""
  const text = JSON.stringify(documents.filter(({ kind }) => kind !== "Namespace")).replaceAll(
    `"${hashed}"`,
    '"artifact-plane"',
  )
  const plain: Array<any> = JSON.parse(text)
  for (const document of plain) {
    delete document.metadata.namespace
    delete document.spec?.template?.metadata?.annotations
  }
  return Object.fromEntries(plain.map((document) => [`${document.kind} ${document.metadata.name}`, document]))
}

if (helm !== null && kubectl !== null)
  describe("the chart", () => {
    it("without values makes what the base makes", async () => {
      const base = comparable(documentsOf(await build(kubectl, "base")))
      expect(Object.keys(base).length).toBeGreaterThanOrEqual(9)
      expect(comparable(await render())).toEqual(base)
    })

    it("with the values of production makes what the production overlay makes", async () => {
      const made = await render("--values", join(chart, "values-production.yaml"))
      expect(comparable(made)).toEqual(comparable(documentsOf(await build(kubectl, "overlays/production"))))
      expect((await Promise.all(made.map(faultsOf))).flat()).toEqual([])
    })

    it("rolls the pods when a setting changes, and only then", async () => {
      const rolledBy = async (...args: ReadonlyArray<string>) => {
        const deployment = (await render(...args)).find(({ kind }) => kind === "Deployment")
        return deployment?.spec.template.metadata.annotations[checksum] as string
      }
      expect(await rolledBy()).toMatch(/^[0-9a-f]{64}$/)
      expect(await rolledBy("--set", "autoscaling.minReplicas=5")).toBe(await rolledBy())
      expect(await rolledBy("--set", "config.MAX_OPEN_UPLOADS=1000000")).not.toBe(await rolledBy())
    })

    it("writes numbers as the node reads them, and takes an image by its digest", async () => {
      const digest = `sha256:${"ab".repeat(32)}`
      const made = await render("--set", "config.EVENT_STREAM_MAXLEN=1000000", "--set", `image.digest=${digest}`)
      expect(made.find(({ kind }) => kind === "ConfigMap")?.data?.["EVENT_STREAM_MAXLEN"]).toBe("1000000")
      const deployment = made.find(({ kind }) => kind === "Deployment")
      expect(deployment?.spec.template.spec.containers[0].image).toBe(`artifact-plane@${digest}`)
    })

    it("has the release of the package, and nothing for helm to complain about", async () => {
      const { appVersion, version } = parse(readFileSync(join(chart, "Chart.yaml"), "utf8"))
      const own = JSON.parse(readFileSync(join(k8sDir, "../package.json"), "utf8")).version
      expect({ appVersion, version }).toEqual({ appVersion: own, version: own })
      expect(await run(helm, ["lint", "--strict", chart])).toContain("0 chart(s) failed")
    })
  })
