// What every node hosts: the same agents in the same versions, or a job of one that is gone waits where they are not.
import { Effect, Schema } from "effect"
import { Agent, Job } from "effect-arcp"

const Tally = Agent.make("tally", {
  version: "1.0.0",
  input: Schema.Int,
  output: Schema.Int,
  durable: true
})

export const agents = [
  Agent.handle(Tally, (to) =>
    Effect.gen(function* () {
      const job = yield* Job.Job
      for (let current = 1; current <= to; current++) {
        yield* job.step(`number ${current}`, Effect.succeed(current))
        yield* Effect.sleep("1 second")
      }
      return to
    })
  )
]
