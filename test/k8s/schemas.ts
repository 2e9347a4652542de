/** A Kubernetes object, before anything is known of it. */
export interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
  }
}

/** Throws an error that has `errors` unless the object it is called on is valid. */
type Validate = (this: unknown) => void

interface Fault {
  readonly instancePath: string
  readonly keyword: string
  readonly params: object
}

/** Compiled from the OpenAPI schemas of Kubernetes and of the Prometheus operator. */
const validatorOf = async ({ apiVersion, kind }: Manifest): Promise<Validate> => {
  const models = apiVersion.startsWith("monitoring.coreos.com/")
    ? "@kubernetes-models/prometheus-operator"
    : "kubernetes-models"
  const module: Record<string, { readonly prototype: { readonly validate: Validate } }> = await import(
    /* @vite-ignore */ `${models}/${apiVersion}/${kind}`
  )
  const model = module[kind]
  if (model === undefined) throw new Error(`${models} has no ${apiVersion} ${kind}`)
  return model.prototype.validate
}

const errorsOf = (validate: Validate, value: unknown): ReadonlyArray<Fault> => {
  try {
    validate.call(value)
    return []
  } catch (error) {
    const { errors } = error as { readonly errors?: ReadonlyArray<Fault> }
    if (errors === undefined) throw error
    return errors
  }
}

/** The value, and afterwards the path of each field that nobody has read. */
const watched = (value: object) => {
  const objects: Array<{ readonly path: string; readonly target: object; readonly read: Set<string> }> = []
  const watch = (target: object, path: string): object => {
    const read = new Set<string>()
    const children = new Map<string, object>()
    objects.push({ path, target, read })
    return new Proxy(target, {
      get: (_, key) => {
        const child: unknown = Reflect.get(target, key)
        if (typeof key === "string") read.add(key)
        if (typeof key === "symbol" || typeof child !== "object" || child === null) return child
        const known = children.get(key) ?? watch(child, `${path}/${key}`)
        children.set(key, known)
        return known
      },
    })
  }
  return {
    value: watch(value, ""),
    unread: () =>
      objects.flatMap(({ path, read, target }) =>
        Object.keys(target)
          .filter((key) => !read.has(key))
          .map((key) => `${path}/${key}`),
      ),
  }
}

/**
 * What is wrong with a document, one line each; empty: nothing. The schemas admit unknown fields, which a cluster would
 * drop in silence or refuse. But their validators read every field they know, so that one left unread is unknown.
 */
export const faultsOf = async (document: Manifest): Promise<ReadonlyArray<string>> => {
  const validate = await validatorOf(document).catch(() => undefined)
  const name = `${document.apiVersion} ${document.kind} ${document.metadata?.name}`
  if (validate === undefined) return [`${name}: no schema knows this kind`]
  const { unread, value } = watched(document)
  return [
    ...errorsOf(validate, value).map(
      ({ instancePath, keyword, params }) => `${name}: ${instancePath} ${keyword} ${JSON.stringify(params)}`,
    ),
    ...unread().map((path) => `${name}: ${path} is no field of this kind`),
  ]
}
