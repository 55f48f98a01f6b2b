/** Durable agents of every shape, killed at each of their commits: what they come to is the same. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Agent from "../../src/services/agents/Agent.js"
import { Job, type JobService } from "../../src/services/jobs/Job.js"
import { Lease } from "../../src/services/lease/Lease.js"
import * as Check from "../../src/testing/Check.js"
import * as TestRuntime from "../../src/testing/TestRuntime.js"

const durable = <A, E>(handler: (job: JobService) => Effect.Effect<A, E, Job | Lease>, name = "durable") =>
  Agent.handle(Agent.make(name, { version: "1.0.0", durable: true }), () =>
    Effect.orDie(Effect.flatMap(Job, handler))
  )

describe("everyCrash", () => {
  it.effect("steps, nested steps, and what is emitted between and in them", () =>
    Effect.gen(function* () {
      const agent = durable((job) =>
        Effect.gen(function* () {
          yield* job.log("info", "one")
          const a = yield* job.step("a", Effect.as(job.log("info", "in a"), 1))
          yield* job.log("info", "two")
          const b = yield* job.step(
            "b",
            Effect.gen(function* () {
              yield* job.log("info", "in b")
              const inner = yield* job.step("inner", Effect.as(job.progress({ current: 1 }), 2))
              yield* job.log("info", "again in b")
              return inner
            })
          )
          yield* job.log("info", "three", {}, { key: "k" })
          return a + b
        })
      )
      const report = yield* TestRuntime.everyCrash(agent, {})
      assert.isAtLeast(report.commits, 10)
      assert.strictEqual(report.runs, 2 * report.commits)
    })
  )

  it.effect(
    "refuses an agent that fails without any crash, and says why; one that is to fail comes to that each time",
    () =>
      Effect.gen(function* () {
        const broken = durable(() => Effect.die(new Error("the till is empty")))
        const failure = yield* Effect.flip(Effect.sandbox(TestRuntime.everyCrash(broken, {})))
        assert.match(Cause.pretty(failure), /fails without a crash.*the till is empty.*mayFail/)
        const report = yield* TestRuntime.everyCrash(broken, {}, { mayFail: true })
        assert.isAbove(report.runs, 0)
        assert.isTrue(Exit.isFailure(report.result))
      })
  )

  it.effect("says at which commit what differs", () =>
    Effect.gen(function* () {
      let runs = 0
      const agent = durable((job) =>
        Effect.gen(function* () {
          yield* job.step("a", Effect.void)
          // Outside of a step it comes out otherwise each time.
          const number = runs++
          yield* job.step("b", Effect.void)
          return number
        })
      )
      const failure = yield* Effect.flip(
        Effect.sandbox(TestRuntime.everyCrash(agent, {}, { each: () => Effect.sync(() => (runs = 0)) }))
      )
      const error = Cause.squash(failure)
      assert.instanceOf(error, Check.CheckFailed)
      assert.match(
        String(error),
        /expected the same after a crash before commit 4 \(x-vendor.effect-arcp.step .*"b".*\); came\n {2}the job: expected it to end in job.result .*"result":0.*, came .*"result":1/
      )
    })
  )

  it.effect("concurrent steps, races, and keyed emits of other fibers", () =>
    Effect.gen(function* () {
      const agent = durable((job) =>
        Effect.gen(function* () {
          const all = yield* Effect.forEach(
            [1, 2, 3, 4],
            (i) =>
              job.step(
                `all ${i}`,
                Effect.zipRight(job.log("info", `in ${i}`), Effect.as(Effect.sleep(i * 100), i))
              ),
            { concurrency: 3 }
          )
          yield* Effect.forEach(
            [1, 2],
            (i) => Effect.fork(job.log("info", `keyed ${i}`, {}, { key: `keyed ${i}` })),
            { discard: true }
          )
          const winner = yield* Effect.race(
            job.step("slow", Effect.as(Effect.sleep("1 hour"), "slow")),
            job.step("fast", Effect.as(Effect.sleep("1 minute"), "fast"))
          )
          yield* job.sleep("nap", "30 minutes")
          return [all, winner]
        })
      )
      const report = yield* TestRuntime.everyCrash(agent, {})
      assert.isAtLeast(report.commits, 15)
    })
  )

  it.effect("budgets: spent exactly, of a parent and its children", () =>
    Effect.gen(function* () {
      const pay = (amount: string) =>
        Effect.flatMap(Lease, (lease) => lease.spend({ amount, currency: "USD" }))
      const child = durable((job) => job.step("paid", pay("0.10")), "child")
      const agent = durable((job) =>
        Effect.gen(function* () {
          yield* job.step("first", pay("0.25"))
          const below = yield* job.delegate("child", null, {
            key: "below",
            lease: { "cost.budget": ["USD:0.50"] }
          })
          yield* below.await
          yield* job.step("twice", Effect.zipRight(pay("0.01"), pay("0.02")))
        })
      )
      yield* TestRuntime.everyCrash(
        agent,
        {},
        {
          agents: [child],
          submit: { leaseRequest: { "cost.budget": ["USD:2.00"], "agent.delegate": ["*"] } }
        }
      )
    })
  )

  it.effect("children that survive, children that do not and are replaced, and refused ones", () =>
    Effect.gen(function* () {
      const child = durable(
        (job) => Effect.zipRight(job.step("a", Effect.succeed(1)), job.step("b", Effect.succeed(2))),
        "child"
      )
      const plain = Agent.handle(Agent.make("plain", { version: "1.0.0" }), () =>
        Effect.flatMap(Job, (job) => Effect.as(job.log("info", "here"), "plain"))
      )
      const agent = durable((job) =>
        Effect.gen(function* () {
          const one = yield* job.delegate("child", 1, { key: "one" })
          const two = yield* job.delegate("plain", 2, { key: "two", retries: 2 })
          const refused = yield* Effect.flip(job.delegate("absent", 3, { key: "three" }))
          return [yield* one.await, yield* two.await, refused.code]
        })
      )
      yield* TestRuntime.everyCrash(
        agent,
        {},
        {
          agents: [child, plain],
          submit: { leaseRequest: { "agent.delegate": ["*"] } }
        }
      )
    })
  )

  it.effect("streamed results, whole or opened, before and after steps", () =>
    Effect.gen(function* () {
      const text = "0123456789".repeat(3_000)
      const agent = durable((job) =>
        Effect.gen(function* () {
          yield* job.step("a", Effect.void)
          const result = yield* job.openResult()
          yield* result.write(text)
          yield* job.step("b", Effect.void)
          yield* result.write(text)
          yield* result.end("end", { summary: "numbers" })
        })
      )
      yield* TestRuntime.everyCrash(agent, {})
      const whole = durable((job) => job.streamResult(Stream.fromIterable([text, text, text, text])))
      yield* TestRuntime.everyCrash(whole, {})
    })
  )

  it.effect("typed failures, schedules, timeouts and a job that fails", () =>
    Effect.gen(function* () {
      let tries = 0
      const agent = durable((job) =>
        Effect.gen(function* () {
          const failed = yield* Effect.flip(job.step("fails", Effect.fail({ no: "way" })))
          const third = yield* job.step(
            "third",
            Effect.suspend(() => (++tries % 3 === 0 ? Effect.succeed("third") : Effect.fail("not yet"))),
            { retry: Schedule.spaced("10 seconds") }
          )
          const timeout = yield* Effect.flip(job.step("late", Effect.never, { timeout: "1 minute" }))
          return yield* Effect.fail(new Error([failed, third, timeout].join(" ")))
        })
      )
      yield* TestRuntime.everyCrash(agent, {}, { mayFail: true })
    })
  )

  it.effect("async functions", () =>
    Effect.gen(function* () {
      const paid = new Map<string, number>()
      const agent = Agent.fromPromise("async", { version: "1.0.0", durable: true }, async (_, job) => {
        await job.log("info", "begins")
        const a = await job.step("a", async () => {
          await job.log("info", "in a")
          return 1
        })
        await job.sleep("nap", 1_000)
        const b = await job.step("b", ({ idempotencyKey }) => {
          paid.set(idempotencyKey, (paid.get(idempotencyKey) ?? 0) + 1)
          return 2
        })
        return a + b
      })
      const report = yield* TestRuntime.everyCrash(
        agent,
        {},
        {
          each: ({ jobId }) =>
            Effect.sync(() => {
              assert.deepStrictEqual([...paid.keys()], [`${jobId}:b`])
              paid.clear()
            })
        }
      )
      assert.isAtLeast(report.commits, 7)
    })
  )

  it.effect("questions, and their answers", () =>
    Effect.gen(function* () {
      const agent = durable((job) =>
        Effect.gen(function* () {
          const plan = yield* job.step("plan", Effect.succeed(["a", "b"]))
          const yes = yield* job.input("approve", { prompt: "Go?", schema: Schema.Boolean, about: plan })
          yield* job.step("go", Effect.void)
          const name = yield* job.input("name", { prompt: "As whom?", schema: Schema.String })
          return [yes, name]
        })
      )
      const report = yield* TestRuntime.everyCrash(
        agent,
        {},
        {
          answer: ({ prompt }) => (prompt === "Go?" ? true : "me"),
          each: ({ result }) => Effect.sync(() => assert.deepStrictEqual(result, Exit.succeed([true, "me"])))
        }
      )
      assert.isAtLeast(report.commits, 9)
    })
  )

  it.effect("two processes of a run that die, at every two commits", () =>
    Effect.gen(function* () {
      const agent = durable((job) => Effect.zipRight(job.step("a", Effect.void), job.log("info", "end")))
      const report = yield* TestRuntime.everyCrash(agent, {}, { crashes: 2 })
      assert.isAbove(report.runs, report.commits * 4)
    })
  )

  it.effect("a job that does not end after a crash", () =>
    Effect.gen(function* () {
      let runs = 0
      const agent = durable((job) =>
        Effect.zipRight(
          job.step("a", Effect.void),
          Effect.suspend(() => (runs++ === 0 ? Effect.void : Effect.never))
        )
      )
      const failure = yield* Effect.flip(
        Effect.sandbox(TestRuntime.everyCrash(agent, {}, { within: "1 hour" }))
      )
      assert.match(
        String(Cause.squash(failure)),
        /expected the same after a crash before commit 1 .*\n {2}it did not end in time: a run has 1h, and more by the option `within`/
      )
    })
  )
})

describe("crashable", () => {
  it.scoped("crashes when and where it is told to, and goes on in the same session", () =>
    Effect.gen(function* () {
      const ran: Array<string> = []
      let run = 0
      const note = (line: string) => Effect.sync(() => void ran.push(line))
      const agent = durable((job) =>
        Effect.gen(function* () {
          const closing = `closing ${++run}`
          yield* job.step("a", note("a"))
          yield* Effect.addFinalizer(() =>
            Effect.zipRight(Effect.ignore(job.log("info", closing)), note("closed"))
          ).pipe(Effect.zipRight(job.step("b", note("b"))), Effect.scoped)
          return yield* job.step("c", Effect.as(note("c"), "done"))
        })
      )
      const runtime = yield* TestRuntime.crashable([agent])
      // Accepted; a started, a ended; b started.
      yield* runtime.crashAt({ commit: 4, when: "after" })
      const job = yield* runtime.client.submit("durable", {})
      const events = yield* Effect.fork(Check.events(job))
      const { at, commits } = yield* runtime.crashed
      assert.deepStrictEqual([at?.commit, at?.when, commits], [4, "after", 4])
      yield* runtime.restart
      assert.strictEqual(yield* job.result, "done")
      const all = yield* Fiber.join(events)
      Check.numbered(all, { from: 1 })
      Check.inOrder(all, [
        { kind: "status", body: { phase: "running" } },
        { kind: "status", body: { phase: "recovered" } }
      ])
      assert.notInclude(JSON.stringify(all), "closing 1")
      assert.include(JSON.stringify(all), "closing 2")
      assert.deepStrictEqual(ran, ["a", "closed", "b", "closed", "c"])
      Check.endedOnce(yield* runtime.faults.frames, job.jobId)
      yield* runtime.crash
      assert.deepStrictEqual((yield* runtime.crashed).at, undefined)
      yield* runtime.restart
      const again = yield* runtime.client.subscribe(job.jobId, { history: true })
      assert.strictEqual(yield* again.result, "done")
    })
  )
})
