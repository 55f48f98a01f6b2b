import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { InternalError } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
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

const keyed = (input: unknown = {}, agent = "echo") => ({ agent, input, idempotency_key: "k" })

/** Sends a submit as a frame with this id. */
const frame = (session: Session, id: string, payload: unknown, more: Record<string, unknown> = {}) =>
  session.sendText(
    JSON.stringify({ arcp: "1.1", id, type: "job.submit", session_id: session.sessionId, payload, ...more })
  )

const adopting = (jobId: unknown) => ({ extensions: { "x-vendor.effect-arcp.adopt": jobId } })

/** A forger: it fails as if the runtime had restarted. */
const forger = Agent.handle(Agent.make("forger", { version: "1.0.0" }), () =>
  Effect.fail(new InternalError({ message: "no", details: { reason: "runtime_restart" } }))
)

describe("the same frame", () => {
  it.scoped(
    "with a key whose job is done: the accept and the terminal message once, then the accept only",
    () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        yield* Effect.gen(function* () {
          const session = yield* open()
          const { job_id } = yield* submit(session, "echo", 1, { idempotency_key: "k" })
          const first = yield* session.expect("job.result")
          const before = session.seen.length
          for (let i = 0; i < 3; i++) yield* frame(session, "X", keyed(1))
          for (let i = 0; i < 3; i++) yield* session.expect("job.accepted")
          yield* pong(session)
          const got = session.seen.slice(before).filter((each) => each.job_id === job_id)
          assert.deepStrictEqual(
            got.map(({ type }) => type),
            ["job.accepted", "job.result", "job.accepted", "job.accepted"]
          )
          for (const { type, payload } of got)
            if (type === "job.accepted") assert.strictEqual(payload.request_id, "X")
          const again = got[1]?.event_seq as number
          assert.strictEqual(again, (first.event_seq as number) + 1)

          // A new frame is a new request.
          yield* frame(session, "Y", keyed(1))
          const third = yield* session.expect("job.result")
          assert.strictEqual(third.event_seq, again + 1)

          // The resumed session has sent both frames already.
          yield* session.connection.close(1000, "")
          const resumed = yield* open(resume(session, third.event_seq as number))
          yield* frame(resumed, "X", keyed(1))
          yield* frame(resumed, "Y", keyed(1))
          for (let i = 0; i < 2; i++) yield* resumed.expect("job.accepted")
          yield* pong(resumed)
          assert.deepStrictEqual(typesOf(resumed, job_id), ["job.accepted", "job.accepted"])
          return resumed
        }).pipe(
          Effect.provide(serve(store, agents)),
          Effect.flatMap((before) =>
            Effect.gen(function* () {
              const { job_id } = before.seen.find(({ type }) => type === "job.accepted") ?? {}
              const resumed = yield* open(resume(before, 4))
              yield* frame(resumed, "X", keyed(1))
              yield* resumed.expect("job.accepted")
              yield* pong(resumed)
              assert.deepStrictEqual(typesOf(resumed, job_id), ["job.accepted"])
            }).pipe(Effect.provide(serve(restarted(store), agents)))
          )
        )
      })
  )
})

/** Starts a keyed job, kills the process, and gives what the next one finds. */
const killed = (store: TestStore, agent = "forever") =>
  Effect.gen(function* () {
    const session = yield* open()
    const accepted = yield* submit(session, agent, {}, { idempotency_key: "k" })
    yield* session.expect("job.event")
    return { session, jobId: accepted.job_id, next: restarted(store) }
  }).pipe(Effect.provide(serve(store, agents)))

describe("a key", () => {
  it.scoped(
    "is free when the runtime restarted under its job, for any parameters; racing submits start one run",
    () =>
      Effect.gen(function* () {
        const { jobId, next } = yield* killed(yield* makeStore)
        yield* Effect.gen(function* () {
          const [a, b] = yield* Effect.all([open(), open()])
          yield* Effect.all(
            [frame(a, "1", keyed({ other: 1 }, "forever")), frame(b, "1", keyed({ other: 1 }, "forever"))],
            {
              concurrency: "unbounded"
            }
          )
          const [x, y] = yield* Effect.all([a.expect("job.accepted"), b.expect("job.accepted")])
          assert.strictEqual(x.job_id, y.job_id)
          assert.notStrictEqual(x.job_id, jobId)
        }).pipe(Effect.provide(serve(next, agents)))
      })
  )

  it.scoped("is free when the runtime shut down before its job ended", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const first = yield* Effect.gen(function* () {
        const session = yield* open()
        return yield* submit(session, "forever", {}, { idempotency_key: "k" })
      }).pipe(Effect.provide(serve(store, agents)))
      yield* Effect.gen(function* () {
        const second = yield* submit(yield* open(), "forever", {}, { idempotency_key: "k" })
        assert.notStrictEqual(second.job_id, first.job_id)
      }).pipe(Effect.provide(serve(restarted(store), agents)))
    })
  )

  it.scoped("is free when the store failed the job, and not when an agent says so", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const slow = Agent.handle(Agent.make("slow", { version: "1.0.0" }), () =>
        Effect.zipRight(
          Effect.sleep("1 second"),
          Effect.flatMap(Job, (job) => job.log("info", "x"))
        )
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const first = yield* submit(session, "slow", {}, { idempotency_key: "s" })
        yield* session.expect("job.event")
        store.failing = true
        yield* TestClock.adjust("1 second")
        yield* session.expect("session.error")
        // Longer than what a job has emitted is tried again.
        yield* TestClock.adjust("10 seconds")
        store.failing = false
        yield* TestClock.adjust("10 seconds")
        const end = yield* session.expect("job.error", ({ job_id }) => job_id === first.job_id)
        assert.strictEqual(end.payload.details.reason, "storage")
        const second = yield* submit(session, "slow", {}, { idempotency_key: "s" })
        assert.notStrictEqual(second.job_id, first.job_id)

        const forged = yield* submit(session, "forger", {}, { idempotency_key: "f" })
        yield* session.expect("job.error")
        const again = yield* submit(session, "forger", {}, { idempotency_key: "f" })
        assert.strictEqual(again.job_id, forged.job_id)
      }).pipe(Effect.provide(serve(store, [...agents, slow, forger], { heartbeatInterval: "1 hour" })))
    })
  )

  it.scoped("expires with its window", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const session = yield* open()
        const first = yield* submit(session, "echo", 1, { idempotency_key: "k" })
        yield* TestClock.adjust("59 minutes")
        const second = yield* submit(session, "echo", 1, { idempotency_key: "k" })
        assert.strictEqual(second.job_id, first.job_id)
        yield* TestClock.adjust("2 minutes")
        const third = yield* submit(session, "echo", 1, { idempotency_key: "k" })
        assert.notStrictEqual(third.job_id, first.job_id)
      }).pipe(
        Effect.provide(
          serve(store, agents, {
            idempotencyWindow: "1 hour",
            heartbeatInterval: "1 day",
            resumeWindow: "2 days"
          })
        )
      )
    })
  )
})

describe("adoption", () => {
  it.scoped("gives a job whose session is gone to the session that asks, and never starts a run", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const first = yield* open()
        yield* frame(first, "same-id", { agent: "forever", input: {} })
        const { job_id } = yield* first.expect("job.accepted")
        const watching = yield* open()
        yield* frame(watching, "adopt-1", { agent: "forever", input: {} }, adopting(job_id))
        assert.strictEqual((yield* watching.expect("job.accepted")).job_id, job_id)
        yield* watching.request("job.cancel", {}, { job_id })
        assert.strictEqual((yield* watching.expect("session.error")).payload.code, "PERMISSION_DENIED")
        yield* first.connection.close(1000, "")
        yield* watching.connection.close(1000, "")
        yield* TestClock.adjust("1 hour")

        const second = yield* open()
        yield* frame(second, "adopt-2", { agent: "forever", input: {} }, adopting(job_id))
        assert.strictEqual((yield* second.expect("job.accepted")).job_id, job_id)
        yield* pong(second)
        // A frame whose id the old owner had used for this job is a frame of its own.
        yield* frame(second, "same-id", { agent: "echo", input: 1 })
        const other = yield* second.expect("job.accepted")
        assert.notStrictEqual(other.job_id, job_id)
        yield* second.request("job.cancel", {}, { job_id })
        assert.strictEqual((yield* second.expect("job.error")).payload.code, "CANCELLED")

        // Done: the accept and the end again, for an adoption starts nothing.
        yield* frame(second, "adopt-3", { agent: "forever", input: {} }, adopting(job_id))
        yield* second.expect("job.accepted", (each) => each.job_id === job_id)
        assert.strictEqual((yield* second.expect("job.error")).job_id, job_id)
      }).pipe(Effect.provide(serve(store, agents, { heartbeatInterval: "1 day", resumeWindow: "1 minute" })))
    })
  )

  it.scoped("with the key of the job and other parameters is DUPLICATE_KEY", () =>
    Effect.gen(function* () {
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "echo", 1, { idempotency_key: "k" })
        yield* session.expect("job.result")
        const again = { agent: "echo", idempotency_key: "k" }
        yield* frame(session, "other", { ...again, input: 2 }, adopting(job_id))
        const refused = yield* session.next(({ type }) => type === "job.error" || type === "job.accepted")
        assert.strictEqual(refused.payload.code, "DUPLICATE_KEY")
        assert.strictEqual(refused.payload.details.existing_job_id, job_id)
        yield* frame(session, "same", { ...again, input: 1 }, adopting(job_id))
        assert.strictEqual((yield* session.expect("job.accepted")).job_id, job_id)
      }).pipe(Effect.provide(serve(yield* makeStore, agents)))
    })
  )

  it.scoped("of nothing, of another principal's job and of a refused submit is JOB_NOT_FOUND", () =>
    Effect.gen(function* () {
      yield* Effect.gen(function* () {
        const alice = yield* open()
        const bob = yield* open(as("bob"))
        const { job_id } = yield* submit(alice, "echo", 1)
        yield* frame(alice, "no", { agent: "nobody", input: 1 })
        const refused = yield* alice.expect("job.error")
        for (const [session, id] of [
          [bob, job_id],
          [alice, refused.job_id],
          [alice, "job_01HZZZZZZZZZZZZZZZZZZZZZZZ"]
        ] as const) {
          yield* frame(session, `adopt ${id}`, { agent: "echo", input: 1 }, adopting(id))
          assert.strictEqual((yield* session.expect("job.error")).payload.code, "JOB_NOT_FOUND")
        }
        yield* frame(alice, "adopt 7", { agent: "echo", input: 1 }, adopting(7))
        assert.strictEqual((yield* alice.expect("job.error")).payload.code, "INVALID_REQUEST")
      }).pipe(Effect.provide(serve(yield* makeStore, agents)))
    })
  )
})

describe("a submit that the store does not take", () => {
  it.scoped(
    "is answered, and gives back what it had reserved: its key, its id, its place under the caps",
    () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        yield* Effect.gen(function* () {
          const session = yield* open()
          store.failing = true
          yield* frame(session, "X", keyed({}, "forever"))
          const error = yield* session.expect("session.error")
          assert.strictEqual(error.payload.details.request_id, "X")
          assert.strictEqual(error.payload.code, "INTERNAL_ERROR")
          store.failing = false
          // The same frame again is not a repetition: nothing was stored.
          yield* frame(session, "X", keyed({}, "forever"))
          const { job_id } = yield* session.expect("job.accepted")
          yield* frame(session, "Y", { agent: "echo", input: 1 })
          const refusal = yield* session.expect("job.error")
          assert.strictEqual(refusal.payload.details.limit, "jobs_per_session")
          yield* session.request("job.cancel", {}, { job_id })
          yield* session.expect("job.error", (each) => each.job_id === job_id)
          yield* submit(session, "echo", 1)
        }).pipe(Effect.provide(serve(store, agents, { maxJobsPerSession: 1, maxJobsPerPrincipal: 1 })))
      })
  )
})

describe("inputs", () => {
  const large = "x".repeat(1024 * 1024)
  const stored = (options: { readonly storeInputs?: boolean }) =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "echo", { a: [1, "ü"] })
        yield* session.expect("job.result")
        yield* submit(session, "echo", large)
        yield* session.expect("job.result")
      }).pipe(Effect.provide(serve(store, agents, { maxFrameBytes: 4 * 1024 * 1024, ...options })))
      const jobs = yield* store.store.jobs({ principals: "everyone", limit: 10 })
      return {
        jobs,
        inputs: yield* Effect.forEach(jobs, ({ jobId }) => store.store.input(jobId)),
        opening: store.batches.filter((batch) => batch.some(({ _tag }) => _tag === "PutInput"))
      }
    })

  it.scoped("are stored in the commit that opens the job, up to 1 MiB, else their digest", () =>
    Effect.gen(function* () {
      const { inputs, jobs, opening } = yield* stored({})
      assert.deepStrictEqual(inputs, ['{"a":[1,"ü"]}', undefined])
      assert.isUndefined(jobs[0]?.inputDigest)
      assert.match(jobs[1]?.inputDigest ?? "", /^[0-9a-f]{64}$/)
      assert.isTrue(opening[0]?.some((op) => op._tag === "PutJob" && op.job.jobId === jobs[0]?.jobId))
    })
  )

  it.scoped("are not stored when the option says so", () =>
    Effect.gen(function* () {
      const { inputs, jobs } = yield* stored({ storeInputs: false })
      assert.deepStrictEqual(inputs, [undefined, undefined])
      assert.isUndefined(jobs[1]?.inputDigest)
    })
  )
})
