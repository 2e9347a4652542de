import * as Net from "node:net"

type Reply = string | number | null | ReadonlyArray<Reply>

/** One reply from `text` at `at`; undefined while it is incomplete. Latin-1, so that lengths are bytes. */
const parse = (text: string, at: number): { readonly reply: Reply; readonly next: number } | undefined => {
  const end = text.indexOf("\r\n", at)
  if (end < 0) return undefined
  const line = text.slice(at + 1, end)
  const after = end + 2
  switch (text[at]) {
    case "+":
      return { reply: line, next: after }
    case ":":
      return { reply: Number(line), next: after }
    case "-":
      throw new Error(`Redis refused: ${line}`)
    case "$": {
      const length = Number(line)
      if (length < 0) return { reply: null, next: after }
      if (text.length < after + length + 2) return undefined
      return { reply: text.slice(after, after + length), next: after + length + 2 }
    }
    case "*": {
      const replies: Array<Reply> = []
      let next = after
      for (let index = 0; index < Number(line); index++) {
        const element = parse(text, next)
        if (element === undefined) return undefined
        replies.push(element.reply)
        next = element.next
      }
      return { reply: replies, next }
    }
    default:
      throw new Error(`not a Redis reply: ${text.slice(at, at + 40)}`)
  }
}

const command = (parts: ReadonlyArray<string>): string =>
  `*${parts.length}\r\n` + parts.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join("")

/** Sends the commands on one connection and returns their replies. */
const run = (redisUrl: string, commands: ReadonlyArray<ReadonlyArray<string>>): Promise<ReadonlyArray<Reply>> =>
  new Promise((resolve, reject) => {
    const url = new URL(redisUrl)
    const all = [...commands]
    const prefix: Array<ReadonlyArray<string>> = []
    if (url.password !== "") {
      const password = decodeURIComponent(url.password)
      prefix.push(url.username === "" ? ["AUTH", password] : ["AUTH", decodeURIComponent(url.username), password])
    }
    if (url.pathname.length > 1) prefix.push(["SELECT", url.pathname.slice(1)])
    all.unshift(...prefix)
    const socket = Net.connect(Number(url.port || 6379), url.hostname)
    let text = ""
    socket.setEncoding("latin1")
    socket.on("error", reject)
    socket.on("connect", () => socket.write(all.map(command).join("")))
    socket.on("data", (chunk) => {
      text += chunk
      try {
        const replies: Array<Reply> = []
        let at = 0
        while (replies.length < all.length) {
          const parsed = parse(text, at)
          if (parsed === undefined) return
          replies.push(parsed.reply)
          at = parsed.next
        }
        socket.destroy()
        resolve(replies.slice(prefix.length))
      } catch (error) {
        socket.destroy()
        reject(error)
      }
    })
  })

export interface StreamEntry {
  readonly id: string
  readonly fields: Record<string, string>
}

/** Every entry of a Redis stream, oldest first. */
export const streamEntries = async (redisUrl: string, key: string): Promise<ReadonlyArray<StreamEntry>> => {
  const [entries] = await run(redisUrl, [["XRANGE", key, "-", "+"]])
  return (entries as ReadonlyArray<readonly [string, ReadonlyArray<string>]>).map(([id, flat]) => {
    const fields: Record<string, string> = {}
    for (let index = 0; index + 1 < flat.length; index += 2) {
      fields[flat[index]!] = Buffer.from(flat[index + 1]!, "latin1").toString("utf8")
    }
    return { id, fields }
  })
}
