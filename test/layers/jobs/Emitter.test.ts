import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Emitter from "../../../src/layers/jobs/Emitter.js"
import { InternalError } from "../../../src/protocol/Errors.js"
import type { EventLog, JobLog, NewEvent } from "../../../src/services/log/EventLog.js"
import { make as makeOptions } from "../../../src/services/runtime/RuntimeOptions.js"
import type { JobRecord } from "../../../src/services/store/Store.js"

const record = { jobId: "job_1", lease: {} } as JobRecord
const job: JobLog = {
  jobId: "job_1",
  ended: false,
  lastEventSeq: 0,
  remaining: new Map(),
  exhausted: undefined,
  budgets: () => false
}

/** An emitter over a log that refuses the appends whose number, from 1, is in `failing`. */
const emitter = (failing: ReadonlyArray<number>, chunked = true) => {
  const appended: Array<NewEvent> = []
  let n = 0
  const log = {
    append: (_: JobLog, event: NewEvent) =>
      failing.includes(++n)
        ? new InternalError({ message: "the log could not commit: disk full" })
        : Effect.sync(() => {
            appended.push(event)
          })
  } as unknown as EventLog["Type"]
  const made = Emitter.make({
    log,
    job,
    record,
    deadline: undefined,
    now: () => 0,
    resultId: () => "res_1",
    options: makeOptions(),
    chunked,
    maxStreamedBytes: 1024 * 1024
  })
  return { ...made, appended }
}

describe("a streamed result", () => {
  it.effect("that lost a chunk does not end in success, also when the handler caught the failure", () =>
    Effect.gen(function* () {
      const { service, finish, appended } = emitter([2])
      const result = yield* service.openResult()
      yield* result.write("a")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(result.write("b"))))
      const after = yield* Effect.flip(result.write("c"))
      assert.match(after.message, /disk full/)
      const error = yield* Effect.flip(finish)
      assert.match(error.message, /disk full/)
      assert.strictEqual(appended.length, 1)
    })
  )

  it.effect("goes on after a chunk that was refused for what it is", () =>
    Effect.gen(function* () {
      const { service, finish, appended } = emitter([])
      const result = yield* service.openResult()
      yield* Effect.flip(result.write("\ud800x"))
      yield* result.write("a")
      assert.deepStrictEqual(yield* finish, { resultId: "res_1", size: 1 })
      assert.strictEqual(appended.length, 2)
    })
  )
})
