// Tests an agent without a socket: with node:test here, with any runner the same. The clock is the test's, the connection
// breaks when it is told to, and the process of a durable agent dies at each of its commits.
//
//   npm run example testing

import assert from "node:assert"
import { test } from "node:test"
import { Effect, Exit, Fiber, Schedule, Schema, type Scope, TestClock, TestContext } from "effect"
import { Agent, ArcpClient, Job } from "effect-arcp"
import { Check, Faults, TestRuntime } from "effect-arcp/testing"

// The agent under test: counts to a number, one in ten minutes, unless it is above 6.
const Count = Agent.make("count", {
  version: "1.0.0",
  input: Schema.Struct({ to: Schema.Int }),
  output: Schema.Int,
  error: Schema.Struct({ _tag: Schema.Literal("TooFar"), limit: Schema.Int })
})
const count = Agent.handle(Count, ({ to }) =>
  Effect.gen(function* () {
    if (to > 6) return yield* Effect.fail({ _tag: "TooFar" as const, limit: 6 })
    const job = yield* Job.Job
    for (let current = 1; current <= to; current++) {
      yield* job.progress({ current, total: to })
      yield* Effect.sleep("10 minutes")
    }
    return to
  })
)

/** A runtime with the agent, a client of it, and a clock that stands until it is moved. */
const run = <A, E>(body: Effect.Effect<A, E, ArcpClient.ArcpClient | Faults.Faults | Scope.Scope>) =>
  body.pipe(
    Effect.scoped,
    // The test's clock does not move while the client waits to reconnect: at once, then.
    Effect.provide(TestRuntime.layer([count], { client: { reconnect: Schedule.recurs(10) } })),
    Effect.provide(TestContext.TestContext),
    Effect.runPromise
  )

test("an hour passes in no time", () =>
  run(
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit(Count, { to: 6 })
      const counted = yield* Effect.fork(Check.events(job))
      yield* TestClock.adjust("1 hour")
      const events = yield* Fiber.join(counted)
      Check.numbered(events, { from: 1 })
      Check.inOrder(events, ["status", { kind: "progress", body: { current: 6 } }])
      assert.strictEqual(yield* job.result, 6)
    })
  ))

test("refuses to count too far, as its contract says", () =>
  run(
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit(Count, { to: 7 })
      assert.deepStrictEqual(yield* Effect.flip(job.result), { _tag: "TooFar", limit: 6 })
    })
  ))

test("a connection that breaks at the third event loses nothing", () =>
  run(
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const faults = yield* Faults.Faults
      yield* faults.add({ to: "client", type: "job.event", frame: 4, fault: "drop" })
      const job = yield* client.submit(Count, { to: 6 })
      const counted = yield* Effect.fork(Check.events(job))
      yield* TestClock.adjust("1 hour")
      Check.numbered(yield* Fiber.join(counted), { from: 1 })
      Check.endedOnce(yield* faults.frames, job.jobId)
      assert.strictEqual(yield* faults.connections, 2)
    })
  ))

// A durable agent: what is paid has to be paid once, whenever the process dies.
const Order = Agent.make("order", {
  version: "1.0.0",
  input: Schema.Array(Schema.String),
  output: Schema.Int,
  durable: true
})
/** What the bank has seen, by idempotency key. */
const bank = new Set<string>()
const order = Agent.handle(Order, (items) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    yield* job.log("info", `${items.length} items`)
    for (const item of items)
      yield* job.step(
        `pay ${item}`,
        Effect.map(Job.Step, (step) => void bank.add(step.idempotencyKey))
      )
    yield* job.sleep("delivery", "3 hours")
    return items.length
  }).pipe(Effect.orDie)
)

test("an order comes to the same at whichever commit the process dies", () =>
  TestRuntime.everyCrash(order, ["tea", "cups"], {
    each: ({ result }) =>
      Effect.sync(() => {
        assert.deepStrictEqual(result, Exit.succeed(2))
        assert.strictEqual(bank.size, 2)
        bank.clear()
      })
  }).pipe(
    Effect.andThen((report) => assert.ok(report.runs > 10)),
    Effect.runPromise
  ))
