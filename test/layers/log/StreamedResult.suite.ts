/** A streamed result as a whole: all of it or none, whatever the log has lost of it, over every store. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { all } from "../../../src/protocol/Features.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import { EventLog, type JobLog, type NewEvent, type View } from "../../../src/services/log/EventLog.js"
import { Op, type Store, type StoreError } from "../../../src/services/store/Store.js"
import { emit, openView, openViewWith, readAll, record, runOn, settle, upTo } from "./harness.js"

const pad = (n: number) => String(n).padStart(4, "0")

const chunk = (result: string, n: number, data = pad(n), encoding = "utf8"): NewEvent => ({
  type: "job.event",
  kind: "result_chunk",
  payload: JSON.stringify({
    kind: "result_chunk",
    ts: "",
    body: { result_id: result, chunk_seq: n, data, encoding, more: true }
  })
})

const stream = (job: JobLog, result: string, from: number, to: number) =>
  Effect.flatMap(EventLog, (log) =>
    Effect.forEach(upTo(to, from), (n) => log.append(job, chunk(result, n)), { discard: true })
  )

const ending = (job: JobLog, owner: View, result_id: string, result_size: number, more: object = {}) =>
  Effect.flatMap(EventLog, (log) =>
    log.end(
      job,
      {
        type: "job.result",
        kind: "streamed",
        payload: JSON.stringify({
          final_status: "success",
          result_id,
          result_size,
          completed_at: "",
          ...more
        })
      },
      (lastEventSeq) => ({
        ...record(owner),
        jobId: job.jobId,
        status: "success",
        endedAt: 2,
        lastEventSeq
      })
    )
  )

/** What a session without `result_chunk` is given as the end. */
const endOf = (view: View) =>
  Effect.map(readAll(view), (frames) => {
    const { result, result_id, result_size } = Object(frames.at(-1)?.payload)
    return { result, result_id, result_size }
  })

export const suite = (name: string, store: () => Layer.Layer<Store, StoreError>): void => {
  const run = runOn(store)

  /** 40 events that are none of the result, 40 chunks of it, and its end; the log then begins at `first`. */
  const trimmed = (first: number) =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const owner = yield* openView
      const plain = yield* openViewWith(all.filter((feature) => feature !== "result_chunk"))
      const job = yield* log.openJob(record(owner), owner)
      yield* log.observe(plain, job, { history: false, onCommit: () => {} })
      yield* emit(job, 1, 40)
      yield* stream(job, "res_1", 0, 39)
      yield* ending(job, owner, "res_1", 160)
      yield* log.commit([Op.TrimJob({ jobId: job.jobId, seq: first })])
      return { end: yield* endOf(plain), whole: yield* Effect.either(log.streamedResult(job)) }
    })

  const whole = upTo(40).map((n) => pad(n - 1))

  describe(`a streamed result, ${name}`, () => {
    for (const first of [1, 17, 21, 40, 41])
      it.effect(`is whole when the log begins at event ${first}, before its chunks`, () =>
        run(
          Effect.gen(function* () {
            const { end, whole: read } = yield* trimmed(first)
            assert.deepStrictEqual(end, {
              result: whole.join(""),
              result_id: undefined,
              result_size: undefined
            })
            assert.deepStrictEqual(read._tag === "Right" ? read.right : read, whole.join(""))
          })
        )
      )

    for (const first of [42, 50, 80, 81])
      it.effect(`is none when the log begins at event ${first}, and its end says which it was`, () =>
        run(
          Effect.gen(function* () {
            const { end, whole } = yield* trimmed(first)
            assert.deepStrictEqual(end, { result: undefined, result_id: "res_1", result_size: 160 })
            assert.strictEqual(whole._tag, "Left")
          })
        )
      )

    it.effect("has no chunk of what an earlier run of its job has streamed", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const owner = yield* openView
          const job = yield* log.openJob(record(owner), owner)
          yield* stream(job, "res_1", 0, 19)
          yield* stream(job, "res_2", 0, 2)
          yield* ending(job, owner, "res_2", 12)
          yield* settle
          assert.strictEqual(yield* log.streamedResult(job), "000000010002")
        })
      )
    )

    it.effect("is none when it has not the size that its end says, or a chunk twice", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const owner = yield* openView
          for (const [chunks, size] of [
            [[0, 1, 2], 16],
            [[0, 1, 2], 8],
            [[0, 1, 1], 12],
            [[0, 2], 8],
            [[], 4]
          ] as const) {
            const job = yield* log.openJob(record(owner), owner)
            for (const n of chunks) yield* log.append(job, chunk("res_1", n))
            yield* ending(job, owner, "res_1", size)
            assert.isTrue(
              (yield* Effect.either(log.streamedResult(job)))._tag === "Left",
              `${chunks} ${size}`
            )
          }
        })
      )
    )

    it.effect("is the value whose JSON was streamed because it was too large", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const owner = yield* openView
          const job = yield* log.openJob(record(owner), owner)
          yield* log.append(job, chunk("res_1", 0, '{"a":'))
          yield* log.append(job, chunk("res_1", 1, "[1]}"))
          yield* ending(job, owner, "res_1", 9, { [Vendor.encoding]: "json" })
          assert.deepStrictEqual(yield* log.streamedResult(job), { a: [1] })
        })
      )
    )

    it.effect("is one that is larger than a frame only where it is the JSON of a value", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const owner = yield* openView
          const wholeOf = (more: object) =>
            Effect.gen(function* () {
              const job = yield* log.openJob(record(owner), owner)
              yield* log.append(job, chunk("res_1", 0, '{"a":[1]}'))
              yield* ending(job, owner, "res_1", 9, more)
              return yield* Effect.either(log.streamedResult(job))
            })
          const value = yield* wholeOf({ [Vendor.encoding]: "json" })
          assert.deepStrictEqual(value._tag === "Right" && value.right, { a: [1] })
          const text = yield* wholeOf({})
          assert.deepInclude(text._tag === "Left" ? text.left.details : {}, { limit: "frame_bytes" })
        }),
        { maxFrameBytes: 8 }
      )
    )

    it.effect("is joined of bytes, too, whose size is that of what they decode to", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const owner = yield* openView
          const job = yield* log.openJob(record(owner), owner)
          yield* log.append(job, chunk("res_1", 0, "AAEC", "base64"))
          yield* log.append(job, chunk("res_1", 1, "Aw==", "base64"))
          yield* ending(job, owner, "res_1", 4)
          assert.deepStrictEqual(yield* log.streamedResult(job), { encoding: "base64", data: "AAECAw==" })
        })
      )
    )
  })
}
