/** What a job has while it runs, and what is left of it when it has ended (protocol 4.8, 5.3, 8 and 9). */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { deadline } from "../../../src/layers/jobs/Limits.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import type { JobRecord } from "../../../src/services/store/Store.js"
import { open, runtime } from "../../support/Wire.js"
import { echo, makeStore, pong, serve, submit } from "./support.js"

describe("a deadline", () => {
  it("is when max_runtime_sec or the lease ends the job, whichever is first", () => {
    const at = (maxRuntimeSec: number | undefined, expires_at: string | undefined) =>
      deadline(
        {
          ...(maxRuntimeSec === undefined ? {} : { maxRuntimeSec }),
          ...(expires_at === undefined ? {} : { leaseConstraints: { expires_at } })
        } as JobRecord,
        5_000
      )
    assert.isUndefined(at(undefined, undefined))
    assert.strictEqual(at(10, undefined), 15_000)
    assert.strictEqual(at(undefined, "1970-01-01T00:00:12Z"), 12_000)
    assert.strictEqual(at(10, "1970-01-01T00:00:12Z"), 12_000)
    assert.strictEqual(at(5, "1970-01-01T00:00:12Z"), 10_000)
  })
})

describe("a job's timers", () => {
  it.scoped("end with it: nothing waits for the limit of a job that has ended", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const session = yield* open()
        const fibers = Effect.map(Fiber.roots, (roots) => Array.from(roots).length)
        const ended = (more: Record<string, unknown>) =>
          Effect.zipRight(submit(session, "echo", {}, more), session.expect("job.result"))
        yield* ended({})
        yield* pong(session)
        const before = yield* fibers
        for (let i = 0; i < 10; i++) yield* ended({ max_runtime_sec: 86_400 })
        yield* pong(session)
        assert.isBelow(yield* fibers, before + 5)
      }).pipe(Effect.provide(serve(store, [echo])))
    })
  )
})

describe("a job's span", () => {
  const trace = Effect.map(Effect.orDie(Effect.currentSpan), ({ traceId }) => traceId)
  const child = Agent.handle(Agent.make("child", { version: "1.0.0" }), () => trace)
  const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
    Effect.gen(function* () {
      const job = yield* Job
      const delegated = yield* Effect.orDie(job.delegate("child", {}))
      return [yield* trace, yield* Effect.orDie(delegated.await)]
    })
  )

  it.scoped("is of the trace that its accept names, and so is that of what it delegates", () =>
    Effect.gen(function* () {
      const session = yield* open()
      const trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
      for (const more of [{}, { trace_id }]) {
        const id = yield* session.request(
          "job.submit",
          { agent: "parent", input: {}, lease_request: { "agent.delegate": ["child"] } },
          more
        )
        const accepted = yield* session.expect("job.accepted", (frame) => frame.payload.request_id === id)
        const { payload } = yield* session.expect("job.result", (frame) => frame.job_id === accepted.job_id)
        assert.deepStrictEqual(payload.result, [accepted.trace_id, accepted.trace_id])
        if ("trace_id" in more) assert.strictEqual(accepted.trace_id, trace_id)
      }
    }).pipe(Effect.provide(runtime([parent, child])))
  )
})

describe("a streamed result", () => {
  const streaming = Agent.handle(Agent.make("streaming", { version: "1.0.0" }), () =>
    Effect.flatMap(Job, (job) => job.streamResult(Stream.make("12345", "67890")))
  )
  const bounds = { maxStreamedBytesMemory: 9, maxStreamedBytesDisk: 10 }
  const end = Effect.gen(function* () {
    const session = yield* open()
    yield* submit(session, "streaming")
    const { payload } = yield* session.next(({ type }) => type === "job.result" || type === "job.error")
    return payload.result_size ?? payload.details
  })

  it.scoped("is bounded by what is kept in memory where it is kept there, and on disk by that", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* end.pipe(Effect.provide(runtime([streaming], bounds))), {
        limit: "streamed_result_bytes"
      })
      const disk = serve(yield* makeStore, [streaming], bounds)
      assert.strictEqual(yield* end.pipe(Effect.provide(disk)), 10)
    })
  )

  it.scoped("of many chunks is put together for who delegated, each of them once", () =>
    Effect.gen(function* () {
      const pieces = Array.from({ length: 70 }, (_, i) => `<${i}>`)
      const many = Agent.handle(Agent.make("many", { version: "1.0.0" }), () =>
        Effect.flatMap(Job, (job) => job.streamResult(Stream.fromIterable(pieces)))
      )
      const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
        Effect.gen(function* () {
          const job = yield* Job
          const delegated = yield* Effect.orDie(job.delegate("many", {}))
          return yield* Effect.orDie(delegated.await)
        })
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(
          session,
          "parent",
          {},
          { lease_request: { "agent.delegate": ["many"] } }
        )
        const { payload } = yield* session.expect("job.result", (frame) => frame.job_id === job_id)
        assert.strictEqual(payload.result, pieces.join(""))
      }).pipe(Effect.provide(serve(yield* makeStore, [many, parent])))
    })
  )

  it.scoped(
    "that is larger than a frame is not put together: not for who delegated, nor without result_chunk",
    () =>
      Effect.gen(function* () {
        const piece = "x".repeat(6_000)
        const large = Agent.handle(Agent.make("large", { version: "1.0.0" }), () =>
          Effect.flatMap(Job, (job) => job.streamResult(Stream.make(piece, piece, piece)))
        )
        const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
          Effect.gen(function* () {
            const job = yield* Job
            const delegated = yield* Effect.orDie(job.delegate("large", {}))
            const outcome = yield* Effect.either(delegated.await)
            return Either.isLeft(outcome) && "details" in outcome.left ? outcome.left.details : "whole"
          })
        )
        const store = yield* makeStore
        yield* Effect.gen(function* () {
          const session = yield* open()
          const { job_id } = yield* submit(
            session,
            "parent",
            {},
            { lease_request: { "agent.delegate": ["large"] } }
          )
          const child = yield* session.expect("job.result", (frame) => frame.job_id !== job_id)
          const { payload } = yield* session.expect("job.result", (frame) => frame.job_id === job_id)
          assert.deepStrictEqual(payload.result, { limit: "frame_bytes" })
          const plain = yield* open({}, ["subscribe"])
          yield* plain.request("job.subscribe", { job_id: child.job_id, history: true })
          const seen = yield* plain.expect("job.result")
          assert.strictEqual(seen.payload.result_size, 18_000)
          assert.notProperty(seen.payload, "result")
        }).pipe(
          Effect.provide(
            serve(store, [large, parent], { maxFrameBytes: 2_000, maxOutboundFrameBytes: 16_384 })
          )
        )
      })
  )
})
