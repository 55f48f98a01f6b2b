/** Hooks: who is told, in which order, how often, and that nobody waits for it. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as Hooks from "../../../src/layers/jobs/Hooks.js"
import * as HookCalls from "../../../src/layers/jobs/hooks/HookCalls.js"
import { HookQueue, type OwedCall } from "../../../src/layers/jobs/hooks/HookQueue.js"
import { InternalError } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import type { StoredCall } from "../../../src/services/jobs/StoredCall.js"
import { monotonic } from "../../../src/services/runtime/monotonic.js"
import { type JobRecord, Op } from "../../../src/services/store/Store.js"
import { open } from "../../support/Wire.js"
import { agents, echo, makeStore, pong, restarted, resume, type Session, serve, submit } from "./support.js"

const stored: StoredCall = {
  kind: "ended",
  at: 0,
  agent: "a@1",
  principal: "p",
  traceId: "t",
  status: "success",
  createdAt: 0
}

const start = { jobId: "", seq: 0 }

/** Asks, and delegates. */
const asker = Agent.handle(Agent.make("asker", { version: "1.0.0", durable: true }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const child = yield* job.delegate("echo", "a child", { key: "child" })
    yield* child.await
    return yield* job.input("ok?", { prompt: "the secret question", schema: Schema.Boolean })
  }).pipe(Effect.orDie)
)

/** Asks while a step runs, so that it is never unloaded. */
const busy = Agent.handle(Agent.make("busy", { version: "1.0.0", durable: true }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const asked = job.input("ok?", { prompt: "go on?", schema: Schema.Boolean })
    yield* Effect.all([asked, job.step("work", Effect.never)], { concurrency: "unbounded" })
  }).pipe(Effect.orDie)
)

const answer = (session: Session, jobId: string | undefined, input_id: string, value: unknown) =>
  session.request("x-vendor.effect-arcp.job.input", { input_id, value }, { job_id: jobId })

/** What calls a hook of ended jobs, over a store of its own and a wall clock that is set by hand. */
const alone = (
  onEnded: NonNullable<Hooks.Hooks["Type"]["onEnded"]>,
  commit: HookCalls.HookParts["log"]["commit"] = () => Effect.void
) =>
  Effect.gen(function* () {
    const { store } = yield* makeStore
    const set = { wall: 0 }
    const calls = yield* HookCalls.make({
      hooks: { onEnded },
      log: { commit },
      store,
      node: undefined,
      options: { hookPatience: Duration.days(3), maxHookEvents: 100 },
      now: () => set.wall,
      elapsed: monotonic(yield* Effect.clock)
    })
    const add = (jobId: string) => {
      const record: JobRecord = {
        ...({
          jobId,
          sessionId: "sess_a",
          submitId: "s",
          principal: "p",
          agent: "a@1.0.0",
          status: "success"
        } as const),
        ...{ rejected: false, lease: {}, traceId: "a".repeat(32), createdAt: 0, lastEventSeq: 1 }
      }
      calls.ended(() => record, set.wall, { status: "success", outcome: Exit.void })?.committed(1)
    }
    return Object.assign(set, { add })
  })

describe("hooks", () => {
  it.scopedLive("tell of what waits and has ended, once and in order, and not of what was delegated", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const calls: Array<Hooks.HookCall> = []
      const over = yield* Deferred.make<void>()
      const take = (call: Hooks.HookCall) => Effect.sync(() => void calls.push(call))
      const hooks = Hooks.layer({
        onWaiting: take,
        onEnded: (call) => Effect.zipRight(take(call), Deferred.succeed(over, undefined))
      })
      yield* Effect.gen(function* () {
        const session = yield* open()
        const lease_request = { "agent.delegate": ["*"] }
        const { job_id } = yield* submit(session, "asker", {}, { lease_request })
        const asked = yield* session.next(({ payload }) => payload.kind?.endsWith("input_request"))
        yield* answer(session, job_id, asked.payload.body.input_id, true)
        yield* session.expect("job.result", (frame) => frame.job_id === job_id)
        yield* Deferred.await(over)
        assert.deepStrictEqual(
          calls.map(({ jobId, kind }) => [jobId, kind]),
          [
            [job_id, "waiting"],
            [job_id, "ended"]
          ]
        )
        const [waiting, ended] = calls
        assert.strictEqual(waiting?.kind === "waiting" && waiting.inputId, asked.payload.body.input_id)
        assert.strictEqual(ended?.kind === "ended" && ended.status, "success")
        assert.strictEqual(new Set(calls.map(({ id }) => id)).size, 2)
        // What was said is there for who asks.
        const said = (yield* waiting?.payload ?? Effect.void) as { body: { prompt: string } }
        assert.strictEqual(said.body.prompt, "the secret question")
        const stored = store.batches.flat().filter(({ _tag }) => _tag === "PutHookEvent")
        assert.notInclude(JSON.stringify(stored), "secret question")
      }).pipe(Effect.provide(serve(store, [asker, echo], {}, { hooks })))
      // What was called is owed no more.
      assert.deepStrictEqual(yield* store.store.hookEvents(start, 10), [])
    })
  )

  it.scopedLive("nothing is stored when nobody is to be told", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "echo")
        yield* session.expect("job.result")
      }).pipe(
        Effect.provide(serve(store, agents, {}, { hooks: Hooks.layer({ onParked: () => Effect.void }) }))
      )
      assert.isFalse(store.batches.flat().some(({ _tag }) => _tag === "PutHookEvent"))
    })
  )

  it.scopedLive("are called by the next process when this one could not, with the same id; parked once", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const ids: Array<string> = []
      const kinds: Array<string> = []
      const failed = yield* Deferred.make<void>()
      const failing = Hooks.layer({
        onWaiting: ({ id }) =>
          Effect.zipRight(
            Effect.zipRight(
              Effect.sync(() => ids.push(id)),
              Deferred.succeed(failed, undefined)
            ),
            new Hooks.HookError({ message: "nobody is there" })
          )
      })
      const first = yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "busy")
        yield* Deferred.await(failed)
        return { session, job_id }
      }).pipe(Effect.provide(serve(store, [busy], {}, { hooks: failing })))

      let current = restarted(store)
      // Twice without the agent: it is parked, and told of once.
      for (let i = 0; i < 2; i++) {
        const told = yield* Deferred.make<void>()
        const hooks = Hooks.layer({
          onWaiting: ({ id }) => Effect.sync(() => void ids.push(id)),
          onParked: ({ kind, reason }) =>
            Effect.sync(() => {
              kinds.push(`${kind} ${reason}`)
              Deferred.unsafeDone(told, Effect.void)
            })
        })
        yield* Effect.gen(function* () {
          const session = yield* open(resume(first.session, 0))
          if (i === 0) {
            yield* Deferred.await(told)
            yield* session.next(({ payload }) => payload.body?.phase === "parked")
          } else {
            const id = yield* session.request("session.list_jobs", {})
            const listed = yield* session.expect("session.jobs", ({ payload }) => payload.request_id === id)
            assert.strictEqual(
              listed.payload.jobs.find((job: { job_id: string }) => job.job_id === first.job_id).parked,
              "agent_not_available"
            )
          }
        }).pipe(Effect.provide(serve(current, [echo], {}, { hooks })))
        current = restarted(current)
      }
      assert.deepStrictEqual(kinds, ["parked agent_not_available"])
      assert.strictEqual(ids.length, 2)
      assert.strictEqual(new Set(ids).size, 1)
    })
  )

  it.scoped("are called again with growing pauses, and given up after their patience", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const at: Array<number> = []
      const hooks = Hooks.layer({
        onEnded: () =>
          Effect.flatMap(TestClock.currentTimeMillis, (now) => {
            at.push(now)
            return Effect.fail(new Hooks.HookError({ message: "nobody is there" }))
          })
      })
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "echo")
        yield* session.expect("job.result")
        for (let i = 0; i < 60; i++) yield* TestClock.adjust("5 seconds")
        const pauses = at.slice(1).map((each, i) => each - (at[i] as number))
        assert.isAtLeast(pauses.length, 5)
        for (const [i, pause] of pauses.entries()) {
          assert.isAtLeast(pause, HookCalls.pauseAfter(i + 1, 0) - 1)
          assert.isAtMost(pause, HookCalls.pauseAfter(i + 1, 1) + 66_000)
        }
        assert.strictEqual((yield* store.store.hookEvents(start, 10)).length, 1)
        for (let i = 0; i < 10; i++) yield* TestClock.adjust("2 minutes")
        const tries = at.length
        yield* TestClock.adjust("20 minutes")
        assert.strictEqual(at.length, tries)
        assert.deepStrictEqual(yield* store.store.hookEvents(start, 10), [])
      }).pipe(Effect.provide(serve(store, agents, { hookPatience: "10 minutes" }, { hooks })))
    })
  )

  it.scopedLive("that never return keep nothing up, and what is owed has a bound", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      let begun = 0
      const busy = yield* Deferred.make<void>()
      const hooks = Hooks.layer({
        onEnded: () =>
          Effect.suspend(() => {
            if (++begun === 8) Deferred.unsafeDone(busy, Effect.void)
            return Effect.never
          })
      })
      const count = 300
      yield* Effect.gen(function* () {
        const session = yield* open()
        for (let i = 0; i < count; i++) yield* submit(session, "echo", i)
        while (session.seen.filter(({ type }) => type === "job.result").length < count)
          yield* session.next(() => true)
        yield* Deferred.await(busy)
        yield* pong(session)
        assert.strictEqual(begun, 8)
      }).pipe(Effect.provide(serve(store, agents, { maxHookEvents: 50 }, { hooks })))
      const owed = yield* store.store.hookEvents(start, count)
      assert.isAtMost(owed.length, 50)
      assert.isAtLeast(owed.length, 40)
      // The newest are kept.
      const put = store.batches.flat().flatMap((op) => (op._tag === "PutHookEvent" ? [op.event.jobId] : []))
      assert.include(
        owed.map(({ jobId }) => jobId),
        put.at(-1)
      )
    })
  )

  const hanging: ReadonlyArray<readonly [string, Effect.Effect<void>]> = [
    ["hang", Effect.never],
    ["hang, and cannot be interrupted,", Effect.uninterruptible(Effect.never)]
  ]
  it.scoped.each(hanging)("that %s have a time, after which others are called, and they again", ([, hang]) =>
    Effect.gen(function* () {
      const called: Array<string> = []
      const { add } = yield* alone(({ jobId }) =>
        Effect.suspend(() => {
          called.push(jobId)
          return jobId === "job_9" ? Effect.void : hang
        })
      )
      for (let i = 1; i <= 9; i++) add(`job_${i}`)
      yield* TestClock.adjust("59 seconds")
      assert.lengthOf(called, 8)
      yield* TestClock.adjust("1 hour")
      assert.include(called, "job_9")
      assert.isAtLeast(called.filter((jobId) => jobId === "job_1").length, 2)
    })
  )

  it.scoped("are called again after their pause also when the clock is set back", () =>
    Effect.gen(function* () {
      let tries = 0
      const clock = yield* alone(() =>
        ++tries === 1 ? new Hooks.HookError({ message: "not now" }) : Effect.void
      )
      clock.wall = 90_000_000
      clock.add("job_1")
      yield* TestClock.adjust("100 millis")
      assert.strictEqual(tries, 1)
      clock.wall -= 86_400_000
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(tries, 2)
    })
  )

  it.scoped("that were made are dropped when the store is back, and not called by the next process", () =>
    Effect.gen(function* () {
      let away = true
      const dropped: Array<string> = []
      const hook = yield* alone(
        () => Effect.void,
        (ops) =>
          Effect.suspend(() => {
            if (away) return new InternalError({ message: "no space left on device" })
            for (const op of ops)
              if (op._tag === "DropHookEvents") dropped.push(...op.events.map(({ jobId }) => jobId))
            return Effect.void
          })
      )
      hook.add("job_a")
      yield* TestClock.adjust("1 minute")
      hook.add("job_b")
      yield* TestClock.adjust("1 minute")
      away = false
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(dropped, ["job_a", "job_b"])
    })
  )

  it.scopedLive("a hook that dies is called again, and what another one does goes on", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const seen: Array<string> = []
      const over = yield* Deferred.make<void>()
      const hooks = Hooks.layer({
        onEnded: ({ jobId }) =>
          Effect.suspend(() => {
            seen.push(jobId)
            if (seen.length === 1) throw new Error("no")
            return new Set(seen).size === 2 ? Deferred.succeed(over, undefined) : Effect.void
          })
      })
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "echo")
        yield* submit(session, "echo")
        yield* Deferred.await(over)
      }).pipe(Effect.provide(serve(store, agents, {}, { hooks })))
    })
  )

  it.effect("owed by an earlier process beyond the bound are given up, the oldest first", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const store = yield* makeStore
        const events = Array.from({ length: 1_200 }, (_, i) => ({
          jobId: `job_${String(i).padStart(26, "0")}`,
          seq: 1,
          text: JSON.stringify(stored)
        }))
        yield* store.store.commit({ ops: events.map((event) => Op.PutHookEvent({ event })), owners: [] })
        const seen: Array<string> = []
        const all = yield* Deferred.make<void>()
        const hooks = Hooks.layer({
          onEnded: ({ jobId }) =>
            Effect.sync(() => {
              if (seen.push(jobId) === 100) Deferred.unsafeDone(all, Effect.void)
            })
        })
        yield* Layer.build(serve(store, agents, { maxHookEvents: 100 }, { hooks }))
        yield* Deferred.await(all)
        assert.deepStrictEqual(
          seen,
          events.slice(-100).map(({ jobId }) => jobId)
        )
      })
    )
  )
})

describe("the queue of what is owed", () => {
  const call = (jobId: string, seq: number): OwedCall => ({ jobId, seq, stored, tries: 0 })

  it("gives the calls of one job in order, one at a time, and others beside it", () => {
    const queue = new HookQueue(100)
    queue.add(call("a", 5))
    queue.add(call("a", 2))
    queue.add(call("a", 2))
    queue.add(call("b", 1))
    assert.strictEqual(queue.size, 3)
    const first = queue.take(0) as OwedCall
    assert.strictEqual(first.seq, 2)
    const other = queue.take(0) as OwedCall
    assert.strictEqual(other.jobId, "b")
    assert.isUndefined(queue.take(0))
    queue.again(first, 1_000)
    queue.settle(other)
    assert.isUndefined(queue.take(999))
    assert.strictEqual(queue.dueAt, 1_000)
    const again = queue.take(1_000) as OwedCall
    assert.strictEqual(again, first)
    queue.settle(again)
    assert.strictEqual(queue.take(1_000)?.seq, 5)
    assert.strictEqual(queue.size, 1)
  })

  it("gives up the oldest, and not what is being called", () => {
    const queue = new HookQueue(2)
    queue.add(call("a", 1))
    queue.take(0)
    queue.add(call("b", 1))
    assert.deepStrictEqual(
      queue.add(call("c", 1)).map(({ jobId }) => jobId),
      ["b"]
    )
    assert.strictEqual(queue.size, 2)
  })
})
