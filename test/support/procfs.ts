import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs"

/** /proc counts in hundredths of a second on every Linux that Node runs on. */
const tickMicros = 10_000

const childrenOf = (pid: number): ReadonlyArray<number> =>
  readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean).map(Number),
  )

/** User and system time of a process and of its children, ended and living, in µs. */
export const cpuMicros = (pid: number): number => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    // The second field is the program's name, which may hold spaces and brackets.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    const own = [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index] ?? 0), 0) * tickMicros
    return childrenOf(pid).reduce((sum, child) => sum + cpuMicros(child), own)
  } catch (error) {
    // It ended between two looks; its time is then its parent's.
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return 0
    throw error
  }
}

/** CPU so far by process, µs. */
export type CpuMicros = Readonly<Record<string, number>>

const statusBytes = (pid: number, field: string): number =>
  Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024

export const residentBytes = (pid: number): number => statusBytes(pid, "VmRSS")

/** The highest resident memory since `forgetPeak`. */
export const peakBytes = (pid: number): number => statusBytes(pid, "VmHWM")

export const forgetPeak = (pid: number): void => writeFileSync(`/proc/${pid}/clear_refs`, "5")

/** Whether a TCP connection of loopback is open at its end on `port`, the other end being `peer`; see proc_net_tcp(5). */
export const isEstablished = (port: number, peer: number): boolean => {
  const end = (of: number) => `0100007F:${of.toString(16).toUpperCase().padStart(4, "0")}`
  return readFileSync("/proc/net/tcp", "latin1").includes(`${end(port)} ${end(peer)} 01 `)
}

/** How many files a process has open, sockets and folders included. */
export const filesOpenOf = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length

/** Of these the folders. */
export const foldersOpenOf = (pid: number): number =>
  readdirSync(`/proc/${pid}/fd`).filter(
    (name) => statSync(`/proc/${pid}/fd/${name}`, { throwIfNoEntry: false })?.isDirectory() === true,
  ).length
