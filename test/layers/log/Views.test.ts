/** What a view gets of a job: when it joins, when its job has ended, and when the process is another one. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { describe } from "vitest"
import { JobState } from "../../../src/layers/log/JobState.js"
import { viewStateOf } from "../../../src/layers/log/ViewState.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { all } from "../../../src/protocol/Features.js"
import { EventLog, type View } from "../../../src/services/log/EventLog.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { Op, Store, type StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { boundsOf } from "../store/fixtures.js"
import { alsoInPostgres } from "../store/pg/layers.js"
import {
  emit,
  end,
  event,
  id,
  latest,
  layerOn,
  numbers,
  openJob,
  openView,
  openViewWith,
  readAll,
  record,
  runOn,
  session,
  settle,
  settled,
  upTo,
  wake
} from "./harness.js"
import { sqlite } from "./sqlite.js"

/** Without progress, so what it gets has to be looked at. */
const openNarrow = openViewWith(["subscribe"])
const types = (view: View) => Effect.map(readAll(view), (frames) => frames.map(({ type }) => type))

describe("a view that does not see a job any more", () => {
  it.effect("does not observe it after its end either", () =>
    Effect.gen(function* () {
      const log = yield* EventLog
      const store = yield* Store
      const owner = yield* openView
      const other = yield* openView
      const job = yield* openJob(owner)
      yield* log.observe(other, job, { history: false, onCommit: () => {} })
      other.seeOnly("bob")
      yield* emit(job, 1, 3)
      yield* settle
      assert.lengthOf(yield* store.observed(other.sessionId), 1)
      yield* end(job, owner)
      assert.deepStrictEqual(yield* store.observed(other.sessionId), [])
    }).pipe(Effect.provide(layerOn(StoreMemory.layer())))
  )
})

describe("how far a connection has come", () => {
  it.effect(
    "is what it says itself: not who reads an event again, nor one that another has taken the place of",
    () =>
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        yield* emit(yield* openJob(view), 1, 20)
        yield* settle
        const state = viewStateOf(view)
        yield* log.read(view, 5, wake)
        assert.strictEqual(state.delivered, 5)
        assert.strictEqual(JSON.parse((yield* log.again(view, 15)) ?? "").event_seq, 15)
        assert.strictEqual(state.delivered, 5)
        yield* log.attach(view, { features: all, wake: () => {} })
        yield* log.read(view, 18, wake)
        assert.strictEqual(state.delivered, 0)
      }).pipe(Effect.provide(layerOn(StoreMemory.layer())), Effect.scoped)
  )
})

type NamedStore = readonly [string, number, () => Layer.Layer<Store, StoreError>]
const durable: ReadonlyArray<NamedStore> = [
  ["on SQLite", 1, sqlite],
  ...alsoInPostgres().map(({ layer }) => ["in Postgres", 1, layer] as const)
]
const stores: ReadonlyArray<NamedStore> = [["in memory", 16, StoreMemory.layer], ...durable]
const slowly: ReadonlyArray<NamedStore> = [["in memory", 16, () => slow(StoreMemory.layer())], ...durable]

describe.each(stores)("a view of a log %s", (_, share, store) => {
  const run = runOn(store)

  it.effect("begins right after any event_seq of the owner that it names", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const owner = yield* openNarrow
        const [a, b] = yield* Effect.all([openJob(owner), openJob(owner)])
        for (let n = 1; n <= 12; n += 3) {
          yield* Effect.zipRight(emit(a, n, n), settle)
          yield* Effect.zipRight(emit(b, n, n), settle)
          yield* Effect.zipRight(emit(a, n + 1, n + 1, "progress"), settle)
          yield* Effect.zipRight(emit(a, n + 2, n + 2), settle)
          // What the owner did not get counts as what it got last.
          assert.strictEqual(a.lastEventSeq, owner.last)
        }
        const owned = yield* readAll(owner)
        for (let from = 0; from <= owner.last + 1; from++) {
          const late = yield* openViewWith(all)
          yield* log.observe(late, a, { history: true, fromEventSeq: from, onCommit: () => {} })
          const got = numbers(yield* readAll(late), a) as ReadonlyArray<number>
          const expected = owned.filter(({ event_seq, job_id }) => job_id === a.jobId && event_seq > from)
          assert.deepStrictEqual(
            got.filter((n) => n % 3 !== 2),
            expected.map(({ payload }) => payload.body?.n)
          )
          // A progress has the number of the event before it.
          for (const n of got) if (n % 3 === 2) assert.include(got, n - 1)
        }
      })
    )
  )

  it.effect(
    "gets the end of a finished job whatever event_seq it names, once, and observes nothing then",
    () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const owner = yield* openView
          for (const kinds of [["log"], ["log", "progress"]]) {
            const job = yield* openJob(owner)
            for (const kind of kinds) yield* emit(job, 1, 3, kind)
            yield* end(job, owner)
            for (const features of [all, ["subscribe"] as const])
              for (const history of [true, false])
                for (const fromEventSeq of [owner.last - 1, owner.last, owner.last + 1000]) {
                  const late = yield* openViewWith(features)
                  yield* log.observe(late, job, { history, fromEventSeq, onCommit: () => {} })
                  assert.deepStrictEqual(yield* types(late), ["job.result"])
                  assert.strictEqual(late.subscribedCount, 0)
                  assert.isTrue(job instanceof JobState && job.observers.size === 0)
                }
          }
        })
      )
  )

  it.effect("whoever follows the job itself gets what is for everybody, and its end", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const owner = yield* openView
        const job = yield* openJob(owner)
        yield* emit(job, 1, 2)
        yield* log.append(job, event("status", 3, owner.sessionId))
        yield* settle
        const following = yield* Effect.fork(Stream.runCollect(log.events(job)))
        yield* emit(job, 4, 5)
        yield* log.append(job, event("status", 6, owner.sessionId))
        yield* end(job, owner)
        const events = [...(yield* Fiber.join(following))]
        assert.deepStrictEqual(
          events.map(({ seq }) => seq),
          [1, 2, 4, 5, 7]
        )
      })
    )
  )

  it.effect("of a session that is dropped is held by no job", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const owner = yield* openView
        const job = yield* openJob(owner)
        const other = yield* openView
        yield* log.observe(other, job, { history: false, onCommit: () => {} })
        yield* log.dropView(other)
        assert.isTrue(job instanceof JobState)
        if (job instanceof JobState)
          assert.deepStrictEqual(
            [...job.observers].map(({ sessionId }) => sessionId),
            [owner.sessionId]
          )
      })
    )
  )

  it.effect("a record that is changed after the end leaves the end as it is", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const db = yield* Store
        const owner = yield* openView
        const own = record(owner)
        const job = yield* log.openJob(own, owner)
        yield* log.end(job, { type: "job.result", kind: "", payload: "{}" }, (lastEventSeq) => ({
          ...own,
          status: "success",
          endedAt: 2,
          lastEventSeq
        }))
        let told = 0
        yield* log.amend(job, { ...own, cancelRequested: { at: 3 } }, () => {
          told++
        })
        assert.strictEqual(told, 1)
        assert.deepInclude(yield* db.job(own.jobId), { status: "success", endedAt: 2 })
      })
    )
  )

  it.effect("records of refused submits count like jobs", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const db = yield* Store
        const owner = yield* openView
        const job = yield* openJob(owner)
        for (let i = 0; i < 10; i++) {
          const refused = record(owner, {
            jobId: id("job"),
            status: "error",
            rejected: true,
            endedAt: latest - 100 + i
          })
          yield* log.observe(yield* openView, job, {
            history: false,
            ops: [Op.PutJob({ job: refused })],
            onCommit: () => {}
          })
          yield* settled
        }
        assert.strictEqual((yield* db.endedCounts).get("alice"), 4)
      }),
      { maxRetainedJobs: 4 * share }
    )
  )

  it.effect("a reader that has stood still holds none of its jobs from then on", () =>
    run(
      Effect.gen(function* () {
        const view = yield* openView
        const jobs = yield* Effect.all([openJob(view), openJob(view)])
        const emitting = yield* Effect.fork(
          Effect.forEach(jobs, (job) => emit(job, 1, 5_000), { concurrency: "unbounded", discard: true })
        )
        yield* Effect.repeat(settle, { until: () => view.last > 2048 })
        yield* settled
        assert.isTrue(Option.isNone(yield* Fiber.poll(emitting)))
        yield* TestClock.adjust("10 seconds")
        // Without any more patience.
        yield* Effect.zipRight(Fiber.join(emitting), settle)
        assert.strictEqual(view.last, 10_000)
      }),
      { maxRetainedEvents: 4096 * share }
    )
  )
})

/** Reads of the store take a turn, as those of a database do. */
const slow = (base: Layer.Layer<Store, StoreError>) =>
  Layer.effect(
    Store,
    Effect.map(Store, (store): StoreService => {
      const later = <A, E>(effect: Effect.Effect<A, E>) => Effect.zipRight(Effect.yieldNow(), effect)
      return {
        ...store,
        view: (sessionId) => later(store.view(sessionId)),
        session: (sessionId) => later(store.session(sessionId)),
        boundsOf: (jobIds) => later(store.boundsOf(jobIds)),
        observersOf: (jobIds) => later(store.observersOf(jobIds))
      }
    })
  ).pipe(Layer.provide(base))

describe.each(slowly)("a log that is opened again %s", (_, share, store) => {
  /** Two logs after each other over one store that stays. */
  const twice = <A, B, E>(
    first: Effect.Effect<A, E, EventLog | Store | Scope.Scope>,
    second: (a: A) => Effect.Effect<B, E, EventLog | Store | Scope.Scope>,
    options: RuntimeOptions.Input = {}
  ) =>
    Effect.gen(function* () {
      const kept = yield* Layer.build(store())
      const open = <A, E>(effect: Effect.Effect<A, E, EventLog | Store | Scope.Scope>) =>
        Effect.scoped(effect).pipe(Effect.provide(layerOn(Layer.succeedContext(kept), options)))
      return yield* open(second(yield* open(first)))
    }).pipe(Effect.scoped)

  const started = Effect.gen(function* () {
    const log = yield* EventLog
    const stored = session({ features: all.filter((feature) => feature !== "progress") })
    const view = yield* log.openView(stored)
    yield* log.attach(view, { features: stored.features, wake })
    yield* log.detach(view)
    const own = record(view)
    const job = yield* log.openJob(own, view)
    return { job, log, own, stored, view }
  })

  it.effect("a live job and its observers are there once, whoever loads them, and get what comes", () =>
    twice(
      Effect.gen(function* () {
        const { job, log, own, stored, view } = yield* started
        const watching = session()
        yield* log.observe(yield* log.openView(watching), job, { history: false, onCommit: () => {} })
        const left = session()
        const leaving = yield* log.openView(left)
        yield* log.observe(leaving, job, { history: false, onCommit: () => {} })
        yield* emit(yield* openJob(view), 1, 3)
        yield* emit(job, 1, 3)
        yield* settle
        yield* log.unobserve(leaving, job.jobId)
        return { left, own, stored, watching }
      }),
      ({ left, own, stored, watching }) =>
        Effect.gen(function* () {
          const log = yield* EventLog
          const [a, [b], view, again, watcher] = yield* Effect.all(
            [
              log.loadJob(own),
              log.loadJobs([own]),
              log.holdView(stored),
              log.holdView(stored),
              log.holdView(watching)
            ],
            { concurrency: "unbounded" }
          )
          assert.strictEqual(a, b)
          assert.strictEqual(view, again)
          const gone = yield* log.holdView(left)
          assert.strictEqual(a.lastEventSeq, 6)
          yield* emit(yield* log.reopenJob(own), 4, 5)
          // Until the views have come to what they are behind in, which is numbered for them beside the appends.
          yield* settled
          assert.strictEqual(a.lastEventSeq, 8)
          assert.deepStrictEqual(numbers(yield* readAll(view), a), upTo(5))
          assert.deepStrictEqual(numbers(yield* readAll(watcher), a), upTo(5))
          assert.deepStrictEqual(numbers(yield* readAll(gone), a), upTo(3))
        })
    )
  )

  it.effect("what a session did not negotiate is not in its history either", () =>
    twice(
      Effect.gen(function* () {
        const { job, own } = yield* started
        yield* emit(job, 1, 3)
        yield* emit(job, 4, 5, "progress")
        yield* settle
        return own
      }),
      (own) =>
        Effect.gen(function* () {
          const log = yield* EventLog
          const job = yield* log.loadJob(own)
          const narrow = yield* openNarrow
          yield* log.observe(narrow, job, { history: true, onCommit: () => {} })
          assert.deepStrictEqual(numbers(yield* readAll(narrow), job), upTo(3))
        })
    )
  )

  it.effect("counts the bytes of what was there: of a view, and of a job", () => {
    const text = "x".repeat(900)
    const emitBig = (
      log: EventLog["Type"],
      job: Parameters<typeof log.append>[0],
      from: number,
      to: number
    ) =>
      Effect.forEach(
        upTo(to, from),
        (n) =>
          log.append(job, {
            type: "job.event",
            kind: "log",
            payload: JSON.stringify({ kind: "log", ts: "", body: { n, text } })
          }),
        { discard: true }
      )
    return twice(
      Effect.gen(function* () {
        const { job, log, own, stored } = yield* started
        yield* emitBig(log, job, 1, 400)
        yield* settled
        return { own, stored }
      }),
      ({ own, stored }) =>
        Effect.gen(function* () {
          const log = yield* EventLog
          const db = yield* Store
          const view = yield* log.holdView(stored)
          const job = yield* log.loadJob(own)
          yield* emitBig(log, job, 401, 700)
          yield* settled
          const { first, last } = yield* boundsOf(db, own.jobId)
          for (const kept of [view.last - view.first + 1, last - first + 1]) {
            assert.isAtMost(kept * 1000, 512 * 1024 + 64 * 1024)
            assert.isAtLeast(kept * 1000, 256 * 1024)
          }
        }),
      { maxRetainedBytes: 512 * 1024 * share, tailBytes: 1 }
    )
  })
})
