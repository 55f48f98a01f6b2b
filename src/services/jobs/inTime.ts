/** The time that an attempt of a step has. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Timeout } from "../../protocol/Errors.js"

/** Runs an attempt of a step for no longer than its `timeout`, if it has one: then it fails with `Timeout`. */
export const inTime = <A, E, R>(
  key: string,
  attempt: Effect.Effect<A, E, R>,
  timeout: Duration.DurationInput | undefined
): Effect.Effect<A, E | Timeout, R> =>
  timeout === undefined
    ? attempt
    : Effect.timeoutFail(attempt, {
        duration: timeout,
        onTimeout: () => new Timeout({ message: `step ${key} took longer than ${Duration.format(timeout)}` })
      })
