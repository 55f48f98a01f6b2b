/** How a node says that it is alive, by a clock that is set meanwhile. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { beating } from "../../../src/layers/cluster/heartbeat.js"
import { StoreError } from "../../../src/services/store/Store.js"
import { settableWall } from "../../support/Rig.js"

const expiry = Duration.seconds(6)

describe("the heartbeat of a node", () => {
  it.scoped("goes on after a defect in one beat", () =>
    Effect.gen(function* () {
      let beats = 0
      const lost = yield* beating(
        "a",
        expiry,
        Effect.suspend(() => (++beats === 2 ? Effect.die("a defect of the test") : Effect.succeed(true)))
      )
      const told = yield* Effect.fork(lost)
      yield* TestClock.adjust("30 seconds")
      assert.isNull(told.unsafePoll())
      assert.isAbove(beats, 10)
    })
  )

  for (const direction of ["forward", "back"] as const)
    it.scoped(
      `goes on when the wall clock is set ${direction}, and ends when nobody hears it for the expiry`,
      () =>
        Effect.gen(function* () {
          const base = yield* Effect.clock
          const pass = (duration: Duration.DurationInput) =>
            Effect.withClock(TestClock.adjust(duration), base)
          const wall = settableWall(base)
          let isDeaf = false
          const beat = Effect.suspend(() =>
            isDeaf ? Effect.fail(new StoreError({ message: "deaf" })) : Effect.succeed(true)
          )
          const lost = yield* Effect.withClock(beating("a", expiry, beat), wall.clock)
          const told = yield* Effect.fork(Effect.flip(lost))
          if (direction === "forward") wall.jump("1 hour")
          else wall.jumpBack("1 hour")
          yield* pass("5 seconds")
          yield* pass("5 seconds")
          assert.isNull(told.unsafePoll())
          isDeaf = true
          yield* pass("7 seconds")
          assert.deepInclude(yield* Fiber.join(told), { name: "a", why: "silent" })
        })
    )
})
