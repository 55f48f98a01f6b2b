/** What ends a job, and in which order, as one job has it (protocol 5.3 and 5.4). */
import { assert, describe, it } from "@effect/vitest"
import * as Exit from "effect/Exit"
import { LiveJob, orphaned, parentEnded } from "../../../src/layers/jobs/LiveJob.js"
import type { JobSession } from "../../../src/services/jobs/Jobs.js"
import type { JobRecord } from "../../../src/services/store/Store.js"

const job = (parent?: LiveJob) => new LiveJob({} as JobRecord, { identity: {} } as JobSession, parent)

describe("an ending", () => {
  it("is the first that asks; an acknowledged cancel wins over any other", () => {
    const live = job()
    live.end({ _tag: "Timeout" })
    live.end({ _tag: "LeaseExpired" })
    assert.strictEqual(live.ending?._tag, "Timeout")
    live.cancel("enough")()
    live.end({ _tag: "Timeout" })
    live.cancel("again")()
    assert.deepStrictEqual(live.ending, { _tag: "Cancel", reason: "enough" })
  })

  it("of a job whose handler has returned is its result, unless it is cancelled before that is decided", () => {
    const live = job()
    live.exit = Exit.succeed(1)
    live.end({ _tag: "Timeout" })
    live.end({ _tag: "Shutdown" })
    assert.isUndefined(live.ending)
    live.cancel("enough")()
    assert.deepStrictEqual(live.ending, { _tag: "Cancel", reason: "enough" })
  })

  it("that comes when the end is decided changes nothing", () => {
    const live = job()
    live.concluded = true
    live.cancel("too late")()
    live.end({ _tag: "LeaseExpired" })
    assert.isUndefined(live.ending)
  })
})

describe("a child", () => {
  it("ends with its parent, and at once when it comes while that is ending or has returned", () => {
    const parent = job()
    const early = job(parent)
    assert.isTrue(parent.takeChild(early))
    assert.isUndefined(early.ending)
    parent.cancel(undefined)()
    assert.strictEqual(early.ending, parentEnded)
    const late = job(parent)
    assert.isTrue(parent.takeChild(late))
    assert.strictEqual(late.ending, parentEnded)

    const returned = job()
    returned.exit = Exit.void
    const last = job(returned)
    assert.isTrue(returned.takeChild(last))
    assert.strictEqual(last.ending, parentEnded)
  })

  it("is left with its parent, also when it is run again only then; without one, when its runtime shuts down", () => {
    const durable = (parent?: LiveJob) =>
      new LiveJob({ survival: {} } as JobRecord, { identity: {} } as JobSession, parent)
    const parent = durable()
    parent.end({ _tag: "Leave" })
    const late = durable(parent)
    assert.isTrue(parent.takeChild(late))
    assert.deepStrictEqual(late.ending, { _tag: "Leave" })
    // One that does not survive by itself ends.
    const plain = job(parent)
    assert.isTrue(parent.takeChild(plain))
    assert.deepStrictEqual(plain.ending, { _tag: "Shutdown" })
    assert.deepStrictEqual(orphaned({ stopping: true }), { _tag: "Leave" })
    assert.strictEqual(orphaned({ stopping: false }), parentEnded)
  })

  it("is not taken when nobody would wait for it", () => {
    const parent = job()
    parent.sealed = true
    assert.isFalse(parent.takeChild(job(parent)))
    assert.strictEqual(parent.children.size, 0)
  })

  it("ends as its parent does when the runtime shuts down, and gets no more grace than that", () => {
    const parent = job()
    const child = job(parent)
    parent.takeChild(child)
    parent.end({ _tag: "Shutdown" })
    assert.strictEqual(child.ending?._tag, "Shutdown")
    assert.isTrue(child.hurried)
  })
})
