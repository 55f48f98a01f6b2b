/** What becomes of jobs whose session is lost: in the same process, and in the next one, of which that has another session. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { keptJobs, type StateStore } from "../../../src/layers/client/ClientState.js"
import { open as openState } from "../../../src/layers/client/savedState.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import { collect, scripted } from "./scripted.js"

const { event, message, result, sessionError, subscribed, welcome } = ScriptedRuntime

const settle = Effect.repeatN(Effect.yieldNow(), 100)
const features = ["subscribe", Vendor.requests]

const part = (seq: number, chunk_seq: number, more = true) =>
  event(seq, { result_id: "r", chunk_seq, data: `${chunk_seq}`, encoding: "utf8", more }, "result_chunk")

/** A store, as the next process finds it at any moment. */
const makeStore = () => {
  const values = new Map<string, string>()
  const store: StateStore = {
    get: (key) => Effect.sync(() => Option.fromNullable(values.get(key))),
    set: (key, value) => Effect.sync(() => void values.set(key, value))
  }
  return Effect.map(openState(store, "arcp"), ({ save, saved }) => ({ saved, jobs: keptJobs(saved), save }))
}

/** A client whose session may be lost, and the processes after it. */
const processes = Effect.gen(function* () {
  const runtime = yield* scripted
  const state = makeStore()
  return {
    ...runtime,
    state,
    /** The first process. */
    first: runtime.open(welcome(features), { state }),
    /** The next one, which goes on with this session. */
    next: (session_id: string) =>
      Effect.gen(function* () {
        const connecting = yield* runtime.connecting({ state })
        const { hello, server } = yield* runtime.greeted
        assert.deepInclude(hello.payload["resume"], { session_id })
        yield* server.send(welcome(features, { session_id }))
        return { client: yield* Fiber.join(connecting), server }
      }),
    /** The next one, whose session `lost` is gone: it has `session_id` in its place. */
    nextWithout: (lost: string, session_id: string) =>
      Effect.gen(function* () {
        const connecting = yield* runtime.connecting({ state })
        const refused = yield* runtime.greeted
        assert.deepInclude(refused.hello.payload["resume"], { session_id: lost })
        yield* refused.server.send(sessionError("RESUME_WINDOW_EXPIRED"))
        const { server } = yield* runtime.greeted
        yield* server.send(welcome(features, { session_id }))
        return { client: yield* Fiber.join(connecting), server }
      })
  }
})

/** Answers the subscription that comes next. */
const follow = (server: ScriptedRuntime.Scripted, from = 0) =>
  Effect.tap(server.expect("job.subscribe"), ({ id }) => server.send(subscribed(id, from)))

/** What has been said up to now. */
const upToPong = (server: ScriptedRuntime.Scripted) =>
  Effect.gen(function* () {
    yield* server.send(message("session.ping", { nonce: "last", sent_at: "" }))
    const said: Array<ScriptedRuntime.Received> = []
    while (said[said.length - 1]?.type !== "session.pong") said.push(...(yield* server.received))
    return said.slice(0, -1)
  })

describe("a job that has gone on in another session", () => {
  it.scoped(
    "before its first event is found by the next process, which says that something may be missing",
    () =>
      Effect.gen(function* () {
        const { first, next, replaced, submitted } = yield* processes
        const { client, server } = yield* first
        yield* submitted(client, server)
        const other = yield* replaced(server, features)
        yield* follow(other)
        yield* other.accept()
        yield* settle
        const again = yield* next("sess_2")
        const job = yield* again.client.attach("job_1")
        yield* again.server.send(event(1), result(2))
        const events = yield* collect(job.events)
        assert.deepStrictEqual(
          events.map(({ kind }) => kind),
          ["gap", "log"]
        )
        assert.deepInclude(events[0]?.body, { reason: "session_lost", replayed: false })
        assert.strictEqual(yield* job.result, 7)
      })
  )

  it.scoped("has no gap in the next process when its reader was told of it", () =>
    Effect.gen(function* () {
      const { first, next, replaced, submitted } = yield* processes
      const { client, server } = yield* first
      const job = yield* submitted(client, server)
      const other = yield* replaced(server, features)
      const reading = yield* Effect.fork(collect(job.events))
      yield* follow(other)
      yield* other.accept()
      yield* other.send(event(1))
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      const again = yield* next("sess_2")
      const { events } = yield* again.client.attach("job_1")
      yield* again.server.send(event(2), result(3))
      assert.deepStrictEqual(
        (yield* collect(events)).map(({ eventSeq, kind }) => [kind, eventSeq]),
        [["log", 2]]
      )
      yield* Fiber.interrupt(reading)
    })
  )

  it.scoped("with a result that began before that fails in the next process, as the session did", () =>
    Effect.gen(function* () {
      const { first, next, replaced, submitted } = yield* processes
      const { client, server } = yield* first
      yield* submitted(client, server)
      yield* server.send(event(1), event(2), event(3), part(4, 0))
      yield* settle
      const other = yield* replaced(server, features)
      yield* follow(other)
      yield* other.accept()
      yield* other.send(part(1, 1))
      yield* settle
      const again = yield* next("sess_2")
      const job = yield* again.client.attach("job_1")
      yield* again.server.send(part(1, 1), part(2, 2, false), result(3, { result_id: "r", result_size: 3 }))
      assert.strictEqual((yield* Effect.flip(job.result))._tag, "ResumeWindowExpired")
    })
  )

  it.scoped(
    "is followed live by a process whose session is another one again: its numbers are not known",
    () =>
      Effect.gen(function* () {
        const { first, nextWithout, replaced, submitted } = yield* processes
        const { client, server } = yield* first
        const job = yield* submitted(client, server)
        yield* server.send(event(1), event(2), event(3))
        yield* settle
        const other = yield* replaced(server, features)
        yield* follow(other)
        yield* other.accept()
        yield* other.send(event(1))
        const reading = yield* Effect.fork(collect(job.events))
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* settle
        const again = yield* nextWithout("sess_2", "sess_3")
        const { payload } = yield* follow(again.server)
        assert.deepStrictEqual(payload, { job_id: "job_1", history: false })
        yield* again.server.accept()
        yield* again.server.send(result(1))
        const { events } = yield* again.client.attach("job_1")
        const [gap, ...others] = yield* collect(events)
        assert.deepInclude(gap?.body, { reason: "session_lost", replayed: false })
        assert.deepStrictEqual(others, [])
        yield* Fiber.interrupt(reading)
      })
  )
})

describe("a job that had ended, unread, when its session was lost", () => {
  it.scoped("is looked for by the next process, in the numbers of that session", () =>
    Effect.gen(function* () {
      const { first, next, replaced, submitted } = yield* processes
      const { client, server } = yield* first
      const job = yield* submitted(client, server)
      yield* server.send(event(1), event(2), event(3), result(4))
      yield* settle
      const other = yield* replaced(server, features)
      yield* settle
      const again = yield* next("sess_2")
      const { payload } = yield* follow(again.server)
      assert.deepStrictEqual(payload, { job_id: "job_1", history: true, from_event_seq: 0 })
      yield* again.server.send(event(1), event(2), event(3), result(4))
      const restored = yield* again.client.attach("job_1")
      assert.strictEqual(yield* restored.result, 7)
      assert.lengthOf(yield* collect(restored.events), 4)
      // Here all of it is there.
      assert.lengthOf(yield* collect(job.events), 3)
      const another = yield* submitted(client, other, { idempotencyKey: "another" })
      assert.strictEqual(another.jobId, "job_1")
    })
  )
})

describe("looking for the jobs of a lost session", () => {
  it.scoped("goes on when it is refused for now", () =>
    Effect.gen(function* () {
      const { first, replaced, submitted } = yield* processes
      const { client, server } = yield* first
      const job = yield* submitted(client, server)
      yield* server.send(event(1))
      const other = yield* replaced(server, features)
      const refused = yield* other.expect("job.subscribe")
      yield* other.send(sessionError("INTERNAL_ERROR", true, refused.id))
      yield* settle
      // Not answered at all.
      yield* TestClock.adjust("5 seconds")
      yield* other.expect("job.subscribe")
      yield* TestClock.adjust("30 seconds")
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual((yield* follow(other)).payload, refused.payload)
      yield* other.send(sessionError("INTERNAL_ERROR", true, (yield* other.expect("job.submit")).id))
      yield* settle
      yield* TestClock.adjust("5 seconds")
      yield* other.accept()
      yield* other.send(event(1), result(2))
      assert.deepStrictEqual(
        (yield* collect(job.events)).map(({ kind }) => kind),
        ["log", "gap", "log"]
      )
      assert.strictEqual(yield* job.result, 7)
    })
  )

  it.scoped("ends with the handles of the job, and with the session", () =>
    Effect.gen(function* () {
      const { first, greeted, replaced } = yield* processes
      const { client, server } = yield* first
      const scope = yield* Scope.make()
      for (const [jobId, owner] of [
        ["job_1", scope],
        ["job_2", yield* Effect.scope]
      ] as const) {
        const submitting = yield* Effect.fork(Scope.extend(client.submit("x", 1), owner))
        yield* server.accept(jobId)
        yield* Fiber.join(submitting)
      }
      const other = yield* replaced(server, features)
      for (const _ of [1, 2])
        yield* other.send(sessionError("INTERNAL_ERROR", true, (yield* other.expect("job.subscribe")).id))
      yield* settle
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("5 seconds")
      const again = yield* other.expect("job.subscribe")
      assert.strictEqual(again.job_id, "job_2")
      yield* other.send(sessionError("INTERNAL_ERROR", true, again.id))
      yield* settle
      yield* other.drop
      yield* Effect.flatMap(greeted, ({ server }) => server.send(sessionError("RESUME_WINDOW_EXPIRED")))
      const { server: third } = yield* greeted
      yield* third.send(welcome(features, { session_id: "sess_3" }))
      assert.strictEqual((yield* follow(third)).job_id, "job_2")
      yield* third.accept("job_2")
      yield* TestClock.adjust("5 seconds")
      yield* settle
      // Nothing of the session before is asked for in this one.
      assert.deepStrictEqual(yield* upToPong(third), [])
    })
  )

  /** The next process, whose session is gone, and which submits with the key of its job at once. */
  const submittedAgain = Effect.gen(function* () {
    const { first, next, nextWithout, submitted } = yield* processes
    const { client, server } = yield* first
    yield* submitted(client, server, { idempotencyKey: "k" })
    const again = yield* nextWithout("sess_1", "sess_2")
    const submitting = yield* Effect.fork(again.client.submit("x", 1, { idempotencyKey: "k" }))
    yield* settle
    const said = yield* upToPong(again.server)
    assert.deepStrictEqual(
      said.map(({ type }) => type),
      ["job.subscribe"]
    )
    return { ...again, id: said[0]?.id ?? "", next, submitting }
  })

  it.scoped("comes before a submit with the key of one of them, which makes it this session's", () =>
    Effect.gen(function* () {
      const { id, server, submitting } = yield* submittedAgain
      yield* server.send(subscribed(id, 0), event(1))
      yield* server.accept()
      yield* server.accept()
      yield* server.send(result(2))
      const job = yield* Fiber.join(submitting)
      assert.strictEqual(yield* job.result, 7)
      assert.deepStrictEqual(
        (yield* collect(job.events)).map(({ kind }) => kind),
        ["gap", "log"]
      )
    })
  )

  it.scoped("fails such a submit when it is refused for now, and goes on", () =>
    Effect.gen(function* () {
      const { client, id, server, submitting } = yield* submittedAgain
      yield* server.send(sessionError("INTERNAL_ERROR", true, id))
      assert.deepInclude(yield* Effect.flip(Fiber.join(submitting)), {
        _tag: "InternalError",
        retryable: true
      })
      const again = yield* Effect.fork(client.submit("x", 1, { idempotencyKey: "k" }))
      yield* settle
      yield* TestClock.adjust("5 seconds")
      yield* follow(server)
      yield* server.accept()
      yield* server.accept()
      yield* server.send(result(1))
      assert.strictEqual(yield* Effect.flatMap(Fiber.join(again), (job) => job.result), 7)
    })
  )

  it.scoped(
    "holds no submit up when it is refused for good: that gives a handle of its own, and the job is its",
    () =>
      Effect.gen(function* () {
        const { id, next, server, submitting } = yield* submittedAgain
        yield* server.send(sessionError("PERMISSION_DENIED", false, id))
        yield* server.accept()
        yield* server.send(event(1))
        const job = yield* Fiber.join(submitting)
        yield* settle
        // What the next process finds of it is in this session, and not looked for in the numbers of the one before.
        const again = yield* next("sess_2")
        yield* server.send(result(2))
        assert.strictEqual(yield* job.result, 7)
        assert.lengthOf(yield* collect(job.events), 1)
        assert.deepStrictEqual(yield* upToPong(again.server), [])
        assert.lengthOf(yield* again.client.restored, 1)
      })
  )
})
