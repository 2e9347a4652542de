import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from "node:http"
import { freePort } from "../../support/ports.ts"
import type { Balancer } from "./balancer.ts"

/** What concerns one connection only and is not passed on. */
const hopByHop = new Set(["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"])

const passedOn = (raw: ReadonlyArray<string>): Array<string> => {
  const kept: Array<string> = []
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] ?? ""
    if (!hopByHop.has(name.toLowerCase())) kept.push(name, raw[at + 1] ?? "")
  }
  return kept
}

/** The tests' own, for machines without a real one: takes turns among the pods whose /readyz answers 200. */
export const startRoundRobin = async (ports: ReadonlyArray<number>): Promise<Balancer> => {
  const agent = new Agent({ keepAlive: false })
  const ready = new Set<number>(ports)
  let turn = 0
  const next = (tried: ReadonlySet<number>) => {
    const left = ports.filter((port) => !tried.has(port))
    const usable = left.filter((port) => ready.has(port))
    const among = usable.length > 0 ? usable : left
    return among[turn++ % Math.max(1, among.length)]
  }

  const check = async () => {
    await Promise.all(
      ports.map(async (port) => {
        const ok = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(3000) }).then(
          ({ status }) => status === 200,
          () => false,
        )
        if (ok) ready.add(port)
        else ready.delete(port)
      }),
    )
  }
  const checking = setInterval(() => void check(), 500)

  const forward = (req: IncomingMessage, res: ServerResponse, tried: Set<number>) => {
    const port = next(tried)
    if (port === undefined) return void res.writeHead(503).end("no pod")
    tried.add(port)
    const upstream = request({
      host: "127.0.0.1",
      port,
      agent,
      method: req.method ?? "GET",
      path: req.url ?? "/",
      headers: passedOn(req.rawHeaders),
    })
    let connected = false
    upstream.on("socket", (socket) =>
      socket.once("connect", () => {
        connected = true
        req.pipe(upstream)
      }),
    )
    upstream.on("continue", () => res.writeContinue())
    upstream.on("response", (answer) => {
      res.writeHead(answer.statusCode ?? 502, passedOn(answer.rawHeaders))
      answer.pipe(res)
      answer.on("error", () => res.destroy())
      answer.on("aborted", () => res.destroy())
    })
    upstream.on("error", () => {
      // Nothing of the request was sent yet: another pod may have it.
      if (!connected) return forward(req, res, tried)
      if (res.headersSent) return void res.destroy()
      req.unpipe(upstream)
      res.writeHead(502, { connection: "close" }).end("the pod broke the connection")
    })
    res.on("close", () => upstream.destroy())
  }

  const server = createServer({ requestTimeout: 0, keepAliveTimeout: 75_000 }, (req, res) =>
    forward(req, res, new Set()),
  )
  server.on("checkContinue", (req, res) => forward(req, res, new Set()))
  const port = await freePort()
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve))
  return {
    baseUrl: `http://127.0.0.1:${port}`,
    description: "the tests' own round-robin proxy",
    logs: () => "",
    dispose: async () => {
      clearInterval(checking)
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      agent.destroy()
    },
  }
}
