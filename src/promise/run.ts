/** Effects and streams for people who await promises and loop over async iterables. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** Throws an error, when there is one. */
export const orThrow = (error: Error | undefined): void => {
  if (error !== undefined) throw error
}

/** Rejects with the effect's own error, not with a wrapper; with the signal's reason when it was what ended it. */
export const run = async <A, E>(effect: Effect.Effect<A, E>, signal?: AbortSignal): Promise<A> => {
  signal?.throwIfAborted()
  const exit = await Effect.runPromiseExit(effect, signal === undefined ? undefined : { signal })
  if (Exit.isSuccess(exit)) return exit.value
  if (signal?.aborted === true && Cause.isInterruptedOnly(exit.cause)) throw signal.reason
  throw Cause.squash(exit.cause)
}

/**
 * A stream as an async iterable that takes an item only when it is asked for one, so that a loop which is left leaves
 * the rest. `gone` ends it with its reason.
 */
export const iterate = <A, E>(stream: Stream.Stream<A, E>, gone?: AbortSignal): AsyncIterable<A> => ({
  [Symbol.asyncIterator]: () => {
    const stop = new AbortController()
    const items = takeAll(stream, stop, gone)
    return {
      next: () => items.next(),
      return: () => {
        // A generator would wait for the item that it waits for.
        stop.abort(left)
        return items.return(undefined)
      }
    }
  }
})

/** Why an iteration was stopped whose consumer has left it. */
const left = Symbol("left")

async function* takeAll<A, E>(
  stream: Stream.Stream<A, E>,
  stop: AbortController,
  gone: AbortSignal | undefined
): AsyncGenerator<A, undefined> {
  const abort = () => stop.abort(gone?.reason)
  if (gone?.aborted === true) abort()
  gone?.addEventListener("abort", abort)
  const scope = Effect.runSync(Scope.make())
  try {
    const pull = Effect.runSync(Scope.extend(Stream.toPull(stream), scope))
    for (;;) {
      if (stop.signal.aborted) throw stop.signal.reason
      const exit = await Effect.runPromiseExit(pull, { signal: stop.signal })
      if (Exit.isSuccess(exit)) yield* exit.value
      else if (stop.signal.aborted && Cause.isInterruptedOnly(exit.cause)) throw stop.signal.reason
      else {
        const end = Cause.failureOption(exit.cause)
        if (Option.isNone(end)) throw Cause.squash(exit.cause)
        if (Option.isNone(end.value)) return undefined
        throw end.value.value
      }
    }
  } catch (error) {
    if (error === left) return undefined
    throw error
  } finally {
    gone?.removeEventListener("abort", abort)
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}
