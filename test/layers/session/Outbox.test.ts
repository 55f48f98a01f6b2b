/** What an outbox counts: bytes as they go over the wire. */
import { assert, describe, it } from "@effect/vitest"
import { Outbox } from "../../../src/layers/session/Outbox.js"
import { endsWheneverItHappens } from "../../support/anyMoment.js"

describe("an outbox", () => {
  it("counts bytes, not characters, until what it holds was sent", () => {
    const outbox = new Outbox(3_000)
    outbox.push("x".repeat(1_000))
    outbox.push("€".repeat(600))
    assert.isFalse(outbox.full)
    outbox.push("€".repeat(100))
    assert.isTrue(outbox.full)
    const [batch, ...more] = outbox.take()
    assert.deepStrictEqual([batch?.bytes, more.length], [3_100, 0])
    assert.isTrue(outbox.full)
    if (batch) outbox.sent(batch)
    assert.deepStrictEqual([outbox.idle, outbox.full], [true, false])
  })

  it("has room for whoever begins to wait while it is made", () =>
    endsWheneverItHappens(() => {
      const outbox = new Outbox(1)
      outbox.push("frame")
      return { wait: outbox.room, happen: () => outbox.take().forEach((batch) => outbox.sent(batch)) }
    }))

  it("begins another batch by bytes", () => {
    const outbox = new Outbox(1)
    for (let i = 0; i < 4; i++) outbox.push("€".repeat(50_000))
    assert.deepStrictEqual(
      outbox.take().map(({ bytes, frames }) => [bytes, frames.length]),
      [
        [150_000, 1],
        [150_000, 1],
        [150_000, 1],
        [150_000, 1]
      ]
    )
  })

  it("keeps its first farewell, until one comes that does not wait for every event", () => {
    const outbox = new Outbox(1)
    let told = 0
    outbox.onFarewell = () => told++
    for (const [code, drained] of [
      [1, true],
      [2, true],
      [3, false],
      [4, false],
      [5, true]
    ] as const) {
      outbox.close({ code, reason: "", drained })
      assert.strictEqual(outbox.farewell?.code, code < 3 ? 1 : 3)
    }
    assert.strictEqual(told, 1)
  })
})
