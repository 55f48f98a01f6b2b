/** How often a principal submits. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../../src/services/agents/Agent.js"
import { type Frame, open } from "../../../support/Wire.js"
import { as, makeStore, pong, restarted, submit } from "../support.js"
import { asked, start } from "./waiting.js"

describe("a submit rate", () => {
  it.scoped("is each principal's, and does not begin anew with the process", () =>
    Effect.gen(function* () {
      const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
      const options = { submitsPerPrincipal: 3, submitWindow: "60 seconds" } as const
      const limit = (frame: Frame) => frame.payload.details?.limit
      const store = yield* makeStore
      const before = yield* start(store, [echo], options)
      yield* before.run(
        Effect.gen(function* () {
          const alice = yield* open()
          for (let i = 0; i < 3; i++) yield* submit(alice, "echo", i)
          const refused = yield* asked(alice, "echo", 3)
          assert.strictEqual(limit(refused), "submits_per_principal")
          assert.strictEqual(refused.payload.details.retry_after, 20)
          yield* submit(yield* open(as("bob")), "echo", 0)
          yield* pong(alice)
        })
      )
      yield* before.kill
      yield* TestClock.adjust("10 seconds")
      const after = yield* start(restarted(store), [echo], options)
      yield* after.run(
        Effect.gen(function* () {
          const alice = yield* open()
          const refused = yield* asked(alice, "echo", 3)
          assert.strictEqual(limit(refused), "submits_per_principal")
          assert.strictEqual(refused.payload.details.retry_after, 10)
          yield* TestClock.adjust("10 seconds")
          yield* submit(alice, "echo", 3)
          assert.strictEqual(limit(yield* asked(alice, "echo", 4)), "submits_per_principal")
        })
      )
    })
  )
})
