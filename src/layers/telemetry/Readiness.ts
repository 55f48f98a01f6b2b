/** Whether a runtime takes work: its store takes a write, and it is not shutting down. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import { EventLog } from "../../services/log/EventLog.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import { within } from "../../services/runtime/within.js"
import { Sessions } from "../../services/session/Sessions.js"
import { Op } from "../../services/store/Store.js"

/** Why a runtime is not ready; `undefined` of one that is. */
export type Unreadiness =
  | "shutting down"
  | "the store does not take writes"
  | "the store has not answered in time"
  | undefined

/** What is known of a write holds for so many milliseconds, and one is waited for no longer than this. */
const lasting = Duration.toMillis("1 second")
const patience = Duration.seconds(2)

/**
 * Returns what tells whether the runtime in context is ready. The write is the sign of life that a runtime stores anyway; there
 * is one at a time, however many ask, and also while a store does not answer.
 */
export const make: Effect.Effect<Effect.Effect<Unreadiness>, never, EventLog | Sessions> = Effect.gen(
  function* () {
    const log = yield* EventLog
    const sessions = yield* Sessions
    const clock = yield* Effect.clock
    const elapsed = monotonic(clock)
    let known: { readonly until: number; readonly why: Unreadiness } | undefined
    let writing: Deferred.Deferred<void> | undefined

    const write = Effect.suspend(() => log.commit([Op.Alive({ at: clock.unsafeCurrentTimeMillis() })])).pipe(
      Effect.matchCause({
        onSuccess: (): Unreadiness => undefined,
        onFailure: (): Unreadiness => "the store does not take writes"
      }),
      Effect.map((why) => {
        known = { until: elapsed() + lasting, why }
      })
    )
    /** It goes on when nobody waits any more: its answer is the next one's. */
    const written = Effect.suspend(() => {
      if (writing !== undefined) return Deferred.await(writing)
      const done = Deferred.unsafeMake<void>(FiberId.none)
      writing = done
      const over = Effect.sync(() => {
        writing = undefined
        Deferred.unsafeDone(done, Effect.void)
      })
      return Effect.zipRight(Effect.forkDaemon(Effect.ensuring(write, over)), Deferred.await(done))
    })
    const current = () => (known !== undefined && elapsed() < known.until ? known : undefined)
    return Effect.gen(function* () {
      if (yield* sessions.isStopping) return "shutting down"
      if (current() === undefined) yield* within(written, patience)
      const now = current()
      return now === undefined ? "the store has not answered in time" : now.why
    })
  }
)
