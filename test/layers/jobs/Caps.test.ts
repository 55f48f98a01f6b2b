/** Caps of jobs and of what watches them (protocol 4.8): as many as they say, and who counts. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { InternalError } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Sessions } from "../../../src/services/session/Sessions.js"
import { Op } from "../../../src/services/store/Store.js"
import { boot, Disk } from "../../support/Rig.js"
import { open } from "../../support/Wire.js"
import { agents, makeStore, pong, type Session, serve, submit } from "./support.js"

/** The answer to a request, of whatever type. */
const answered = (session: Session, type: string, payload: unknown, more: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const id = yield* session.request(type, payload, more)
    return yield* session.next(
      (frame) => frame.payload.request_id === id || frame.payload.details?.request_id === id
    )
  })

describe("subscriptions of a session", () => {
  it.scoped("are as many as the option says, its own jobs not among them; who leaves one makes room", () =>
    Effect.gen(function* () {
      const owner = yield* open()
      const jobs = yield* Effect.replicateEffect(submit(owner, "forever"), 3)
      const watcher = yield* open()
      const own = yield* Effect.replicateEffect(submit(watcher, "forever"), 3)
      const ended = yield* submit(owner, "echo")
      yield* owner.expect("job.result")
      const subscribe = (job: number) =>
        answered(watcher, "job.subscribe", { job_id: jobs[job]?.job_id as string })
      for (const job of [0, 1]) assert.strictEqual((yield* subscribe(job)).type, "job.subscribed")
      const refused = yield* subscribe(2)
      assert.strictEqual(refused.type, "session.error")
      assert.strictEqual(refused.payload.code, "INTERNAL_ERROR")
      assert.strictEqual(refused.payload.details.limit, "subscriptions_per_session")
      // Again, to a job of its own, and to one that has ended: none of these is one more.
      for (const { job_id } of [jobs[0], own[0], ended] as ReadonlyArray<{ readonly job_id: string }>)
        assert.strictEqual((yield* answered(watcher, "job.subscribe", { job_id })).type, "job.subscribed")
      assert.strictEqual((yield* subscribe(2)).type, "session.error")
      yield* watcher.request("job.unsubscribe", { job_id: jobs[0]?.job_id })
      assert.strictEqual((yield* subscribe(2)).type, "job.subscribed")
    }).pipe((test) =>
      Effect.flatMap(makeStore, (store) =>
        Effect.provide(test, serve(store, agents, { maxSubscriptionsPerSession: 2 }))
      )
    )
  )
})

describe("cancels of a job that the store does not take", () => {
  it.scoped("wait, as many as there is room for, store the wish once, and are all acknowledged", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "forever")
        yield* session.expect("job.event")
        const before = store.batches.length
        yield* store.gate.close
        const ids: Array<string> = []
        for (let i = 0; i < 64; i++) ids.push(yield* session.request("job.cancel", {}, { job_id }))
        yield* session.request("job.cancel", {}, { job_id })
        yield* session.request("session.ping", { nonce: "n" })
        // Refused at once, and not after what waits.
        const refused = yield* session.next(({ type }) => type === "session.error" || type === "session.pong")
        assert.strictEqual(refused.payload.code, "INTERNAL_ERROR")
        assert.strictEqual(refused.payload.details.limit, "cancels_waiting")
        yield* store.gate.open
        for (const id of ids)
          assert.strictEqual((yield* session.expect("job.cancelled")).payload.request_id, id)
        assert.strictEqual((yield* session.expect("job.error")).payload.code, "CANCELLED")
        const wishes = store.batches
          .slice(before)
          .flat()
          .filter(Op.$is("PutJob"))
          .filter(({ job }) => job.cancelRequested !== undefined && job.endedAt === undefined)
        assert.strictEqual(wishes.length, 1)
      }).pipe(Effect.provide(serve(store, agents)))
    })
  )
})

describe("a submit that was refused", () => {
  it.scoped("is no job: it cannot be watched or cancelled", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* answered(session, "job.submit", { agent: "nobody", input: {} })
        for (const type of ["job.subscribe", "job.cancel"]) {
          const refused = yield* answered(session, type, { job_id }, { job_id })
          assert.strictEqual(refused.payload.code, "JOB_NOT_FOUND", type)
        }
      }).pipe(Effect.provide(serve(store, agents)))
    })
  )

  it.scoped("and whose refusal the session has taken and lost is not answered again, and hurts nothing", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const count = Agent.handle(Agent.make("count", { version: "1.0.0" }), () =>
        Effect.flatMap(Job, (job) => Effect.repeatN(job.log("info", "x"), 350))
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { id } = yield* answered(session, "job.submit", { agent: "nobody", input: {} }).pipe(
          Effect.map((frame) => ({ id: frame.payload.details.request_id as string }))
        )
        yield* submit(session, "count")
        const { event_seq } = yield* session.expect("job.result")
        yield* session.request("session.ack", { last_processed_seq: event_seq })
        yield* submit(session, "count")
        yield* session.expect("job.result")
        // The view begins after the refusal once the retention has come round.
        yield* Effect.repeat(
          Effect.zipRight(TestClock.adjust("1 second"), store.store.view(session.sessionId)),
          {
            until: (view) => view.first > 1
          }
        )
        const seen = session.seen.length
        yield* session.request("job.submit", { agent: "nobody", input: {} }, { id })
        yield* submit(session, "echo")
        yield* pong(session)
        const errors = session.seen.slice(seen).filter(({ type }) => /error$/.test(type))
        assert.deepStrictEqual(errors, [])
      }).pipe(
        Effect.provide(serve(store, [...agents, count], { maxRetainedEvents: 64, backPressureLag: 100_000 }))
      )
    })
  )
})

describe("a runtime that is stopping", () => {
  it.scoped("takes no new job, and says so", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const started = yield* Deferred.make<void>()
      const seen = yield* Deferred.make<unknown>()
      const delegating = Agent.handle(Agent.make("delegating", { version: "1.0.0" }), () =>
        Effect.gen(function* () {
          const job = yield* Job
          yield* Deferred.succeed(started, undefined)
          yield* Deferred.await(gate)
          const delegated = yield* Effect.either(job.delegate("echo", {}))
          yield* Deferred.succeed(seen, Either.isLeft(delegated) ? delegated.left : undefined)
        })
      )
      const disk = yield* Disk.make
      const { run } = yield* boot([...agents, delegating], { disk, options: { shutdownGrace: "10 seconds" } })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          yield* submit(session, "delegating", {}, { lease_request: { "agent.delegate": ["echo"] } })
          yield* Deferred.await(started)
          const stopping = yield* Effect.fork(Effect.flatMap(Sessions, (sessions) => sessions.shutdown))
          yield* Effect.repeatN(eventLoop.next, 20)
          const refused = yield* answered(session, "job.submit", { agent: "echo", input: {} })
          assert.strictEqual(refused.type, "job.error")
          assert.strictEqual(refused.payload.code, "INTERNAL_ERROR")
          assert.strictEqual(refused.payload.details.reason, "shutdown")
          yield* Deferred.succeed(gate, undefined)
          assert.instanceOf(yield* Deferred.await(seen), InternalError)
          yield* session.expect("session.bye")
          yield* Fiber.join(stopping)
        })
      )
    })
  )
})
