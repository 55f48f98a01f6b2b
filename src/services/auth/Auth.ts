/** From a hello and who said it to an identity (§6.1). */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { InternalError, Unauthenticated } from "../../protocol/Errors.js"
import type { Lease } from "../../protocol/Lease.js"
import type { Peer } from "../transport/Transport.js"

/** Who is connected, and the most that they may ask for. */
export interface Identity {
  readonly principal: string
  /** Epoch milliseconds after which the identity is no longer valid. */
  readonly expiresAt?: number | undefined
  readonly scopes?: ReadonlyArray<string> | undefined
  /** Agent names this identity may use; `undefined` means all. */
  readonly agents?: ReadonlyArray<string> | undefined
  /** Leases are reduced to this; `undefined` means no ceiling. */
  readonly leaseCeiling?: Lease | undefined
}

/** What a hello is judged by. */
export interface AuthRequest {
  /** The bearer token; absent when the hello has none. */
  readonly token?: Redacted.Redacted | undefined
  /** Who said it. */
  readonly peer: Peer
}

/** Tells who has connected, and with what authority (§6.1). */
export class Auth extends Context.Tag("arcp/services/Auth")<
  Auth,
  {
    /**
     * Fails with `Unauthenticated` when nothing, or not enough, says who it is: a token that is missing, unknown or
     * expired, a cookie without a session. Fails with `InternalError` when that cannot be told at the moment; the client
     * may try again.
     */
    readonly authenticate: (request: AuthRequest) => Effect.Effect<Identity, Unauthenticated | InternalError>
  }
>() {}
