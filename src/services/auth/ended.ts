/** Tokens that have ended (§4.1 of the protocol page, "A token ends"). */
import * as Effect from "effect/Effect"
import { Unauthenticated } from "../../protocol/Errors.js"
import type { Auth, Identity } from "./Auth.js"

/** The last time that RFC 3339 can say, in epoch milliseconds. */
const latest = Date.parse("9999-12-31T23:59:59.999Z")

/**
 * Returns an `Auth` whose identities end at a time that can be told and stored, or never: claims have ends that no date can have,
 * and infinity is none in JSON.
 */
export const endingInTime = ({ authenticate }: Auth["Type"]): Auth["Type"] => ({
  authenticate: (request) =>
    Effect.map(authenticate(request), (identity) =>
      identity.expiresAt === undefined || identity.expiresAt <= latest
        ? identity
        : { ...identity, expiresAt: undefined }
    )
})

/** Tells whether an identity is no longer valid at a point in time, in epoch milliseconds. */
export const hasEnded = ({ expiresAt }: Pick<Identity, "expiresAt">, now: number): boolean =>
  expiresAt !== undefined && expiresAt <= now

/** Returns what a session is told whose token has ended. */
export const tokenEnded = () =>
  new Unauthenticated({ message: "the token has ended; resume the session with a fresh one" })
