/** What a connection holds of what nobody has taken yet (protocol 1): bounded in frames and in bytes. */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import { PausingInbox } from "../../../src/layers/transport/PausingInbox.js"
import { exceeds } from "../../../src/protocol/Utf8.js"
import { Closed } from "../../../src/services/transport/Transport.js"
import { endsWheneverItHappens } from "../../support/anyMoment.js"

const make = () => {
  const calls: Array<string> = []
  const inbox = new PausingInbox({ pause: () => calls.push("pause"), resume: () => calls.push("resume") })
  return { calls, inbox }
}

describe("Inbox", () => {
  for (const [what, frames, bytes] of [
    ["frames, however small", 256, 1],
    ["bytes, however few frames", 4, 256 * 1024]
  ] as const)
    it.effect(`pauses its source at so many ${what}, once, and lets it go on when they are taken`, () =>
      Effect.gen(function* () {
        const { calls, inbox } = make()
        for (let i = 1; i < frames; i++) inbox.offer(`${i}`, bytes)
        assert.deepStrictEqual(calls, [])
        // What the source had decoded at that moment is taken in as well.
        for (let i = 0; i < 3; i++) inbox.offer("more", bytes)
        assert.deepStrictEqual(calls, ["pause"])
        assert.strictEqual(Chunk.size(yield* inbox.take), frames + 2)
        assert.deepStrictEqual(calls, ["pause", "resume"])
        inbox.offer("again", bytes)
        assert.deepStrictEqual(calls, ["pause", "resume"])
      })
    )

  it("loses no frame, and no end, that comes while its reader begins to wait", () => {
    for (const happen of [
      (inbox: PausingInbox) => inbox.offer("frame", 5),
      (inbox: PausingInbox) => inbox.end(new Closed({ code: 1000, reason: "" }))
    ])
      endsWheneverItHappens(() => {
        const { inbox } = make()
        return { wait: inbox.take, happen: () => happen(inbox) }
      })
  })

  it("measures frames in bytes of UTF-8", () => {
    assert.isFalse(exceeds("aaaa", 4))
    assert.isTrue(exceeds("aaaaa", 4))
    assert.isFalse(exceeds("éé", 4))
    assert.isTrue(exceeds("éé-", 4))
    assert.isTrue(exceeds("€€", 5))
  })
})
