/** When the retention looks for jobs that are to be dropped: when one may be due, and at no other time. */
import { assert, describe, it } from "@effect/vitest"
import { Retirements } from "../../../src/layers/log/retention/Retirements.js"

const step = 10
const retention = 100
const make = () => new Retirements(step, retention)

describe("retirements", () => {
  it("are due when the retention of the oldest step has passed, and never without jobs", () => {
    const due = make()
    assert.isUndefined(due.next(0, false))
    due.ended(5)
    due.ended(14)
    due.ended(50)
    assert.strictEqual(due.next(50, false), 5 + step + retention - 50)
    due.passed(115, 2, 1)
    assert.strictEqual(due.next(115, false), 50 + step + retention - 115)
    due.passed(160, 1, 0)
    assert.isUndefined(due.next(160, false))
  })

  it("are tried again each step while somebody needs them, and when something else is unfinished", () => {
    const due = make()
    due.ended(0)
    due.passed(110, 0, 1)
    assert.strictEqual(due.next(110, false), step)
    due.passed(120, 1, 0)
    assert.isUndefined(due.next(120, false))
    assert.strictEqual(due.next(120, true), step)
  })

  it("of an earlier process are looked for each step, until none is left", () => {
    const due = make()
    due.begin(3)
    assert.strictEqual(due.next(0, false), step)
    due.ended(1)
    due.passed(2, 2, 2)
    assert.strictEqual(due.next(2, false), step)
    // Dropped over a cap, of which nobody says whose they were.
    due.passed(3, 0, 0)
    assert.strictEqual(due.next(3, false), 1 + step + retention - 3)
  })

  it("hold little, however many jobs end, and count those that were dropped early", () => {
    const due = make()
    for (let at = 0; at < 100_000; at++) due.ended(Math.floor(at / 1_000))
    assert.isAtMost((due as unknown as { steps: ReadonlyArray<unknown> }).steps.length, 11)
    due.passed(100, 100_000, 0)
    assert.isUndefined(due.next(100, false))
  })
})
