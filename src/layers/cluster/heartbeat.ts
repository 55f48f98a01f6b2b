/** How a node says that it is alive, whoever keeps the list of nodes. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { NodeLost } from "../../services/cluster/Nodes.js"
import { monotonic } from "../../services/runtime/monotonic.js"

/** After how long of silence others take a node for gone. */
export const usualExpiry = Duration.seconds(12)

/** For how long one that has gone without a word is still listed. */
export const rememberedFor = Duration.hours(1)

/**
 * Beats three times within the expiry for as long as the scope, beginning a third after now. Gives what fails when a beat says
 * that the node is replaced, or none has come through for the whole expiry, counted from before it was sent.
 *
 * @param beat whether the node still is one; a failure may pass
 */
export const beating = <E>(
  name: string,
  expiry: Duration.Duration,
  beat: Effect.Effect<boolean, E>
): Effect.Effect<Effect.Effect<never, NodeLost>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const lost = yield* Deferred.make<never, NodeLost>()
    const lose = (why: NodeLost["why"]) => Deferred.fail(lost, new NodeLost({ name, why }))
    // A wall clock that is set makes nobody silent.
    const elapsed = monotonic(yield* Effect.clock)
    let heard = elapsed()
    const once = Effect.gen(function* () {
      const sent = elapsed()
      const isOne = yield* beat.pipe(
        // A defect, too, may pass: it would end all beats to come.
        Effect.catchAllDefect((defect) => Effect.fail(defect)),
        Effect.catchAll((error) =>
          Effect.as(Effect.logWarning(`${name} could not say that it is alive`, error), undefined)
        )
      )
      if (isOne === false) yield* lose("replaced")
      else if (isOne) heard = sent
    })
    const watched = Effect.gen(function* () {
      const left = heard + Duration.toMillis(expiry) - elapsed()
      if (left <= 0) yield* lose("silent")
      else yield* Effect.sleep(left)
    })
    const until = Effect.raceFirst(Effect.ignore(Deferred.await(lost)))
    yield* Effect.forkScoped(until(Effect.forever(Effect.delay(once, Duration.times(expiry, 1 / 3)))))
    // By itself: a beat may hang.
    yield* Effect.forkScoped(until(Effect.forever(watched)))
    return Deferred.await(lost)
  })
