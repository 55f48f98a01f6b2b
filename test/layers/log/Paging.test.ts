/** Whoever reads in pages notices a store whose pages lead no further: it fails, rather than read them for ever. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { LiveLogs } from "../../../src/layers/log/Live.js"
import { type ListingPlace, list } from "../../../src/layers/store/listing.js"
import { onward } from "../../../src/layers/store/onward.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { EventLog } from "../../../src/services/log/EventLog.js"
import { Store, type StoreService } from "../../../src/services/store/Store.js"
import { emit, event, openJob, openView, runOn, session, settle, wake } from "./harness.js"

/** A store some of whose reads are wrong. */
const wrong = (reads: (store: StoreService) => Partial<StoreService>) =>
  runOn(() =>
    Layer.effect(
      Store,
      Effect.map(Store, (store): StoreService => ({ ...store, ...reads(store) }))
    ).pipe(Layer.provide(StoreMemory.layer()))
  )

/** What was emitted before the last batch is not read from memory. */
const options = { tailBytes: 1 }
const another = Effect.zipRight(
  settle,
  Effect.flatMap(openView, (view) =>
    Effect.zipRight(
      Effect.flatMap(openJob(view), (job) => emit(job, 1, 1)),
      settle
    )
  )
)

const diesWith = <A, E, R>(effect: Effect.Effect<A, E, R>, sentence: string) =>
  Effect.map(Effect.exit(effect), (exit) => {
    assert.isTrue(Exit.isFailure(exit) && Cause.isDie(exit.cause))
    if (Exit.isFailure(exit)) assert.include(Cause.pretty(exit.cause), sentence)
  })

it("onward takes what is beyond, and nothing else", () => {
  assert.strictEqual(onward(7, 8), 8)
  for (const next of [7, 6, Number.NaN]) assert.throws(() => onward(7, next), "began at 7")
})

describe("a page that is the first one again", () => {
  it.effect("of a view ends the read", () =>
    wrong((store) => ({ page: (id, _, limit, bytes) => store.page(id, 0, limit, bytes) }))(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        yield* emit(yield* openJob(view), 1, 20)
        yield* another
        yield* diesWith(log.read(view, 5, wake), "event 1 of a view where 6 follows")
      }),
      options
    )
  )

  it.effect("of a job ends whoever follows it", () =>
    wrong((store) => ({ events: (id, _, limit) => store.events(id, 1, Math.min(limit, 10)) }))(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openJob(yield* openView)
        yield* emit(job, 1, 30)
        yield* log.append(job, event("progress", 31))
        yield* another
        yield* diesWith(Stream.runDrain(log.events(job)), "read for ever")
      }),
      options
    )
  )

  it.effect("of runs ends the loading of a view", () =>
    Effect.gen(function* () {
      const store = yield* Store
      const stored = session()
      const run = (n: number) => ({ eventSeq: n, jobId: `job_${n}`, jobSeq: 1, count: 1, bytes: 10 })
      yield* store.commit({
        ops: [
          { _tag: "PutSession", session: stored },
          ...[1, 2, 3].map((n) => ({ _tag: "PutRun", sessionId: stored.sessionId, run: run(n) }) as const)
        ],
        owners: []
      })
      const limits = { events: 100, bytes: 100_000 }
      const good = new LiveLogs(store, limits, { release: () => {} })
      assert.strictEqual((yield* good.loadView(stored)).last, 3)
      const bad = new LiveLogs({ ...store, runs: (id) => store.runs(id, 1, 1) }, limits, {
        release: () => {}
      })
      yield* diesWith(bad.loadView(stored), "read for ever")
    }).pipe(Effect.provide(StoreMemory.layer()))
  )

  it.effect("of a listing ends that", () => {
    const place = (n: number): ListingPlace => ({ createdAt: n, jobId: `job_${n}` })
    const listed = (next: (after: ListingPlace) => ListingPlace | undefined) =>
      list<number>(
        { principals: "everyone", limit: 10 },
        (after) => Effect.succeed({ found: [], next: next(after) }),
        Effect.void
      )
    return Effect.gen(function* () {
      let step = 0
      assert.deepStrictEqual(yield* listed(() => (++step < 5 ? place(step) : undefined)), [])
      yield* diesWith(
        listed(() => place(1)),
        "goes on at job_1"
      )
    })
  })
})
