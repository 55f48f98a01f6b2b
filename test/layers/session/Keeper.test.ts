/** The one fiber that looks at the heartbeats and tokens of all connections. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { Keeper, Kept } from "../../../src/layers/session/Keeper.js"
import { monotonic } from "../../../src/services/runtime/monotonic.js"
import * as Turn from "../../../src/services/runtime/Turn.js"
import * as TurnShare from "../../../src/services/runtime/TurnShare.js"

const settle = Effect.repeatN(Turn.eventLoop.next, 20)
const pass = (ms: number) => Effect.zipRight(TestClock.adjust(`${ms} millis`), settle)

/** One of twenty is due after so long, or not at all. */
const step = FastCheck.record({
  which: FastCheck.nat(19),
  left: FastCheck.oneof(FastCheck.nat(1_000), FastCheck.constant(Infinity))
})

const running = (share: Effect.Effect<void> = Effect.void) =>
  Effect.gen(function* () {
    const elapsed = monotonic(yield* Effect.clock)
    const keeper = new Keeper(elapsed, share)
    yield* Effect.forkScoped(keeper.run)
    yield* settle
    return { keeper, elapsed }
  })

describe("the keeper", () => {
  it.scoped("looks when something is due, and when one comes that is due earlier", () =>
    Effect.gen(function* () {
      const { elapsed, keeper } = yield* running()
      const looks: Array<string> = []
      const kept = (name: string, ...lefts: Array<number>) =>
        new Kept(() => {
          looks.push(`${name} ${elapsed()}`)
          return lefts.shift() ?? Infinity
        })
      const [late, early, gone] = [kept("late", 500), kept("early", 50, 1_000), kept("gone")]
      keeper.keep(late, 1_000)
      keeper.keep(gone, 150)
      yield* settle
      keeper.keep(early, 100)
      keeper.drop(gone)
      yield* pass(99)
      assert.deepStrictEqual(looks, [])
      yield* pass(1)
      yield* pass(50)
      assert.deepStrictEqual(looks.splice(0), ["early 100", "early 150"])
      yield* pass(2_000)
      assert.deepStrictEqual(looks, ["late 1000", "early 1150", "late 1500"])
      assert.strictEqual(keeper.size, 0)
    })
  )

  it.scoped("goes on when a look fails", () =>
    Effect.gen(function* () {
      const { keeper } = yield* running()
      let looked = 0
      keeper.keep(
        new Kept(() => {
          throw new Error("a bug")
        }),
        10
      )
      keeper.keep(new Kept(() => ++looked * 10), 10)
      yield* pass(20)
      assert.strictEqual(looked, 2)
      assert.strictEqual(keeper.size, 1)
    })
  )

  it.scoped("shares turns when thousands are due at once", () =>
    Effect.gen(function* () {
      let time = 0
      const share = TurnShare.make(Turn.eventLoop, () => time)
      const { keeper } = yield* running(share)
      let looked = 0
      for (let i = 0; i < 1_000; i++)
        keeper.keep(
          new Kept(() => {
            looked++
            time += 1
            return Infinity
          }),
          10
        )
      yield* TestClock.adjust("10 millis")
      assert.isBelow(looked, 1_000)
      let before = looked
      while (looked < 1_000) {
        assert.isAtMost(looked - before, 20)
        before = looked
        yield* Turn.eventLoop.next
      }
    })
  )

  it("looks in the order in which things are due, whatever was put off and dropped before", () =>
    FastCheck.assert(
      FastCheck.asyncProperty(FastCheck.array(step, { maxLength: 200 }), (steps) =>
        Effect.gen(function* () {
          const due = new Map<number, number>()
          const looked: Array<number | undefined> = []
          let now = 0
          const keeper = new Keeper(() => now, Effect.void)
          const all = Array.from({ length: 20 }, (_, i) => {
            const look = () => {
              looked.push(due.get(i))
              return Infinity
            }
            return new Kept(look)
          })
          for (const { left, which } of steps) {
            keeper.keep(all[which] as Kept, left)
            if (left === Infinity) due.delete(which)
            else due.set(which, left)
          }
          assert.strictEqual(keeper.size, due.size)
          now = 1_000
          const fiber = yield* Effect.fork(keeper.run)
          while (keeper.size > 0) yield* Effect.yieldNow()
          yield* Fiber.interrupt(fiber)
          assert.deepStrictEqual(
            looked,
            [...due.values()].sort((a, b) => a - b)
          )
        }).pipe(Effect.runPromise)
      )
    ))
})
