/**
 * Streams from a function that gives what there is. The only way this client makes them: scoped, merged and
 * concatenated streams bring 7 kB more of Effect into a browser, and an effect for each item costs as much as its frame.
 */
import * as Channel from "effect/Channel"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

/** The next item; while there is none, what to wait for (or fails) before it is asked again; `undefined` at the end. */
export type Pull<A, E = never> = () => readonly [A] | Effect.Effect<unknown, E> | undefined

/** `open` is called for each run of the stream, `close` when that run is over, however it is. */
export const stream = <A, E = never>(
  open: () => Pull<A, E>,
  close: Effect.Effect<void> = Effect.void
): Stream.Stream<A, E> =>
  Stream.fromChannel(
    Channel.suspend(() => {
      const next = open()
      const rest = (): Channel.Channel<Chunk.Chunk<A>, unknown, E> => {
        const found = next()
        if (found === undefined) return Channel.void
        return Channel.flatMap(
          Effect.isEffect(found) ? Channel.fromEffect(found) : Channel.write(Chunk.of(found[0])),
          rest
        )
      }
      return Channel.ensuring(Channel.suspend(rest), close)
    })
  )
