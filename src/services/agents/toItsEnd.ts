/**
 * Runs what must not be forgotten when it has been done. Effect throws away what an uninterruptible effect gives when an interrupt has
 * come meanwhile: whoever waits cannot tell whether it was cut off or has come to its end. So it runs in a fiber of its own, which
 * is interrupted only while it can be, and until then is left to go on.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberStatus from "effect/FiberStatus"
import * as RuntimeFlags from "effect/RuntimeFlags"

/** Keeps effects inside it interruptible, in what is not; as of `Effect.uninterruptibleMask`. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** Milliseconds after which a fiber that could not be interrupted is looked at again: at first, and at the most. */
const soon = 1
const late = 50

/** Waits until a fiber ends, or for so many milliseconds. */
const endOr = (fiber: Fiber.RuntimeFiber<unknown, unknown>, ms: number): Effect.Effect<void> =>
  Effect.async((resume) => {
    const over = () => {
      clearTimeout(timer)
      fiber.removeObserver(over)
      resume(Effect.void)
    }
    const timer = setTimeout(over, ms)
    fiber.addObserver(over)
  })

const canBeInterrupted = (status: FiberStatus.FiberStatus): boolean =>
  FiberStatus.isDone(status) || RuntimeFlags.interruptible(status.runtimeFlags)

/** Interrupts a fiber as soon as it can be, and returns what it came to. */
const leave = <A, E>(fiber: Fiber.RuntimeFiber<A, E>): Effect.Effect<Exit.Exit<A, E>> =>
  Effect.gen(function* () {
    for (let ms = soon; !canBeInterrupted(yield* Fiber.status(fiber)); ms = Math.min(2 * ms, late))
      yield* endOr(fiber, ms)
    return yield* Fiber.interrupt(fiber)
  })

/**
 * Runs an effect in a region that cannot be interrupted, of which `restore` is: returns what it came to, a success also when its caller
 * was interrupted while it could not be. Fibers that it forks end with it, unless they are forked in a scope.
 */
export const toItsEnd = <A, E, R>(
  restore: Restore,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<Exit.Exit<A, E>, never, R> =>
  Effect.gen(function* () {
    // A fiber that is interrupted interrupts its children at once.
    const fiber = yield* Effect.forkDaemon(restore(effect))
    const awaited = yield* Effect.exit(restore(Fiber.await(fiber)))
    const exit = Exit.isSuccess(awaited) ? awaited.value : yield* leave(fiber)
    yield* Fiber.inheritAll(fiber)
    return exit
  })
