/** What a contract takes as input: what its JSON Schema says, and no more; what was accepted is taken by every version. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { open } from "../../support/Wire.js"
import { makeStore, restarted, serve, submit } from "./support.js"

describe("an input", () => {
  const Peek = Schema.Struct({
    file: Schema.String,
    about: Schema.optional(Schema.Struct({ depth: Schema.Int }))
  })
  const peekOf = (input: typeof Peek) =>
    Agent.handle(Agent.make("peek", { version: "1.0.0", input }), (given) => Effect.succeed(given))
  const lenient = Peek.annotations({ parseOptions: { onExcessProperty: "ignore" } })

  /** What a submit, or the delegation of one, comes to. */
  const outcome = (agents: ReadonlyArray<Agent.Registered>, agent: string, input: unknown) =>
    Effect.gen(function* () {
      const store = yield* makeStore
      return yield* Effect.provide(answered(agent, input), serve(store, agents))
    })

  const answered = (agent: string, input: unknown) =>
    Effect.gen(function* () {
      const session = yield* open()
      const lease_request = { "agent.delegate": ["*"] }
      yield* session.request("job.submit", { agent, input, lease_request })
      const { payload } = yield* session.next(({ type }) => type === "job.result" || type === "job.error")
      return payload.message ?? payload.result
    })

  it.scoped("with a member that its contract does not know is refused by name, also of a delegation", () =>
    Effect.gen(function* () {
      const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), (input) =>
        Effect.flatMap(Job, (job) => Effect.flatMap(job.delegate("peek", input), (child) => child.await))
      )
      const agents = [peekOf(Peek), parent]
      const more = { file: "x", more: 1 }
      assert.strictEqual(yield* outcome(agents, "peek", more), "payload.input.more: is not expected")
      assert.strictEqual(yield* outcome(agents, "parent", more), "payload.input.more: is not expected")
      assert.strictEqual(
        yield* outcome(agents, "peek", { file: "x", about: { depht: 1 } }),
        "payload.input.about.depht: is not expected; did you mean depth?; payload.input.about.depth: is missing"
      )
      assert.deepStrictEqual(yield* outcome([peekOf(lenient)], "peek", more), { file: "x" })
    })
  )

  it("is published as it is taken", () => {
    const published = (input: typeof Peek) => peekOf(input).about.input_schema?.["additionalProperties"]
    assert.isFalse(published(Peek))
    assert.isTrue(published(lenient))
  })

  it.scopedLive("that was accepted is decoded by a version that knows less", () =>
    Effect.gen(function* () {
      const Wider = Schema.Struct({ ...Peek.fields, more: Schema.Number })
      const begun = yield* Deferred.make<void>()
      const agentOf = <I, IE>(input: Schema.Schema<I, IE>, wait: boolean) =>
        Agent.handle(Agent.make("peek", { version: "1.0.0", durable: true, input }), (given) =>
          wait ? Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never) : Effect.succeed(given)
        )
      const store = yield* makeStore
      const job = yield* Effect.gen(function* () {
        const session = yield* open()
        const accepted = yield* submit(session, "peek", { file: "x", more: 1 })
        yield* Deferred.await(begun)
        return accepted.job_id as string
      }).pipe(Effect.provide(serve(store, [agentOf(Wider, true)])))
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* session.request("job.subscribe", { job_id: job, history: true })
        const { payload } = yield* session.next(({ type }) => type === "job.result" || type === "job.error")
        assert.deepStrictEqual(payload.result, { file: "x" })
        const id = yield* session.request(
          "job.submit",
          { agent: "peek" },
          { extensions: { "x-vendor.effect-arcp.fork": { job_id: job } } }
        )
        const { payload: forked } = yield* session.next(
          ({ payload, type }) => type === "job.accepted" && payload.request_id === id
        )
        assert.isString(forked.job_id)
      }).pipe(Effect.provide(serve(restarted(store), [agentOf(Peek, false)])))
    })
  )
})
