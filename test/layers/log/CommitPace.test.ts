/** When the next batch is committed: at once where that is short and little was, else a turn of the event loop later. */
import { assert, describe, it } from "@effect/vitest"
import { CommitPace } from "../../../src/layers/log/CommitPace.js"
import * as Turn from "../../../src/services/runtime/Turn.js"

/** An event loop that a test drives. */
const scripted = (maxInTurn: number) => {
  let due: Array<() => void> = []
  const turn = Turn.make((callback) => {
    due.push(callback)
    return () => {}
  })
  const pace = new CommitPace(turn, maxInTurn)
  const committed: Array<number> = []
  return {
    committed,
    /** A batch of so many items waits. */
    gathers: (items: number) =>
      pace.whenDue(() => {
        pace.commits(items)
        committed.push(items)
      }),
    turn: () => {
      const callbacks = due
      due = []
      for (const callback of callbacks) callback()
    },
    idle: () => due.length === 0
  }
}

describe("the next commit", () => {
  it("waits for a turn where each does", () => {
    const { committed, gathers, turn } = scripted(0)
    gathers(1)
    assert.deepStrictEqual(committed, [])
    turn()
    gathers(2)
    assert.deepStrictEqual(committed, [1])
    turn()
    assert.deepStrictEqual(committed, [1, 2])
  })

  it("is made at once while little was committed in this turn; whoever emits flat out has one in each", () => {
    const { committed, gathers, idle, turn } = scripted(4)
    gathers(1)
    gathers(3)
    gathers(256)
    assert.deepStrictEqual(committed, [1, 3])
    turn()
    assert.deepStrictEqual(committed, [1, 3, 256])
    gathers(256)
    gathers(256)
    assert.deepStrictEqual(committed, [1, 3, 256])
    turn()
    assert.strictEqual(committed.length, 5)
    turn()
    assert.isTrue(idle())
    gathers(1)
    assert.strictEqual(committed.length, 6)
  })
})
