/** Effects that are started without a fiber, and errands that need one only for some of their steps. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Decided from "../../../src/services/runtime/decided.js"
import { type Done, type Errand, exitOf, Pending, runErrand } from "../../../src/services/runtime/Pending.js"

/** Runs an errand, and counts the fibers that it takes. */
const run = <A>(errand: Errand<A>) => {
  let forked = 0
  const fork = (effect: Effect.Effect<unknown>) => {
    forked++
    return Effect.runFork(effect)
  }
  return Effect.map(
    Effect.async<Exit.Exit<A>>((resume) => runErrand(errand, fork, (exit) => resume(Effect.succeed(exit)))),
    (exit) => ({ exit, forked })
  )
}

/** An effect that is done when it is told. */
const told = <A>() => {
  const waiting: Array<Done<A>> = []
  return {
    effect: new Pending<A>((done) => waiting.push(done)),
    tell: (exit: Exit.Exit<A>) => {
      for (const done of waiting.splice(0)) done(exit)
    }
  }
}

describe("an errand", () => {
  it.effect("takes no fiber for what is decided or only waits", () =>
    Effect.gen(function* () {
      const { effect, tell } = told<number>()
      const running = yield* Effect.fork(
        run(
          (function* (): Errand<number> {
            const one = yield* Effect.succeed(1)
            const two = yield* effect
            return one + two
          })()
        )
      )
      yield* Effect.yieldNow()
      tell(Exit.succeed(2))
      assert.deepStrictEqual(yield* Fiber.join(running), { exit: Exit.succeed(3), forked: 0 })
    })
  )

  it.effect("forks what needs a fiber, and only that", () =>
    Effect.gen(function* () {
      const { exit, forked } = yield* run(
        (function* (): Errand<string> {
          const a = yield* Effect.succeed("a")
          const b = yield* Effect.sync(() => "b")
          const c = yield* exitOf(Effect.fail("c"))
          return a + b + String(Exit.isFailure(c))
        })()
      )
      assert.deepStrictEqual({ exit, forked }, { exit: Exit.succeed("abtrue"), forked: 2 })
    })
  )

  it.effect("goes on after whoever calls it back, also when that is at once", () =>
    Effect.gen(function* () {
      const order: Array<string> = []
      const atOnce = new Pending<void>((done) => {
        done(Exit.void)
        order.push("called back")
      })
      yield* run(
        (function* (): Errand<void> {
          yield* atOnce
          order.push("went on")
        })()
      )
      assert.deepStrictEqual(order, ["called back", "went on"])
    })
  )

  it.effect("ends with what its steps throw, or die of", () =>
    Effect.gen(function* () {
      const thrown = yield* run(
        // biome-ignore lint/correctness/useYield: it does not come so far.
        (function* (): Errand<void> {
          throw new Error("thrown")
        })()
      )
      const died = yield* run(
        (function* (): Errand<void> {
          yield* Effect.die("died")
        })()
      )
      assert.isTrue(Exit.isFailure(thrown.exit) && Cause.isDie(thrown.exit.cause))
      assert.deepStrictEqual(died.exit, Exit.die("died"))
    })
  )
})

describe("an errand whose step cannot be begun", () => {
  it.effect("dies of that", () =>
    Effect.gen(function* () {
      const { exit } = yield* run(
        (function* (): Errand<void> {
          yield* new Pending<void>(() => {
            throw new Error("thrown")
          })
        })()
      )
      assert.isTrue(Exit.isFailure(exit) && Cause.isDie(exit.cause))
    })
  )
})

describe("a pending effect", () => {
  it.effect("is an effect as any other", () =>
    Effect.gen(function* () {
      const { effect, tell } = told<number>()
      const doubled = yield* Effect.fork(Effect.map(effect, (n) => n * 2))
      yield* Effect.yieldNow()
      tell(Exit.succeed(21))
      assert.strictEqual(yield* Fiber.join(doubled), 42)
    })
  )
})

describe("a generator of what is decided", () => {
  it("is decided itself, in the call", () => {
    const whole = Decided.gen(function* () {
      const a = yield* Effect.succeed(1)
      const b = yield* Either.right(2)
      return a + b
    })
    assert.deepStrictEqual(Decided.decided(whole), Exit.succeed(3))
  })

  it.effect("goes on as an effect from the first that is not, and fails as one", () =>
    Effect.gen(function* () {
      const begun: Array<string> = []
      const effect = Decided.gen(function* () {
        begun.push("one")
        yield* Effect.sync(() => begun.push("two"))
        begun.push("three")
        return yield* Effect.fail("no")
      })
      assert.deepStrictEqual(begun, ["one"])
      assert.deepStrictEqual(yield* Effect.exit(effect), Exit.fail("no"))
      assert.deepStrictEqual(begun, ["one", "two", "three"])
    })
  )

  it.effect("dies of what it throws", () =>
    Effect.gen(function* () {
      const thrown = Decided.gen(function* () {
        yield* Effect.void
        throw new Error("thrown")
      })
      const exit = yield* Effect.exit(thrown)
      assert.isTrue(Exit.isFailure(exit) && Cause.isDie(exit.cause))
    })
  )
})
