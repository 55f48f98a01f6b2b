/** An agent that emits faster than any disk, from several fibers, with costs between; and keeps its own books in a file. */
import { openSync, writeSync } from "node:fs"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Agent, Job, Lease } from "../../../dist/index.js"

/** Emits of a fiber between two voluntary yields, as in the `emit` of the conformance agents, and turns between two costs. */
const emitsPerTurn = 40
const turnsPerCost = 8

/** Where a job writes what it has called, as three little-endian words: emits, costs, and emits that had to wait. */
const bookOf = (file, slot) => {
  const fd = openSync(file, "r+")
  const words = Buffer.alloc(12)
  return (which) => {
    words.writeUInt32LE(words.readUInt32LE(which * 4) + 1, which * 4)
    writeSync(fd, words, 0, 12, slot * 12)
    return words.readUInt32LE(which * 4)
  }
}

export const agents = [
  Agent.handle(
    Agent.make("flood", {
      version: "1.0.0",
      input: Schema.Struct({
        file: Schema.String,
        slot: Schema.Int,
        fibers: Schema.Int,
        costs: Schema.Boolean
      })
    }),
    ({ costs, fibers, file, slot }) =>
      Effect.gen(function* () {
        const job = yield* Job.Job
        const lease = yield* Lease.Lease
        const count = bookOf(file, slot)
        // An emit that waits for room waits for a commit, and for that there is a turn of the event loop.
        let loops = 0
        let looping = true
        const loop = () => {
          loops++
          if (looping) setImmediate(loop)
        }
        loop()
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            looping = false
          })
        )
        const emit = Effect.suspend(() => {
          const before = loops
          return Effect.map(job.log("info", String(count(0))), () => {
            if (loops !== before) count(2)
          })
        })
        const spend = Effect.suspend(() => {
          count(1)
          return lease.spend({ name: "work", amount: "0.01", currency: "USD" })
        })
        const turn = Effect.zipRight(Effect.repeatN(emit, emitsPerTurn - 1), Effect.yieldNow())
        const round = Effect.zipRight(Effect.repeatN(turn, turnsPerCost - 1), costs ? spend : Effect.void)
        yield* Effect.all(
          Array.from({ length: fibers }, () => Effect.forever(round)),
          {
            concurrency: "unbounded",
            discard: true
          }
        )
      })
  )
]
