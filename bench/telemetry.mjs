/**
 * `node bench/telemetry.mjs`: what metrics cost. Two runtimes in this process, of which one keeps metrics, do the same work in
 * turns; the CPU time of each pair is compared. `--same` compares two without, which shows the noise. Metrics are read every
 * 15 s, as Prometheus does, and what one reading costs is told apart. `--profile` samples the stack of the one that keeps
 * them, and tells the share of samples in which something of telemetry is: a figure that no other load of the machine blurs.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { Session } from "node:inspector/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { Effect, Layer, Logger, LogLevel, ManagedRuntime, Redacted } from "effect"
import { Agent, ArcpClient, Auth, Job, Metrics, Registry, Runtime, TransportMemory } from "../dist/index.js"
import { RuntimeSqlite, Telemetry } from "../dist/node.js"
import { median } from "./stats.mjs"

const { values: flags } = parseArgs({
  options: {
    runs: { type: "string", default: "31" },
    events: { type: "string", default: "20000" },
    jobs: { type: "string", default: "1000" },
    /** memory, FULL, NORMAL */
    store: { type: "string", default: "memory" },
    /** emits, jobs; left out: both */
    only: { type: "string" },
    same: { type: "boolean", default: false },
    profile: { type: "boolean", default: false }
  }
})
const events = Number(flags.events)
const jobs = Number(flags.jobs)

const agents = [
  Agent.handle(Agent.make("emits", { version: "1.0.0" }), () =>
    Effect.flatMap(Job.Job, (job) =>
      Effect.orDie(
        Effect.gen(function* () {
          for (let i = 0; i < events; i++) yield* job.emit("x-vendor.bench.event", { i })
        })
      )
    )
  ),
  Agent.handle(Agent.make("small", { version: "1.0.0" }), () => Effect.succeed("done"))
]

const folder = mkdtempSync(join(tmpdir(), "arcp-telemetry-"))
let files = 0
const runtime = (isMeasured) => {
  const store =
    flags.store === "memory"
      ? Runtime.layerMemory({ options: { maxJobsPerSession: 1_000_000 } })
      : RuntimeSqlite.layer({ filename: join(folder, `${++files}.db`), synchronous: flags.store })
  const layer = ArcpClient.layer({ token: Redacted.make("bench") }).pipe(
    Layer.provide(
      Runtime.serve().pipe(
        Layer.provideMerge(TransportMemory.layer()),
        Layer.provide(store),
        Layer.provide(Layer.mergeAll(Registry.layer(agents), Auth.layerStatic({ bench: "bench" })))
      )
    )
  )
  const measured = Telemetry.layerProcess().pipe(Layer.provideMerge(Metrics.layer()))
  return ManagedRuntime.make(
    (isMeasured ? Layer.provideMerge(layer, measured) : layer).pipe(
      Layer.provide(Logger.minimumLogLevel(LogLevel.None))
    )
  )
}

const work = {
  emits: Effect.scoped(
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit("emits", null)
      yield* job.result
    })
  ),
  jobs: Effect.scoped(
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      yield* Effect.forEach(
        Array.from({ length: jobs }),
        () => Effect.scoped(Effect.flatMap(client.submit("small", null), (job) => job.result)),
        { concurrency: 32, discard: true }
      )
    })
  )
}

const off = runtime(false)
const on = runtime(!flags.same)

/** Milliseconds of CPU. */
const cpuOf = async (program, what) => {
  globalThis.gc?.()
  const before = process.cpuUsage()
  await program.runPromise(what)
  const { system, user } = process.cpuUsage(before)
  return (system + user) / 1_000
}

/** Milliseconds between two readings, as Prometheus does by default. */
const scrape = 15_000
let readAt = performance.now()
const readings = []
/** Reads the metrics when it is time for it. */
const mayRead = async () => {
  if (flags.same || performance.now() - readAt < scrape) return 0
  readAt = performance.now()
  const took = await cpuOf(on, Metrics.prometheus)
  readings.push(took)
  return took
}

/** Functions of telemetry, and functions of the package that are none of it. */
const telemetry = /\/dist\/(?:layers\/\w+\/measuring|layers\/telemetry\/\w+|services\/runtime\/Metrics)\.js$/
const others = /\/dist\//

/** Returns which share of the samples, taken while it runs, are in a function of telemetry, or what it calls of a library. */
const sampled = async (program, what) => {
  const session = new Session()
  session.connect()
  await session.post("Profiler.enable")
  await session.post("Profiler.setSamplingInterval", { interval: 100 })
  await session.post("Profiler.start")
  await program.runPromise(what)
  const { profile } = await session.post("Profiler.stop")
  session.disconnect()
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]))
  const inside = new Set()
  const visit = (node, isInside) => {
    // What telemetry calls of the library is its own; what it measures, such as a commit, is not.
    const { url } = node.callFrame
    const now = telemetry.test(url) || (isInside && !others.test(url))
    if (now) inside.add(node.id)
    for (const child of node.children ?? []) visit(nodes.get(child), now)
  }
  visit(profile.nodes[0], false)
  const busy = profile.samples.filter(
    (id) => !["(idle)", "(program)"].includes(nodes.get(id).callFrame.functionName)
  )
  return { busy: busy.length, inside: busy.filter((id) => inside.has(id)).length }
}

for (const [name, what] of Object.entries(work)) {
  if (flags.only !== undefined && flags.only !== name) continue
  for (const program of [off, on, off, on]) await program.runPromise(what)
  if (flags.profile) {
    let [busy, inside] = [0, 0]
    for (let run = 0; run < Number(flags.runs); run++) {
      const one = await sampled(on, what)
      busy += one.busy
      inside += one.inside
    }
    console.log(
      `${name} (${flags.store}): ${inside} of ${busy} samples in telemetry, ${((100 * inside) / busy).toFixed(2)} %`
    )
    continue
  }
  const ratios = []
  const times = { off: [], on: [] }
  for (let run = 0; run < Number(flags.runs); run++) {
    const pair = {}
    for (const side of run % 2 === 0 ? ["off", "on"] : ["on", "off"])
      pair[side] = (await cpuOf(side === "on" ? on : off, what)) + (side === "on" ? await mayRead() : 0)
    ratios.push(pair.on / pair.off)
    for (const side of ["off", "on"]) times[side].push(pair[side])
  }
  ratios.sort((a, b) => a - b)
  const at = (share) => ratios[Math.floor(share * (ratios.length - 1))].toFixed(3)
  console.log(
    `${name} (${flags.store}): off ${median(times.off).toFixed(1)} ms, ${flags.same ? "off" : "on"} ${median(times.on).toFixed(1)} ms; ` +
      `of pairs ${median(ratios).toFixed(3)} (${at(0.25)} to ${at(0.75)})`
  )
}
readings.push(await cpuOf(on, flags.same ? Effect.void : Metrics.prometheus))
if (!flags.same) {
  const most = Math.max(...readings)
  console.log(
    `one reading: ${most.toFixed(1)} ms of CPU at the most, ${((100 * most) / scrape).toFixed(3)} % of ${scrape / 1_000} s`
  )
}
await off.dispose()
await on.dispose()
rmSync(folder, { recursive: true })
