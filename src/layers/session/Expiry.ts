/** What becomes of a session whose token ends while it is attached (§4.1 of the protocol page, "A token ends"). */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { toPayload, Unauthenticated } from "../../protocol/Errors.js"
import { renewal } from "../../protocol/Features.js"
import type { Jobs } from "../../services/jobs/Jobs.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import { closeCode } from "../../services/transport/Transport.js"
import type { Attachment, Session } from "./Session.js"

/** How long until the wall clock is asked again, which may have been set. */
const longestSleep = Duration.toMillis("1 day")

/** How long a session whose token has ended may see its jobs end. */
const longestFinish = Duration.toMillis("1 hour")

/** Milliseconds between two looks at whether one that finishes has jobs left; few do, and not for long. */
const look = 1_000

/** What the end of a token is decided by. */
export interface ExpiryServices {
  readonly jobs: Jobs["Type"]
  readonly options: Options
  /** Epoch milliseconds: tokens are about points in time. */
  readonly now: () => number
  /** Milliseconds that only go forward. */
  readonly elapsed: () => number
}

/** Returns how long a token, `expiresAt` in epoch milliseconds, lasts, and what closes its session's transport after that. */
export const make = ({ elapsed, jobs, now, options }: ExpiryServices) => ({
  /** Milliseconds until the token has ended, or until this is to be asked again; 0 or less when it has. */
  left: (expiresAt: number): number => Math.min(expiresAt - now(), longestSleep),

  ended: (session: Session, { outbox }: Attachment): Effect.Effect<void> =>
    Effect.gen(function* () {
      // Renewed by a resume that has superseded this transport, which only has not been closed yet.
      if ((session.identity.expiresAt ?? Number.POSITIVE_INFINITY) > now()) return
      yield* jobs
        .unsubscribeForeign(session)
        .pipe(
          Effect.catchAll((error) =>
            Effect.annotateLogs(
              Effect.logWarning("subscriptions of a session whose token has ended go on", error.message),
              { session: session.sessionId, principal: session.identity.principal }
            )
          )
        )
      const close = (drained: boolean) => {
        const error = new Unauthenticated({
          message: "the token has ended; resume the session with a fresh one"
        })
        outbox.close({
          code: closeCode.tokenEnded,
          reason: "the token has ended",
          drained,
          frame: session.frame({ type: "session.error", payload: toPayload(error) })
        })
      }
      if (session.has(renewal) || options.tokenExpiry === "close") return close(false)
      const last = elapsed() + longestFinish
      yield* Effect.whileLoop({
        while: () => jobs.runningOf(session.sessionId) > 0 && elapsed() < last,
        body: () => Effect.sleep(look),
        step: () => {}
      })
      close(elapsed() < last)
    })
})
