/**
 * Secrets from Node's crypto. A digest is made where it is asked for, not on another thread: so small a text takes less time
 * than the way there and back, and a hello or a keyed submit stays between those that came before and after it. Nor does a
 * `TestClock` go on while a thread is waited for.
 */
import { createHash, randomBytes } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { Secrets } from "../../services/runtime/Secrets.js"

/** Provides `Secrets` from Node's crypto. */
export const layer: Layer.Layer<Secrets> = Layer.succeed(Secrets, {
  resumeToken: Effect.sync(() => Redacted.make(`rt_${randomBytes(32).toString("hex")}`)),
  digest: (text) => Effect.sync(() => createHash("sha256").update(text).digest("hex"))
})

export * from "../../services/runtime/Secrets.js"
