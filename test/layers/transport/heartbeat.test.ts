/** The heartbeat of both sides, protocol 4.4. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { heartbeat, Pulse } from "../../../src/layers/transport/heartbeat.js"
import { monotonic } from "../../../src/services/runtime/monotonic.js"
import * as Turn from "../../../src/services/runtime/Turn.js"

const interval = 1_000

/** A beating connection under the test clock. `onTurn` is what happens in each turn that the heartbeat waits for. */
const beating = (onTurn: (pulse: Pulse) => void = () => {}, mayFallSilent?: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const forward = monotonic(yield* Effect.clock)
    let stalled = 0
    const now = () => forward() + stalled
    const pulse = new Pulse(now)
    const pings: Array<number> = []
    const start = now()
    const turn = Turn.make((callback) =>
      Turn.eventLoop.onNext(() => {
        onTurn(pulse)
        callback()
      })
    )
    const fiber = yield* Effect.fork(
      heartbeat(pulse, {
        connection: { mayFallSilent },
        interval,
        turn,
        ping: () => pings.push(now() - start)
      })
    )
    /** Moves on, and lets what is due happen in real turns. */
    const pass = (ms: number) =>
      Effect.zipRight(TestClock.adjust(`${ms} millis`), Effect.repeatN(Turn.eventLoop.next, 20))
    const over = Effect.map(Fiber.poll(fiber), (exit) => exit._tag === "Some")
    /** Time that this process has slept through: timers are late by it. */
    const stall = (ms: number) => {
      stalled += ms
    }
    return { pulse, pings, pass, over, stall }
  })

describe("heartbeat", () => {
  it.scoped("pings after an interval without anything sent, once until something is heard", () =>
    Effect.gen(function* () {
      const { pulse, pings, pass } = yield* beating()
      yield* pass(999)
      assert.deepStrictEqual(pings, [])
      yield* pass(1)
      assert.deepStrictEqual(pings, [1_000])
      yield* pass(500)
      pulse.heard(false)
      pulse.heard(true)
      yield* pass(499)
      assert.deepStrictEqual(pings, [1_000])
      yield* pass(1)
      assert.deepStrictEqual(pings, [1_000, 2_000])
    })
  )

  it.scoped("begins when the peer may fall silent without being told, and counts from then", () =>
    Effect.gen(function* () {
      const disturbed = yield* Effect.makeLatch(false)
      const { pings, pass, over } = yield* beating(() => {}, disturbed.await)
      yield* pass(100_000)
      assert.deepStrictEqual(pings, [])
      yield* disturbed.open
      yield* pass(1_999)
      assert.deepStrictEqual(pings, [101_000])
      assert.isFalse(yield* over)
      yield* pass(1)
      assert.isTrue(yield* over)
    })
  )

  it.scoped("gives up after exactly two intervals of silence", () =>
    Effect.gen(function* () {
      const { pass, over } = yield* beating()
      yield* pass(1_000)
      yield* pass(999)
      assert.isFalse(yield* over)
      yield* pass(1)
      assert.isTrue(yield* over)
    })
  )

  it.scoped("any frame counts, however late in the two intervals", () =>
    Effect.gen(function* () {
      const { pulse, pass, over } = yield* beating()
      for (let i = 0; i < 5; i++) {
        yield* pass(1_000)
        yield* pass(900)
        pulse.heard(false)
        pulse.heard(true)
      }
      assert.isFalse(yield* over)
    })
  )

  it.scoped("after a stall of our own, reads what has come before it judges", () =>
    Effect.gen(function* () {
      let arrived = false
      const { pass, over, stall } = yield* beating((pulse) => {
        if (!arrived) return
        arrived = false
        pulse.heard(false)
        pulse.heard(true)
      })
      yield* pass(900)
      // Suspended for eight intervals; the peer's frames are in the socket.
      arrived = true
      stall(8_000)
      yield* pass(100)
      assert.isFalse(arrived)
      assert.isFalse(yield* over)
      yield* pass(1_000)
      yield* pass(1_000)
      assert.isTrue(yield* over)
    })
  )

  it.scoped("judges nobody while this side does not read", () =>
    Effect.gen(function* () {
      const { pulse, pass, over } = yield* beating()
      pulse.heard(false)
      yield* pass(1_000)
      for (let i = 0; i < 10; i++) yield* pass(1_000)
      assert.isFalse(yield* over)
      pulse.heard(true)
      yield* pass(1_000)
      yield* pass(999)
      assert.isFalse(yield* over)
      yield* pass(1)
      assert.isTrue(yield* over)
    })
  )
})
