// Agents of your own for `arcp serve`, which loads what Node loads: compiled, or as it is with Node 22.18 or newer.
//
//   npm run build && npm run examples:build
//   npx arcp serve --agents ./examples/.build/my-agents.js --token secret=me
//   npx arcp submit count --token secret --input '{"to": 5}'

import { Effect, Schema } from "effect"
import { Agent, Job } from "effect-arcp"

const Count = Agent.make("count", {
  version: "1.0.0",
  input: Schema.Struct({ to: Schema.Int.pipe(Schema.between(1, 1000)) }),
  output: Schema.Int
})

const count = Agent.handle(Count, ({ to }) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    for (let current = 1; current <= to; current++) {
      yield* job.progress({ current, total: to, units: "steps" })
      yield* Effect.sleep("200 millis")
    }
    return to
  }).pipe(
    // Cancelled? Finalizers still emit, within the cancel grace.
    Effect.onInterrupt(() =>
      Effect.flatMap(Job.Job, (job) => Effect.ignore(job.log("warn", "stopped early")))
    )
  )
)

export const agents = [count]
