/**
 * Effects that are decided before they are run: a check that found nothing, a value that is there. To go on with those in a
 * call costs a tenth of what it costs a fiber.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import { type YieldWrap, yieldWrapGet } from "effect/Utils"

/** Returns what an effect comes to, when that is decided already. */
export const decided = <A, E, R>(effect: Effect.Effect<A, E, R>): Exit.Exit<A, E> | undefined =>
  // Exits and eithers are effects that come to themselves.
  Exit.isExit(effect)
    ? (effect as Exit.Exit<A, E>)
    : Either.isEither(effect)
      ? Either.match(effect as Either.Either<A, E>, { onLeft: Exit.fail, onRight: Exit.succeed })
      : undefined

/** Runs `decide`; what it throws is a defect of the effect that it returns. */
export const attempt = <A, E, R>(decide: () => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  try {
    return decide()
  } catch (defect) {
    return Effect.die(defect)
  }
}

/** As `Effect.mapBoth`; in the call when the effect is decided. */
export const mapBothNow = <A, E, R, B, F>(
  effect: Effect.Effect<A, E, R>,
  on: { readonly onFailure: (error: E) => F; readonly onSuccess: (value: A) => B }
): Effect.Effect<B, F, R> => {
  const exit = decided(effect)
  return exit === undefined || Exit.isFailure(exit)
    ? Effect.mapBoth(effect, on)
    : attempt(() => Effect.succeed(on.onSuccess(exit.value)))
}

type Yielded = YieldWrap<Effect.Effect<unknown, unknown, unknown>>
type ErrorOf<Eff> = Eff extends YieldWrap<Effect.Effect<infer _A, infer E, infer _R>> ? E : never
type RequirementOf<Eff> = Eff extends YieldWrap<Effect.Effect<infer _A, infer _E, infer R>> ? R : never

/**
 * As `Effect.gen`, but begins in the call, and goes on in it as long as what is yielded is decided. What it returns is to be
 * run once, or not at all, when it is decided itself.
 */
export const gen = <Eff extends Yielded, A>(
  begin: () => Generator<Eff, A, never>
): Effect.Effect<A, ErrorOf<Eff>, RequirementOf<Eff>> => {
  const steps = begin()
  const go = (value: unknown): Effect.Effect<A, ErrorOf<Eff>, RequirementOf<Eff>> =>
    attempt(() => {
      let given = value
      for (;;) {
        const next = steps.next(given as never)
        if (next.done === true) return Effect.succeed(next.value)
        const effect = yieldWrapGet(next.value) as Effect.Effect<unknown, ErrorOf<Eff>, RequirementOf<Eff>>
        const exit = decided(effect)
        if (exit === undefined) return Effect.flatMap(effect, go)
        if (Exit.isFailure(exit)) return Exit.failCause(exit.cause)
        given = exit.value
      }
    })
  return go(undefined)
}
