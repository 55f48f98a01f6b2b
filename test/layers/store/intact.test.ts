/** What is told of records and events that are not what a store writes. What becomes of whoever reads them: programs/damaged. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Intact from "../../../src/layers/store/intact.js"
import type { StoredEvent } from "../../../src/services/store/Store.js"
import { aJob, someEvents } from "./fixtures.js"

const intact = () => Intact.make("arcp.db")

/** What steers a terminal has no place in what is said. */
const steering = "\u001b[2J\u202e"

const text = (change: Readonly<Record<string, unknown>>) => JSON.stringify({ ...aJob("job_a"), ...change })

describe("the record of a job", () => {
  it.effect.each([
    ["no JSON", '{"jobId":"job_a",nope', "it is no JSON"],
    ["null", "null", "record has to be an object"],
    ["a wrong type", text({ createdAt: "yesterday" }), "record.createdAt has to be a time"],
    ["a time that there is not", text({ createdAt: 1e300 }), "record.createdAt has to be a time"],
    ["a number in the place of a text", text({ sessionId: 5 }), "record.sessionId has to be a text"],
    ["a survival without its parts", text({ survival: {} }), "record.survival.identity has to be"],
    ["another status", text({ status: steering }), "record.status has to be"]
  ] as const)("that is %s is named", ([, record, why]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(intact().job({ record }))
      assert.match(error.message, /^arcp\.db: the record of (job_a|a job) is damaged \(/)
      assert.include(error.message, why)
      assert.include(error.message, "restore it from a backup")
      assert.notMatch(error.message, /\u001b|\u202e/)
    })
  )

  it.effect("that is whole is given", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* intact().job({ record: text({}) }), aJob("job_a"))
    })
  )
})

describe("an event", () => {
  const withPayload = (type: StoredEvent["type"], payload: string) =>
    someEvents(1, 3).map((event) => (event.seq === 2 ? { ...event, type, payload } : event))

  it.effect.each([
    ["cut off", "job.event", '{"kind":"log",nope', "its payload is no JSON object"],
    ["no object", "job.event", "7", "its payload is no JSON object"],
    ["several lines", "job.event", '{\n"kind":"log"}', "its payload has line breaks"],
    ["no JSON", "job.error", "{nope}", "its payload is no JSON"],
    ["of another type", "job.error", '{"code":7}', "payload.code has to be a text that is not empty"],
    [
      "a result of no text",
      "job.result",
      '{"final_status":"success","result_id":7}',
      "payload.result_id has to be a text"
    ]
  ] as const)("whose payload is %s is named, by its number", ([, type, payload, why]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(intact().events("job_a", 1, withPayload(type, payload)))
      assert.include(error.message, `event 2 of job_a is damaged (${why}`)
      assert.deepStrictEqual(error.damaged, { jobId: "job_a", seq: 2 })
    })
  )
})
