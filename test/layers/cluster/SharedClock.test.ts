/** What time it is on a node: that of whoever keeps the list of nodes, however wrong or far its own clock goes. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import { afterAll, vi } from "vitest"
import * as RuntimeCluster from "../../../src/layers/cluster/RuntimeCluster.js"
import * as SharedClock from "../../../src/layers/cluster/SharedClock.js"
import { StoreError } from "../../../src/services/store/Store.js"
import { missing } from "../../testing/Postgres.js"
import { makeStores } from "../store/pg/layers.js"

const hour = 3_600_000

/** A clock that is wrong by `ms`, and goes as `clock` does. */
const wrongBy = (clock: Clock.Clock, ms: () => number): Clock.Clock => {
  const now = () => clock.unsafeCurrentTimeMillis() + ms()
  return {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: now,
    currentTimeMillis: Effect.sync(now),
    unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
    currentTimeNanos: clock.currentTimeNanos,
    sleep: (duration) => clock.sleep(duration)
  }
}

describe("the clock of a node", () => {
  it.scoped("tells the shared time whatever its own says, and goes on while that cannot be asked", () =>
    Effect.gen(function* () {
      const own = yield* Effect.clock
      let wrong = hour
      let away = false
      const time = Effect.suspend(() =>
        away ? Effect.die("no such driver") : Effect.succeed(own.unsafeCurrentTimeMillis())
      )
      const clock = yield* Effect.withClock(
        SharedClock.make(time),
        wrongBy(own, () => wrong)
      )
      const off = () => clock.unsafeCurrentTimeMillis() - own.unsafeCurrentTimeMillis()
      assert.strictEqual(off(), 0)
      // It is set while the runtime runs.
      wrong = -2 * hour
      assert.strictEqual(off(), 0)
      away = true
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(off(), 0)
      assert.strictEqual(yield* clock.currentTimeMillis, yield* own.currentTimeMillis)
    })
  )

  it.scoped("follows a shared clock that was set, also after it could not be asked", () =>
    Effect.gen(function* () {
      const own = yield* Effect.clock
      let ahead = 0
      let fails = false
      const clock = yield* SharedClock.make(
        Effect.suspend(() =>
          fails
            ? Effect.fail(new StoreError({ message: "away" }))
            : Effect.succeed(own.unsafeCurrentTimeMillis() + ahead)
        )
      )
      const off = () => clock.unsafeCurrentTimeMillis() - own.unsafeCurrentTimeMillis()
      fails = true
      yield* TestClock.adjust("1 minute")
      ahead = 90_000
      assert.strictEqual(off(), 0)
      fails = false
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(off(), 90_000)
    })
  )

  it("goes by the more exact of two looks, and by the later one when they disagree", () => {
    const exact = { at: 0, offset: 1_000, error: 1 }
    const chosen = (offset: number, error: number, at = 10_000) =>
      SharedClock.better(exact, { at, offset, error }).offset
    // A look that took long says less than the one before, which has grown by what clocks drift.
    assert.strictEqual(chosen(1_400, 500), 1_000)
    assert.strictEqual(chosen(1_002, 2), 1_002)
    assert.strictEqual(chosen(1_400, 500, 10_000_000), 1_400)
    assert.strictEqual(chosen(1_600, 500), 1_600)
    assert.strictEqual(chosen(-9_000, 1), -9_000)
  })

  const stores = makeStores()
  afterAll(stores.drop)
  it.scopedLive.skipIf(missing !== undefined)(
    `is that of Postgres for what is built on it${missing === undefined ? "" : ` (${missing})`}`,
    () =>
      Effect.gen(function* () {
        const url = Redacted.make(yield* Effect.promise(stores.url))
        class Told extends Context.Tag("test/Told")<Told, Clock.Clock>() {}
        const node = Layer.effect(Told, Effect.clock).pipe(
          Layer.provide(RuntimeCluster.layer({ url, prefix: "clock_", node: "a" }))
        )
        const now = Date.now
        const wrong = yield* Effect.acquireRelease(
          Effect.sync(() => vi.spyOn(Date, "now").mockImplementation(() => now() + hour)),
          (spy) => Effect.sync(() => spy.mockRestore())
        )
        const clock = Context.get(yield* Layer.build(node), Told)
        assert.isAbove(wrong.mock.calls.length, 0)
        // The Postgres of the tests is on this machine, or its clock is right.
        assert.isBelow(Math.abs(clock.unsafeCurrentTimeMillis() - now()), hour / 2)
      })
  )
})
