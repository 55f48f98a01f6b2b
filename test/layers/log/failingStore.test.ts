/** Views that are caught up with, and logs that are read and written, over a store of which every second call fails. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { all } from "../../../src/protocol/Features.js"
import { EventLog, type View } from "../../../src/services/log/EventLog.js"
import { Store, StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { alsoInPostgres } from "../store/pg/layers.js"
import {
  emit,
  event,
  type Frame,
  layerOn,
  numbers,
  record,
  seqs,
  session,
  settle,
  upTo,
  wake
} from "./harness.js"
import { sqlite } from "./sqlite.js"

const features = all.filter((feature) => feature !== "ack")

/** How often each call of a store has failed; it fails for as long as `fails` is set. */
interface Failing {
  fails: boolean
  readonly failed: Map<string, number>
}

/** The same store, of which each second call of each kind fails, and has done nothing. */
const everySecond = (store: StoreService, failing: Failing): StoreService => {
  const calls = new Map<string, number>()
  const given = (name: string, value: unknown): unknown =>
    Effect.isEffect(value)
      ? Effect.suspend(() => {
          const call = (calls.get(name) ?? 0) + 1
          calls.set(name, call)
          if (!failing.fails || call % 2 === 0) return value as Effect.Effect<unknown, unknown>
          failing.failed.set(name, (failing.failed.get(name) ?? 0) + 1)
          return new StoreError({ message: `${name} fails each second time` })
        })
      : value
  return new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof name === "symbol" || name === "died") return member
      return typeof member === "function"
        ? (...args: ReadonlyArray<unknown>) => given(name, Reflect.apply(member, target, args))
        : given(name, member)
    }
  })
}

const stores = [
  ["in memory", StoreMemory.layer],
  ["on SQLite", sqlite],
  ...alsoInPostgres().map(({ layer }) => ["in Postgres", () => layer()] as const)
] as const

const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
/** Lets whatever waits for its next attempt try again, for as long as the scope lasts. */
const timePasses = Effect.forkScoped(Effect.forever(Effect.zipRight(TestClock.adjust("100 millis"), turn)))
const again = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(
    Effect.tapError(effect, () => turn),
    { times: 50 }
  )
const numbered = (view: View, last: number) =>
  Effect.repeat(turn, { until: () => view.last >= last, times: 1_000_000 })
/** Reads a view page by page; a page that fails is the reader's to ask for again. */
const readAgain = (view: View) =>
  Effect.gen(function* () {
    const log = yield* EventLog
    const frames: Array<Frame> = []
    while (frames.length < view.last) {
      const { frames: page } = yield* again(log.read(view, frames.length, wake))
      for (const text of page) frames.push(JSON.parse(text) as Frame)
    }
    return frames
  })

describe.each(stores)("a store %s that fails each second time", (_, store) => {
  it.effect("while a view catches up, with its jobs emitting: all is numbered once, in order", () =>
    Effect.gen(function* () {
      const kept = yield* Layer.build(store())
      const failing: Failing = { fails: false, failed: new Map() }
      const { own, stored, watching } = yield* Effect.gen(function* () {
        const log = yield* EventLog
        const [stored, watching] = [session({ features }), session({ features })]
        const view = yield* log.openView(stored)
        const own = record(view)
        const job = yield* log.openJob(own, view)
        yield* log.observe(yield* log.openView(watching), job, { history: true, onCommit: () => {} })
        yield* emit(job, 1, 2)
        yield* settle
        return { own, stored, watching }
      }).pipe(Effect.scoped, Effect.provide(layerOn(Layer.succeedContext(kept))))
      const inner = Context.get(kept, Store)
      yield* Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* log.reopenJob(own)
        // More than a page.
        yield* emit(job, 3, 5_000)
        yield* settle
        failing.fails = true
        yield* timePasses
        const view = yield* again(log.holdView(stored))
        const emitting = yield* Effect.fork(
          Effect.forEach(
            upTo(40, 1),
            (n) => Effect.zipRight(emit(job, 5_001 + 25 * (n - 1), 5_000 + 25 * n), Effect.yieldNow()),
            { discard: true }
          )
        )
        const watcher = yield* again(log.holdView(watching))
        yield* Effect.all([numbered(view, 6_000), numbered(watcher, 6_000)])
        yield* Fiber.join(emitting)
        yield* again(log.append(job, { ...event("log", 6_001), awaited: true }))
        yield* Effect.all([numbered(view, 6_001), numbered(watcher, 6_001)])
        for (const call of ["commit", "backlog", "observed"])
          assert.isAbove(failing.failed.get(call) ?? 0, 0, call)
        for (const each of [view, watcher]) {
          const frames = yield* readAgain(each)
          assert.deepStrictEqual(seqs(frames), upTo(6_001))
          assert.deepStrictEqual(numbers(frames, job), upTo(6_001))
        }
      }).pipe(
        Effect.scoped,
        Effect.provide(layerOn(Layer.succeed(Store, everySecond(inner, failing)), { tailBytes: 1 }))
      )
      // And that is what is stored.
      failing.fails = false
      assert.deepStrictEqual(
        (yield* inner.events(own.jobId, 1, 9_999)).map(({ seq }) => seq),
        upTo(6_001)
      )
      for (const { sessionId } of [stored, watching]) {
        assert.deepStrictEqual(yield* inner.view(sessionId), { first: 1, last: 6_001 })
        assert.isFalse(yield* inner.hasLost(sessionId))
      }
    }).pipe(Effect.scoped)
  )
})
