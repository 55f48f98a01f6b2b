/**
 * `npm run bench:steps`: what a step of a durable job costs beside its commit. A job of steps that do nothing, against a job
 * that emits the same two events for each and waits for the same commit, alternately in one runtime in this process.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { Effect, Layer, Logger, LogLevel, Redacted } from "effect"
import { Agent, ArcpClient, Auth, Job, Registry, Runtime, TransportMemory } from "../dist/index.js"
import { RuntimeSqlite } from "../dist/node.js"
import { median } from "./stats.mjs"

const { values: flags } = parseArgs({
  options: {
    runs: { type: "string", default: "7" },
    steps: { type: "string", default: "3000" },
    /** memory, FULL, NORMAL */
    store: { type: "string", default: "memory" }
  }
})
const runs = Number(flags.runs)
const count = Number(flags.steps)

const kind = "x-vendor.bench.step"
const agents = [
  Agent.handle(Agent.make("steps", { version: "1.0.0", durable: true }), () =>
    Effect.flatMap(Job.Job, (job) =>
      Effect.orDie(
        Effect.gen(function* () {
          for (let i = 0; i < count; i++) yield* job.step(`step ${i}`, Effect.void)
        })
      )
    )
  ),
  Agent.handle(Agent.make("emits", { version: "1.0.0" }), () =>
    Effect.flatMap(Job.Job, (job) =>
      Effect.orDie(
        Effect.gen(function* () {
          for (let i = 0; i < count; i++) {
            yield* job.emit(kind, { key: `step ${i}`, state: "started", attempt: 1 })
            yield* job.emit(kind, { key: `step ${i}`, state: "ended", attempt: 1, ms: 0 })
            yield* job.flush
          }
        })
      )
    )
  )
]

const folder = mkdtempSync(join(tmpdir(), "arcp-steps-"))
const runtime =
  flags.store === "memory"
    ? Runtime.layerMemory()
    : RuntimeSqlite.layer({ filename: join(folder, "arcp.db"), synchronous: flags.store })
const layer = ArcpClient.layer({ token: Redacted.make("bench") }).pipe(
  Layer.provideMerge(
    Runtime.serve().pipe(
      Layer.provideMerge(TransportMemory.layer()),
      Layer.provide(runtime),
      Layer.provide(Layer.mergeAll(Registry.layer(agents), Auth.layerStatic({ bench: "bench" })))
    )
  ),
  Layer.provide(Logger.minimumLogLevel(LogLevel.None))
)

/** Microseconds for each step: by the clock, and of this process. */
const one = (agent) =>
  Effect.gen(function* () {
    const client = yield* ArcpClient.ArcpClient
    const from = performance.now()
    const cpu = process.cpuUsage()
    const job = yield* client.submit(agent, null)
    yield* job.result
    const { system, user } = process.cpuUsage(cpu)
    return { wall: ((performance.now() - from) * 1_000) / count, cpu: (system + user) / count }
  }).pipe(Effect.scoped)

const measured = await Effect.gen(function* () {
  yield* one("steps")
  yield* one("emits")
  const pairs = []
  for (let run = 0; run < runs; run++)
    pairs.push(
      run % 2 === 0
        ? { steps: yield* one("steps"), emits: yield* one("emits") }
        : (({ emits, steps }) => ({ steps, emits }))({
            emits: yield* one("emits"),
            steps: yield* one("steps")
          })
    )
  return pairs
}).pipe(Effect.provide(layer), Effect.runPromise)
rmSync(folder, { recursive: true, force: true })

const of = (which) => median(measured.map(which)).toFixed(1)
console.log(`| µs for each of ${count} steps (${flags.store}) | step | two emits and a flush | beside the commit |
|---|---|---|---|
| by the clock | ${of(({ steps }) => steps.wall)} | ${of(({ emits }) => emits.wall)} | ${of(({ emits, steps }) => steps.wall - emits.wall)} |
| processor time | ${of(({ steps }) => steps.cpu)} | ${of(({ emits }) => emits.cpu)} | ${of(({ emits, steps }) => steps.cpu - emits.cpu)} |`)
