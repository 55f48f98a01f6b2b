import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as ArcpClient from "../../src/layers/client/ArcpClient.js"
import * as Agent from "../../src/services/agents/Agent.js"
import { Job } from "../../src/services/jobs/Job.js"
import * as Check from "../../src/testing/Check.js"
import type * as Faults from "../../src/testing/Faults.js"
import * as TestRuntime from "../../src/testing/TestRuntime.js"

const log = (eventSeq: number, message = `line ${eventSeq}`): ArcpClient.JobEvent => ({
  kind: "log",
  ts: "2026-01-01T00:00:00Z",
  body: { level: "info", message },
  eventSeq
})
const gap: ArcpClient.JobEvent = {
  kind: "gap",
  ts: "2026-01-01T00:00:00Z",
  body: { reason: "evicted", replayed: false, message: "gone" },
  eventSeq: 2
}
const failure = (check: () => void): string => {
  try {
    check()
  } catch (error) {
    assert.instanceOf(error, Check.CheckFailed)
    return error.message
  }
  throw new Error("the check has passed")
}

describe("numbered", () => {
  it("takes numbers that rise by one", () => {
    Check.numbered([])
    Check.numbered([log(1), log(2), log(3)], { from: 1 })
    Check.numbered([log(1), log(3), log(9)], { gaps: true })
  })
  it("names what is missing, what came twice, and where", () => {
    assert.match(
      failure(() => Check.numbered([log(1), log(3)])),
      /right after 1; came\n.*1 {2}log.*\n> .*3 {2}log/
    )
    assert.match(
      failure(() => Check.numbered([log(1), log(1)])),
      /right after 1/
    )
    assert.match(
      failure(() => Check.numbered([log(2)], { from: 1 })),
      /right after 0/
    )
    assert.match(
      failure(() => Check.numbered([log(5), log(4)], { gaps: true })),
      /above 5/
    )
    assert.match(
      failure(() => Check.numbered([log(1), gap])),
      /expected no gap/
    )
  })
  it("shows a few lines of many", () => {
    const many = Array.from({ length: 100 }, (_, i) => log(i < 50 ? i : i + 1, "x".repeat(500)))
    const message = failure(() => Check.numbered(many))
    assert.match(message, /… 45 before\n/)
    assert.match(message, /… 43 more$/)
    assert.isBelow(message.length, 2500)
  })
})

describe("exactly and inOrder", () => {
  const events = [log(1), log(2, "two"), log(3)]
  it("take kinds, and keys of bodies", () => {
    Check.exactly(events, ["log", { kind: "log", body: { message: "two" } }, "log"])
    Check.inOrder(events, [{ kind: "log", body: { message: "two" } }, "log"])
    Check.exactly([], [])
  })
  it("name the first that is not as expected", () => {
    assert.match(
      failure(() => Check.exactly(events, ["log", "status", "log"])),
      /status at place 2; came\n.*\n> .*two/
    )
    assert.match(
      failure(() => Check.exactly(events, ["log"])),
      /no event after 1/
    )
    assert.match(
      failure(() => Check.exactly([], ["log"])),
      /log at place 1; came\n {2}nothing/
    )
    assert.match(
      failure(() => Check.inOrder(events, ["log", "log", "log", "log"])),
      /log after place 3/
    )
    assert.match(
      failure(() => Check.inOrder(events, [{ kind: "log", body: { message: "no" } }])),
      /"no"/
    )
  })
})

describe("endedOnce", () => {
  const frame = (type: string, event_seq: number, to: "client" | "runtime" = "client"): Faults.Frame => ({
    connection: 1,
    to,
    text: JSON.stringify({ type, job_id: "job_1", event_seq })
  })
  it("takes one end, also one that is sent again", () => {
    Check.endedOnce([frame("job.event", 1), frame("job.result", 2), frame("job.result", 2)], "job_1")
  })
  it("names a second end, none, and what comes after it", () => {
    const end = frame("job.result", 2)
    assert.match(
      failure(() => Check.endedOnce([end, frame("job.error", 3)], "job_1")),
      /job.result 2\n {2}job.error 3/
    )
    assert.match(
      failure(() => Check.endedOnce([frame("job.event", 1)], "job_1")),
      /one end of job_1; came\n {2}none/
    )
    assert.match(
      failure(() => Check.endedOnce([end, frame("job.event", 3)], "job_1")),
      /nothing after the end 2/
    )
  })
})

const Slow = Agent.make("slow", { version: "1.0.0", input: Schema.Int, output: Schema.Int })
const slow = Agent.handle(Slow, (steps) =>
  Effect.gen(function* () {
    const job = yield* Job
    for (let i = 1; i <= steps; i++) {
      yield* job.log("info", `step ${i}`)
      yield* Effect.sleep("1 minute")
    }
    return steps
  })
)

describe("seen", () => {
  const died = (exit: Exit.Exit<unknown, unknown>) =>
    Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "succeeded"

  it.scoped("waits for an event, and what comes after it can be read on", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit(Slow, 3)
      const waiting = yield* Effect.fork(Check.seen(job, { kind: "log", body: { message: "step 2" } }))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* Fiber.join(waiting)).kind, "log")
      const rest = yield* Effect.fork(Stream.runCount(job.events))
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(yield* Fiber.join(rest), 1)
      assert.strictEqual(yield* job.result, 3)
    }).pipe(Effect.provide(TestRuntime.layer([slow])))
  )

  it.scoped("says what came instead, at the job's end and when the time is over", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const ended = yield* Effect.fork(Effect.exit(Check.seen(yield* client.submit(Slow, 1), "progress")))
      const late = yield* Effect.fork(
        Effect.exit(Check.seen(yield* client.submit(Slow, 9), "progress", { within: "90 seconds" }))
      )
      yield* TestClock.adjust("1 minute")
      assert.match(died(yield* Fiber.join(ended)), /expected progress before the job's end; came\n.*status/)
      yield* TestClock.adjust("1 minute")
      assert.match(died(yield* Fiber.join(late)), /expected progress within 1m 30s; came\n(.|\n)*step 2/)
    }).pipe(Effect.provide(TestRuntime.layer([slow])))
  )

  it.scoped("says how the job has ended, why it failed too", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const seen = (agent: string) =>
        Effect.flatMap(client.submit(agent, null), (job) => Effect.exit(Check.seen(job, "progress")))
      assert.match(died(yield* seen("three")), /before the job's end; came\n(.|\n)*and it ended with 3/)
      assert.match(died(yield* seen("broken")), /and it failed: .*the till is empty/)
    }).pipe(
      Effect.provide(
        TestRuntime.layer([
          Agent.handle(Agent.make("three", { version: "1.0.0" }), () => Effect.succeed(3)),
          Agent.handle(Agent.make("broken", { version: "1.0.0" }), () =>
            Effect.die(new Error("the till is empty"))
          )
        ])
      )
    )
  )
})
