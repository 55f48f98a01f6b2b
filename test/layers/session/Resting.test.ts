/** A writer is there while there is something to write: it rests after a while, and begins again, and nothing is lost between. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { Outbox } from "../../../src/layers/session/Outbox.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { boot, Disk } from "../../support/Rig.js"
import { open } from "../../support/Wire.js"

/** An outbox, and how often a writer has begun. */
const attended = () => {
  const outbox = new Outbox(1024)
  const count = { begun: 0 }
  outbox.begin = () => {
    count.begun++
  }
  return { outbox, count }
}

describe("the writer of an outbox", () => {
  it("begins with what is to be written first, and only once", () => {
    const { count, outbox } = attended()
    assert.strictEqual(count.begun, 0)
    outbox.push("a frame")
    outbox.wake()
    assert.strictEqual(count.begun, 1)
  })

  it("begins also for what was there before anybody could write", () => {
    const outbox = new Outbox(1024)
    outbox.push("a frame")
    let begun = 0
    outbox.begin = () => {
      begun++
    }
    outbox.wake()
    assert.strictEqual(begun, 1)
  })

  it.effect("is woken while it waits, told to rest, and begins again", () =>
    Effect.gen(function* () {
      const { count, outbox } = attended()
      outbox.wake()
      outbox.heard()
      const waiting = yield* Effect.fork(outbox.awaken)
      yield* Effect.yieldNow()
      outbox.wake()
      assert.strictEqual(yield* Fiber.join(waiting), "again")
      const resting = yield* Effect.fork(outbox.awaken)
      yield* Effect.yieldNow()
      outbox.rest()
      assert.strictEqual(yield* Fiber.join(resting), "rest")
      outbox.rested()
      assert.strictEqual(count.begun, 1)
      outbox.wake()
      assert.strictEqual(count.begun, 2)
    })
  )

  it.effect("loses nothing that comes between being told to rest and being gone", () =>
    Effect.gen(function* () {
      const { count, outbox } = attended()
      outbox.wake()
      outbox.heard()
      const waiting = yield* Effect.fork(outbox.awaken)
      yield* Effect.yieldNow()
      outbox.rest()
      outbox.push("a frame")
      yield* Fiber.join(waiting)
      assert.strictEqual(count.begun, 1)
      outbox.rested()
      assert.strictEqual(count.begun, 2)
    })
  )

  it("does not rest while it writes, and does not begin after the end", () => {
    const { count, outbox } = attended()
    outbox.wake()
    assert.isUndefined(outbox.waiting)
    outbox.rest()
    outbox.release()
    outbox.rested()
    outbox.wake()
    assert.strictEqual(count.begun, 1)
  })
})

const slow = Agent.handle(Agent.make("slow", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    for (let i = 0; i < 3; i++) {
      yield* job.log("info", `${i}`)
      yield* Effect.sleep("1 minute")
    }
    return "done"
  })
)

describe("a session whose writer has rested", () => {
  it.scoped("is sent its answers, and what its jobs emit", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([slow], { disk })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          const idle = Effect.zipRight(TestClock.adjust("10 seconds"), eventLoop.next)
          yield* idle
          for (let i = 0; i < 3; i++) {
            yield* idle
            yield* session.request("session.ping", { nonce: `${i}` })
            assert.strictEqual((yield* session.expect("session.pong")).payload.ping_nonce, `${i}`)
          }
          yield* session.request("job.submit", { agent: "slow" })
          yield* session.expect("job.accepted")
          for (let i = 0; i < 4; i++) {
            yield* session.expect("job.event")
            yield* TestClock.adjust("61 seconds")
          }
          yield* session.expect("job.result")
        })
      )
    })
  )
})
