/** Who waits before a server, and who is let in when. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as Door from "../../../src/layers/transport/Door.js"
import * as Turn from "../../../src/services/runtime/Turn.js"
import * as TurnShare from "../../../src/services/runtime/TurnShare.js"
import { isCollected } from "../../support/collected.js"

const settle = Effect.repeatN(Turn.eventLoop.next, 3)

/** Visitors by number, in the order in which they were let in or refused. */
const visitors = (door: Door.Door, onAdmit = () => {}) => {
  const admitted: Array<number> = []
  const refused: Array<number> = []
  const leave: Array<() => void> = []
  const goAway: Array<() => void> = []
  const arrive = (from: number, to: number) => {
    for (let i = from; i < to; i++)
      goAway[i] = door.arrive({
        admit: (left) => {
          onAdmit()
          admitted.push(i)
          leave[i] = left
        },
        refuse: () => refused.push(i)
      })
  }
  return { admitted, refused, leave, goAway, arrive }
}

const opened = (places: number, patience: Duration.DurationInput = "1 hour") =>
  Door.make({ places, patience: Duration.decode(patience), share: Effect.void })

describe("a door", () => {
  it.scopedLive("lets in as many as there are places, then whoever has waited longest", () =>
    Effect.gen(function* () {
      const { admitted, arrive, goAway, leave, refused } = visitors(yield* opened(2))
      arrive(0, 6)
      yield* settle
      assert.deepStrictEqual(admitted, [0, 1])
      goAway[2]?.()
      leave[1]?.()
      leave[1]?.()
      yield* settle
      assert.deepStrictEqual(admitted, [0, 1, 3])
      leave[0]?.()
      leave[3]?.()
      yield* settle
      assert.deepStrictEqual(admitted, [0, 1, 3, 4, 5])
      assert.deepStrictEqual(refused, [])
    })
  )

  it.scopedLive("does not hold who is inside: their requests are no longer needed", () =>
    Effect.gen(function* () {
      const door = yield* opened(2)
      const inside: Array<() => void> = []
      const arrived = () => {
        const visitor: Door.Visitor = { admit: (leave) => inside.push(leave), refuse: () => {} }
        // What takes it away is let go of with the socket's listener.
        door.arrive(visitor)
        return new WeakRef<object>(visitor)
      }
      const visitor = arrived()
      yield* settle
      assert.strictEqual(inside.length, 1)
      let collected = false
      for (let i = 0; i < 20 && !collected; i++) collected = yield* isCollected(visitor)
      assert.isTrue(collected)
      inside[0]?.()
    })
  )

  it.scopedLive("refuses who has waited for too long, and nobody who is inside", () =>
    Effect.gen(function* () {
      const { admitted, arrive, leave, refused } = visitors(yield* opened(1, "20 millis"))
      arrive(0, 3)
      while (refused.length < 2) yield* Turn.eventLoop.next
      leave[0]?.()
      yield* settle
      arrive(3, 4)
      yield* settle
      assert.deepStrictEqual(
        [admitted, refused],
        [
          [0, 3],
          [1, 2]
        ]
      )
    })
  )

  it.scopedLive("refuses at once when thousands wait, and all of them when it closes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { admitted, arrive, refused } = visitors(yield* Scope.extend(opened(1), scope))
      arrive(0, 1)
      yield* settle
      arrive(1, 5_000)
      const waiting = 5_000 - 1 - refused.length
      assert.isAtMost(waiting, 4_096)
      assert.isAbove(waiting, 2_000)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(refused.length, 4_999)
      arrive(5_000, 5_001)
      assert.strictEqual(refused.length, 5_000)
      assert.deepStrictEqual(admitted, [0])
    })
  )

  it.scopedLive("goes on after a visitor that throws, and after a share that fails", () => {
    const told: Array<string> = []
    const logger = Logger.make(({ cause }) => void told.push(Cause.pretty(cause)))
    return Effect.gen(function* () {
      const scope = yield* Scope.make()
      let shares = 0
      const share = Effect.suspend(() => (shares++ === 0 ? Effect.die(new Error("no share")) : Effect.void))
      const opening = Door.make({ places: 1, patience: Duration.millis(20), share })
      const door = yield* Scope.extend(opening, scope)
      const broken = (): never => {
        throw new Error("a broken visitor")
      }
      door.arrive({ admit: broken, refuse: broken })
      const { admitted, arrive, leave, refused } = visitors(door)
      arrive(0, 1)
      while (admitted.length === 0) yield* Turn.eventLoop.next
      // Waits for too long, and throws when it is told, in a timer; the one after it is told as well.
      door.arrive({ admit: broken, refuse: broken })
      arrive(1, 2)
      while (refused.length === 0) yield* Turn.eventLoop.next
      leave[0]?.()
      arrive(2, 3)
      while (admitted.length < 2) yield* Turn.eventLoop.next
      door.arrive({ admit: broken, refuse: broken })
      arrive(3, 4)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(
        [admitted, refused],
        [
          [0, 2],
          [1, 3]
        ]
      )
      assert.strictEqual(told.filter((text) => text.includes("a broken visitor")).length, 3)
      assert.strictEqual(told.filter((text) => text.includes("no share")).length, 1)
    }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
  })

  it.scopedLive("lets in no more in one turn than have their share of it", () =>
    Effect.gen(function* () {
      let callbacks: Array<() => void> = []
      let at = 0
      const turn = Turn.make((callback) => {
        callbacks.push(callback)
        return () => {}
      })
      const share = TurnShare.make(turn, () => at)
      const door = yield* Door.make({ places: 100, patience: Duration.hours(1), share })
      // Each upgrade takes a millisecond.
      const { admitted, arrive } = visitors(door, () => at++)
      arrive(0, 20)
      yield* settle
      const perTurn: Array<number> = []
      for (let before = 0; admitted.length < 20 && perTurn.length < 40; before = admitted.length) {
        const due = callbacks
        callbacks = []
        for (const callback of due) callback()
        yield* settle
        perTurn.push(admitted.length - before)
      }
      assert.strictEqual(admitted.length, 20)
      assert.isAtMost(Math.max(...perTurn.slice(1)), 5)
    })
  )
})
