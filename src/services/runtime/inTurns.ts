/** Work that is cut into parts, with a turn of the event loop between them for everybody else. */
import * as Effect from "effect/Effect"
import type { Steps } from "../../protocol/Steps.js"
import { Turn } from "./Turn.js"

/** Does the work that `start` begins, part by part. Interrupted between two parts, it is left undone. */
export const inTurns = <A>(start: () => Steps<A>): Effect.Effect<A> =>
  Effect.gen(function* () {
    const turn = yield* Turn
    const steps = start()
    for (;;) {
      const part = steps.next()
      if (part.done === true) return part.value
      yield* turn.next
    }
  })
