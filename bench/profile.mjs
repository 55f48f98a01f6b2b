/**
 * `node bench/profile.mjs`: where the processor time of an event, a job and a session goes. A runtime is profiled while a
 * client works it, after it was warmed up, and what each part of the code used itself is divided by the events, jobs or
 * sessions. `--write` puts the tables into docs/performance.md.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { environment } from "./environment.mjs"
import { size, storeName } from "./figures/common.mjs"
import { startClient, startServer, stopAll } from "./processes.mjs"
import { between } from "./section.mjs"

const usage = `node bench/profile.mjs [options]      (after npm run build)
  --store NAME     only on this store: memory, FULL, NORMAL (default: memory and FULL)
  --work NAME      only event, job, alone (one job after the other) or session
  --top N          functions named for each (default 8)
  --dir DIRECTORY  where the databases go
  --keep DIRECTORY keep the profiles there, to be opened with a browser's tools
  --write          put the tables into docs/performance.md`

const { values: flags } = parseArgs({
  options: {
    store: { type: "string" },
    work: { type: "string" },
    top: { type: "string", default: "8" },
    dir: { type: "string", default: tmpdir() },
    keep: { type: "string" },
    write: { type: "boolean", default: false },
    help: { type: "boolean", default: false }
  }
})

/** What is done: often enough that a sample of 250 µs tells, and for how many. */
const works = {
  event: { scenario: "emit", params: { count: 400_000, jobs: 1, batch: 1, size }, units: 400_000 },
  job: { scenario: "pipeline", params: { count: 10_000, inFlight: 64 }, units: 10_000 },
  alone: { scenario: "pipeline", params: { count: 5_000, inFlight: 1 }, units: 5_000 },
  session: { scenario: "connect", params: { count: 4_000 }, units: 4_000 }
}

/** Parts of the code, by where a function is; the first that fits. */
const parts = [
  ["garbage collection", /^\(garbage collector\)$/],
  ["native, and the event loop", /^\(program\)$/],
  ["fibers (Effect)", /node_modules\/(effect|@effect\/(?!sql))/],
  ["store in memory", /dist\/layers\/store\/(memory\/|StoreMemory)/],
  ["SQLite: statements, commit and sync", /dist\/layers\/store\/|@effect\/sql|photostructure|^node:sqlite/],
  ["log: order, numbers, commit, retention", /dist\/layers\/log\//],
  ["jobs: submit, run, end", /dist\/layers\/(jobs|agents|lease|credentials)\//],
  ["sessions: requests and delivery", /dist\/layers\/(session|runtime)\//],
  ["wire: messages to and from text", /dist\/protocol\//],
  ["agent", /dist\/programs\//],
  ["WebSocket (ws)", /node_modules\/ws\/|dist\/layers\/transport\//],
  ["messages to and from threads", /^node:internal\/(worker|per_context\/messageport)/],
  ["sockets and streams (Node)", /^node:/],
  ["other", /./]
]

const partOf = ({ functionName, url }) => {
  const where = url === "" ? functionName : url
  return parts.find(([, pattern]) => pattern.test(where))?.[0] ?? "other"
}

/** Returns whose time that of a node is: what is native and no function of its own counts for whoever called it. */
const ownersOf = (nodes) => {
  const owners = new Map()
  const visit = (node, caller) => {
    const { functionName, url } = node.callFrame
    const own = url !== "" || functionName.startsWith("(") ? node.callFrame : (caller ?? node.callFrame)
    owners.set(node.id, own)
    for (const id of node.children ?? []) visit(byId.get(id), own.url === "" ? undefined : own)
  }
  const byId = new Map(nodes.map((node) => [node.id, node]))
  visit(nodes[0], undefined)
  return owners
}

/** What is no work of the server: to be idle, and to write the profile itself. */
const isApart = ({ functionName, url }) =>
  functionName === "(idle)" || functionName === "(root)" || /^node:inspector|\/profiling\.mjs$/.test(url)

/** Microseconds that each function of a profile used itself; without what was idle. */
const selfTimes = ({ nodes, samples, timeDeltas }) => {
  const owners = ownersOf(nodes)
  const times = new Map()
  samples.forEach((id, i) => {
    const frame = owners.get(id)
    if (isApart(frame)) return
    const key = `${frame.functionName}|${frame.url}|${frame.lineNumber}`
    const known = times.get(key) ?? { frame, us: 0 }
    known.us += timeDeltas[i]
    times.set(key, known)
  })
  return [...times.values()].sort((a, b) => b.us - a.us)
}

const shortUrl = (url) =>
  url
    .replace(/^file:\/\/.*\/node_modules\//, "")
    .replace(/^file:\/\/.*?\/dist\//, "")
    .replace(/dist\/esm\//, "")

/** Waits for a file that the server writes. */
const appears = async (file) => {
  for (let i = 0; i < 600 && !existsSync(file); i++) await pause(50)
  if (!existsSync(file)) throw new Error("the server has written no profile")
}

/** Profiles one kind of work on one store. */
const profileOf = async (name, store) => {
  const { params, scenario, units } = works[name]
  const directory = mkdtempSync(join(flags.keep ?? tmpdir(), `arcp-profile-${name}-${store}-`))
  const file = join(directory, "server.cpuprofile")
  const server = await startServer({ kind: "arcp", store, base: flags.dir, profile: file })
  const client = startClient({ deadlineMs: 300_000 })
  try {
    for (let i = 0; i < 3; i++)
      await client.run(server, scenario, { ...params, count: Math.ceil(params.count / 10) })
    process.kill(server.pid, "SIGUSR2")
    await appears(`${file}.started`)
    const before = { all: server.cpuNs(), main: server.mainCpuNs() }
    await client.run(server, scenario, params)
    const after = { all: server.cpuNs(), main: server.mainCpuNs() }
    process.kill(server.pid, "SIGUSR2")
    await appears(file)
    const main = (after.main - before.main) / units / 1000
    const others = (after.all - before.all) / units / 1000 - main
    return { name, store, units, main, others, times: selfTimes(JSON.parse(readFileSync(file, "utf8"))) }
  } finally {
    await client.stop()
    await server.stop()
    if (flags.keep === undefined) rmSync(directory, { recursive: true, force: true })
  }
}

const us = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2))

/** The microseconds of one unit, by part. Samples are wall time; they are scaled to what the main thread really used. */
const byPart = ({ main, others, times, units }) => {
  const total = times.reduce((sum, { us }) => sum + us, 0)
  const scale = main / (total / units)
  const sums = new Map()
  for (const { frame, us } of times)
    sums.set(partOf(frame), (sums.get(partOf(frame)) ?? 0) + (us / units) * scale)
  return { sums, scale, all: main + others }
}

const table = (name, profiles) => {
  const columns = profiles.map(byPart)
  const names = parts.map(([part]) => part).filter((part) => columns.some(({ sums }) => sums.has(part)))
  const line = (cells) => `| ${cells.join(" | ")} |`
  return [
    line([
      `µs of a${{ event: "n event", alone: " job that is alone" }[name] ?? ` ${name}`}`,
      ...profiles.map(({ store }) => storeName[store])
    ]),
    line(["---", ...profiles.map(() => "---")]),
    ...names.map((part) => line([part, ...columns.map(({ sums }) => us(sums.get(part) ?? 0))])),
    line(["other threads", ...profiles.map(({ others }) => us(others))]),
    line(["**all**", ...columns.map(({ all }) => `**${us(all)}**`)])
  ].join("\n")
}

const dearest = (profile) => {
  const { scale } = byPart(profile)
  return profile.times
    .filter(({ frame }) => frame.url !== "")
    .slice(0, Number(flags.top))
    .map(({ frame, us: time }) => {
      const where = `${shortUrl(frame.url)}:${frame.lineNumber + 1}`
      return `\`${frame.functionName || "(anonymous)"}\` (${where}) ${us((time / profile.units) * scale)}`
    })
    .join(", ")
}

const main = async () => {
  if (flags.help) return console.log(usage)
  const about = await environment(flags.dir)
  const stores = flags.store === undefined ? ["memory", "FULL"] : [flags.store]
  const sections = [about.lines.join("\n")]
  for (const name of flags.work === undefined ? Object.keys(works) : [flags.work]) {
    const profiles = []
    for (const store of stores) {
      process.stderr.write(`${name}, ${store}\n`)
      profiles.push(await profileOf(name, store))
    }
    sections.push(table(name, profiles))
    for (const profile of profiles)
      sections.push(`Dearest functions, ${storeName[profile.store]}, µs each: ${dearest(profile)}.`)
  }
  const text = sections.join("\n\n")
  console.log(text)
  if (flags.write) {
    const page = fileURLToPath(new URL("../docs/performance.md", import.meta.url))
    writeFileSync(page, between(readFileSync(page, "utf8"), "profile", text))
  }
}

process.on("exit", stopAll)
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130))
await main()
