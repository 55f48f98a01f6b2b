/** A long history that a session begins to observe: in pages, none longer than what late numbering commits, over every store. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { all } from "../../../src/protocol/Features.js"
import { EventLog, type JobLog, type View } from "../../../src/services/log/EventLog.js"
import {
  type Batch,
  Op,
  Store,
  type StoreError,
  type StoreService
} from "../../../src/services/store/Store.js"
import {
  emit,
  end,
  layerOn,
  numbers,
  openView,
  openViewWith,
  readAll,
  record,
  seqs,
  session,
  settle,
  upTo
} from "./harness.js"

/** Events that late numbering takes at once. */
const page = 2048

/** What a store was asked. */
interface Asked {
  readonly batches: Array<Batch>
  events: number
  /** Events after this are not found by whoever looks for what follows a place. */
  damagedAfter: number
  commit: (batch: Batch) => Effect.Effect<void, StoreError>
}

const makeStore = (store: () => Layer.Layer<Store, StoreError>) => {
  const asked: Asked = { batches: [], events: 0, damagedAfter: Infinity, commit: () => Effect.void }
  const watched = (inner: StoreService): StoreService => ({
    ...inner,
    commit: (batch) => {
      asked.batches.push(batch)
      return Effect.zipRight(
        Effect.suspend(() => asked.commit(batch)),
        inner.commit(batch)
      )
    },
    backlog: (...query) =>
      Effect.map(inner.backlog(...query), (events) => events.filter(({ seq }) => seq <= asked.damagedAfter)),
    events: (...query) => {
      asked.events++
      return inner.events(...query)
    }
  })
  return { asked, layer: Layer.effect(Store, Effect.map(Store, watched)).pipe(Layer.provide(store())) }
}

const plain = all.filter((feature) => feature !== "progress" && feature !== "ack")
const kindOf = (n: number) => (n % 2 === 0 ? "progress" : "log")
const odd = (to: number, from = 1) => upTo(to, from).filter((n) => n % 2 === 1)

/** Every second event is for sessions only that take progress. */
const alternate = (job: JobLog, from: number, to: number) =>
  Effect.forEach(upTo(to, from), (n) => emit(job, n, n, kindOf(n)), { discard: true })

/** Waits until a view has come to a number. */
const numbered = (view: View, last: number) =>
  Effect.repeat(settle, { until: () => view.last >= last || view.lost, times: 2_000 })

const join = (view: View, job: JobLog, fromEventSeq?: number) =>
  Effect.gen(function* () {
    const log = yield* EventLog
    let told: number | undefined
    yield* log.observe(view, job, {
      history: true,
      fromEventSeq,
      onCommit: (from) => {
        told = from
      }
    })
    return told
  })

const longest = ({ batches }: Asked) =>
  Math.max(...batches.map(({ ops }) => ops.filter(({ _tag }) => _tag === "PutRun").length))

export const suite = (name: string, store: () => Layer.Layer<Store, StoreError>): void => {
  /** Nothing is read from memory. */
  const options = { tailBytes: 1 }

  const run = <A, E>(test: (asked: Asked) => Effect.Effect<A, E, EventLog | Store | Scope.Scope>) => {
    const { asked, layer } = makeStore(store)
    return Effect.scoped(test(asked)).pipe(Effect.provide(layerOn(layer, options)))
  }

  describe(`a long history, ${name}`, () => {
    it.effect("of a job that runs is numbered in pages, and then what comes", () =>
      run((asked) =>
        Effect.gen(function* () {
          const owner = yield* openView
          const log = yield* EventLog
          const job = yield* log.openJob(record(owner), owner)
          yield* alternate(job, 1, 9_000)
          yield* settle
          const view = yield* openViewWith(plain)
          asked.batches.length = 0
          assert.strictEqual(yield* join(view, job), 0)
          yield* alternate(job, 9_001, 9_600)
          yield* numbered(view, 4_800)
          yield* alternate(job, 9_601, 9_700)
          yield* numbered(view, 4_850)
          const frames = yield* readAll(view)
          assert.deepStrictEqual(seqs(frames), upTo(4_850))
          assert.deepStrictEqual(numbers(frames, job), odd(9_700))
          assert.isAtMost(longest(asked), page)
          // Who is looked at needs no payloads.
          assert.strictEqual(asked.events, 0)
        })
      )
    )

    it.effect("of a job that has ended is numbered in pages, to its end", () =>
      run((asked) =>
        Effect.gen(function* () {
          const owner = yield* openView
          const [log, db] = [yield* EventLog, yield* Store]
          const job = yield* log.openJob(record(owner), owner)
          yield* alternate(job, 1, 9_000)
          yield* end(job, owner)
          const view = yield* openViewWith(plain)
          asked.batches.length = 0
          const ended = (yield* db.job(job.jobId)) ?? assert.fail("it is not stored")
          yield* join(view, yield* log.loadJob(ended), 4)
          yield* numbered(view, 4_499)
          const frames = yield* readAll(view)
          assert.deepStrictEqual(numbers(frames, job), [...odd(9_000, 5), undefined])
          assert.deepStrictEqual(yield* db.observed(view.sessionId), [])
          assert.isAtMost(longest(asked), page)
        })
      )
    )

    it.effect("that is asked for again, by who follows the job, comes once more, and then what comes", () =>
      run((asked) =>
        Effect.gen(function* () {
          const owner = yield* openView
          const log = yield* EventLog
          const job = yield* log.openJob(record(owner), owner)
          const view = yield* openViewWith(plain)
          yield* log.observe(view, job, { history: false, onCommit: () => {} })
          yield* alternate(job, 1, 9_000)
          yield* numbered(view, 4_500)
          asked.batches.length = 0
          assert.strictEqual(yield* join(view, job), 4_500)
          yield* alternate(job, 9_001, 9_100)
          yield* numbered(view, 9_050)
          yield* alternate(job, 9_101, 9_200)
          yield* numbered(view, 9_100)
          const frames = yield* readAll(view)
          assert.deepStrictEqual(seqs(frames), upTo(9_100))
          assert.deepStrictEqual(numbers(frames, job), [...odd(9_000), ...odd(9_200)])
          assert.isAtMost(longest(asked), page)
        })
      )
    )

    for (const first of [2_000, 5_000])
      for (const isOver of [false, true])
        it.effect(
          `of a job that ${isOver ? "has ended" : "runs"}, and has nothing before ${first} any more, is what it has, wherever it is asked for from`,
          () =>
            run(() =>
              Effect.gen(function* () {
                const [log, db] = [yield* EventLog, yield* Store]
                const owner = yield* openView
                const job = yield* log.openJob(record(owner), owner)
                yield* alternate(job, 1, 9_000)
                if (isOver) yield* end(job, owner)
                yield* settle
                yield* log.dropView(owner)
                log.letGo(job)
                yield* log.commit([Op.TrimJob({ jobId: job.jobId, seq: first })])
                const stored = (yield* db.job(job.jobId)) ?? assert.fail("it is not stored")
                const [view, other] = [yield* openViewWith(plain), yield* openViewWith(plain)]
                yield* join(view, yield* log.loadJob(stored), 4)
                const left = odd(9_000, first)
                yield* numbered(view, left.length + (isOver ? 1 : 0))
                const ends = isOver ? [undefined] : []
                assert.deepStrictEqual(numbers(yield* readAll(view), job), [...left, ...ends])
                // After all that there is.
                yield* join(other, yield* log.loadJob(stored), 20_000)
                if (isOver) yield* numbered(other, 1)
                else {
                  yield* alternate(yield* log.loadJob(stored), 9_001, 9_100)
                  yield* numbered(view, left.length + 50)
                  yield* numbered(other, 50)
                  assert.deepStrictEqual(numbers(yield* readAll(view), job), [...left, ...odd(9_100, 9_001)])
                }
                assert.deepStrictEqual(
                  numbers(yield* readAll(other), job),
                  isOver ? [undefined] : odd(9_100, 9_001)
                )
              })
            )
        )

    it.effect("whose end is missing in the store is refused, and not taken for all there is", () =>
      run((asked) =>
        Effect.gen(function* () {
          const [log, db] = [yield* EventLog, yield* Store]
          const owner = yield* openView
          const job = yield* log.openJob(record(owner), owner)
          yield* alternate(job, 1, 1_000)
          yield* end(job, owner)
          yield* log.dropView(owner)
          log.letGo(job)
          const view = yield* openViewWith(plain)
          const ended = (yield* db.job(job.jobId)) ?? assert.fail("it is not stored")
          asked.damagedAfter = 60
          assert.strictEqual((yield* Effect.exit(join(view, yield* log.loadJob(ended))))._tag, "Failure")
          assert.deepStrictEqual([...view.observedJobs], [])
          asked.damagedAfter = Infinity
          yield* join(view, yield* log.loadJob(ended))
          assert.deepStrictEqual(numbers(yield* readAll(view), job), [...odd(1_000), undefined])
        })
      )
    )

    it.effect(
      "of which a page is not stored is as it was before, and the place where it goes on is stored",
      () =>
        run((asked) =>
          Effect.gen(function* () {
            const [log, db] = [yield* EventLog, yield* Store]
            const owner = yield* openView
            const job = yield* log.openJob(record(owner), owner)
            const view = yield* log.openView(session({ features: plain }))
            yield* alternate(job, 1, 9_000)
            yield* settle
            asked.commit = () => Effect.die("no")
            assert.strictEqual((yield* Effect.exit(join(view, job)))._tag, "Failure")
            asked.commit = () => Effect.void
            assert.deepStrictEqual([...view.observedJobs], [])
            assert.strictEqual(view.last, 0)
            // Of what follows the first page nothing is.
            let pages = 0
            asked.commit = ({ ops }) =>
              ops.some((op) => op._tag === "PutRun") && ++pages > 1 ? Effect.die("no") : Effect.void
            yield* join(view, job)
            const [observed] = yield* db.observed(view.sessionId)
            assert.deepStrictEqual([observed?.cursor, observed?.last], [page, 9_000])
          })
        )
    )
  })
}
