/** Standard output and error of a server, whatever the agents that it hosts do to them. */
import type { Writable } from "node:stream"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** An error of a stream that nobody reads any more, or that an agent makes up, is no reason to end. */
const onError = () => {}

/** What ending a stream says last is written, and the stream stays. */
const withoutEnd = (stream: Writable) => ({
  end: (...args: ReadonlyArray<unknown>) => {
    const [last] = args
    if (typeof last === "string" || last instanceof Uint8Array) stream.write(last)
    for (const arg of args) if (typeof arg === "function") process.nextTick(arg)
    return stream
  },
  destroy: () => stream
})

const keep = (stream: Writable) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const own = Object.getOwnPropertyDescriptors(stream)
      stream.on("error", onError)
      Object.assign(stream, withoutEnd(stream))
      return own
    }),
    ({ destroy, end }) =>
      Effect.sync(() => {
        stream.off("error", onError)
        for (const [name, descriptor] of Object.entries({ destroy, end }))
          if (descriptor === undefined) Reflect.deleteProperty(stream, name)
          else Object.defineProperty(stream, name, descriptor)
      })
  )

/**
 * Keeps both streams open as long as the scope: one that an agent has ended would refuse the next line of the log, and that
 * would be the end of the server and of the jobs of all others; so would a reader of the log that goes away.
 */
export const keepStreams: Effect.Effect<void, never, Scope.Scope> = Effect.suspend(() =>
  // After stdout was reserved both are the same.
  Effect.forEach(new Set<Writable>([process.stdout, process.stderr]), keep, { discard: true })
)
