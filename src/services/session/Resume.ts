/**
 * Session records: who may continue which session, and until when (§6.3). The only place that makes, checks
 * and rotates resume tokens.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { Version } from "../../protocol/Codec.js"
import type { InternalError, InvalidRequest, ResumeWindowExpired } from "../../protocol/Errors.js"
import type { Feature } from "../../protocol/Features.js"
import type { Identity } from "../auth/Auth.js"
import type { View } from "../log/EventLog.js"

/** A session for which `session.welcome` may be sent. */
export interface Opened {
  readonly sessionId: string
  readonly view: View
  /** The fresh token for the welcome. */
  readonly token: Redacted.Redacted
}

export class Resume extends Context.Tag("arcp/services/Resume")<
  Resume,
  {
    /** Opens a session. `InternalError` with `details.limit` when the principal has too many. */
    readonly open: (
      identity: Identity,
      version: Version,
      features: ReadonlyArray<Feature>
    ) => Effect.Effect<Opened, InternalError>
    /**
     * Continues a session and rotates its token. Wrong principal, session or token, a window that has passed,
     * and events no longer retained all give the same `ResumeWindowExpired`; a `lastEventSeq` never
     * assigned gives `InvalidRequest`.
     */
    readonly resume: (
      identity: Identity,
      features: ReadonlyArray<Feature>,
      request: {
        readonly sessionId: string
        readonly token: Redacted.Redacted
        readonly lastEventSeq: number
      }
    ) => Effect.Effect<
      Opened & { readonly version: Version },
      ResumeWindowExpired | InvalidRequest | InternalError
    >
    /** The client has sent a frame on a resumed transport: the token before this one is over. */
    readonly confirm: (sessionId: string) => Effect.Effect<void>
    /** The transport is gone; the window begins. `closed`: the client said that it is done. */
    readonly detach: (sessionId: string, closed: boolean) => Effect.Effect<void>
    /** Ends sessions whose window has passed, and returns their ids. Called by the sweeper. */
    readonly sweep: Effect.Effect<ReadonlyArray<string>, InternalError>
  }
>() {}
