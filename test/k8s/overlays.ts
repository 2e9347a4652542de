import { parseAllDocuments } from "yaml"
import { build } from "./kubectl.ts"
import type { Manifest } from "./schemas.ts"

export const overlayNames = ["local", "production"] as const

/** Parts of the manifests that tests ask for; that they have this form is what the schemas say. */
export interface PodSpec {
  readonly automountServiceAccountToken?: boolean
  readonly terminationGracePeriodSeconds?: number
  readonly securityContext?: Readonly<Record<string, unknown>>
  readonly containers: ReadonlyArray<{
    readonly name: string
    readonly image: string
    readonly command?: ReadonlyArray<string>
    readonly args?: ReadonlyArray<string>
    readonly lifecycle?: object
    readonly ports?: ReadonlyArray<{ readonly name: string; readonly containerPort: number }>
    readonly env?: ReadonlyArray<{ readonly name: string; readonly value?: string; readonly valueFrom?: object }>
    readonly resources?: { readonly requests?: Readonly<Record<string, string>> }
    readonly securityContext?: Readonly<Record<string, unknown>>
  }>
}

interface Body extends Manifest {
  readonly data?: Readonly<Record<string, string>>
  readonly stringData?: Readonly<Record<string, string>>
  /** Whatever the kind has here. */
  readonly spec?: any
}

export const documentsOf = (yaml: string): ReadonlyArray<Body> =>
  parseAllDocuments(yaml, { strict: true, uniqueKeys: true }).map((document) => {
    if (document.errors.length > 0) throw document.errors[0]
    const body = document.toJS() as Body
    if (body.kind !== "Secret" || body.data === undefined) return body
    // Kustomize breaks long values into lines, which the cluster reads over and the schema's base64 does not.
    const data = Object.entries(body.data).map(([key, value]) => [key, value.replaceAll("\n", "")])
    return { ...body, data: Object.fromEntries(data) as Record<string, string> }
  })

export class Overlay {
  readonly name: string
  readonly documents: ReadonlyArray<Body>

  constructor(name: string, documents: ReadonlyArray<Body>) {
    this.name = name
    this.documents = documents
  }

  of(kind: string): ReadonlyArray<Body> {
    return this.documents.filter((document) => document.kind === kind)
  }

  /** The one of this kind and name; a generated name's hash is not part of it. */
  one(kind: string, name: string): Body {
    const found = this.of(kind).filter(({ metadata }) => metadata.name.replace(/-[a-z0-9]{10}$/, "") === name)
    if (found.length !== 1 || found[0] === undefined)
      throw new Error(`${found.length} of ${kind} ${name} in ${this.name}`)
    return found[0]
  }

  /** What every kind that makes pods makes them of, with the pods' labels. */
  templates(): ReadonlyArray<{
    readonly owner: string
    readonly labels: Readonly<Record<string, string>>
    readonly spec: PodSpec
  }> {
    return ["Deployment", "StatefulSet", "Job", "CronJob"].flatMap((kind) =>
      this.of(kind).map(({ metadata, spec }) => {
        const { template } = kind === "CronJob" ? spec.jobTemplate.spec : spec
        return { owner: `${kind} ${metadata.name}`, labels: template.metadata.labels, spec: template.spec }
      }),
    )
  }

  template(owner: string) {
    const found = this.templates().find((template) => template.owner === owner)
    if (found === undefined) throw new Error(`no ${owner} in ${this.name}`)
    return found
  }

  /** The node's settings: the ConfigMap, and the Secret where the overlay has one. */
  settings(): Readonly<Record<string, string>> {
    const [secret] = this.of("Secret").filter(({ metadata }) => metadata.name.startsWith("artifact-plane-"))
    const secrets = Object.entries(secret?.data ?? {}).map(
      ([key, value]) => [key, Buffer.from(value, "base64").toString()] as const,
    )
    return { ...this.one("ConfigMap", "artifact-plane").data, ...Object.fromEntries(secrets) }
  }
}

export const loadOverlay = async (kubectl: string, name: string): Promise<Overlay> =>
  new Overlay(name, documentsOf(await build(kubectl, `overlays/${name}`)))

/** Whether a pod with these labels is meant. */
export const selects = (selector: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>) =>
  Object.entries(selector).every(([key, value]) => labels[key] === value)
