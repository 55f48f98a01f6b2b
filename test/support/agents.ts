/** Agents for the tests of clients and sessions. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Agent from "../../src/services/agents/Agent.js"
import { Job } from "../../src/services/jobs/Job.js"
import { Lease } from "../../src/services/lease/Lease.js"

export const Count = Agent.make("count", {
  version: "1.0.0",
  input: Schema.Struct({ to: Schema.Number }),
  output: Schema.Number
})
export const Picky = Agent.make("picky", {
  version: "1.0.0",
  input: Schema.String,
  output: Schema.String,
  error: Schema.TaggedStruct("NotThat", { what: Schema.String })
})

const count = Agent.handle(Count, ({ to }) =>
  Effect.gen(function* () {
    const job = yield* Job
    for (let i = 1; i <= to; i++) yield* job.log("info", `${i}`)
    return to
  })
)
const picky = Agent.handle(Picky, (what) => Effect.fail({ _tag: "NotThat" as const, what }))
const stream = Agent.handle(
  Agent.make("stream", {
    version: "1.0.0",
    input: Schema.Struct({ encoding: Schema.Literal("utf8", "base64"), parts: Schema.Array(Schema.String) })
  }),
  ({ encoding, parts }) =>
    Effect.flatMap(Job, (job) => job.streamResult(Stream.fromIterable(parts), encoding))
)
const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)

/** Spends 2 and 1 USD, with progress between. */
const spender = Agent.handle(Agent.make("spender", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const lease = yield* Lease
    yield* job.progress({ current: 1, total: 2 })
    yield* lease.spend({ amount: "2", currency: "USD" })
    yield* job.progress({ current: 2, total: 2 })
    yield* lease.spend({ amount: "1", currency: "USD" })
    return "done"
  })
)

export const agentsForClients = [count, picky, stream, forever, spender]
