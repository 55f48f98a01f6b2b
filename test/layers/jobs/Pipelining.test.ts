/** Jobs whose emits return before their commit, over a store that fails, hangs or is slow. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { open } from "../../support/Wire.js"
import { makeStore, pong, type Session, serve, submit, type TestStore } from "./support.js"

/** What came of a job's messages, in order. */
const said = (session: Session, jobId: string | undefined) =>
  session.seen
    .filter((frame) => frame.job_id === jobId && frame.payload.kind === "log")
    .map(({ payload }) => (payload.body as { message: string }).message)

const upTo = (n: number) => Array.from({ length: n }, (_, i) => String(i + 1))

/** Lets everything happen that can without the clock. */
const quiet = Effect.repeatN(eventLoop.next, 10)

const saying = (from: number, to: number) =>
  Effect.flatMap(Job, (job) =>
    Effect.forEach(upTo(to).slice(from - 1), (n) => job.log("info", n), { discard: true })
  )

/** A job that waits for `go`, does what it does, and has told `seen` of it. */
const makeAgent = (act: (store: TestStore) => Effect.Effect<unknown, never, Job | Lease>) =>
  Effect.gen(function* () {
    const go = yield* Deferred.make<void>()
    const seen = yield* Deferred.make<Exit.Exit<unknown>>()
    const store = yield* makeStore
    const agent = Agent.handle(Agent.make("pipelined", { version: "1.0.0" }), () =>
      Deferred.await(go).pipe(
        Effect.zipRight(act(store)),
        Effect.onExit((exit) => Deferred.succeed(seen, exit)),
        Effect.as("done")
      )
    )
    return { go, seen, store, agent }
  })

const began = (session: Session) =>
  Effect.gen(function* () {
    const { job_id } = yield* submit(session, "pipelined")
    yield* session.expect("job.event", (frame) => frame.job_id === job_id)
    return job_id
  })

const options = { heartbeatInterval: "1 hour", maxUncommittedEvents: 16 } as const

describe("a job that has emitted what is not committed", () => {
  it.scoped("ends after all of it when its handler returns", () =>
    Effect.gen(function* () {
      const { agent, go, seen, store } = yield* makeAgent(() => Effect.orDie(saying(1, 16)))
      yield* Effect.gen(function* () {
        const session = yield* open()
        const jobId = yield* began(session)
        yield* store.gate.close
        yield* Deferred.succeed(go, undefined)
        assert.isTrue(Exit.isSuccess(yield* Deferred.await(seen)))
        yield* pong(session)
        assert.deepStrictEqual(said(session, jobId), [])
        yield* store.gate.open
        const end = yield* session.expect("job.result")
        assert.deepStrictEqual(said(session, jobId), upTo(16))
        assert.strictEqual(end.event_seq, 18)
      }).pipe(Effect.provide(serve(store, [agent], options)))
    })
  )

  it.scoped(
    "is cancelled while its window is full and the store hangs; finalizers emit, and all comes in order",
    () =>
      Effect.gen(function* () {
        const { agent, go, seen, store } = yield* makeAgent(() =>
          Effect.onInterrupt(Effect.orDie(saying(1, 100)), () =>
            Effect.orDie(Effect.flatMap(Job, (job) => job.log("info", "cleanup")))
          )
        )
        yield* Effect.gen(function* () {
          const session = yield* open()
          const jobId = yield* began(session)
          yield* store.gate.close
          yield* Deferred.succeed(go, undefined)
          yield* quiet
          yield* session.request("job.cancel", {}, { job_id: jobId })
          yield* pong(session)
          // The finalizer waits too, for as long as the grace.
          yield* TestClock.adjust("1 minute")
          yield* store.gate.open
          const end = yield* session.expect("job.error")
          assert.strictEqual(end.payload.code, "CANCELLED")
          assert.isTrue(Exit.isFailure(yield* Deferred.await(seen)))
          assert.deepStrictEqual(said(session, jobId), [...upTo(17), "cleanup"])
        }).pipe(Effect.provide(serve(store, [agent], options)))
      })
  )

  it.scoped(
    "is interrupted and ends in INTERNAL_ERROR when the store does not take it, whatever it returns",
    () =>
      Effect.gen(function* () {
        const { agent, go, seen, store } = yield* makeAgent(() =>
          Effect.orDie(saying(1, 5)).pipe(
            Effect.zipRight(Effect.never),
            Effect.onInterrupt(() => Effect.ignore(saying(6, 6)))
          )
        )
        yield* Effect.gen(function* () {
          const session = yield* open()
          const jobId = yield* began(session)
          store.failing = true
          yield* Deferred.succeed(go, undefined)
          yield* quiet
          yield* TestClock.adjust("10 seconds")
          assert.isTrue(Exit.isFailure(yield* Deferred.await(seen)))
          yield* quiet
          store.failing = false
          yield* TestClock.adjust("10 seconds")
          const end = yield* session.expect("job.error")
          assert.strictEqual(end.payload.code, "INTERNAL_ERROR")
          assert.deepStrictEqual(end.payload.details, { reason: "storage" })
          assert.strictEqual(end.event_seq, 2)
          assert.deepStrictEqual(said(session, jobId), [])
        }).pipe(Effect.provide(serve(store, [agent], options)))
      })
  )

  it.scoped("ends so also when its handler has returned long before", () =>
    Effect.gen(function* () {
      const { agent, go, seen, store } = yield* makeAgent(() => Effect.orDie(saying(1, 5)))
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* began(session)
        store.failing = true
        yield* Deferred.succeed(go, undefined)
        assert.isTrue(Exit.isSuccess(yield* Deferred.await(seen)))
        yield* quiet
        yield* TestClock.adjust("20 seconds")
        yield* quiet
        store.failing = false
        yield* TestClock.adjust("20 seconds")
        const end = yield* session.expect("job.error")
        assert.deepStrictEqual(end.payload.details, { reason: "storage" })
        yield* pong(session)
        assert.isFalse(session.seen.some(({ type }) => type === "job.result"))
      }).pipe(Effect.provide(serve(store, [agent], options)))
    })
  )

  it.scoped("ends as it would when the store fails for a moment only", () =>
    Effect.gen(function* () {
      const { agent, go, seen, store } = yield* makeAgent(() => Effect.orDie(saying(1, 40)))
      yield* Effect.gen(function* () {
        const session = yield* open()
        const jobId = yield* began(session)
        store.failing = true
        yield* Deferred.succeed(go, undefined)
        yield* quiet
        yield* TestClock.adjust("1 second")
        store.failing = false
        yield* TestClock.adjust("10 seconds")
        yield* session.expect("job.result")
        assert.isTrue(Exit.isSuccess(yield* Deferred.await(seen)))
        assert.deepStrictEqual(said(session, jobId), upTo(40))
      }).pipe(Effect.provide(serve(store, [agent], options)))
    })
  )

  it.scoped("does not act on the world before that is stored: flush, and whatever asks the lease", () =>
    Effect.gen(function* () {
      const acts: Array<string> = []
      const { agent, go, store } = yield* makeAgent((store) =>
        Effect.gen(function* () {
          const job = yield* Job
          const lease = yield* Lease
          const isStored = (n: string) =>
            store.batches.some((batch) =>
              batch.some(
                (op) => op._tag === "Append" && op.events.some(({ payload }) => payload.includes(`"${n}"`))
              )
            )
          yield* job.log("info", "first")
          acts.push(`emitted ${isStored("first")}`)
          yield* job.flush
          acts.push(`flushed ${isStored("first")}`)
          yield* job.log("info", "second")
          acts.push(`emitted ${isStored("second")}`)
          yield* lease.authorize("tool.call", "search.web")
          acts.push(`authorized ${isStored("second")}`)
          yield* job.log("info", "third")
          yield* job.toolCall({ tool: "own", call_id: "1" })
          acts.push(`called ${isStored("third")}`)
        }).pipe(Effect.orDie)
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "pipelined", {}, { lease_request: { "tool.call": ["*"] } })
        yield* Deferred.succeed(go, undefined)
        yield* session.expect("job.result")
        assert.deepStrictEqual(acts, [
          "emitted false",
          "flushed true",
          "emitted false",
          "authorized true",
          "called true"
        ])
      }).pipe(Effect.provide(serve(store, [agent], options)))
    })
  )

  it.scoped("waits for each of its emits when its contract, or the runtime, says so", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const stored: Array<number> = []
      const countOf = Effect.sync(() => {
        const events = store.batches.flatMap((batch) =>
          batch.flatMap((op) => (op._tag === "Append" ? op.events : []))
        )
        stored.push(events.filter(({ kind }) => kind === "log").length)
      })
      const run = () =>
        Effect.flatMap(Job, (job) => Effect.repeatN(Effect.zipRight(job.log("info", "x"), countOf), 2))
      const own = Agent.handle(Agent.make("own", { version: "1.0.0", awaitEmits: true }), run)
      const other = Agent.handle(Agent.make("other", { version: "1.0.0" }), run)
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "own")
        yield* session.expect("job.result")
        assert.deepStrictEqual(stored, [1, 2, 3])
      }).pipe(Effect.provide(serve(store, [own])))
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "other")
        yield* session.expect("job.result")
        assert.deepStrictEqual(stored, [1, 2, 3, 4, 5, 6])
      }).pipe(Effect.provide(serve(store, [other], { awaitEmits: true })))
    })
  )

  it.scoped("is stored whole when the runtime shuts down", () =>
    Effect.gen(function* () {
      const { agent, go, seen, store } = yield* makeAgent(() =>
        Effect.zipRight(Effect.orDie(saying(1, 16)), Effect.never)
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* began(session)
        yield* Deferred.succeed(go, undefined)
        yield* Effect.yieldNow()
      }).pipe(Effect.provide(serve(store, [agent], options)))
      assert.isTrue(Exit.isFailure(yield* Deferred.await(seen)))
      const [job] = yield* store.store.jobs({ principals: "everyone", limit: 1 })
      const events = yield* store.store.events(job?.jobId ?? "", 1, 100)
      assert.deepStrictEqual(
        events.flatMap(({ kind, payload }) => (kind === "log" ? [JSON.parse(payload).body.message] : [])),
        upTo(events.length - 2)
      )
      assert.strictEqual(events.at(-1)?.type, "job.error")
    })
  )

  it.scoped("has what a daemon of it emits after its end discarded", () =>
    Effect.gen(function* () {
      const late = yield* Deferred.make<Exit.Exit<unknown, unknown>>()
      const ended = yield* Deferred.make<void>()
      const { agent, go, store } = yield* makeAgent(() =>
        Effect.zipRight(
          Effect.orDie(saying(1, 3)),
          Effect.forkDaemon(
            Effect.zipRight(
              Deferred.await(ended),
              Effect.flatMap(Effect.exit(saying(4, 6)), (exit) => Deferred.succeed(late, exit))
            )
          )
        )
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const jobId = yield* began(session)
        yield* Deferred.succeed(go, undefined)
        yield* session.expect("job.result")
        yield* Deferred.succeed(ended, undefined)
        assert.isTrue(Exit.isSuccess(yield* Deferred.await(late)))
        yield* pong(session)
        assert.deepStrictEqual(said(session, jobId), upTo(3))
      }).pipe(Effect.provide(serve(store, [agent], options)))
    })
  )
})
