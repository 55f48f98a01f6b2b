/** Who asks without a hello: the same verdict, and the same slowness for whoever fails (§4.1 of the protocol page). */
import * as Effect from "effect/Effect"
import { InternalError } from "../../protocol/Errors.js"
import type { Auth } from "../../services/auth/Auth.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { Sessions } from "../../services/session/Sessions.js"
import { sound } from "./boundary.js"
import { type FailedLogins, failedTooOften } from "./FailedLogins.js"
import * as Measuring from "./measuring.js"

/** What identifying somebody takes. */
export interface IdentifyingServices {
  readonly auth: Auth["Type"]
  readonly options: Options
  readonly failedLogins: FailedLogins
  readonly stopping: () => boolean
  /** Somebody keeps metrics. */
  readonly isMeasured: boolean
  /** Returns when a shutdown has begun. */
  readonly halted: Effect.Effect<void>
}

const stopped = new InternalError({
  message: "the runtime is shutting down",
  details: { reason: "shutdown" }
})

const undecided = new InternalError({
  message: "who asks could not be decided in time; try again later",
  details: { reason: "authentication" }
})

/** Returns what tells who asks. */
export const make =
  ({
    auth,
    failedLogins,
    halted,
    isMeasured,
    options,
    stopping
  }: IdentifyingServices): Sessions["Type"]["authenticate"] =>
  ({ client, ...peer }, token) =>
    Effect.suspend(() => {
      if (stopping()) return stopped
      if (failedLogins.crowded(client)) return failedTooOften
      // A verifier that cannot be interrupted keeps nobody waiting.
      return Effect.disconnect(sound(auth.authenticate({ peer, token }), "a login")).pipe(
        Effect.timeoutFail({ duration: options.helloTimeout, onTimeout: () => undecided }),
        Effect.tapError((error) => {
          if (error._tag !== "Unauthenticated") return Effect.void
          const wait = failedLogins.failed(client)
          const said = Effect.annotateLogs(Effect.logWarning(`a login was refused: ${error.message}`), {
            code: error.code,
            peer: `${peer.kind} ${peer.remote}`
          })
          return wait === 0 ? said : Effect.zipRight(said, Effect.raceFirst(Effect.sleep(wait), halted))
        })
      )
    }).pipe(Effect.tapError((error) => Effect.sync(() => isMeasured && Measuring.refused(error))))
