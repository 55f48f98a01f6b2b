import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { JobState } from "../../../src/layers/log/JobState.js"
import { Tail } from "../../../src/layers/log/Tail.js"
import type { StoredEvent } from "../../../src/services/store/Store.js"
import { isCollected } from "../../support/collected.js"

const limits = { events: 1_000_000, bytes: 2 ** 30 }
const makeJob = (jobId: string) =>
  new JobState(
    { jobId, traceId: "", sessionId: "sess_1", principal: "alice", agent: "echo@1.0.0" },
    { first: 1, last: 0, lastEventSeq: 0, ended: false },
    { granularity: limits, allowance: limits }
  )
const pushTo = (tail: Tail, job: JobState, seq: number) => {
  const event: StoredEvent = { seq, type: "job.event", kind: "log", payload: "{}" }
  tail.push(job, [event], 600)
  job.last = seq
  return new WeakRef(event)
}

describe("Tail", () => {
  it.effect("lets go of an event as soon as it is over its limit, however few there are", () =>
    Effect.gen(function* () {
      const tail = new Tail(1_000, () => {})
      const job = makeJob("job_1")
      const first = pushTo(tail, job, 1)
      const second = pushTo(tail, job, 2)
      assert.isTrue(yield* isCollected(first))
      assert.isUndefined(job.event(1))
      assert.strictEqual(job.event(2)?.seq, 2)
      assert.isFalse(yield* isCollected(second))
    })
  )

  it("holds nothing of a job that was dropped, and counts what tiny jobs really take", () => {
    const gone: Array<string> = []
    const tail = new Tail(1_000_000, (job) => gone.push(job.jobId))
    const jobs = Array.from({ length: 100 }, (_, i) => makeJob(`job_${i}`))
    for (const job of jobs) pushTo(tail, job, 1)
    assert.isAtLeast(tail.bytes, 100 * 2048)
    tail.forget(new Set(jobs.slice(0, 50)))
    assert.strictEqual(gone.length, 50)
    const [kept, forgotten] = [jobs[50], jobs[0]]
    assert.isUndefined(forgotten?.event(1))
    assert.isDefined(kept?.event(1))
    tail.forget(new Set(jobs.slice(50)))
    assert.strictEqual(tail.bytes, 0)
  })

  it("says when nothing of a job is held any more, and its own queue stays short", () => {
    const gone: Array<string> = []
    const tail = new Tail(10_000, (job) => gone.push(job.jobId))
    for (let i = 0; i < 5_000; i++) pushTo(tail, makeJob(`job_${i}`), 1)
    assert.isAtLeast(gone.length, 4_990)
    assert.strictEqual(new Set(gone).size, gone.length)
    const queued = Object.values(tail).filter(Array.isArray)
    assert.isNotEmpty(queued)
    for (const queue of queued) assert.isAtMost(queue.length, 2_100)
  })
})
