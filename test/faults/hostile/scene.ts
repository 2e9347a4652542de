import { connect, type Socket } from "node:net"
import { freePort } from "../../support/ports.ts"
import { sleep } from "../../support/processes.ts"
import { makeTenant, type Plane, publish, startPlane, type Tenant } from "../plane.ts"

/** A production node, its metrics, and clients of it that do not behave. */
export interface Scene {
  readonly plane: Plane
  readonly tenantOf: (name: string) => Promise<Tenant>
  /** Publishes a file and returns its id. */
  readonly made: (tenant: Tenant, bytes: Uint8Array<ArrayBuffer>, metadata?: object) => Promise<string>
  /** Sends requests on one connection and reads nothing. `accept`: the header, where there is one. */
  readonly stalled: (tenant: Tenant, path: string, options?: { requests?: number; accept?: string }) => Socket
  /** Connects, without a request and without a key. */
  readonly connected: () => Socket
  /** Drops the oldest `count` of the connections above; default: all. */
  readonly letGo: (count?: number) => void
  /** A gauge of the node, NaN when there is none. */
  readonly gauge: (name: string) => Promise<number>
  /** Waits until the gauge is as wanted, or for 60 s at the most; its value then. */
  readonly open: (name: string, wanted: (open: number) => boolean) => Promise<number>
  readonly dispose: () => Promise<void>
}

export const artifactsOf = ({ project }: Tenant) => `/v1/projects/${project}/artifacts`

export const startScene = async (extra: Record<string, string> = {}): Promise<Scene> => {
  const metricsPort = await freePort()
  const plane = await startPlane({ METRICS_PORT: String(metricsPort), ...extra })
  const sockets: Array<Socket> = []

  const connected = () => {
    const socket = connect(Number(new URL(plane.node().baseUrl).port), "127.0.0.1")
    socket.on("error", () => {})
    sockets.push(socket)
    return socket
  }
  const letGo = (count = sockets.length) => {
    for (const socket of sockets.splice(0, count)) socket.destroy()
  }
  const gauge = async (name: string) => {
    const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()
    return Number(new RegExp(`^${name} (\\d+)`, "m").exec(text)?.[1] ?? Number.NaN)
  }

  return {
    plane,
    tenantOf: (name) => makeTenant(plane.node().baseUrl, plane.adminKey, { name }),
    made: async (tenant, bytes, metadata) => {
      const fields = metadata === undefined ? {} : { fields: { metadata: JSON.stringify(metadata) } }
      const { body, status } = await publish(plane.node().baseUrl, tenant, { name: "file", bytes, ...fields })
      if (status !== 201) throw new Error(`publishing: ${status} ${JSON.stringify(body)}`)
      return body.id
    },
    stalled: (tenant, path, { accept, requests = 1 } = {}) => {
      const lines = [
        `GET ${path} HTTP/1.1`,
        "Host: here",
        `Authorization: Bearer ${tenant.key}`,
        ...(accept === undefined ? [] : [`Accept: ${accept}`]),
      ]
      const socket = connected()
      socket.write(`${lines.join("\r\n")}\r\n\r\n`.repeat(requests))
      return socket
    },
    connected,
    letGo,
    gauge,
    open: async (name, wanted) => {
      for (let n = 0; n < 600; n++) {
        const now = await gauge(name)
        if (wanted(now)) return now
        await sleep(100)
      }
      return await gauge(name)
    },
    dispose: async () => {
      letGo()
      await plane.dispose()
    },
  }
}
