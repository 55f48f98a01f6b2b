/** What the log holds in memory of a session, and what the session needs (§4.5). */
import { assert, describe, it } from "@effect/vitest"
import { JobState } from "../../../src/layers/log/JobState.js"
import { patienceMs, ViewState } from "../../../src/layers/log/ViewState.js"
import { all, type Feature } from "../../../src/protocol/Features.js"

const limits = { events: 1_000_000, bytes: 2 ** 30 }
const bounds = { granularity: limits, allowance: limits }
const makeJob = (jobId: string) =>
  new JobState(
    { jobId, traceId: "", sessionId: "sess_1", principal: "alice", agent: "echo@1.0.0" },
    { first: 1, last: 0, lastEventSeq: 0, ended: false },
    bounds
  )
const makeView = (features: ReadonlyArray<Feature> = all) =>
  new ViewState("sess_1", "1.1", features, { first: 1, last: 0, acked: 0, need: 1, epoch: 1 }, bounds)
const plain = all.filter((feature) => feature !== "ack")

/** Adds a run of one event of `job`. */
const addRun = (view: ViewState, job: JobState) => {
  const eventSeq = view.last + 1
  view.extend({ eventSeq, job, jobSeq: eventSeq, count: 1, bytes: 100 }, 1, 100)
}

describe("ViewState", () => {
  it("keeps a bounded number of runs in memory: many while it is read, few when it is not", () => {
    const view = makeView()
    const job = makeJob("job_1")
    view.attach(() => {}, 0)
    for (let i = 0; i < 5_000; i++) {
      addRun(view, job)
      assert.isAtMost(view.runs.length, 2048)
    }
    assert.isAtLeast(view.runs.length, 1024)
    assert.strictEqual(view.newestRun?.eventSeq, 5_000)
    view.detach()
    for (let i = 0; i < 100; i++) {
      assert.isAtMost(view.runs.length, 16)
      addRun(view, job)
    }
  })

  it("holds nothing of a job that was dropped, nor what comes before it", () => {
    const view = makeView()
    const jobs = [makeJob("job_1"), makeJob("job_2"), makeJob("job_3")] as const
    view.attach(() => {}, 0)
    for (const job of [jobs[0], jobs[1], jobs[2], jobs[1], jobs[2]]) addRun(view, job)
    view.forgetRuns(new Set([jobs[1]]))
    assert.deepStrictEqual(
      view.runs.map(({ eventSeq, job }) => [eventSeq, job.jobId]),
      [[5, "job_3"]]
    )
    view.forgetRuns(new Set([jobs[1]]))
    assert.strictEqual(view.runs.length, 1)
    assert.strictEqual(view.indexOf(4), -1)
  })

  it("without acknowledgements it needs what was sent within the window, and soon nothing older", () => {
    const view = makeView(plain)
    const windowMs = 32_000
    view.attach(() => {}, 0)
    view.last = 1_000_000
    for (let now = 0; now <= 5 * windowMs; now += 100) {
      // At the time `now` everything up to `now` has been sent.
      view.reached(now, now, windowMs)
      const need = view.need(now, windowMs)
      assert.isAtMost(need, Math.max(1, now - windowMs + 1))
      assert.isAtLeast(need, now - windowMs - windowMs / 16)
    }
  })

  it("with acknowledgements it needs what is not acknowledged, whatever was sent, and never less than before", () => {
    const view = makeView()
    view.attach(() => {}, 0)
    view.last = 100
    view.reached(100, 0, 1_000)
    assert.strictEqual(view.need(10_000, 1_000), 1)
    view.acked = 40
    assert.strictEqual(view.need(10_000, 1_000), 41)
    view.storedNeed = 60
    assert.strictEqual(view.need(10_000, 1_000), 60)
  })

  it("is read while its connection gets on, and not when it has stood still for too long", () => {
    const view = makeView()
    assert.isFalse(view.reads(0))
    view.attach(() => {}, 0)
    assert.isTrue(view.reads(10 * patienceMs))
    view.last = 100
    view.reached(50, 1_000, 60_000)
    assert.isTrue(view.reads(1_000 + patienceMs - 1))
    assert.isFalse(view.reads(1_000 + patienceMs))
    view.reached(60, 1_000 + patienceMs, 60_000)
    assert.isTrue(view.reads(1_000 + patienceMs))
    view.stalled = true
    assert.isFalse(view.reads(1_000 + patienceMs))
    view.reached(60, 1_000 + patienceMs, 60_000)
    assert.isTrue(view.reads(1_000 + patienceMs))
    view.detach()
    assert.isFalse(view.reads(1_000 + patienceMs))
  })

  it("whoever waits for its reader goes on when that has gone", () => {
    const view = makeView()
    view.attach(() => {}, 0)
    view.congested = true
    let resumed = 0
    view.onRelief(() => resumed++)
    view.detach()
    assert.deepStrictEqual([resumed, view.congested], [1, false])
    view.detach()
    assert.strictEqual(resumed, 1)
  })
})
