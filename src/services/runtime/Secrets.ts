/** Cryptographic randomness and digests. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"

/** Makes resume tokens (§6.3), and digests of secrets. */
export class Secrets extends Context.Tag("arcp/services/Secrets")<
  Secrets,
  {
    /** Returns a fresh resume token: `rt_` and 64 hex digits. */
    readonly resumeToken: Effect.Effect<Redacted.Redacted>
    /** Returns the SHA-256 of a text in lower-case hex. Secrets are stored and compared as digests. */
    readonly digest: (text: string) => Effect.Effect<string>
  }
>() {}

/** Tells whether two texts are equal, in a time that depends on their lengths only. Give it digests, never the secrets. */
export const constantTimeEqual = (a: string, b: string): boolean => {
  let difference = a.length ^ b.length
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i % Math.max(b.length, 1))
  return difference === 0
}
