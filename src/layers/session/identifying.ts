/** Who asks without a hello: the same verdict, and the same slowness for whoever fails (§4.1 of the protocol page). */
import * as Effect from "effect/Effect"
import { InternalError, type Unauthenticated } from "../../protocol/Errors.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { Sessions } from "../../services/session/Sessions.js"
import type { Peer } from "../../services/transport/Transport.js"
import { sound } from "./boundary.js"
import type { LoginRefusal, Logins } from "./Logins.js"
import * as Measuring from "./measuring.js"

/** What identifying somebody takes. */
export interface IdentifyingServices {
  readonly logins: Logins
  readonly options: Options
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

/** Returns why a login was refused, for the log, where whoever has refused it says so. */
export const reasonOf = ({
  cause
}: {
  readonly cause?: unknown
}): { readonly reason?: string | undefined } =>
  typeof cause === "string" ? { reason: cause } : cause instanceof Error ? { reason: cause.message } : {}

/** Refuses a login, a failed one when its turn has come. */
const refused = (
  { kind, remote }: Peer,
  refusal: LoginRefusal | InternalError,
  halted: Effect.Effect<void>
): Effect.Effect<never, Unauthenticated | InternalError> => {
  if (refusal._tag === "InternalError") return Effect.fail(refusal)
  const { error, wait } = refusal
  if (error._tag !== "Unauthenticated") return Effect.fail(error)
  const said = Effect.annotateLogs(Effect.logWarning(`a login was refused: ${error.message}`), {
    code: error.code,
    peer: `${kind} ${remote}`,
    ...reasonOf(error)
  })
  const slowly = wait === 0 ? said : Effect.zipRight(said, Effect.raceFirst(Effect.sleep(wait), halted))
  return Effect.zipRight(slowly, Effect.fail(error))
}

/** Returns what tells who asks. */
export const make =
  ({
    halted,
    isMeasured,
    logins,
    options,
    stopping
  }: IdentifyingServices): Sessions["Type"]["authenticate"] =>
  ({ client, ...peer }, token) =>
    Effect.suspend(() => {
      if (stopping()) return stopped
      // A verifier that cannot be interrupted keeps nobody waiting.
      return Effect.disconnect(sound(logins(client, { peer, token }), "a login")).pipe(
        Effect.timeoutFail({ duration: options.helloTimeout, onTimeout: () => undecided }),
        Effect.catchAll((refusal) => refused(peer, refusal, halted))
      )
    }).pipe(Effect.tapError((error) => Effect.sync(() => isMeasured && Measuring.refused(error))))
