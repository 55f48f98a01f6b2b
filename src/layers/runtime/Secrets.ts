/**
 * Secrets from Web Crypto, and digests from Node's where there is Node: made where they are asked for, not on another thread. So
 * small a text takes less time than the way there and back, and a hello or a keyed submit stays between those that came before
 * and after it. Nor does a `TestClock` go on while a thread is waited for.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { Secrets } from "../../services/runtime/Secrets.js"

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")

const process = globalThis.process as Partial<NodeJS.Process> | undefined

/** Node's own, without an import that a browser's bundle could not resolve. */
const node = process?.getBuiltinModule?.("node:crypto")

const digest = (text: string): Effect.Effect<string> =>
  node === undefined
    ? Effect.map(
        Effect.promise(() => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))),
        (bytes) => hex(new Uint8Array(bytes))
      )
    : Effect.sync(() => node.createHash("sha256").update(text).digest("hex"))

/** Provides `Secrets` from the platform's crypto. */
export const layer: Layer.Layer<Secrets> = Layer.succeed(Secrets, {
  resumeToken: Effect.sync(() => Redacted.make(`rt_${hex(crypto.getRandomValues(new Uint8Array(32)))}`)),
  digest
})

export * from "../../services/runtime/Secrets.js"
