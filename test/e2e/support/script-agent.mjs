// An agent for `arcp serve --agents`: it does what its input says, step by step, and tells how each step went.
// What the conformance agents cannot do: spend concurrently, delegate more than once, ask after the lease is over.
import * as Effect from "effect/Effect"
import * as Agent from "../../../dist/services/agents/Agent.js"
import { Job } from "../../../dist/services/jobs/Job.js"
import { Lease } from "../../../dist/services/lease/Lease.js"

/**
 * {do: "ask", capability, target, callId?} | {do: "metric", body} | {do: "spend", cost} | {do: "buy", cost, tool?}
 * | {do: "sleep", ms} | {do: "delegate", agent, input, lease?, constraints?, abandon?}
 * | {do: "all", steps} | {do: "times", times, steps}. To buy is to ask for `demo.tool` and then to spend.
 */
const perform = (step) =>
  Effect.gen(function* () {
    const job = yield* Job
    const lease = yield* Lease
    switch (step.do) {
      case "ask":
        return yield* lease.authorize(step.capability, step.target, { callId: step.callId })
      case "metric":
        // JSON has no NaN and no infinity.
        return yield* job.metric({ ...step.body, value: Number(step.body.value) })
      case "spend":
        return yield* lease.spend(step.cost)
      case "buy":
        yield* lease.authorize("tool.call", step.tool ?? "demo.tool")
        return yield* lease.spend(step.cost)
      case "sleep":
        return yield* Effect.sleep(step.ms)
      case "delegate": {
        const { lease: terms, constraints } = step
        const child = yield* job.delegate(step.agent, step.input, { lease: terms, constraints })
        return step.abandon ? child.jobId : yield* child.await
      }
      case "all":
        return yield* Effect.forEach(step.steps, told, { concurrency: "unbounded" })
      case "times": {
        const outcomes = []
        for (let i = 0; i < step.times; i++) outcomes.push(...(yield* Effect.forEach(step.steps, told)))
        return outcomes
      }
    }
    return yield* Effect.dieMessage(`no such step: ${step.do}`)
  })

const told = (step) =>
  perform(step).pipe(
    Effect.map((value) => ({ ok: value ?? null })),
    Effect.catchAll((error) =>
      Effect.succeed({
        error: error.code ?? String(error),
        ...(error.details === undefined ? {} : { details: error.details })
      })
    )
  )

/** {steps, stubborn?}: a stubborn one is not interrupted. Returns one `{ok}` or `{error, details?}` per step. */
const script = Agent.handle(Agent.make("script", { version: "1.0.0" }), ({ steps, stubborn }) => {
  const run = Effect.forEach(steps, told)
  return stubborn ? Effect.uninterruptible(run) : run
})

export const agents = [script]
