/** What consumers get of what is committed, and what it costs those who emit. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Committed from "../../../src/layers/log/Committed.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { EventLog, type JobLog } from "../../../src/services/log/EventLog.js"
import { Store, StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { alsoInPostgres } from "../store/pg/layers.js"
import { awaited, emit, end, event, openJob, openView, runOn, settle, upTo } from "./harness.js"
import { sqlite } from "./sqlite.js"

type Event = Committed.CommittedEvent

/** The number that the harness puts into the body of an event. */
const numberOf = ({ payload }: Event): unknown =>
  (payload as { readonly body?: { readonly n: number } }).body?.n
const numbersOf = (events: ReadonlyArray<Event>, job?: JobLog) =>
  events.filter((each) => job === undefined || each.job.jobId === job.jobId).map(numberOf)

/** A consumer that takes one event at a time, when it is told to. */
const reader = (options?: Committed.Options) =>
  Effect.gen(function* () {
    const { dropped, events } = yield* (yield* Committed.Committed).subscribe(options)
    const pull = yield* Stream.toPull(Stream.rechunk(events, 1))
    const next = Effect.map(pull, (chunk) => [...chunk][0] as Event)
    return { dropped, next, take: (count: number) => Effect.replicateEffect(next, count) }
  })

/** Waits for everything that is under way, however many turns of the event loop it takes. */
const quiet = Effect.repeatN(Effect.zipRight(settle, Effect.yieldNow()), 3)

for (const [name, store] of [
  ["memory", StoreMemory.layer],
  ["SQLite", sqlite],
  ...alsoInPostgres().map(({ layer }) => ["Postgres", layer] as const)
] as const) {
  const run = runOn(store)

  describe(`committed events, ${name}`, () => {
    it.effect("come once each, per job in order, with whose they are; also to several consumers", () =>
      run(
        Effect.gen(function* () {
          const first = yield* reader({ capacity: 10_000 })
          const second = yield* reader({ capacity: 10_000, whenFull: "dropOldest" })
          const view = yield* openView
          const jobs = yield* Effect.all([openJob(view), openJob(view), openJob(view)])
          yield* Effect.forEach(jobs, (job) => Effect.zipRight(emit(job, 1, 700), end(job, view)), {
            concurrency: "unbounded",
            discard: true
          })
          for (const { take } of [first, second]) {
            const events = yield* take(2103)
            for (const job of jobs) {
              const own = events.filter((each) => each.job.jobId === job.jobId)
              assert.deepStrictEqual(numbersOf(own.slice(0, 700)), upTo(700))
              assert.deepStrictEqual(
                own.map(({ seq }) => seq),
                upTo(701)
              )
              const last = own[700]
              assert.strictEqual(last?.type, "job.result")
              assert.strictEqual(last?.kind, "")
              assert.strictEqual(last?.job.principal, "alice")
              assert.strictEqual(last?.job.agent, "echo@1.0.0")
              assert.strictEqual(last?.job.sessionId, view.sessionId)
              assert.isTrue(own.every(({ missed }) => missed === 0))
            }
          }
        })
      )
    )

    it.effect("are not lost with an emitter that is interrupted while its event is queued", () =>
      run(
        Effect.gen(function* () {
          const { take } = yield* reader()
          const log = yield* EventLog
          const job = yield* openJob(yield* openView)
          const emitters = yield* Effect.forEach(upTo(50), (n) =>
            Effect.fork(log.append(job, event("log", n)))
          )
          yield* Effect.yieldNow()
          yield* Fiber.interruptAll(emitters)
          const committed = job.lastEventSeq === 0 ? yield* Effect.as(settle, job.lastEventSeq) : 50
          assert.deepStrictEqual(numbersOf(yield* take(committed)), upTo(committed))
        })
      )
    )

    it.effect("suspend: whoever emits waits, in order, and nothing is lost; ends do not wait", () =>
      run(
        Effect.gen(function* () {
          const { next, take } = yield* reader({ capacity: 4 })
          const view = yield* openView
          const job = yield* openJob(view)
          const other = yield* openJob(view)
          let emitted = 0
          const emitting = yield* Effect.fork(
            Effect.forEach(upTo(20), (n) => Effect.tap(emit(job, n, n), () => Effect.sync(() => emitted++)))
          )
          yield* quiet
          assert.strictEqual(emitted, 4)
          // A job that ends does not wait.
          yield* end(other, view)
          yield* quiet
          assert.strictEqual(emitted, 4)
          const events = [yield* next]
          while (events.length < 21) {
            events.push(...(yield* take(1)))
            yield* quiet
            assert.isAtMost(emitted - events.length, 9)
          }
          yield* Fiber.join(emitting)
          assert.deepStrictEqual(numbersOf(events, job), upTo(20))
          assert.deepStrictEqual(events.find(({ job }) => job.jobId === other.jobId)?.type, "job.result")
        })
      )
    )

    it.effect("suspend: many emitters at once do not pass the capacity, and get in in their order", () =>
      run(
        Effect.gen(function* () {
          const { take } = yield* reader({ capacity: 3 })
          const log = yield* EventLog
          const job = yield* openJob(yield* openView)
          const emitters = yield* Effect.forEach(upTo(30), (n) =>
            Effect.fork(log.append(job, event("log", n)))
          )
          yield* quiet
          assert.strictEqual(job.lastEventSeq, 3)
          // One that gives up while it waits leaves nothing, and its place to the next.
          yield* Fiber.interrupt(emitters[4] as Fiber.RuntimeFiber<void, unknown>)
          const events = yield* take(29)
          assert.deepStrictEqual(
            numbersOf(events),
            upTo(30).filter((n) => n !== 5)
          )
        })
      )
    )

    it.effect("suspend: an open waits too, and leaving the scope frees everybody", () =>
      run(
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const log = yield* EventLog
          const view = yield* openView
          const job = yield* openJob(view)
          yield* Scope.extend(reader({ capacity: 1 }), scope)
          yield* emit(job, 1, 1)
          const emitting = yield* Effect.fork(emit(job, 2, 100))
          let giveBack = () => {}
          const room = log.roomToOpen((back) => {
            giveBack = back
          })
          const opening = yield* Effect.fork(Effect.zipRight(room, openJob(view)))
          yield* quiet
          assert.isNull(
            yield* Effect.map(Fiber.poll(emitting), (exit) => (exit._tag === "None" ? null : exit))
          )
          assert.isNull(
            yield* Effect.map(Fiber.poll(opening), (exit) => (exit._tag === "None" ? null : exit))
          )
          // Sessions, and whatever else is committed, do not wait.
          yield* log.commit([])
          yield* openView
          yield* Scope.close(scope, Exit.void)
          yield* Fiber.join(emitting)
          yield* Fiber.join(opening)
          giveBack()
        })
      )
    )

    it.effect(
      "suspend: who is interrupted while it waits for room to open keeps none, and who has it gives it back",
      () =>
        run(
          Effect.gen(function* () {
            const log = yield* EventLog
            const job = yield* openJob(yield* openView)
            const { take } = yield* reader({ capacity: 1 })
            const kept: Array<() => void> = []
            const room = log.roomToOpen((back) => kept.push(back))
            yield* room
            const waiting = yield* Effect.fork(room)
            yield* quiet
            yield* Fiber.interrupt(waiting)
            assert.strictEqual(kept.length, 1)
            const emitting = yield* Effect.fork(emit(job, 1, 3))
            yield* quiet
            assert.isTrue(Option.isNone(yield* Fiber.poll(emitting)))
            for (const back of kept) back()
            assert.deepStrictEqual(numbersOf(yield* take(3)), [1, 2, 3])
            yield* Fiber.join(emitting)
          })
        )
    )

    it.effect("dropOldest: emitters do not wait; the newest stay, with how many are missed before them", () =>
      run(
        Effect.gen(function* () {
          const { dropped, next, take } = yield* reader({ capacity: 4, whenFull: "dropOldest" })
          const job = yield* openJob(yield* openView)
          yield* emit(job, 1, 20)
          yield* settle
          const events = yield* take(4)
          assert.deepStrictEqual(numbersOf(events), upTo(20, 17))
          assert.deepStrictEqual(
            events.map(({ missed }) => missed),
            [16, 0, 0, 0]
          )
          assert.strictEqual(yield* dropped, 16)
          yield* emit(job, 21, 21)
          yield* settle
          const { missed } = yield* next
          assert.strictEqual(missed, 0)
        })
      )
    )

    it.effect("dropNewest: emitters do not wait; the oldest stay, and the next says how many it misses", () =>
      run(
        Effect.gen(function* () {
          const { dropped, next, take } = yield* reader({ capacity: 4, whenFull: "dropNewest" })
          const job = yield* openJob(yield* openView)
          yield* emit(job, 1, 20)
          yield* settle
          const events = yield* take(4)
          assert.deepStrictEqual(numbersOf(events), upTo(4))
          assert.isTrue(events.every(({ missed }) => missed === 0))
          assert.strictEqual(yield* dropped, 16)
          yield* emit(job, 21, 21)
          yield* settle
          const after = yield* next
          assert.deepStrictEqual([numberOf(after), after.missed], [21, 16])
        })
      )
    )

    it.effect("bytes are bounded as events are; one that is larger than all passes alone", () =>
      run(
        Effect.gen(function* () {
          const { take } = yield* reader({ capacityBytes: 100, whenFull: "dropNewest" })
          const job = yield* openJob(yield* openView)
          yield* emit(job, 1, 10)
          yield* settle
          const { length } = (yield* take(1))[0]?.text ?? ""
          const more = yield* reader({ capacityBytes: length - 1, whenFull: "dropOldest" })
          yield* emit(job, 11, 20)
          yield* settle
          const [only] = yield* more.take(1)
          assert.deepStrictEqual([numberOf(only as Event), only?.missed], [20, 9])
        })
      )
    )

    it.effect.each([
      { how: "dies", fault: Effect.die("the disk is full") },
      {
        how: "joins a fiber that was interrupted",
        fault: Effect.flatMap(Effect.fork(Effect.interrupt), Fiber.join)
      }
    ])("a consumer that $how frees who waited for it, and is logged", ({ fault }) => {
      const logged: Array<unknown> = []
      const capture = Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ message }) => logged.push(...(message as ReadonlyArray<unknown>)))
      )
      const dying = Committed.consumer(
        (events) => Stream.runForEach(events, (each) => (numberOf(each) === 3 ? fault : Effect.void)),
        { capacity: 2 }
      )
      return run(
        Effect.gen(function* () {
          const job = yield* openJob(yield* openView)
          yield* emit(job, 1, 100)
          yield* settle
          assert.strictEqual(job.lastEventSeq, 100)
          assert.include(String(logged), "a consumer of committed events failed")
        }),
        {},
        [dying]
      ).pipe(Effect.provide(capture))
    })

    it.effect("a consumer that stands still is spoken of", () => {
      const logged: Array<unknown> = []
      const capture = Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ message }) => logged.push(...(message as ReadonlyArray<unknown>)))
      )
      return run(
        Effect.gen(function* () {
          const { take } = yield* reader({ capacity: 1 })
          const job = yield* openJob(yield* openView)
          const emitting = yield* Effect.fork(emit(job, 1, 3))
          yield* quiet
          yield* TestClock.adjust("9 seconds")
          assert.lengthOf(logged, 0)
          yield* TestClock.adjust("1 minute")
          assert.lengthOf(logged, 1)
          assert.include(String(logged[0]), "1 emits and submits wait")
          yield* take(3)
          yield* Fiber.join(emitting)
        })
      ).pipe(Effect.provide(capture))
    })

    it.effect("a consumer below the log gets its last event, and its end, when the runtime closes", () => {
      const seen: Array<Event> = []
      const gate = Deferred.unsafeMake<void>(FiberId.none)
      const slow = Committed.consumer((events) =>
        Effect.zipRight(
          Deferred.await(gate),
          Stream.runForEach(events, (each) => Effect.sync(() => seen.push(each)))
        )
      )
      return Effect.gen(function* () {
        yield* run(
          Effect.gen(function* () {
            const view = yield* openView
            const job = yield* openJob(view)
            yield* emit(job, 1, 10)
            yield* end(job, view)
            yield* Deferred.succeed(gate, undefined)
          }),
          {},
          [slow]
        )
        assert.deepStrictEqual(
          seen.map(({ seq }) => seq),
          upTo(11)
        )
      })
    })

    it.effect("dies on a capacity that is none", () =>
      run(
        Effect.gen(function* () {
          const { events } = yield* Committed.Committed
          for (const options of [{ capacity: 0 }, { capacity: 1.5 }, { capacityBytes: -1 }]) {
            const exit = yield* Effect.exit(Stream.runDrain(events(options)))
            assert.isTrue(Exit.isFailure(exit) && exit.cause._tag === "Die")
          }
        })
      )
    )
  })
}

it.effect("nothing is published of a commit that fails, and who waited for its room gets it", () => {
  let failing = false
  const flaky = Layer.effect(
    Store,
    Effect.map(
      Store,
      (store): StoreService => ({
        ...store,
        kind: "durable",
        commit: (batch) =>
          Effect.suspend(() =>
            failing ? new StoreError({ message: "the disk is full" }) : store.commit(batch)
          )
      })
    )
  ).pipe(Layer.provide(StoreMemory.layer()))
  return runOn(() => flaky)(
    Effect.gen(function* () {
      const { take } = yield* reader({ capacity: 1 })
      const log = yield* EventLog
      const job = yield* openJob(yield* openView)
      failing = true
      for (const n of [1, 2])
        assert.isTrue(Exit.isFailure(yield* Effect.exit(log.append(job, awaited(event("log", n))))))
      failing = false
      const emitting = yield* Effect.fork(emit(job, 3, 5))
      const events = yield* take(3)
      yield* Fiber.join(emitting)
      assert.deepStrictEqual(numbersOf(events), upTo(5, 3))
      assert.deepStrictEqual(
        events.map(({ seq }) => seq),
        upTo(3)
      )
    })
  )
})
