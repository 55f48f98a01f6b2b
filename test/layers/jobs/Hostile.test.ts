/**
 * A value that throws at every look at it, thrown, failed with, returned or given by what is an agent's, ends its job and
 * nothing else: Effect's run loop looks at what is thrown where nothing catches what that look throws.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Tracer from "effect/Tracer"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { guarded, unguarded } from "../../../src/services/runtime/Guard.js"
import { keeping } from "../../support/tracer.js"
import { ends } from "./ending.js"

const no = (): never => {
  throw new Error("no look")
}
const values: Readonly<Record<string, () => object>> = {
  "a proxy whose has throws": () => new Proxy({}, { has: no }),
  "a function's proxy whose has throws": () => new Proxy(() => {}, { has: no }),
  "an error's proxy whose every look throws": () =>
    new Proxy(new Error("x"), { has: no, get: no, getPrototypeOf: no, ownKeys: no }),
  "a revoked proxy": () => {
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    return proxy
  },
  "a proxy whose has throws such a proxy": () =>
    new Proxy(
      {},
      {
        has: () => {
          throw new Proxy({}, { has: no, get: no })
        }
      }
    )
}

const effectful =
  (durable: boolean, handler: (hostile: () => never, value: () => object) => unknown) =>
  (value: () => object) =>
    Agent.handle(Agent.make("bad", { version: "1.0.0", durable }), () => {
      const thrower = (): never => {
        throw value()
      }
      return handler(thrower, value) as Effect.Effect<unknown, never, Job>
    })

const promising =
  (durable: boolean, run: (value: () => object, job: Agent.PromiseJob) => unknown) => (value: () => object) =>
    Agent.fromPromise("bad", { version: "1.0.0", durable }, (_, job) => run(value, job))

const ways = {
  "thrown by a handler": effectful(false, (hostile) => hostile()),
  "thrown in a handler's generator": effectful(false, (hostile) =>
    Effect.gen(function* () {
      yield* Effect.yieldNow()
      return hostile()
    })
  ),
  "thrown in Effect.sync": effectful(false, (hostile) => Effect.sync(hostile)),
  "thrown in Effect.async": effectful(false, (hostile) => Effect.async(hostile)),
  "thrown in a callback of flatMap": effectful(false, (hostile) =>
    Effect.flatMap(Effect.yieldNow(), hostile)
  ),
  "thrown in Effect.tryPromise's catch": effectful(false, (hostile) =>
    Effect.tryPromise({ try: () => Promise.reject(1), catch: hostile })
  ),
  "thrown in a forked fiber that is joined": effectful(false, (hostile) =>
    Effect.flatMap(Effect.fork(Effect.suspend(hostile)), Fiber.join)
  ),
  "thrown in a finalizer": effectful(false, (hostile) => Effect.addFinalizer(() => Effect.sync(hostile))),
  "failed with": effectful(false, (_, value) => Effect.fail(value())),
  "failed with, and looked at": effectful(false, (_, value) =>
    Effect.catchTag(Effect.fail(value() as { readonly _tag: "X" }), "X", () => Effect.void)
  ),
  "died of": effectful(false, (_, value) => Effect.die(value())),
  "returned as an effect": effectful(false, (_, value) => value()),
  "returned as the next effect": effectful(false, (_, value) =>
    Effect.flatMap(Effect.void, () => value() as Effect.Effect<void>)
  ),
  "thrown in a step": effectful(true, (hostile) =>
    Effect.flatMap(Job, (job) => job.step("one", Effect.sync(hostile)))
  ),
  "failed with in a step": effectful(true, (_, value) =>
    Effect.flatMap(Job, (job) => job.step("one", Effect.fail(value())))
  ),
  "thrown by a promise agent": promising(false, (value) => {
    throw value()
  }),
  "rejected by a promise agent": promising(false, (value) => Promise.reject(value())),
  "thrown by a promise agent's step": promising(true, (value, job) =>
    job.step("one", () => {
      throw value()
    })
  ),
  "rejected by a promise agent's step": promising(true, (value, job) =>
    job.step("one", () => Promise.reject(value()))
  ),
  "rejected while a promise agent holds": promising(true, (value, job) =>
    job.hold(() => Promise.reject(value()))
  )
} as const

/** What is returned has to be JSON, and an end is an end, whichever. */
const returned = {
  "succeeded with": effectful(false, (_, value) => Effect.succeed(value())),
  "returned by a promise agent": promising(false, (value) => value()),
  "resolved by a promise agent's step": promising(true, (value, job) => job.step("one", () => value())),
  "emitted by a promise agent": promising(false, (value, job) => job.emit("x-vendor.a.b", value())),
  "a member of what is returned": promising(false, (value) => ({ a: [value()] })),
  "delegated with": promising(false, (value, job) => job.delegate("bad", value())),
  "an attribute of a log": promising(false, (value, job) =>
    job.log("info", "x", value() as Record<string, unknown>)
  )
} as const

for (const [value, make] of Object.entries(values))
  describe(value, () => {
    for (const [way, agent] of Object.entries(ways))
      it.scoped(way, () =>
        Effect.gen(function* () {
          const { end, seen } = yield* ends(agent(make))
          assert.strictEqual(end.payload.code, "INTERNAL_ERROR")
          assert.lengthOf(
            seen.filter(({ type }) => type === "job.error"),
            1
          )
        })
      )
    for (const [way, agent] of Object.entries(returned))
      it.scoped(way, () =>
        Effect.gen(function* () {
          const { end } = yield* ends(agent(make))
          assert.include(["job.result", "job.error"], end.type)
        })
      )
  })

describe("a guard of fibers", () => {
  it.effect("keeps what is thrown as it is when it can be read, and makes the spans of its tracer", () => {
    const kept = keeping()
    const guard = guarded(kept.tracer)
    assert.strictEqual(guarded(guard), guard)
    assert.strictEqual(guarded(kept.tracer), guard)
    assert.strictEqual(unguarded(guard), kept.tracer)
    const error = new RangeError("mine")
    return Effect.sync(() => {
      throw error
    }).pipe(
      Effect.withSpan("inside"),
      Effect.catchAllDefect((defect) => Effect.succeed(defect)),
      Effect.map((defect) => {
        assert.strictEqual(defect, error)
        assert.deepStrictEqual(
          kept.spans.map(({ name }) => name),
          ["inside"]
        )
      }),
      Effect.withTracer(guard)
    )
  })

  it.effect("says of what is no effect that it is none", () =>
    Effect.flatMap(Effect.void, () => ({ plain: true }) as unknown as Effect.Effect<void>).pipe(
      Effect.catchAllDefect((defect) => Effect.succeed(defect)),
      Effect.map((text) => assert.match(String(text), /Not a valid effect/)),
      Effect.provide(Layer.setTracer(guarded(Tracer.make({ span: no, context: (f) => f() }))))
    )
  )
})
