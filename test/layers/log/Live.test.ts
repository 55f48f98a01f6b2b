/** Beginning to observe a job, and dropping it, exclude each other. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import type { Committer } from "../../../src/layers/log/Committer.js"
import { LiveLogs } from "../../../src/layers/log/Live.js"
import { leaving } from "../../../src/layers/log/leaving.js"
import * as Sequencer from "../../../src/layers/log/Sequencer.js"
import { Tail } from "../../../src/layers/log/Tail.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Op, Store } from "../../../src/services/store/Store.js"
import { record, session } from "./harness.js"

const owner = {
  sessionId: "sess_1",
  last: 0,
  first: 1,
  acked: 0,
  subscribedCount: 0,
  observedJobs: [],
  lost: false,
  epoch: 1,
  isNarrowed: false,
  seeOnly: () => {},
  whenTaken: () => {}
}

/** A committer that is to have nothing to do. */
const idleCommitter: Committer = {
  enqueue: () => assert.fail("nothing is to be numbered"),
  queued: () => 0,
  isIdle: () => true,
  change: () => Effect.dieMessage("nothing is to be numbered"),
  over: () => undefined,
  stopped: Effect.never
}

const make = Effect.map(Store, (store) => {
  const live = new LiveLogs(store, { events: 100, bytes: 100_000 }, { release: () => {} })
  return { live, job: live.newJob(record(owner)) }
}).pipe(Effect.provide(StoreMemory.layer()))

it.effect("a view that is loaded needs what it needed when that was stored, and no more", () =>
  Effect.gen(function* () {
    const store = yield* Store
    const stored = session({ features: [] })
    const { sessionId } = stored
    const run = { eventSeq: 1, jobId: "job_1", jobSeq: 1, count: 90, bytes: 900 }
    yield* store.commit({
      ops: [
        Op.PutSession({ session: stored }),
        Op.PutRun({ sessionId, run }),
        Op.Need({ sessionId, eventSeq: 60 })
      ],
      owners: []
    })
    const live = new LiveLogs(store, { events: 100, bytes: 100_000 }, { release: () => {} })
    const view = yield* live.loadView(stored)
    assert.strictEqual(view.need(0, 1_000), 60)
  }).pipe(Effect.provide(StoreMemory.layer()))
)

describe("a job", () => {
  it.effect("that somebody is about to observe is not dropped", () =>
    Effect.gen(function* () {
      const { job, live } = yield* make
      const gate = yield* Deferred.make<void>()
      const joining = yield* Effect.fork(live.holds.joined(job, Deferred.await(gate)))
      const another = yield* Effect.fork(live.holds.joined(job, Effect.never))
      yield* Effect.yieldNow()
      assert.deepStrictEqual(live.holds.takeUnjoined([job]), [])
      yield* Fiber.interrupt(another)
      assert.deepStrictEqual(live.holds.takeUnjoined([job]), [])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(joining)
      assert.deepStrictEqual(live.holds.takeUnjoined([job]), [job])
    })
  )

  it.effect(
    "that is only needed in memory, as costs below it are on their way, is trimmed and dropped all the same",
    () =>
      Effect.gen(function* () {
        const { job, live } = yield* make
        live.jobs.set(job.jobId, job)
        live.holds.pin(job)
        live.holds.pin(job)
        live.forget(job)
        assert.strictEqual(live.jobs.get(job.jobId), job)
        let trims = 0
        const trim = live.holds.trimmed(
          job.jobId,
          Effect.sync(() => trims++)
        )
        yield* trim
        assert.strictEqual(trims, 1)
        assert.deepStrictEqual(live.holds.takeUnjoined([job]), [job])
        live.holds.giveBack([job])
        live.holds.unpin(job)
        // Of who observes it, that is said beside.
        live.holds.keep(job)
        live.holds.unpin(job)
        yield* trim
        assert.deepStrictEqual([trims, live.jobs.has(job.jobId)], [1, true])
        live.holds.release(job)
        assert.isFalse(live.jobs.has(job.jobId))
      })
  )

  it.effect("that is being dropped is not observed, and one that was not dropped after all is", () =>
    Effect.gen(function* () {
      const { job, live } = yield* make
      const taken = live.holds.takeUnjoined([job])
      assert.isTrue(Either.isLeft(yield* Effect.either(live.holds.joined(job, Effect.void))))
      live.holds.giveBack(taken)
      yield* live.holds.joined(job, Effect.void)
    })
  )

  it.effect("that somebody is about to observe is not trimmed; whoever comes while it is waits", () =>
    Effect.gen(function* () {
      const { job, live } = yield* make
      const done: Array<string> = []
      const trim = live.holds.trimmed(
        job.jobId,
        Effect.sync(() => done.push("trimmed"))
      )
      const gate = yield* Deferred.make<void>()
      const joining = yield* Effect.fork(live.holds.joined(job, Deferred.await(gate)))
      yield* Effect.yieldNow()
      yield* trim
      assert.deepStrictEqual(done, [])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(joining)
      const trimming = yield* Deferred.make<void>()
      const slow = yield* Effect.fork(live.holds.trimmed(job.jobId, Deferred.await(trimming)))
      yield* Effect.yieldNow()
      const late = yield* Effect.fork(
        live.holds.joined(
          job,
          Effect.sync(() => done.push("joined"))
        )
      )
      yield* Effect.yieldNow()
      assert.deepStrictEqual(done, [])
      yield* Deferred.succeed(trimming, undefined)
      yield* Fiber.join(slow)
      yield* Fiber.join(late)
      yield* trim
      assert.deepStrictEqual(done, ["joined", "trimmed"])
    })
  )
})

describe("a view that nobody wants any more", () => {
  /** A view that looks at a job of another node, whose log is kept for it. */
  const watching = Effect.gen(function* () {
    const store = yield* Store
    const live = new LiveLogs(store, { events: 100, bytes: 100_000 }, { release: () => {} }, "b")
    const stored = session()
    const view = yield* live.loadView(stored)
    const of = { ...record(owner), node: "a" }
    const job = yield* live.loadJob(of)
    live.holds.keep(job)
    view.places.set(job.jobId, { job, record: of })
    view.watch(job.jobId, 0)
    live.watching.add(view)
    return { job, live, store, view }
  }).pipe(Effect.provide(StoreMemory.layer()))

  const isLetGo = (live: LiveLogs, { jobId }: { readonly jobId: string }) =>
    !live.holds.isHeld(jobId) && live.watching.size === 0

  it.effect("keeps no log of a job from being dropped once it has ended", () =>
    Effect.gen(function* () {
      const { job, live, view } = yield* watching
      assert.isFalse(isLetGo(live, job))
      live.endView(view.sessionId)
      assert.isTrue(isLetGo(live, job))
    })
  )

  it.effect("is let go of by whoever catches up with it, when it ends meanwhile", () =>
    Effect.gen(function* () {
      const { job, live, view } = yield* watching
      live.catchingUp.add(view)
      live.endView(view.sessionId)
      assert.isFalse(isLetGo(live, job))
      live.catchingUp.delete(view)
      live.settle(view)
      assert.isTrue(isLetGo(live, job))
    })
  )

  it.scoped("is let go of at the next look, when it has lost what it had not come to", () =>
    Effect.gen(function* () {
      const { job, live, store, view } = yield* watching
      const sequencer = yield* Sequencer.make({
        ...{ store, live, node: "b", tell: () => {} },
        tail: new Tail(1_000, () => {}),
        committer: idleCommitter
      })
      view.lose()
      assert.isFalse(isLetGo(live, job))
      sequencer.look()
      assert.isTrue(isLetGo(live, job))
    })
  )
})

it.effect(
  "whoever leaves a job waits until its log knows; one that is interrupted, as its runtime closes, waits no longer",
  () =>
    Effect.gen(function* () {
      const { job, live } = yield* make
      live.jobs.set(job.jobId, job)
      const back = yield* Deferred.make<void>()
      // The store is away right after the move.
      const committer = { ...idleCommitter, change: () => Deferred.await(back) }
      let moves = 0
      const move = Effect.sync(() => ++moves)
      const leave = Effect.uninterruptible(
        leaving({ committer, live }, record(owner, { jobId: job.jobId }), move)
      )
      const closing = yield* Effect.fork(leave)
      const waiting = yield* Effect.fork(leave)
      yield* eventLoop.next
      assert.deepStrictEqual(
        [moves, live.leaving.has(job.jobId), live.holds.isHeld(job.jobId)],
        [2, true, true]
      )
      assert.strictEqual((yield* Fiber.poll(waiting))._tag, "None")
      yield* Fiber.interrupt(closing)
      assert.isTrue(live.leaving.has(job.jobId))
      yield* Deferred.succeed(back, undefined)
      assert.strictEqual(yield* Fiber.join(waiting), 2)
      yield* eventLoop.next
      assert.deepStrictEqual([live.leaving.has(job.jobId), live.holds.isHeld(job.jobId)], [false, false])
    })
)

it.effect("a log that is loaded asks whose a job is only where it may be this node's", () =>
  Effect.gen(function* () {
    const store = yield* Store
    const asked: Array<string> = []
    const counting = {
      ...store,
      jobPlaces: (jobIds: ReadonlyArray<string>) => {
        asked.push(...jobIds)
        return store.jobPlaces(jobIds)
      }
    }
    const live = new LiveLogs(counting, { events: 100, bytes: 100_000 }, { release: () => {} }, "b")
    const own = record(owner, { node: "b" })
    yield* live.loadJobs([own, record(owner, { node: "a" }), record(owner, { node: "b", endedAt: 1 })])
    yield* live.loadJob(record(owner, { node: "a" }))
    assert.deepStrictEqual(asked, [own.jobId])
  }).pipe(Effect.provide(StoreMemory.layer()))
)
