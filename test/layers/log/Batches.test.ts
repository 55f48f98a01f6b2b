/** What is in one commit, what two commits have between them, and what a log leaves that is closed. */
import { assert, describe, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { EventLog, type NewEvent } from "../../../src/services/log/EventLog.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { type Op, Store, StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { boundsOf } from "../store/fixtures.js"
import {
  emit,
  end,
  event,
  layerOn,
  numbers,
  openJob,
  openView,
  readAll,
  record,
  runOn,
  session,
  settle,
  upTo
} from "./harness.js"

const KiB = 1024
const sized = (n: number, bytes: number): NewEvent => ({ ...event("log", n), payload: "x".repeat(bytes) })
const cost = (n: number, amount: string): NewEvent => ({
  ...event("metric", n),
  cost: { currency: "USD", amount: BigDecimal.unsafeFromString(amount) }
})

/** A store in memory that notes what it commits, and refuses what the test refuses. */
const makeStore = (kind: StoreService["kind"]) => {
  const batches: Array<ReadonlyArray<Op>> = []
  const control: { refuses: ((op: Op) => boolean) | undefined } = { refuses: undefined }
  const layer = Layer.effect(
    Store,
    Effect.map(
      Store,
      (store): StoreService => ({
        ...store,
        kind,
        commit: (batch) =>
          Effect.suspend(() => {
            if (control.refuses !== undefined && batch.ops.some(control.refuses))
              return new StoreError({ message: "no such row", misuse: true })
            batches.push(batch.ops)
            return store.commit(batch)
          })
      })
    )
  ).pipe(Layer.provide(StoreMemory.layer()))
  const eventsOf = (batch: ReadonlyArray<Op>) =>
    batch.flatMap((op) => (op._tag === "Append" ? [...op.events] : []))
  return { batches, control, eventsOf, layer, run: runOn(() => layer) }
}

describe("a batch", () => {
  it.effect("is bounded in events and in bytes", () => {
    const { batches, eventsOf, run } = makeStore("durable")
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openJob(yield* openView)
        yield* Effect.forEach(upTo(3000), (n) => log.append(job, event("log", n)), {
          concurrency: "unbounded",
          discard: true
        })
        yield* Effect.forEach(upTo(60), (n) => log.append(job, sized(n, 100 * KiB)), {
          concurrency: "unbounded",
          discard: true
        })
        let count = 0
        for (const events of batches.map(eventsOf)) {
          count += events.length
          assert.isAtMost(events.length, 1024)
          const bytes = events.reduce((sum, { payload }) => sum + payload.length, 0)
          assert.isAtMost(bytes, 1024 * KiB + 100 * KiB)
        }
        assert.strictEqual(count, 3060)
      })
    )
  })

  it.effect("of one emitter in memory is bounded in bytes: it waits for the commit", () => {
    const { batches, eventsOf, run } = makeStore("memory")
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openJob(yield* openView)
        yield* Effect.forEach(upTo(40), (n) => log.append(job, sized(n, 50 * KiB)), { discard: true })
        yield* settle
        for (const events of batches.map(eventsOf))
          assert.isAtMost(events.length * 50 * KiB, 256 * KiB + 50 * KiB)
      })
    )
  })

  it.effect.each([
    ["memory", 16],
    ["durable", 1]
  ] as const)("holds an eighth of what a view retains, of all jobs together (%s)", ([kind, share]) => {
    const { batches, eventsOf, run } = makeStore(kind)
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        yield* (yield* EventLog).detach(view)
        const jobs = yield* Effect.forEach(upTo(8), () => openJob(view))
        yield* Effect.forEach(jobs, (job) => emit(job, 1, 200), { concurrency: "unbounded", discard: true })
        yield* settle
        const sizes = batches.map((batch) => eventsOf(batch).length)
        assert.strictEqual(
          sizes.reduce((sum, size) => sum + size, 0),
          8 * 200
        )
        // Each of the others has put one event before it waits, too.
        for (const size of sizes) assert.isAtMost(size, 256 / 8 + 7)
      }),
      { maxRetainedEvents: 256 * share, tailBytes: 1 }
    )
  })

  it.effect("loses only the change that was a mistake", () => {
    const { control, run } = makeStore("durable")
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const job = yield* openJob(view)
        const bad = session()
        control.refuses = (op) => op._tag === "PutSession" && op.session.sessionId === bad.sessionId
        const exits = yield* Effect.all(
          [
            Effect.exit(emit(job, 1, 1)),
            Effect.exit(log.openView(bad)),
            Effect.exit(log.openView(session())),
            Effect.exit(emit(job, 2, 2))
          ],
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          exits.map(({ _tag }) => _tag),
          ["Success", "Failure", "Success", "Success"]
        )
        assert.deepStrictEqual(numbers(yield* readAll(view), job).sort(), [1, 2])
      })
    )
  })

  it.effect("leaves a turn of the event loop to others before the next", () => {
    const { batches, run } = makeStore("durable")
    return run(
      Effect.gen(function* () {
        const job = yield* openJob(yield* openView)
        let turns = 0
        const others = yield* Effect.fork(
          Effect.forever(
            Effect.tap(eventLoop.next, () =>
              Effect.sync(() => {
                turns++
              })
            )
          )
        )
        const before = batches.length
        // Two of them, so that the one's event is queued while the other's is committed.
        yield* Effect.all([emit(job, 1, 200), emit(job, 201, 400)], { concurrency: "unbounded" })
        yield* Fiber.interrupt(others)
        assert.isAtLeast(turns, (batches.length - before) / 2)
      })
    )
  })
})

describe("a job's budget", () => {
  const budgeted = Effect.gen(function* () {
    const log = yield* EventLog
    const view = yield* openView
    const lease = { "cost.budget": ["USD:1"] }
    const own = record(view, { lease })
    const parent = yield* log.openJob(own, view)
    const childs = record(view, { lease, parentJobId: own.jobId })
    const child = yield* log.openJob(childs, view, { parent })
    const typesOf = (jobId: string) =>
      Effect.map(readAll(view), (frames) =>
        frames.filter(({ job_id }) => job_id === jobId).map(({ type }) => type)
      )
    return { child, log, own, parent, typesOf, view }
  })

  it.effect("what a child spends is reported before its parent's end when both are in one batch", () =>
    makeStore("durable").run(
      Effect.gen(function* () {
        const { child, log, own, parent, typesOf, view } = yield* budgeted
        yield* Effect.all([end(parent, view), log.append(child, cost(1, "0.5"))], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(yield* typesOf(own.jobId), ["job.event", "job.result"])
      })
    )
  )

  it.effect("nothing of a job comes after its end, whatever its children spend", () =>
    makeStore("durable").run(
      Effect.gen(function* () {
        const { child, log, own, parent, typesOf, view } = yield* budgeted
        yield* end(parent, view)
        yield* log.append(child, cost(1, "0.5"))
        assert.deepStrictEqual(yield* typesOf(own.jobId), ["job.result"])
        assert.deepStrictEqual(yield* typesOf(child.jobId), ["job.event", "job.event"])
        const store = yield* Store
        assert.strictEqual((yield* boundsOf(store, own.jobId)).last, 1)
        const stored = yield* store.job(own.jobId)
        assert.deepStrictEqual([stored?.status, stored?.budget], ["success", { USD: "1" }])
        assert.isDefined(stored?.endedAt)
      })
    )
  )

  it.effect(
    "counts what a child spends from before it was loaded again, in the record that it has by then",
    () =>
      makeStore("durable").run(
        Effect.gen(function* () {
          const { child, log, own, parent } = yield* budgeted
          log.letGo(parent)
          const again = yield* log.reopenJob({ ...own, submitId: "of another", budget: { USD: "1" } })
          yield* log.append(child, cost(1, "0.25"))
          const stored = yield* (yield* Store).job(own.jobId)
          assert.deepStrictEqual([stored?.submitId, stored?.budget], ["of another", { USD: "0.75" }])
          assert.strictEqual(
            again.remaining.get("USD")?.toString(),
            BigDecimal.unsafeFromString("0.75").toString()
          )
        })
      )
  )

  it.effect("is stored with what was spent, its own and its parent's", () =>
    makeStore("durable").run(
      Effect.gen(function* () {
        const { child, log, parent } = yield* budgeted
        const store = yield* Store
        yield* log.append(child, cost(1, "0.25"))
        for (const { jobId } of [child, parent])
          assert.deepStrictEqual((yield* store.job(jobId))?.budget, { USD: "0.75" })
      })
    )
  )

  it.effect("in memory too is counted when the emit of a cost returns", () =>
    makeStore("memory").run(
      Effect.gen(function* () {
        const { child, log, parent } = yield* budgeted
        for (let n = 1; n <= 10; n++) {
          yield* log.append(child, cost(n, "0.1"))
          for (const job of [child, parent])
            assert.strictEqual(
              BigDecimal.format(job.remaining.get("USD") as BigDecimal.BigDecimal),
              n === 10 ? "0" : `0.${10 - n}`
            )
        }
        assert.strictEqual(child.exhausted, "USD")
      })
    )
  )
})

describe("a job without a budget of its own", () => {
  it.effect("is out of budget when the job that it was delegated by is", () =>
    makeStore("durable").run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const own = record(view, { lease: { "cost.budget": ["USD:1"] } })
        const parent = yield* log.openJob(own, view)
        const child = yield* log.openJob(record(view, { parentJobId: own.jobId }), view, { parent })
        yield* log.append(child, cost(1, "0.75"))
        assert.isUndefined(child.exhausted)
        yield* log.append(child, cost(2, "0.25"))
        assert.deepStrictEqual([child.exhausted, parent.exhausted], ["USD", "USD"])
      })
    )
  )
})

describe("a log that is closed", () => {
  const closing = Effect.gen(function* () {
    const store = yield* Layer.build(StoreMemory.layer())
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(layerOn(Layer.succeedContext(store)), scope)
    return { context, log: Context.get(context, EventLog), store: Context.get(store, Store), scope }
  })

  it.scoped("has committed what was queued", () =>
    Effect.gen(function* () {
      const { context, scope, store } = yield* closing
      const job = yield* Effect.provide(Effect.flatMap(openView, openJob), context)
      yield* Effect.provide(emit(job, 1, 50), context)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* boundsOf(store, job.jobId)).last, 50)
    })
  )

  it.scoped("tells whoever comes later, rather than let it wait", () =>
    Effect.gen(function* () {
      const { context, log, scope } = yield* closing
      const job = yield* Effect.provide(Effect.flatMap(openView, openJob), context)
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(log.commit([]))))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(log.append(job, cost(1, "1")))))
    })
  )
})
