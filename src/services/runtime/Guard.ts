/**
 * What runs foreign effects: those of agents, their steps and tools. Effect's run loop looks at whatever is thrown (`in`) where
 * nothing catches what that look throws, as it does for a proxy with a `has` trap that throws: the fiber is then lost, neither
 * ended nor running, and whoever waits for it waits for ever. So each operation is run here in a tracer's `context`, the one
 * place that is around it, and what it throws is made readable before the loop sees it.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Tracer from "effect/Tracer"
import { readable } from "../agents/Thrown.js"

/** A tracer that guards the fibers that have it, and the one whose spans it makes. */
interface Guard extends Tracer.Tracer {
  readonly of: Tracer.Tracer
}

const guards = new WeakMap<Tracer.Tracer, Guard>()

const isGuard = (tracer: Tracer.Tracer): tracer is Guard => "of" in tracer

/** What the loop says of a value that is no effect; it is not looked at. */
const invalid = /\(reading '(_V|_op|Symbol\(effect\/Effect\))'\)$/

const thrownAs = (thrown: unknown): unknown => {
  const error = readable(thrown)
  return error instanceof TypeError && invalid.test(error.message)
    ? new TypeError("Not a valid effect: something else was to be run", { cause: error })
    : error
}

/** What the loop makes of something thrown. */
const ended = (error: unknown): Effect.Effect<never> => {
  const died = Cause.die(error)
  return Effect.failCause(
    Cause.isInterruptedException(error) ? Cause.sequential(died, Cause.interrupt(FiberId.none)) : died
  )
}

const make = (tracer: Tracer.Tracer): Guard => ({
  ...Tracer.make({
    span: (...args) => tracer.span(...args),
    context: (operation, fiber) => {
      try {
        return tracer.context(operation, fiber)
      } catch (thrown) {
        // An operation gives the next one, whatever its type says.
        return ended(thrownAs(thrown)) as ReturnType<typeof operation>
      }
    }
  }),
  of: tracer
})

/** Returns a tracer that makes the same spans, and guards the fibers that have it. */
export const guarded = (tracer: Tracer.Tracer): Tracer.Tracer => {
  if (isGuard(tracer)) return tracer
  const known = guards.get(tracer)
  if (known !== undefined) return known
  const guard = make(tracer)
  guards.set(tracer, guard)
  return guard
}

/** Returns the tracer whose spans are made, of one that guards or of any other. */
export const unguarded = (tracer: Tracer.Tracer): Tracer.Tracer => (isGuard(tracer) ? tracer.of : tracer)
