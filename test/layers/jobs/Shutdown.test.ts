/** What a shutdown does that is cut off: whoever asked for it has waited as long as it may. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Jobs } from "../../../src/services/jobs/Jobs.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Store } from "../../../src/services/store/Store.js"
import { open } from "../../support/Wire.js"
import { makeStore, submit } from "./support.js"
import { until } from "./unloading.js"

describe("a shutdown that is cut off in the grace of the jobs", () => {
  it.scoped("has ended them, and tries no more to store what the store does not take", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      let hasEnded = false
      let tries = 0
      const { commit } = store.store
      Object.assign(store.store, {
        commit: (batch: Parameters<typeof commit>[0]) => {
          if (batch.ops.some((op) => op._tag === "PutJob" && op.job.endedAt !== undefined)) tries++
          return commit(batch)
        }
      })
      const minute = Effect.forEach(
        Array.from({ length: 10 }),
        () => Effect.zipRight(TestClock.adjust("6 seconds"), Effect.repeatN(eventLoop.next, 5)),
        { discard: true }
      )
      const works = Agent.handle(Agent.make("works", { version: "1.0.0" }), () =>
        Effect.onInterrupt(Effect.never, () =>
          Effect.sync(() => {
            hasEnded = true
          })
        )
      )
      const options = { shutdownGrace: "1 hour", cancelGrace: 0, heartbeatInterval: "1 day" } as const
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "works")
        yield* session.expect("job.event")
        const { shutdown } = yield* Jobs
        const asking = yield* Effect.fork(shutdown)
        for (let i = 0; i < 20; i++) yield* Effect.yieldNow()
        assert.isFalse(hasEnded)
        store.failing = true
        yield* Fiber.interrupt(asking)
        yield* until(Effect.sync(() => hasEnded && tries > 0))
        yield* minute
        const before = tries
        yield* minute
        assert.strictEqual(tries, before)
      }).pipe(
        Effect.provide(
          Runtime.serve().pipe(
            Layer.provideMerge(TransportMemory.layer()),
            Layer.provideMerge(Runtime.layer({ options })),
            Layer.provide(Layer.succeed(Store, store.store)),
            Layer.provide(Registry.layer([works])),
            Layer.provide(Auth.layerStatic({ alice: "alice" }))
          )
        )
      )
    })
  )
})

describe("a durable job that delegates while its runtime shuts down", () => {
  it.scoped("is left to the next start, and does not end by that", () =>
    Effect.gen(function* () {
      const { store } = yield* makeStore
      // In memory nobody would begin it again.
      Object.assign(store, { kind: "durable" })
      const latch = Effect.unsafeMakeLatch(false)
      let hasGoneOn = false
      const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
      const parent = Agent.handle(Agent.make("parent", { version: "1.0.0", durable: true }), () =>
        Effect.gen(function* () {
          yield* latch.await
          hasGoneOn = true
          const child = yield* Effect.orDie((yield* Job).delegate("echo", 1, { key: "a" }))
          return yield* Effect.orDie(child.await)
        })
      )
      const options = { shutdownGrace: "100 millis", heartbeatInterval: "1 day" } as const
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(
          session,
          "parent",
          {},
          { lease_request: { "agent.delegate": ["echo"] } }
        )
        yield* session.expect("job.event")
        const { shutdown } = yield* Jobs
        const asking = yield* Effect.fork(shutdown)
        yield* Effect.repeatN(eventLoop.next, 20)
        yield* latch.open
        yield* until(Effect.sync(() => hasGoneOn))
        // Its grace is real time.
        yield* Fiber.await(asking)
        const record = yield* store.job(job_id ?? "")
        assert.isUndefined(record?.endedAt)
        assert.strictEqual(record?.status, "running")
      }).pipe(
        Effect.provide(
          Runtime.serve().pipe(
            Layer.provideMerge(TransportMemory.layer()),
            Layer.provideMerge(Runtime.layer({ options })),
            Layer.provide(Layer.succeed(Store, store)),
            Layer.provide(Registry.layer([echo, parent])),
            Layer.provide(Auth.layerStatic({ alice: "alice" }))
          )
        )
      )
    })
  )
})
