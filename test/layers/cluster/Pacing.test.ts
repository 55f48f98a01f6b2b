/** How a session that reads slowly paces jobs of another node, and is told so. */
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as TestClock from "effect/TestClock"
import { patienceMs } from "../../../src/layers/log/ViewState.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { EventLog } from "../../../src/services/log/EventLog.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { cluster, type Node } from "../../support/Nodes.js"
import { open } from "../../support/Wire.js"

const settle = Effect.repeatN(eventLoop.next, 60)

/** Emits as many events as it is told to, and counts them. */
const talker = Effect.gen(function* () {
  const amounts = yield* Queue.unbounded<number>()
  const said = { count: 0 }
  const talk = Agent.handle(Agent.make("talk", { version: "1.0.0" }), () =>
    Effect.flatMap(Job, (job) =>
      Effect.forever(
        Effect.flatMap(Queue.take(amounts), (n) =>
          Effect.repeatN(
            Effect.zipRight(
              job.emit("x-vendor.test.n", { n: said.count }),
              Effect.sync(() => said.count++)
            ),
            n - 1
          )
        )
      )
    ).pipe(Effect.orDie)
  )
  return { agents: [talk], said, say: (n: number) => Queue.offer(amounts, n) }
})

const options = { backPressureLag: 40, maxRetainedEvents: 400 }

/** A job on "a", whose session has moved to "b". */
const movedWith = (options: RuntimeOptions.Input) =>
  Effect.gen(function* () {
    const { disk, start } = yield* cluster
    const { agents, said, say } = yield* talker
    const a: Node = yield* start("a", agents, { options })
    const b: Node = yield* start("b", agents, { options })
    const first = yield* a.run(open())
    yield* first.request("job.submit", { agent: "talk", input: {} })
    const jobId = String((yield* first.expect("job.accepted")).job_id)
    const resume = {
      session_id: first.sessionId,
      resume_token: first.welcome.resume_token,
      last_event_seq: 0
    }
    const session = yield* b.run(open({ resume }))
    yield* settle
    return { a, b, disk, jobId, said, say, session }
  })
const moved = movedWith(options)

it.scoped("a session that does not acknowledge is told of back pressure by the job's node, once", () =>
  Effect.gen(function* () {
    const { disk, jobId, say, session } = yield* moved
    yield* say(60)
    yield* TestClock.adjust("200 millis")
    yield* settle
    const { payload } = yield* session.next(
      ({ job_id, payload, type }) =>
        type === "job.event" && job_id === jobId && payload.body?.phase === "back_pressure"
    )
    assert.isAbove(payload.body.lag, 40)
    yield* say(20)
    yield* TestClock.adjust("1 second")
    yield* settle
    const told = (yield* disk.store.events(jobId, 1, 999)).filter(({ payload }) =>
      payload.includes("back_pressure")
    )
    assert.strictEqual(told.length, 1)
    assert.strictEqual(told[0]?.audience, session.sessionId)
    assert.deepStrictEqual(yield* disk.store.wishes(undefined, 9), [])
  })
)

it.scoped("a job waits for its owner on another node until that has caught up, or is given up", () =>
  Effect.gen(function* () {
    const { a, jobId, said, say, session } = yield* moved
    const log = Context.get(a.context, EventLog)
    const slow = (held: boolean) => log.slow(jobId, session.sessionId, { held })
    // Of another session that is nobody's business.
    yield* log.slow(jobId, "sess_other", { held: true })
    yield* say(5)
    yield* settle
    assert.strictEqual(said.count, 5)
    yield* slow(true)
    yield* say(5)
    yield* settle
    assert.strictEqual(said.count, 5)
    yield* slow(false)
    yield* settle
    assert.strictEqual(said.count, 10)
    yield* slow(true)
    yield* say(5)
    yield* TestClock.adjust(patienceMs)
    yield* settle
    assert.strictEqual(said.count, 15)
  })
)

it.scoped(
  "a job waits for its owner that reads slowly on another node, and goes on when that has caught up",
  () =>
    Effect.gen(function* () {
      const { disk, said, say, session } = yield* movedWith({ maxRetainedEvents: 4_000 })
      const time = Effect.zipRight(TestClock.adjust("100 millis"), settle)
      // Nobody reads: the node of the session says so when half of what that retains is not sent.
      let wanted = 0
      while (said.count === wanted && wanted < 8_000) {
        wanted += 200
        yield* say(200)
        yield* time
      }
      assert.isAbove(said.count, 2_000)
      assert.isBelow(said.count, 4_000)
      yield* say(200)
      yield* time
      assert.isBelow(said.count, wanted)
      let got = 0
      const reading = yield* Effect.fork(
        session.next(({ payload }) => payload.kind === "x-vendor.test.n" && ++got === wanted + 200)
      )
      for (let i = 0; i < 40 && said.count < wanted + 200; i++) yield* time
      assert.strictEqual(said.count, wanted + 200)
      // What was said last, and that nothing holds the job any more, comes there too.
      yield* Effect.repeatN(time, 20)
      yield* Fiber.join(reading)
      assert.deepStrictEqual(yield* disk.store.wishes(undefined, 9), [])
    })
)
