/** The test clock of what does real work between its pauses. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"

const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

/** Lets seconds go by, one each turn of the event loop, until the effect has ended. */
export const passing = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.gen(function* () {
    const fiber = yield* Effect.fork(effect)
    while (Option.isNone(yield* Fiber.poll(fiber)))
      yield* Effect.zipRight(TestClock.adjust("1 seconds"), turn)
    return yield* Fiber.join(fiber)
  })
