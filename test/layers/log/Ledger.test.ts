/** The counts of a ledger against a model that knows every event. */
import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { Ledger } from "../../../src/layers/log/Ledger.js"

const granularity = { events: 8, bytes: 100 }
const largestRun = 5 * 40
/** Between two marks there is less than the granularity and a run, and counts are rounded up to a mark. */
const slack = granularity.bytes + 2 * largestRun

type Step = { readonly count: number; readonly bytes: number } | { readonly free: number }

const steps = FastCheck.array<Step>(
  FastCheck.oneof(
    {
      weight: 4,
      arbitrary: FastCheck.record({
        count: FastCheck.integer({ min: 1, max: 5 }),
        bytes: FastCheck.integer({ min: 0, max: 40 })
      })
    },
    { weight: 1, arbitrary: FastCheck.record({ free: FastCheck.double({ min: 0, max: 1, noNaN: true }) }) }
  ),
  { maxLength: 80 }
)

/** A ledger, the bytes of each of its events, and where its runs begin. */
const built = (given: ReadonlyArray<Step>) => {
  const ledger = new Ledger(granularity, 1, 0)
  const sizes: Array<number> = []
  const starts = new Set<number>()
  for (const step of given) {
    if ("free" in step) {
      ledger.free(ledger.first + Math.round(step.free * ledger.events))
      continue
    }
    starts.add(ledger.last + 1)
    ledger.cut()
    ledger.add(ledger.last + step.count, step.count * step.bytes)
    for (let i = 0; i < step.count; i++) sizes.push(step.bytes)
  }
  const bytesFrom = (seq: number) => sizes.slice(seq - 1).reduce((a, b) => a + b, 0)
  return { ledger, starts, bytesFrom }
}

describe("Ledger", () => {
  it.prop("counts what is retained, rounded up to a mark", [steps], ([given]) => {
    const { bytesFrom, ledger } = built(given)
    assert.strictEqual(ledger.events, ledger.last - ledger.first + 1)
    const exact = bytesFrom(ledger.first)
    assert.isAtLeast(ledger.bytes, exact)
    assert.isAtMost(ledger.bytes, exact + slack)
    for (let seq = ledger.first - 1; seq <= ledger.last; seq++) {
      const after = ledger.bytesAfter(seq)
      assert.isAtLeast(after, bytesFrom(seq + 1))
      assert.isAtMost(after, bytesFrom(seq + 1) + slack)
    }
    ledger.free(ledger.last + 1)
    assert.deepStrictEqual([ledger.events, ledger.bytes], [0, 0])
  })

  it.prop(
    "is cut where a run begins, as far as its limits demand and no further",
    [steps, FastCheck.integer({ min: 0, max: 60 }), FastCheck.integer({ min: 0, max: 800 })],
    ([given, events, bytes]) => {
      const { ledger, starts } = built(given)
      const limits = { events, bytes }
      const { first, last } = ledger
      const isKept = (from: number) => last - from + 1 <= events && ledger.bytesAfter(from - 1) <= bytes
      const target = ledger.target(limits)
      if (target === undefined) {
        if (ledger.exceeds(limits)) assert.strictEqual(ledger.boundary(last), first)
        else assert.isTrue(isKept(first))
        return
      }
      assert.isTrue(starts.has(target))
      assert.isTrue(target > first && target <= last)
      // Short of its limits only when there is no place left to cut.
      if (!isKept(target)) assert.strictEqual(ledger.boundary(last), target)
      assert.isFalse(isKept(ledger.boundary(target - 1)))
      assert.strictEqual(ledger.exceedsAfter(target - 1, limits), !isKept(target))
    }
  )

  it.prop("a boundary is the last place to cut that is not after a number", [steps], ([given]) => {
    const { ledger, starts } = built(given)
    for (let seq = ledger.first; seq <= ledger.last; seq++) {
      const boundary = ledger.boundary(seq)
      assert.isTrue(boundary <= seq && (boundary === ledger.first || starts.has(boundary)))
      assert.isAtLeast(boundary, ledger.boundary(Math.max(ledger.first, seq - 1)))
      assert.isBelow(seq - boundary, granularity.events + 2 * 5)
    }
  })
})
