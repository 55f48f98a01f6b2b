import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { JobState, Tail } from "../../../src/layers/log/State.js"
import type { StoredEvent } from "../../../src/services/store/Store.js"
import { isCollected } from "../../support/collected.js"

describe("Tail", () => {
  it.effect("lets go of an event as soon as it is over its limit, however few there are", () =>
    Effect.gen(function* () {
      const tail = new Tail(1_000, () => {})
      const job = new JobState("job_1", "", "sess_1", { first: 1, last: 0, lastEventSeq: 0, ended: false })
      const push = (seq: number) => {
        const event: StoredEvent = { seq, type: "job.event", kind: "log", ownerSeq: seq, payload: "{}" }
        tail.push(job, [event], 600)
        job.last = seq
        return new WeakRef(event)
      }
      const first = push(1)
      const second = push(2)
      assert.isTrue(yield* isCollected(first))
      assert.isUndefined(job.event(1))
      assert.strictEqual(job.event(2)?.seq, 2)
      assert.isFalse(yield* isCollected(second))
    })
  )
})
