/** No frame of a runtime is larger than its bound (§4). */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import { InternalError } from "../../../src/protocol/Errors.js"
import { all } from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { runtime } from "../../support/Wire.js"

const Large = Agent.make("large", { version: "1.0.0", input: Schema.Struct({ what: Schema.String }) })
const big = "é".repeat(2 * 1024 * 1024)
const large = Agent.handle(Large, ({ what }) =>
  Effect.gen(function* () {
    const job = yield* Job
    switch (what) {
      case "text":
        return big
      case "object":
        return { big }
      case "event":
        return yield* Effect.match(job.thought(big), { onSuccess: () => "", onFailure: ({ code }) => code })
      case "summary": {
        const result = yield* job.openResult()
        return yield* result.end("all of it", { summary: "in short" })
      }
      default:
        return yield* new InternalError({ message: "no", details: { big, small: 7 } })
    }
  })
)
const client = (features = all.filter(() => true)) =>
  ArcpClient.make({ token: Redacted.make("alice"), features })

describe("a frame over the bound is not made", () => {
  it.scoped("a result is streamed, a text as it is and anything else as JSON", () =>
    Effect.gen(function* () {
      const { submit } = yield* client()
      for (const what of ["text", "object"]) {
        const job = yield* submit("large", { what })
        assert.deepStrictEqual(yield* job.result, what === "text" ? big : { big })
      }
    }).pipe(Effect.provide(runtime([large])))
  )

  it.scoped("without result_chunk the job ends in INTERNAL_ERROR that names the limit", () =>
    Effect.gen(function* () {
      const { submit } = yield* client(all.filter((name) => name !== "result_chunk"))
      const job = yield* submit("large", { what: "object" })
      assert.deepInclude(yield* Effect.flip(job.result), {
        code: "INTERNAL_ERROR",
        details: { limit: "outbound_frame_bytes" }
      })
    }).pipe(Effect.provide(runtime([large])))
  )

  it.scoped("an event fails its emit, an error loses the largest of its details", () =>
    Effect.gen(function* () {
      const { submit } = yield* client()
      const emitting = yield* submit("large", { what: "event" })
      assert.strictEqual(yield* emitting.result, "INTERNAL_ERROR")
      const failing = yield* submit("large", { what: "error" })
      assert.deepInclude(yield* Effect.flip(failing.result), {
        details: { small: 7, limit: "outbound_frame_bytes" }
      })
    }).pipe(Effect.provide(runtime([large])))
  )
})
