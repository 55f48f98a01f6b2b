/**
 * Streams from an effect that gives the next item. The only way this client makes them: scoped, merged and
 * concatenated streams bring 7 kB more of Effect into a browser.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"

/** The next item; fails with `none` at the end. */
export type Pull<A, E = never> = Effect.Effect<A, Option.Option<E>>

/** The end of a stream that is pulled from. */
export const end: Effect.Effect<never, Option.Option<never>> = Effect.fail(Option.none())

/** `open` is called for each run of the stream, `close` when that run is over, however it is. */
export const stream = <A, E = never>(
  open: () => Pull<A, E>,
  close?: Effect.Effect<void>
): Stream.Stream<A, E> =>
  Stream.suspend(() => {
    const items = Stream.repeatEffectOption(open())
    return close === undefined ? items : Stream.ensuring(items, close)
  })
