/** The scope of a handler is its job's: what it acquired is released before the job's end is written (§5.3, §5.4). */
import * as FileSystem from "@effect/platform/FileSystem"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import { Timeout } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Jobs } from "../../../src/services/jobs/Jobs.js"
import type { Store } from "../../../src/services/store/Store.js"
import { open } from "../../support/Wire.js"
import { sqlite } from "../log/sqlite.js"
import { alsoInPostgres } from "../store/pg/layers.js"
import { type Session, submit } from "./support.js"

const serve = <R>(
  agents: ReadonlyArray<Agent.Registered<R>>,
  store: Layer.Layer<Store, unknown> = StoreMemory.layer()
) =>
  Runtime.serve().pipe(
    Layer.provideMerge(TransportMemory.layer()),
    Layer.provideMerge(Runtime.layer({ options: { shutdownGrace: "0 millis", cancelGrace: "30 seconds" } })),
    Layer.provide(store),
    Layer.provide(Registry.layer(agents)),
    Layer.provide(Auth.layerStatic({ alice: "alice" }))
  )

/** What a job does once it holds its resource. */
const Way = Schema.Literal("succeed", "fail", "die", "wait", "stuck", "bad", "fail-bad", "wait-bad")

/** Acquires, does what it is asked, and says in a finalizer that it lets go. */
const holder = Agent.handle(Agent.make("holder", { version: "1.0.0", input: Way }), (way) =>
  Effect.gen(function* () {
    const job = yield* Job
    yield* Effect.acquireRelease(job.log("info", "acquired"), () =>
      way === "stuck" ? Effect.never : Effect.orDie(job.log("info", "released"))
    )
    if (way.endsWith("bad")) yield* Effect.addFinalizer(() => Effect.die(new Error("the finalizer broke")))
    yield* job.status("working")
    if (way.startsWith("fail")) return yield* new Timeout({ message: "as it says" })
    if (way === "die") return yield* Effect.die(new Error("the handler broke"))
    return way.startsWith("wait") ? yield* Effect.never : "done"
  })
)

/** What came of a job, without `running`: messages of its logs, phases, and its end. */
const story = (session: Session, jobId: string | undefined) =>
  session.seen
    .filter((frame) => frame.job_id === jobId && frame.event_seq !== undefined)
    .map(({ payload, type }) => {
      if (type === "job.event") return payload.body.message ?? payload.body.phase
      return type === "job.result" ? "success" : payload.code
    })
    .slice(1)

const ended = (session: Session, jobId: string | undefined) =>
  session.next(({ job_id, type }) => job_id === jobId && (type === "job.result" || type === "job.error"))

const started = (session: Session, way: typeof Way.Type, more?: Record<string, unknown>) =>
  Effect.gen(function* () {
    const { job_id } = yield* submit(session, "holder", way, more)
    yield* session.expect("job.event", ({ payload }) => payload.body.phase === "working")
    return job_id
  })

/** Collects the causes of what is logged as an error. */
const logged = () => {
  const causes: Array<string> = []
  const logger = Logger.make(({ cause, message }) => {
    if (!Cause.isEmpty(cause)) causes.push(`${String(message)}: ${Cause.pretty(cause)}`)
  })
  return { causes, layer: Logger.replace(Logger.defaultLogger, logger) }
}

const stores = {
  memory: StoreMemory.layer,
  SQLite: sqlite,
  ...Object.fromEntries(alsoInPostgres().map(({ layer }) => ["Postgres", layer]))
}

for (const [name, store] of Object.entries(stores))
  describe(`a handler's scope, over ${name}`, () => {
    it.scoped("is closed before the end is written, whatever the handler's exit", () =>
      Effect.gen(function* () {
        const session = yield* open()
        for (const [way, end] of [
          ["succeed", "success"],
          ["fail", "TIMEOUT"],
          ["die", "INTERNAL_ERROR"]
        ] as const) {
          const { job_id } = yield* submit(session, "holder", way)
          yield* ended(session, job_id)
          assert.deepStrictEqual(story(session, job_id), ["acquired", "working", "released", end])
        }
      }).pipe(Effect.provide(serve([holder], store())))
    )

    it.scoped("is closed before the end is written, whatever ends the job", () =>
      Effect.gen(function* () {
        const session = yield* open()
        const cancelled = yield* started(session, "wait")
        yield* session.request("job.cancel", {}, { job_id: cancelled })
        yield* ended(session, cancelled)
        const late = yield* started(session, "wait", { max_runtime_sec: 5 })
        yield* TestClock.adjust("5 seconds")
        yield* ended(session, late)
        const stopped = yield* started(session, "wait")
        yield* Effect.flatMap(Jobs, (jobs) => jobs.shutdown)
        yield* ended(session, stopped)
        for (const [jobId, end] of [
          [cancelled, "CANCELLED"],
          [late, "TIMEOUT"],
          [stopped, "INTERNAL_ERROR"]
        ] as const)
          assert.deepStrictEqual(story(session, jobId), ["acquired", "working", "released", end])
      }).pipe(Effect.provide(serve([holder], store())))
    )
  })

describe("a finalizer", () => {
  it.scoped("that hangs gets the cancel grace; then a job that had succeeded has failed", () =>
    Effect.gen(function* () {
      const session = yield* open()
      const job = yield* started(session, "stuck")
      yield* TestClock.adjust("29 seconds")
      assert.deepStrictEqual(story(session, job), ["acquired", "working"])
      yield* TestClock.adjust("1 second")
      const { payload } = yield* ended(session, job)
      assert.strictEqual(payload.code, "INTERNAL_ERROR")
      assert.include(payload.message, "finalizers")
    }).pipe(Effect.provide(serve([holder])))
  )

  it.scoped("that hangs does not keep a cancel, nor a shutdown, from ending its job", () =>
    Effect.gen(function* () {
      const session = yield* open()
      const cancelled = yield* started(session, "stuck")
      const stopped = yield* started(session, "stuck")
      yield* session.request("job.cancel", {}, { job_id: cancelled })
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* ended(session, cancelled)).payload.code, "CANCELLED")
      const last = yield* started(session, "stuck")
      yield* Effect.flatMap(Jobs, (jobs) => jobs.shutdown)
      assert.strictEqual((yield* ended(session, last)).payload.code, "INTERNAL_ERROR")
      assert.strictEqual(story(session, stopped).length, 3)
    }).pipe(Effect.provide(serve([holder])))
  )

  it.scoped("that dies ends in INTERNAL_ERROR what had succeeded, and is logged whole", () => {
    const { causes, layer } = logged()
    return Effect.gen(function* () {
      const session = yield* open()
      const { job_id: good } = yield* submit(session, "holder", "bad")
      const { payload } = yield* ended(session, good)
      assert.strictEqual(payload.code, "INTERNAL_ERROR")
      // A failure stays what it is, and a cancel too.
      const { job_id: failed } = yield* submit(session, "holder", "fail-bad")
      assert.strictEqual((yield* ended(session, failed)).payload.code, "TIMEOUT")
      const cancelled = yield* started(session, "wait-bad")
      yield* session.request("job.cancel", {}, { job_id: cancelled })
      assert.strictEqual((yield* ended(session, cancelled)).payload.code, "CANCELLED")
      for (const jobId of [good, failed, cancelled]) {
        assert.include(story(session, jobId), "released")
        const about = causes.filter((cause) => cause.includes(jobId as string))
        assert.strictEqual(about.length, 1)
        assert.match(about[0] as string, /the finalizer broke[\s\S]*Scope\.test\.ts/)
      }
    }).pipe(Effect.provide(serve([holder]).pipe(Layer.provideMerge(layer))))
  })
})

describe("what a job holds", () => {
  it.scoped("a delegated job has a scope of its own, closed before its end, and its parent's after it", () =>
    Effect.gen(function* () {
      const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
        Effect.gen(function* () {
          const job = yield* Job
          yield* Effect.addFinalizer(() => Effect.orDie(job.log("info", "parent released")))
          return yield* (yield* job.delegate("holder", "succeed")).await
        })
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "parent", null, {
          lease_request: { "agent.delegate": ["holder"] }
        })
        yield* ended(session, job_id)
        const said = session.seen.flatMap(({ payload, type }) =>
          type === "job.event" && payload.kind === "log"
            ? [payload.body.message]
            : type === "job.result"
              ? [type]
              : []
        )
        assert.deepStrictEqual(said, ["acquired", "released", "job.result", "parent released", "job.result"])
      }).pipe(Effect.provide(serve([holder, parent])))
    })
  )

  it.scopedLive("a leased file that it opened is closed with it", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* fs.realPath(yield* fs.makeTempFileScoped())
      let held: FileSystem.File | undefined
      const reader = Agent.handle(Agent.make("reader", { version: "1.0.0" }), () =>
        Effect.gen(function* () {
          held = yield* (yield* FileSystem.FileSystem).open(path).pipe(Effect.orDie)
          return Number((yield* Effect.orDie(held.stat)).size)
        })
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "reader", null, { lease_request: { "fs.read": [path] } })
        assert.deepStrictEqual((yield* ended(session, job_id)).payload.result, 0)
        assert.isTrue(Either.isLeft(yield* Effect.either((held as FileSystem.File).stat)))
      }).pipe(Effect.provide(serve([reader]).pipe(Layer.provide(NodeContext.layer))))
    }).pipe(Effect.provide(NodeContext.layer))
  )

  it.scoped("an async function that is aborted is waited for, and may still emit", () =>
    Effect.gen(function* () {
      const running = yield* Deferred.make<void>()
      const patient = Agent.fromPromise("patient", { version: "1.0.0" }, async (_, job) => {
        try {
          await new Promise((_, reject) => {
            job.signal.addEventListener("abort", () => reject(new Error("aborted")))
            Deferred.unsafeDone(running, Effect.void)
          })
        } finally {
          await job.log("info", "one")
          await job.log("info", "two")
        }
      })
      const deaf = Agent.fromPromise("deaf", { version: "1.0.0" }, () => new Promise(() => {}))
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "patient")
        yield* Deferred.await(running)
        yield* session.request("job.cancel", {}, { job_id })
        yield* ended(session, job_id)
        assert.deepStrictEqual(story(session, job_id), ["one", "two", "CANCELLED"])
        const { job_id: second } = yield* submit(session, "deaf")
        yield* session.expect("job.event", (frame) => frame.job_id === second)
        yield* session.request("job.cancel", {}, { job_id: second })
        yield* session.expect("job.cancelled")
        const waiting = yield* Effect.fork(ended(session, second))
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual((yield* Fiber.join(waiting)).payload.code, "CANCELLED")
      }).pipe(Effect.provide(serve([patient, deaf])))
    })
  )
})
