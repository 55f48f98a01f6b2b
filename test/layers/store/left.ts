/** What the fixtures of every schema (`test/fixtures`) hold, as a store of today gives it (`.ci/schema-fixture-batches.mjs`). */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Op, Store } from "../../../src/services/store/Store.js"
import { aJob, append, aSession, range, seqs, vacuumAll } from "./fixtures.js"

/** What a schema could keep. */
export interface Kept {
  readonly inputs: boolean
  readonly journals: boolean
  readonly due: boolean
  readonly hooks: boolean
  readonly epochs: boolean
  readonly numbersOfGone: boolean
  readonly cursors: boolean
  readonly wishes: boolean
}

const readsJobsAndSessions = Effect.gen(function* () {
  const store = yield* Store
  assert.deepEqual(
    yield* store.job("job_a"),
    aJob("job_a", { idempotencyKey: "nightly", budget: { USD: "1.50" } })
  )
  assert.strictEqual((yield* store.job("job_b"))?.status, "success")
  assert.strictEqual((yield* store.jobByKey("alice", "nightly"))?.jobId, "job_a")
  assert.deepEqual(yield* store.session("sess_a"), aSession("sess_a"))
  assert.deepEqual(
    yield* store.session("sess_b"),
    aSession("sess_b", { principal: "bob", tokenDigest: "old", issuedTokenDigests: ["new"] })
  )
})

const readsLogs = Effect.gen(function* () {
  const store = yield* Store
  assert.deepStrictEqual(seqs(yield* store.events("job_a", 1, 99)), range(4, 25))
  assert.deepStrictEqual(yield* store.view("sess_a"), { first: 6, last: 30 })
  const page = yield* store.page("sess_a", 5, 99, 1_000_000)
  assert.deepStrictEqual(
    page.map(({ event, job }) => [job.jobId, event.seq]),
    [
      ...range(6, 20).map((seq) => ["job_a", seq]),
      ...range(1, 5).map((seq) => ["job_b", seq]),
      ...range(21, 25).map((seq) => ["job_a", seq])
    ]
  )
  assert.deepStrictEqual((yield* store.observersOf(["job_a"])).get("job_a"), ["sess_b"])
  assert.strictEqual(yield* store.aliveAt, 3_000)
  assert.strictEqual(yield* store.needed("job_a"), 6)
})

/** Everything that was put in is read as it was; what is owned is still owned. */
export const readsAsLeft = (kept: Kept) =>
  Effect.gen(function* () {
    const store = yield* Store
    yield* readsJobsAndSessions
    yield* readsLogs
    if (kept.inputs) assert.strictEqual(yield* store.input("job_a"), '{"name":"Ada"}')
    if (kept.journals) assert.strictEqual(yield* store.journalValue("job_a", "step", "one"), '"done"')
    if (kept.due)
      assert.deepStrictEqual(
        (yield* store.due({ by: 9_000, limit: 9 })).map(({ jobId }) => jobId),
        ["job_w"]
      )
    if (kept.hooks) assert.strictEqual((yield* store.hookEvents({ jobId: "", seq: 0 }, 9)).length, 1)
    const wishes = yield* store.wishes(undefined, 9)
    if (!kept.wishes) assert.deepStrictEqual(wishes, [])
    else
      assert.deepStrictEqual(wishes, [
        {
          ...{ id: "wish_a", jobId: "job_a", kind: "cancel", body: "{}", from: "b", at: 2_000 },
          job: { node: "", ended: false }
        }
      ])
    if (kept.epochs) {
      const batch = (epoch: number) => ({
        ops: [Op.Alive({ at: 3_000 })],
        owners: [{ job: "job_w", epoch }]
      })
      assert.strictEqual((yield* Effect.flip(store.commit(batch(2))))._tag, "Fenced")
      yield* store.commit(batch(3))
    }
    if (kept.numbersOfGone)
      assert.deepStrictEqual(yield* store.numbering("sess_g", "job_g", 31), { last: 32, through: 2, next: 2 })
    // What was committed before there were cursors was numbered for all observers.
    assert.deepInclude((yield* store.observed("sess_b"))[0], {
      jobId: "job_a",
      cursor: kept.cursors ? 23 : 25,
      last: 25
    })
    assert.strictEqual(yield* store.hasLost("sess_a"), kept.cursors)
    yield* store.commit({
      ops: [Op.Alive({ at: 3_000 })],
      owners: [
        { job: "job_a", epoch: 1 },
        { session: "sess_b", epoch: 1 }
      ]
    })
    yield* vacuumAll
  })

/** It can be written to, and what is dropped goes. */
export const goesOn = Effect.gen(function* () {
  const store = yield* Store
  yield* store.commit({ ops: [append("job_a", 26, 30), Op.DropJob({ jobId: "job_b" })], owners: [] })
  assert.deepStrictEqual(seqs(yield* store.events("job_a", 24, 99)), range(24, 30))
  yield* vacuumAll
  assert.deepStrictEqual(yield* store.events("job_b", 1, 9), [])
})
