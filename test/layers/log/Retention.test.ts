import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { describe } from "vitest"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { all } from "../../../src/protocol/Features.js"
import { EventLog } from "../../../src/services/log/EventLog.js"
import { Store } from "../../../src/services/store/Store.js"
import { alsoInPostgres } from "../store/pg/layers.js"
import {
  emit,
  end,
  numbers,
  openJob,
  openViewWith,
  readAll,
  runOn,
  seqs,
  settle,
  settled,
  upTo,
  wake
} from "./harness.js"
import { suite } from "./Retention.suite.js"
import { sqlite } from "./sqlite.js"

suite("retention in memory", 16, StoreMemory.layer)
suite("retention on SQLite", 1, sqlite)
for (const { layer } of alsoInPostgres()) suite("retention in Postgres", 1, layer)

describe("a log in memory with a limit for all", () => {
  const run = runOn(StoreMemory.layer)
  const options = { maxMemoryLogBytes: 2 * 1024 * 1024, tailBytes: 1 }
  const absent = Effect.gen(function* () {
    const log = yield* EventLog
    const view = yield* openViewWith(all)
    yield* log.detach(view)
    return view
  })

  it.effect("stays within it, and the largest view that nobody reads loses first", () =>
    run(
      Effect.gen(function* () {
        const store = yield* Store
        const small = yield* absent
        yield* emit(yield* openJob(small), 1, 500)
        const large = yield* absent
        yield* emit(yield* openJob(large), 1, 30_000)
        yield* settled
        assert.isAtMost(store.held(), 2 * 1024 * 1024 * 1.125)
        assert.isAbove(large.first, 1)
        assert.strictEqual((yield* readAll(small)).length, 500)
        assert.deepStrictEqual(seqs(yield* readAll(large, large.first - 1)), upTo(30_000, large.first))
      }),
      options
    )
  )

  it.effect("a view that loses something loses no more than it has to, however small the limit is", () =>
    run(
      Effect.gen(function* () {
        const store = yield* Store
        const away = yield* absent
        const job = yield* openJob(away)
        for (let n = 1; n <= 1000; n += 100) {
          // Nobody reads, so no emitter waits for long.
          yield* Effect.fork(emit(job, n, n + 99))
          yield* settled
          assert.strictEqual(away.last, n + 99)
        }
        assert.isAtMost(store.held(), 64 * 1024 * 1.125)
        assert.isAtLeast(store.held(), 64 * 1024 * 0.5)
        assert.deepStrictEqual(seqs(yield* readAll(away, away.first - 1)), upTo(1000, away.first))
      }),
      { maxMemoryLogBytes: 64 * 1024, tailBytes: 1 }
    )
  )

  it.effect("finished jobs that nobody needs go before anything that somebody needs", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const store = yield* Store
        const away = yield* absent
        yield* emit(yield* openJob(away), 1, 3000)
        for (let i = 0; i < 20; i++) {
          const view = yield* absent
          const job = yield* openJob(view)
          yield* emit(job, 1, 1000)
          yield* end(job, view)
          yield* settle
          yield* log.ack(view, view.last)
          yield* settled
        }
        assert.isAtMost(store.held(), 2 * 1024 * 1024 * 1.125)
        assert.strictEqual((yield* readAll(away)).length, 3000)
      }),
      options
    )
  )

  it.effect("a reader that gets on loses nothing, and its emitter waits for it", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openViewWith(all)
        const job = yield* openJob(view)
        const emitting = yield* Effect.fork(emit(job, 1, 20_000))
        const seen: Array<string> = []
        while (seen.length < 20_000) {
          const { frames } = yield* log.read(view, seen.length, wake)
          seen.push(...frames)
          yield* log.ack(view, seen.length)
          yield* settle
        }
        yield* Fiber.join(emitting)
        assert.strictEqual(new Set(seen).size, 20_000)
      }),
      options
    )
  )

  it.effect("a reader that acknowledges nothing is sent everything, and the limit is kept", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const store = yield* Store
        const view = yield* openViewWith(all)
        const job = yield* openJob(view)
        const emitting = yield* Effect.fork(emit(job, 1, 20_000))
        const seen: Array<string> = []
        let held = 0
        for (let turns = 0; seen.length < 20_000 && turns < 20_000; turns++) {
          const { frames } = yield* log.read(view, seen.length, wake)
          seen.push(...frames)
          held = Math.max(held, store.held())
          yield* settle
          // The pauses of whoever waits for room.
          yield* TestClock.adjust("10 millis")
        }
        yield* Fiber.join(emitting)
        // One of them says that acknowledgements are missing.
        assert.isAtLeast(new Set(seen).size, 20_000)
        assert.isAtMost(held, 2 * 1024 * 1024 * 1.5)
      }),
      options
    )
  )
})

describe("a join while old events go", () => {
  it.effect("begins where the job begins then, and can be read whole", () =>
    Effect.gen(function* () {
      const asked = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      // The store says what is needed, and time passes before that is acted on.
      const slow = Layer.effect(
        Store,
        Effect.map(Store, (store) => ({
          ...store,
          needed: (jobId: string) =>
            store
              .needed(jobId)
              .pipe(Effect.zipLeft(Deferred.succeed(asked, undefined)), Effect.zipLeft(Deferred.await(gate)))
        }))
      ).pipe(Layer.provide(StoreMemory.layer()))
      yield* runOn(() => slow)(
        Effect.gen(function* () {
          const log = yield* EventLog
          const away = yield* openViewWith(all)
          yield* log.detach(away)
          const job = yield* openJob(away)
          yield* emit(job, 1, 200)
          yield* settle
          yield* log.ack(away, 200)
          const emitting = yield* Effect.fork(emit(job, 201, 400))
          yield* Deferred.await(asked)
          const reader = yield* openViewWith(all)
          const joining = yield* Effect.fork(log.observe(reader, job, { history: true, onCommit: () => {} }))
          yield* Effect.repeatN(Effect.zipRight(settle, Effect.yieldNow()), 20)
          yield* Deferred.succeed(gate, undefined)
          yield* Fiber.join(joining)
          yield* Fiber.join(emitting)
          yield* settled
          const frames = yield* readAll(reader, reader.first - 1)
          assert.deepStrictEqual(seqs(frames), upTo(reader.last, reader.first))
          const shown = numbers(frames, job)
          assert.deepStrictEqual(shown, upTo(400, shown[0]))
          assert.deepStrictEqual(numbers(yield* readAll(away, 200), job), upTo(400, 201))
        }),
        // What is emitted is more, what somebody needs of it is less.
        { maxMemoryLogBytes: 80 * 1024, tailBytes: 1 }
      )
    })
  )
})
