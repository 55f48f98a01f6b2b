/** A streamed result: what of it is a chunk (§6). */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { open } from "../../support/Wire.js"
import { makeStore, serve, submit } from "./support.js"

const streaming = (data: Stream.Stream<string>) =>
  Agent.handle(Agent.make("streams", { version: "1.0.0" }), () =>
    Effect.flatMap(Job, (job) => job.streamResult(data))
  )

const lines = 20_000
const line = (i: number) => `${i} 🙂\n`

describe("the chunks of a streamed result", () => {
  it.scoped("hold what the stream has ready together, up to their size", () =>
    Effect.gen(function* () {
      const agent = streaming(Stream.map(Stream.range(1, lines), line))
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "streams")
        yield* session.next(({ type }) => type === "job.result" || type === "job.error")
        const chunks = session.seen.flatMap(({ payload, type }) =>
          type === "job.event" && payload.kind === "result_chunk" ? [payload.body.data as string] : []
        )
        assert.strictEqual(chunks.join(""), Array.from({ length: lines }, (_, i) => line(i + 1)).join(""))
        assert.isAtMost(chunks.length, 20)
      }).pipe(Effect.provide(serve(yield* makeStore, [agent])))
    })
  )

  it.scoped("do not wait for what comes later", () =>
    Effect.gen(function* () {
      const agent = streaming(Stream.concat(Stream.make("alone"), Stream.never))
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "streams")
        const { payload } = yield* session.expect(
          "job.event",
          ({ payload }) => payload.kind === "result_chunk"
        )
        assert.strictEqual(payload.body.data, "alone")
      }).pipe(Effect.provide(serve(yield* makeStore, [agent])))
    })
  )
})
