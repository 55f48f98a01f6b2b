/** Secrets from Web Crypto, in Node and in browsers. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { Secrets } from "../../services/runtime/Secrets.js"

const hex = (bytes: Uint8Array): string => {
  let out = ""
  for (const byte of bytes) out += byte.toString(16).padStart(2, "0")
  return out
}

const encoder = new TextEncoder()

/** Provides `Secrets` from Web Crypto. */
export const layer: Layer.Layer<Secrets> = Layer.succeed(Secrets, {
  resumeToken: Effect.sync(() =>
    Redacted.make(`rt_${hex(globalThis.crypto.getRandomValues(new Uint8Array(32)))}`)
  ),
  digest: (text) =>
    Effect.promise(() => globalThis.crypto.subtle.digest("SHA-256", encoder.encode(text))).pipe(
      Effect.map((digest) => hex(new Uint8Array(digest)))
    )
})

export * from "../../services/runtime/Secrets.js"
