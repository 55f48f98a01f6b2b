/** Turns of the event loop, shared among those who ask at once. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Turn from "../../../src/services/runtime/Turn.js"
import * as TurnShare from "../../../src/services/runtime/TurnShare.js"

/** An event loop and a clock that a test drives. */
const scripted = () => {
  let callbacks: Array<() => void> = []
  let at = 0
  let connections = 0
  return {
    /** A connection was accepted. */
    accept: () => {
      connections++
    },
    share: TurnShare.make(
      Turn.make((callback) => {
        callbacks.push(callback)
        return () => {
          callbacks = callbacks.filter((other) => other !== callback)
        }
      }),
      () => at,
      () => connections
    ),
    work: (ms: number) =>
      Effect.sync(() => {
        at += ms
      }),
    /** One turn, with the microtasks that it leads to. */
    run: Effect.suspend(() => {
      const due = callbacks
      callbacks = []
      for (const callback of due) callback()
      return Turn.eventLoop.next
    })
  }
}

describe("a share of a turn", () => {
  it.effect("lets no turn be longer than a few milliseconds, however many ask at once", () =>
    Effect.gen(function* () {
      const { run, share, work } = scripted()
      const done: Array<number> = []
      const fibers = yield* Effect.forEach(Array.from({ length: 20 }), (_, i) =>
        Effect.fork(share.pipe(Effect.zipRight(work(2)), Effect.zipRight(Effect.sync(() => done.push(i)))))
      )
      yield* Turn.eventLoop.next
      const perTurn: Array<number> = []
      while (done.length < 20 && perTurn.length < 50) {
        perTurn.push(done.length)
        yield* run
      }
      perTurn.push(done.length)
      for (let i = 1; i < perTurn.length; i++)
        assert.isAtMost((perTurn[i] as number) - (perTurn[i - 1] as number), 3)
      // Whoever has waited longest comes first.
      assert.deepStrictEqual(
        done,
        [...done].sort((a, b) => a - b)
      )
      yield* Fiber.joinAll(fibers)
    })
  )

  it.effect("returns at once while a turn is young", () =>
    Effect.gen(function* () {
      const { share, work } = scripted()
      yield* share
      yield* work(1)
      yield* share
    })
  )

  it.effect("rests for three times as long as it took, while each turn accepts a connection", () =>
    Effect.gen(function* () {
      const { accept, run, share, work } = scripted()
      let done = 0
      const worker = yield* Effect.fork(
        Effect.forever(share.pipe(Effect.zipRight(work(5)), Effect.zipRight(Effect.sync(() => done++))))
      )
      yield* Turn.eventLoop.next
      /** A turn that accepts a connection, and takes a millisecond for it. */
      const accepting = Effect.zipRight(Effect.zipRight(Effect.sync(accept), work(1)), run)
      const before = done
      yield* Effect.repeatN(accepting, 79)
      assert.isAtMost(done - before, 6)
      assert.isAtLeast(done - before, 3)
      // Nobody comes any more: each turn is shared again.
      yield* run
      const after = done
      yield* Effect.repeatN(run, 9)
      assert.strictEqual(done - after, 10)
      yield* Fiber.interrupt(worker)
    })
  )

  it.effect("gives the share of one that waits no more to the next", () =>
    Effect.gen(function* () {
      const { run, share, work } = scripted()
      yield* share
      yield* work(100)
      const first = yield* Effect.fork(share)
      const second = yield* Effect.fork(share)
      yield* Turn.eventLoop.next
      yield* Fiber.interrupt(first)
      yield* run
      yield* Fiber.join(second)
    })
  )
})
