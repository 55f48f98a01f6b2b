/** What a token that ends takes with it, and what not: subscriptions to jobs of others, and jobs of its own, protocol 4.1. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { cluster } from "../../support/Nodes.js"
import { open } from "../../support/Wire.js"
import {
  as,
  auth,
  away,
  from,
  isUnobserve,
  ofJob,
  pass,
  read,
  renewal,
  running,
  submit,
  subscribe,
  ticking
} from "./expiring.js"

describe("a token that ends: subscriptions to jobs of others", () => {
  for (const failing of ["read", "commit"] as const)
    it.scoped(`end also while the store fails a ${failing}, and that is stored when it works`, () =>
      running((disk) =>
        Effect.gen(function* () {
          const other = yield* open(as("bob"))
          const foreign = [yield* submit(other, 50), yield* submit(other, 50)]
          const session = yield* open(as("short"))
          const own = yield* submit(session, 20)
          for (const jobId of foreign) yield* subscribe(session, jobId)
          let tries = 0
          const fail = Effect.suspend(() => (++tries < 6 ? away : Effect.void))
          if (failing === "read") disk.onRead = (name) => (name === "waitingObserved" ? fail : undefined)
          else disk.onCommit = (batch) => (isUnobserve(batch) ? fail : Effect.void)
          yield* pass(65)
          yield* read(session)
          const before = foreign.map((jobId) => ofJob(session, jobId).length)
          assert.isAbove(before[0] ?? 0, 0)
          yield* pass(60)
          yield* read(session)
          assert.deepStrictEqual(
            foreign.map((jobId) => ofJob(session, jobId).length),
            before
          )
          assert.isAtLeast(tries, 6)
          const observed = yield* disk.store.observed(session.sessionId)
          assert.deepStrictEqual(
            observed.map(({ jobId }) => jobId),
            [own]
          )
          yield* pass(100)
          assert.strictEqual((yield* session.expect("job.result")).job_id, own)
          const seqs = session.seen.flatMap(({ event_seq: seq }) => (seq === undefined ? [] : [seq]))
          assert.deepStrictEqual(
            seqs,
            seqs.map((_, i) => i + 1)
          )
        })
      )
    )

  it.scoped("are refused that were asked for before and would only be there after it", () =>
    running((disk) =>
      Effect.gen(function* () {
        const other = yield* open(as("bob"))
        const foreign = yield* submit(other, 50)
        const session = yield* open(as("short"))
        yield* submit(session, 20)
        yield* pass(55)
        const held = yield* Effect.makeLatch(false)
        yield* Effect.addFinalizer(() => held.open)
        let isAsked = false
        disk.onRead = (name) => {
          if (name !== "numbering") return undefined
          isAsked = true
          return held.await
        }
        yield* session.request("job.subscribe", { job_id: foreign, history: true, from_event_seq: 0 })
        yield* pass(20)
        assert.isTrue(isAsked)
        disk.onRead = () => undefined
        yield* held.open
        const { payload } = yield* session.expect("session.error")
        assert.strictEqual(payload.code, "UNAUTHENTICATED")
        yield* pass(30)
        yield* read(session)
        assert.deepStrictEqual(ofJob(session, foreign), [])
        const observed = yield* disk.store.observed(session.sessionId)
        assert.notInclude(
          observed.map(({ jobId }) => jobId),
          foreign
        )
      })
    )
  )

  it.scoped("keep nobody from being closed who can renew, while the store hangs", () =>
    running((disk) =>
      Effect.gen(function* () {
        const session = yield* open(as("short"), renewal)
        disk.onRead = (name) => (name === "waitingObserved" ? Effect.never : undefined)
        yield* pass(65)
        assert.strictEqual((yield* session.expect("session.error")).payload.code, "UNAUTHENTICATED")
        assert.strictEqual((yield* session.closed).code, 4003)
      })
    )
  )

  it.scoped("do not end the ones that the session has after it was renewed", () =>
    running((disk) =>
      Effect.gen(function* () {
        const other = yield* open(as("bob"))
        const foreign = yield* submit(other, 50)
        const session = yield* open(as("short"), renewal)
        yield* subscribe(session, foreign)
        disk.onCommit = (batch) => (isUnobserve(batch) ? away : Effect.void)
        yield* pass(65)
        assert.strictEqual((yield* session.closed).code, 4003)
        const again = yield* open({ ...as("long"), ...from(session) }, renewal)
        yield* pass(20)
        const refused = yield* subscribe(again, foreign)
        assert.deepStrictEqual([refused.type, refused.payload.code], ["session.error", "INTERNAL_ERROR"])
        const before = ofJob(again, foreign).length
        disk.onCommit = () => Effect.void
        assert.strictEqual((yield* subscribe(again, foreign)).type, "job.subscribed")
        yield* pass(60)
        yield* read(again)
        assert.isAtLeast(ofJob(again, foreign).length, before + 5)
      })
    )
  )
})

describe("a token that ends: jobs that the session owns and that still run", () => {
  it.scoped("are those that it has taken over, too", () =>
    running(
      () =>
        Effect.gen(function* () {
          const keyed = { idempotency_key: "k" }
          const gone = yield* open(as("long"))
          const jobId = yield* submit(gone, 20, keyed)
          yield* gone.connection.close(1000, "")
          yield* pass(45)
          const session = yield* open(as("short"))
          assert.strictEqual(yield* submit(session, 20, keyed), jobId)
          yield* session.request("job.submit", { agent: "ticking", input: 1 })
          const full = yield* session.expect("job.error")
          assert.strictEqual(full.payload.details.limit, "jobs_per_session")
          yield* pass(60)
          yield* read(session)
          yield* pass(120)
          assert.strictEqual((yield* session.expect("job.result")).job_id, jobId)
          yield* session.expect("session.error")
          assert.strictEqual((yield* session.closed).code, 4003)
          const next = yield* open(as("long"))
          yield* submit(next, 1)
        }),
      { resumeWindow: "20 seconds", maxJobsPerSession: 1 }
    )
  )

  it.scoped("are those on another node, too", () =>
    Effect.gen(function* () {
      const { start } = yield* cluster
      const a = yield* start("a", [ticking], { auth })
      const b = yield* start("b", [ticking], { auth })
      const first = yield* a.run(open(as("long")))
      const jobId = yield* submit(first, 8)
      const session = yield* b.run(open({ ...as("short"), ...from(first) }))
      yield* pass(70)
      yield* read(session)
      yield* pass(20)
      assert.strictEqual((yield* session.expect("job.result")).job_id, jobId)
      yield* session.expect("session.error")
      assert.strictEqual((yield* session.closed).code, 4003)
    })
  )

  it.scoped("are those on another node that it has taken over, too", () =>
    Effect.gen(function* () {
      const { start } = yield* cluster
      const given = { auth, options: { resumeWindow: "20 seconds" } } as const
      const a = yield* start("a", [ticking], given)
      const b = yield* start("b", [ticking], given)
      const keyed = { idempotency_key: "k" }
      const gone = yield* a.run(open(as("long")))
      const jobId = yield* submit(gone, 9, keyed)
      yield* gone.connection.close(1000, "")
      yield* pass(45)
      const session = yield* b.run(open(as("short")))
      assert.strictEqual(yield* submit(session, 9, keyed), jobId)
      yield* pass(30)
      yield* read(session)
      yield* pass(20)
      assert.strictEqual((yield* session.expect("job.result")).job_id, jobId)
      yield* session.expect("session.error")
      assert.strictEqual((yield* session.closed).code, 4003)
    })
  )
})
