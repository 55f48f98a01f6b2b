/** Standard input and output for envelopes only (§4): whoever else in this process uses them has nothing to read, and writes to stderr. */
import { Console } from "node:console"
import { syncBuiltinESMExports } from "node:module"
import { Readable, type Writable } from "node:stream"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** The real streams. */
export interface Reserved {
  readonly input: Readable
  readonly output: Writable
}

/** The methods of the console, each writing to stderr. */
const onStderr = (): Partial<Console> => {
  const methods = Object.entries(new Console(process.stderr, process.stderr))
  return Object.fromEntries(methods.filter(([, method]) => typeof method === "function"))
}

/** Puts something in the place of a standard stream; gives what takes that back. */
const replace = (name: "stdin" | "stdout", get: () => unknown) => {
  const descriptor = Object.getOwnPropertyDescriptor(process, name) ?? { value: process[name] }
  const define = (next: PropertyDescriptor) => {
    Object.defineProperty(process, name, { ...next, configurable: true })
    // For those who import it from `node:process`.
    syncBuiltinESMExports()
  }
  define({ get, enumerable: true })
  return () => define(descriptor)
}

/**
 * Gives the real stdin and stdout. For as long as the scope is open everybody else gets an input that has ended, and
 * `process.stderr` as output: `console`, and `process.stdout`. What uses the file descriptors themselves, as a child with
 * inherited output does, is not caught.
 */
export const reserveStreams: Effect.Effect<Reserved, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const reserved: Reserved = { input: process.stdin, output: process.stdout }
      const methods = { ...console }
      const nothing = Readable.from([])
      const restore = [replace("stdin", () => nothing), replace("stdout", () => process.stderr)]
      Object.assign(console, onStderr())
      return { reserved, restore, methods }
    }),
    ({ restore, methods }) =>
      Effect.sync(() => {
        Object.assign(console, methods)
        for (const back of restore) back()
      })
  ),
  ({ reserved }) => reserved
)
