import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as Policy from "../../../src/layers/auth/Policy.js"
import { schedule } from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import { open } from "../../support/Wire.js"
import {
  agents,
  as,
  makeStore,
  pong,
  restarted,
  resume,
  type Session,
  serve,
  submit,
  type TestStore,
  typesOf
} from "./support.js"

const cancel = (session: Session, job_id: string | undefined, payload: unknown = {}) =>
  session.request("job.cancel", payload, { job_id })

const code = (session: Session, jobId: string | undefined) =>
  Effect.map(
    session.expect("job.error", (frame) => frame.job_id === jobId),
    (frame) => frame.payload.code
  )

/** An agent that tells the test when it runs and when its handler is interrupted, and then works on in a finalizer. */
const watched = (finalizer: Effect.Effect<unknown, unknown, Job | Lease> = Effect.void) =>
  Effect.gen(function* () {
    const started = yield* Deferred.make<void>()
    const interrupted = yield* Deferred.make<void>()
    const agent = Agent.handle(Agent.make("watched", { version: "1.0.0" }), () =>
      Effect.gen(function* () {
        const context = yield* Effect.context<Job | Lease>()
        yield* Deferred.succeed(started, undefined)
        return yield* Effect.onInterrupt(Effect.never, () =>
          Effect.zipRight(
            Deferred.succeed(interrupted, undefined),
            Effect.ignore(Effect.provide(finalizer, context))
          )
        )
      })
    )
    return { agent, started: Deferred.await(started), interrupted: Deferred.await(interrupted) }
  })

describe("a cancel", () => {
  it.scoped("that comes after another changes nothing, and is told what the job is cancelled for", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const { agent, interrupted, started } = yield* watched(Deferred.await(gate))
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "watched")
        yield* started
        for (const reason of ["first", "second"]) {
          yield* cancel(session, job_id, { reason })
          assert.strictEqual((yield* session.expect("job.cancelled")).payload.reason, "first")
          yield* interrupted
        }
        yield* Deferred.succeed(gate, undefined)
        const { payload } = yield* session.expect("job.error")
        assert.include(payload.message, "first")
        yield* cancel(session, job_id, { reason: "third" })
        assert.strictEqual((yield* session.expect("job.cancelled")).payload.reason, "first")
        // Nor of one that has not begun.
        const later = { extensions: { [schedule]: { delay_sec: 3_600 } } }
        yield* session.request("job.submit", { agent: "watched", input: {} }, later)
        const pending = yield* session.expect("job.accepted")
        for (const reason of ["begone", "again"]) {
          yield* cancel(session, pending.job_id, { reason })
          assert.strictEqual((yield* session.expect("job.cancelled")).payload.reason, "begone")
        }
      }).pipe(Effect.provide(serve(yield* makeStore, [agent])))
    })
  )

  it.scoped(
    "interrupts at once, and is acknowledged when it is stored, however long the store does not take it",
    () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        const { agent, interrupted, started } = yield* watched()
        yield* Effect.gen(function* () {
          const session = yield* open()
          const { job_id } = yield* submit(session, "watched")
          yield* started
          yield* session.expect("job.event")
          store.failing = true
          yield* cancel(session, job_id, { reason: "enough" })
          yield* interrupted
          // Others are answered meanwhile, and a second cancel waits with the first.
          yield* cancel(session, job_id)
          yield* pong(session)
          assert.isFalse(typesOf(session, job_id).includes("job.cancelled"))
          store.failing = false
          yield* TestClock.adjust("10 seconds")
          const first = yield* session.expect("job.cancelled")
          assert.strictEqual(first.payload.reason, "enough")
          yield* session.expect("job.cancelled")
          assert.strictEqual(yield* code(session, job_id), "CANCELLED")
        }).pipe(Effect.provide(serve(store, [agent], { heartbeatInterval: "1 hour" })))
      })
  )

  it.scopedLive(
    "that was acknowledged ends the job in CANCELLED also when the process dies right after it",
    () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        // What it spends while it ends is stored with the job's record, and must not undo the wish.
        const spent = yield* Deferred.make<void>()
        const spend = Effect.flatMap(Lease, (lease) => lease.spend({ amount: "1", currency: "USD" })).pipe(
          Effect.zipRight(Deferred.succeed(spent, undefined)),
          Effect.zipRight(Effect.never)
        )
        const { agent, started } = yield* watched(spend)
        const { before, jobId } = yield* Effect.gen(function* () {
          const before = yield* open()
          const { job_id } = yield* submit(
            before,
            "watched",
            {},
            { lease_request: { "cost.budget": ["USD:5"] } }
          )
          yield* started
          yield* cancel(before, job_id, { reason: "enough" })
          yield* before.expect("job.cancelled")
          yield* Deferred.await(spent)
          store.cut = true
          return { before, jobId: job_id }
        }).pipe(Effect.provide(serve(store, [agent], { cancelGrace: "50 millis" })))
        yield* Effect.gen(function* () {
          const after = yield* open(resume(before, 0))
          const end = yield* after.expect("job.error", ({ job_id }) => job_id === jobId)
          assert.strictEqual(end.payload.code, "CANCELLED")
          assert.strictEqual(end.payload.final_status, "cancelled")
          assert.include(end.payload.message, "enough")
        }).pipe(Effect.provide(serve(restarted(store), [agent])))
      })
  )

  it.scoped("reaches children at once, and they end before their parent", () =>
    Effect.gen(function* () {
      const child = yield* watched()
      const release = yield* Deferred.make<void>()
      const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
        Effect.gen(function* () {
          const job = yield* Job
          yield* job.delegate("watched", {})
          return yield* Effect.onInterrupt(Effect.never, () => Deferred.await(release))
        })
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(
          session,
          "parent",
          {},
          {
            lease_request: { "agent.delegate": ["watched"] }
          }
        )
        yield* child.started
        yield* cancel(session, job_id)
        // The parent's handler has not stopped, and does not before the test lets it.
        yield* child.interrupted
        const first = yield* session.expect("job.error")
        assert.notStrictEqual(first.job_id, job_id)
        assert.strictEqual(first.payload.code, "CANCELLED")
        yield* Deferred.succeed(release, undefined)
        assert.strictEqual(yield* code(session, job_id), "CANCELLED")
      }).pipe(Effect.provide(serve(yield* makeStore, [parent, child.agent])))
    })
  )

  it.scoped("wins over a time-out whose grace still runs", () =>
    Effect.gen(function* () {
      const { agent, interrupted } = yield* watched(Effect.never)
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "watched", {}, { max_runtime_sec: 60 })
        yield* session.expect("job.event")
        yield* TestClock.adjust("61 seconds")
        yield* interrupted
        yield* cancel(session, job_id)
        yield* session.expect("job.cancelled")
        yield* TestClock.adjust("31 seconds")
        assert.strictEqual(yield* code(session, job_id), "CANCELLED")
      }).pipe(Effect.provide(serve(yield* makeStore, [agent], { heartbeatInterval: "1 hour" })))
    })
  )

  it.scoped(
    "that comes when the end is decided is answered when that is stored, and is not stored itself",
    () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        const finish = yield* Deferred.make<void>()
        const agent = Agent.handle(Agent.make("finishing", { version: "1.0.0" }), () =>
          Effect.as(Deferred.await(finish), "done")
        )
        yield* Effect.gen(function* () {
          const session = yield* open()
          const { job_id } = yield* submit(session, "finishing")
          yield* session.expect("job.event")
          store.failing = true
          yield* Deferred.succeed(finish, undefined)
          yield* session.expect("session.error", ({ payload }) => payload.details?.job_id === job_id)
          // The end is tried again after a pause; whatever else is stored meanwhile is so at once.
          yield* TestClock.adjust("30 seconds")
          store.failing = false
          yield* cancel(session, job_id)
          yield* cancel(session, job_id)
          yield* pong(session)
          assert.deepStrictEqual(typesOf(session, job_id), ["job.accepted", "job.event"])
          yield* TestClock.adjust("10 seconds")
          const end = yield* session.expect("job.result")
          assert.strictEqual(end.payload.result, "done")
          yield* session.expect("job.cancelled")
          yield* session.expect("job.cancelled")
          assert.isUndefined((yield* store.store.job(job_id as string))?.cancelRequested)
        }).pipe(Effect.provide(serve(store, [agent], { heartbeatInterval: "1 hour" })))
      })
  )

  it.scoped("of a finished job of one's own is acknowledged and changes nothing", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "echo", 1)
        yield* session.expect("job.result")
        const batches = store.batches.length
        yield* cancel(session, job_id)
        yield* session.expect("job.cancelled")
        yield* pong(session)
        assert.deepStrictEqual(typesOf(session, job_id), [
          "job.accepted",
          "job.event",
          "job.result",
          "job.cancelled"
        ])
        assert.strictEqual(store.batches.length, batches)
      }).pipe(Effect.provide(serve(store, agents)))
    })
  )
})

describe("who may cancel", () => {
  const refusal = (session: Session, job_id: string | undefined) =>
    Effect.gen(function* () {
      yield* cancel(session, job_id)
      return (yield* session.expect("session.error")).payload.code
    })
  const others = (policy: Layer.Layer<Policy.Policy> | undefined, store: TestStore) =>
    serve(
      store,
      agents,
      { resumeWindow: "1 minute", heartbeatInterval: "1 day" },
      policy === undefined ? {} : { policy }
    )

  it.scoped(
    "by default: the owning session; others of the principal only when that is gone and they cover the job",
    () =>
      Effect.gen(function* () {
        yield* Effect.gen(function* () {
          const owner = yield* open()
          const wide = yield* submit(owner, "forever", {}, { lease_request: { "tool.call": ["*"] } })
          const within = yield* submit(
            owner,
            "forever",
            {},
            { lease_request: { "tool.call": ["search.web"] } }
          )
          const other = yield* submit(owner, "talk", "x")
          const sibling = yield* open()
          const bob = yield* open(as("bob"))
          assert.strictEqual(yield* refusal(sibling, wide.job_id), "PERMISSION_DENIED")
          assert.strictEqual(yield* refusal(bob, wide.job_id), "JOB_NOT_FOUND")
          for (const { connection } of [owner, sibling, bob]) yield* connection.close(1000, "")
          yield* TestClock.adjust("5 minutes")

          const narrow = yield* open(as("narrow"))
          assert.strictEqual(yield* refusal(narrow, wide.job_id), "PERMISSION_DENIED")
          assert.strictEqual(yield* refusal(narrow, other.job_id), "PERMISSION_DENIED")
          yield* cancel(narrow, within.job_id)
          yield* narrow.expect("job.cancelled")
          assert.strictEqual(yield* refusal(yield* open(as("bob")), wide.job_id), "JOB_NOT_FOUND")
          const next = yield* open()
          yield* cancel(next, wide.job_id)
          yield* next.expect("job.cancelled")
        }).pipe(Effect.provide(others(undefined, yield* makeStore)))
      })
  )

  it.scoped("an operator: every job; with `principal`: every session of it that covers the job", () =>
    Effect.gen(function* () {
      const policy = Policy.layer({ operators: ["ops"], cancel: "principal" })
      yield* Effect.gen(function* () {
        const owner = yield* open()
        const [a, b, c] = yield* Effect.all(
          [
            submit(owner, "forever", {}, { lease_request: { "tool.call": ["*"] } }),
            submit(owner, "forever"),
            submit(owner, "forever")
          ] as const,
          { concurrency: 1 }
        )
        assert.strictEqual(yield* refusal(yield* open(as("narrow")), a.job_id), "PERMISSION_DENIED")
        assert.strictEqual(yield* refusal(yield* open(as("bob")), a.job_id), "JOB_NOT_FOUND")
        for (const [who, job] of [
          ["ops", a],
          ["alice", b],
          ["narrow", c]
        ] as const) {
          const session = yield* open(as(who))
          yield* cancel(session, job.job_id)
          yield* session.expect("job.cancelled", ({ job_id }) => job_id === job.job_id)
          assert.strictEqual(yield* code(owner, job.job_id), "CANCELLED")
        }
      }).pipe(Effect.provide(others(policy, yield* makeStore)))
    })
  )
})
