/** From a bearer token to an identity (§6.1). */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { Unauthenticated } from "../../protocol/Errors.js"
import type { Lease } from "../../protocol/Lease.js"

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

/** Tells whose a token is, and with what authority (§6.1). */
export class Auth extends Context.Tag("arcp/services/Auth")<
  Auth,
  {
    /** Fails with `Unauthenticated` when the token is unknown, malformed or expired. */
    readonly verify: (token: Redacted.Redacted) => Effect.Effect<Identity, Unauthenticated>
  }
>() {}
