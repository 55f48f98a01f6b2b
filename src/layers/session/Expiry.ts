/** What becomes of a session whose token ends while it is attached (§4.1 of the protocol page, "A token ends"). */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type ArcpError, toPayload } from "../../protocol/Errors.js"
import { renewal } from "../../protocol/Features.js"
import { hasEnded, tokenEnded } from "../../services/auth/ended.js"
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

  /** Does what becomes of a session then. `giveUp` closes its transport, whoever is stuck on that. */
  ended: (
    session: Session,
    { outbox }: Attachment,
    giveUp: (error: ArcpError) => Effect.Effect<void>
  ): Effect.Effect<void> =>
    Effect.gen(function* () {
      // Renewed by a resume that has superseded this transport, which only has not been closed yet.
      if (!hasEnded(session.identity, now())) return
      yield* jobs.unsubscribeForeign(session)
      const close = (drained: boolean) =>
        outbox.close({
          code: closeCode.tokenEnded,
          reason: "the token has ended",
          drained,
          frame: session.frame({ type: "session.error", payload: toPayload(tokenEnded()) })
        })
      if (session.has(renewal) || options.tokenExpiry === "close") return close(false)
      const last = elapsed() + longestFinish
      yield* Effect.whileLoop({
        while: () => jobs.hasRunning(session) && elapsed() < last,
        body: () => Effect.sleep(look),
        step: () => {}
      })
      if (elapsed() < last) {
        // Who gets on with what there is (`part`), however slowly, has the rest of the hour for it.
        close(true)
        yield* Effect.sleep(last - elapsed())
      }
      yield* giveUp(tokenEnded())
    })
})
