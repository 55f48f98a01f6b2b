/** What becomes of members of an input that its schema does not know (docs/guide.md). */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Agent from "../../src/services/agents/Agent.js"

const Input = Schema.Struct({ repository: Schema.String, maxFiles: Schema.optional(Schema.Int) })
const input = { repository: "app", maxfiles: 3 }
const given = (schema: Schema.Schema<typeof Input.Type, typeof Input.Encoded>) => {
  const seen: Array<unknown> = []
  const agent = Agent.handle(Agent.make("a", { version: "1.0.0", input: schema }), (decoded) =>
    Effect.sync(() => void seen.push(decoded))
  )
  return Effect.as(
    Effect.flatMap(agent.prepare(input), (run) => run as Effect.Effect<unknown>),
    seen
  )
}

describe("members of an input that its schema does not know", () => {
  it.effect("are left out", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* given(Input), [{ repository: "app" }])
    })
  )

  it.effect("are refused by name where the schema says so", () =>
    Effect.gen(function* () {
      const strict = Input.annotations({ parseOptions: { onExcessProperty: "error" } })
      const { code, message } = yield* Effect.flip(given(strict))
      assert.strictEqual(code, "INVALID_REQUEST")
      assert.strictEqual(message, "payload.input.maxfiles: is not expected; did you mean maxFiles?")
    })
  )
})
