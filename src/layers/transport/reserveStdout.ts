/** Standard output for envelopes only (§4): whatever else in this process writes to it, writes to stderr. */
import { Console } from "node:console"
import { syncBuiltinESMExports } from "node:module"
import type { Writable } from "node:stream"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** The methods of the console, each writing to stderr. */
const onStderr = (): Partial<Console> => {
  const methods = Object.entries(new Console(process.stderr, process.stderr))
  return Object.fromEntries(methods.filter(([, method]) => typeof method === "function"))
}

const replaceStdout = (descriptor: PropertyDescriptor) => {
  Object.defineProperty(process, "stdout", { ...descriptor, configurable: true })
  // For those who import `stdout` from `node:process`.
  syncBuiltinESMExports()
}

/**
 * Gives the real stdout, and `process.stderr` in its place to everybody else, for as long as the scope is open: to
 * `console` and to `process.stdout`. What writes to the file descriptor itself, as a child with inherited output does, is
 * not caught.
 */
export const reserveStdout: Effect.Effect<Writable, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const output: Writable = process.stdout
      const descriptor = Object.getOwnPropertyDescriptor(process, "stdout") ?? { value: output }
      const methods = { ...console }
      replaceStdout({ get: () => process.stderr, enumerable: true })
      Object.assign(console, onStderr())
      return { output, descriptor, methods }
    }),
    ({ descriptor, methods }) =>
      Effect.sync(() => {
        Object.assign(console, methods)
        replaceStdout(descriptor)
      })
  ),
  ({ output }) => output
)
