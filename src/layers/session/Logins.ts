/**
 * Judges logins, of hellos and of HTTP requests, and slows those down that fail, each address by itself (§4.1 of the protocol page).
 * An address whose guesses wait already is not looked at, or guessing would be as quick as being refused. But many may share it, on
 * loopback or behind a proxy that is not trusted, and over HTTP every request is a login: a token that was good there is looked at all
 * the same.
 *
 * Whoever guesses there could find such a token without waiting, so these looks have a bound of their own, twenty for one guess. Logins
 * without a token guess at none, and have that bound, too: what else they show may be a secret.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { InternalError, Unauthenticated } from "../../protocol/Errors.js"
import type { Auth, AuthRequest, Identity } from "../../services/auth/Auth.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { Secrets } from "../../services/runtime/Secrets.js"
import { FailedLogins, failedTooOften } from "./FailedLogins.js"

/** Looks that are worth one guess. */
const looksForOne = 20

/** Tokens that are remembered; of more, the one that was used longest ago is a token like any other. */
const maxKnown = 4_096

/** A login that is refused. */
export class LoginRefusal {
  readonly _tag = "LoginRefusal"
  constructor(
    readonly error: Unauthenticated | InternalError,
    /** Milliseconds after which it is to be answered. */
    readonly wait: number
  ) {}
}

const tooOften = Effect.fail(new LoginRefusal(failedTooOften, 0))

/** Tokens that were good, each at its address, as digests. That they still are is for `Auth` to say. */
class KnownTokens {
  /** The one that was used last at the end. */
  private readonly keys = new Set<string>()

  has(key: string): boolean {
    return this.keys.has(key)
  }
  add(key: string): void {
    this.keys.delete(key)
    this.keys.add(key)
    if (this.keys.size <= maxKnown) return
    for (const oldest of this.keys) {
      this.keys.delete(oldest)
      return
    }
  }
  delete(key: string): void {
    this.keys.delete(key)
  }
}

/** Tells who logs in from an address; without an address nobody is slowed down. */
export type Logins = (
  address: string | undefined,
  request: AuthRequest
) => Effect.Effect<Identity, LoginRefusal>

/** Returns what judges logins. */
export const make = (services: {
  readonly auth: Auth["Type"]
  readonly options: Pick<Options, "failedLoginInterval" | "failedLoginsAtOnce">
  readonly secrets: Secrets["Type"]
  /** Milliseconds that only go forward. */
  readonly elapsed: () => number
}): Logins => {
  const { auth, elapsed, options, secrets } = services
  const { failedLoginInterval, failedLoginsAtOnce } = options
  const guesses = new FailedLogins(options, elapsed)
  const looks = new FailedLogins(
    { failedLoginsAtOnce, failedLoginInterval: Duration.times(failedLoginInterval, 1 / looksForOne) },
    elapsed
  )
  const known = new KnownTokens()

  const judged = (request: AuthRequest, failed: () => number) =>
    Effect.mapError(
      auth.authenticate(request),
      (error) => new LoginRefusal(error, error._tag === "Unauthenticated" ? failed() : 0)
    )

  return (address, request) =>
    Effect.suspend(() => {
      const { token } = request
      if (address === undefined) return judged(request, () => 0)
      if (token === undefined)
        return looks.crowded(address) ? tooOften : judged(request, () => looks.failed(address))
      return Effect.flatMap(secrets.digest(Redacted.value(token)), (digest) => {
        const key = `${address} ${digest}`
        if (guesses.crowded(address)) {
          if (looks.crowded(address)) return tooOften
          if (!known.has(key)) {
            looks.failed(address)
            return tooOften
          }
        }
        const failed = () => {
          known.delete(key)
          return guesses.failed(address)
        }
        return Effect.tap(judged(request, failed), () => Effect.sync(() => known.add(key)))
      })
    })
}
