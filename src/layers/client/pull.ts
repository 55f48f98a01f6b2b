/**
 * Streams from an effect that gives the next item. The only way this client makes them: scoped, merged and
 * concatenated streams bring 7 kB more of Effect into a browser.
 */
import * as Channel from "effect/Channel"
import * as Chunk from "effect/Chunk"
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
  close: Effect.Effect<void> = Effect.void
): Stream.Stream<A, E> =>
  Stream.suspend(() => {
    type Items = Channel.Channel<Chunk.Chunk<A>, unknown, E>
    const items: Items = Channel.unwrap(
      Effect.match(open(), {
        onFailure: Option.match({
          onNone: () => Channel.void,
          onSome: (error: E): Items => Channel.fail(error)
        }),
        onSuccess: (item): Items => Channel.flatMap(Channel.write(Chunk.of(item)), () => items)
      })
    )
    return Stream.fromChannel(Channel.ensuring(items, close))
  })
