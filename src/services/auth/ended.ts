/** Tokens that have ended (§4.1 of the protocol page, "A token ends"). */
import { Unauthenticated } from "../../protocol/Errors.js"
import type { Identity } from "./Auth.js"

/** Tells whether an identity is no longer valid at a point in time, in epoch milliseconds. */
export const hasEnded = ({ expiresAt }: Pick<Identity, "expiresAt">, now: number): boolean =>
  expiresAt !== undefined && expiresAt <= now

/** Returns what a session is told whose token has ended. */
export const tokenEnded = () =>
  new Unauthenticated({ message: "the token has ended; resume the session with a fresh one" })
