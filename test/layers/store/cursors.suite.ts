/** What every store promises of how far sessions have come with what they observe, run for each implementation. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { Op, Store, type StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { upTo } from "../log/harness.js"
import { aJob, append, aRun, aSession, put, vacuumAll } from "./fixtures.js"

const observe = (sessionId: string, jobId: string, cursor: number) => Op.Observe({ sessionId, jobId, cursor })
const putRun = (sessionId: string, ...run: Parameters<typeof aRun>): Op =>
  Op.PutRun({ sessionId, run: aRun(...run) })

/** A job with a hundred events, and one of another session. */
const opening = [
  Op.PutSession({ session: aSession("sess_a") }),
  Op.PutSession({ session: aSession("sess_b") }),
  put(aJob("job_a")),
  put(aJob("job_b", { sessionId: "sess_b" })),
  append("job_a", 1, 100),
  append("job_b", 1, 10)
]

const places = (store: StoreService, sessionId: string) =>
  Effect.map(store.observed(sessionId), (all) => all.map(({ cursor, jobId, last }) => [jobId, cursor, last]))

export const cursorSuite = (name: string, layer: Layer.Layer<Store, StoreError>): void => {
  const test = <E>(title: string, body: (store: StoreService) => Effect.Effect<void, E, Store>): void =>
    it.effect(title, () => Effect.flatMap(Store, body).pipe(Effect.provide(layer)))
  const commit = (store: StoreService, ...ops: ReadonlyArray<Op>) => store.commit({ ops, owners: [] })

  describe(`Cursors: ${name}`, () => {
    test("are where a session has begun with a job, has passed events over, or has come to by its runs", (store) =>
      Effect.gen(function* () {
        yield* commit(store, ...opening, observe("sess_a", "job_a", 40), observe("sess_a", "job_b", 0))
        assert.deepStrictEqual(yield* places(store, "sess_a"), [
          ["job_a", 40, 100],
          ["job_b", 0, 10]
        ])
        yield* commit(store, putRun("sess_a", 1, 20, "job_a", 41), putRun("sess_a", 21, 4, "job_b", 1))
        yield* commit(store, observe("sess_a", "job_a", 50), observe("sess_a", "job_b", 7))
        assert.deepStrictEqual(yield* places(store, "sess_a"), [
          ["job_a", 60, 100],
          ["job_b", 7, 10]
        ])
        const [a, b] = yield* store.observed("sess_a")
        assert.isAbove(a?.bytes ?? 0, 40 * 64)
        assert.isBelow(a?.bytes ?? 0, 40 * 100)
        assert.isAbove(b?.bytes ?? 0, 3 * 64)
        yield* commit(store, Op.Unobserve({ sessionId: "sess_a", jobId: "job_a" }))
        assert.deepStrictEqual(yield* places(store, "sess_a"), [["job_b", 7, 10]])
        yield* commit(
          store,
          observe("sess_a", "job_a", 100),
          Op.Unobserve({ sessionId: "sess_a", jobId: "job_b" }),
          putRun("sess_a", 25, 1, "job_b", 5)
        )
        assert.deepStrictEqual(yield* places(store, "sess_a"), [["job_a", 100, 100]])
        assert.deepStrictEqual(yield* places(store, "sess_b"), [])
      }))

    test("begin anew where a session has left a job and observes it again, also at once", (store) =>
      Effect.gen(function* () {
        const unobserve = Op.Unobserve({ sessionId: "sess_a", jobId: "job_a" })
        yield* commit(store, ...opening, observe("sess_a", "job_a", 90))
        yield* commit(store, unobserve, observe("sess_a", "job_a", 40))
        assert.deepStrictEqual(yield* places(store, "sess_a"), [["job_a", 40, 100]])
        yield* commit(store, observe("sess_a", "job_a", 95), unobserve, observe("sess_a", "job_a", 50))
        assert.deepStrictEqual(yield* places(store, "sess_a"), [["job_a", 50, 100]])
        yield* commit(store, unobserve, observe("sess_a", "job_a", 60), unobserve)
        assert.deepStrictEqual(yield* places(store, "sess_a"), [])
      }))

    test("have beside them what a session still needs, as it was last said", (store) =>
      Effect.gen(function* () {
        yield* commit(store, ...opening)
        assert.strictEqual(yield* store.need("sess_a"), 1)
        yield* commit(store, Op.Need({ sessionId: "sess_a", eventSeq: 7 }))
        yield* commit(store, Op.PutSession({ session: aSession("sess_a", { acked: 1 }) }))
        assert.strictEqual(yield* store.need("sess_a"), 7)
        assert.strictEqual(yield* store.need("sess_b"), 1)
        assert.strictEqual(yield* store.need("sess_x"), 1)
      }))

    test("stay where runs have led when these are gone", (store) =>
      Effect.gen(function* () {
        yield* commit(
          store,
          ...opening,
          observe("sess_b", "job_a", 0),
          observe("sess_b", "job_b", 0),
          putRun("sess_b", 1, 30, "job_a", 1),
          putRun("sess_b", 31, 10, "job_b", 1)
        )
        yield* commit(store, Op.TrimSession({ sessionId: "sess_b", eventSeq: 31 }))
        yield* vacuumAll
        yield* commit(store, Op.TrimSession({ sessionId: "sess_b", eventSeq: 41 }))
        yield* vacuumAll
        assert.deepStrictEqual(yield* places(store, "sess_b"), [
          ["job_a", 30, 100],
          ["job_b", 10, 10]
        ])
        assert.strictEqual(yield* store.needed("job_a"), 31)
        assert.strictEqual(yield* store.needed("job_b"), undefined)
      }))

    test("what is behind them is needed, of live jobs and of those that have ended, by sessions that are stored", (store) =>
      Effect.gen(function* () {
        const end = (jobId: string) =>
          put(aJob(jobId, { sessionId: "sess_b", status: "success", endedAt: 5 }))
        yield* commit(
          store,
          ...opening,
          put(aJob("job_c", { sessionId: "sess_b" })),
          append("job_c", 1, 5),
          observe("sess_a", "job_a", 30),
          observe("sess_b", "job_a", 60),
          observe("sess_x", "job_a", 1),
          observe("sess_b", "job_b", 10),
          observe("sess_b", "job_c", 4),
          end("job_b"),
          end("job_c")
        )
        assert.strictEqual(yield* store.needed("job_a"), 31)
        assert.deepStrictEqual([...(yield* store.lagging("job_a"))].sort(), ["sess_a", "sess_b"])
        assert.strictEqual(yield* store.needed("job_b"), undefined)
        assert.deepStrictEqual(yield* store.lagging("job_b"), [])
        assert.strictEqual(yield* store.needed("job_c"), 5)
        assert.deepStrictEqual(yield* store.retired({ endedBefore: 9, limit: 9 }), ["job_b"])
        yield* commit(store, Op.Unobserve({ sessionId: "sess_a", jobId: "job_a" }))
        assert.strictEqual(yield* store.needed("job_a"), 61)
        yield* commit(store, putRun("sess_b", 1, 5, "job_a", 1))
        assert.strictEqual(yield* store.needed("job_a"), 1)
        yield* commit(store, Op.Need({ sessionId: "sess_b", eventSeq: 6 }))
        assert.strictEqual(yield* store.needed("job_a"), 61)
        yield* commit(store, Op.DropSession({ sessionId: "sess_b" }))
        assert.strictEqual(yield* store.needed("job_a"), undefined)
        assert.deepStrictEqual(yield* store.retired({ endedBefore: 9, limit: 9 }), ["job_b", "job_c"])
      }))

    test("what is behind them comes in the order of commits, over jobs, a page at a time, with who gets it", (store) =>
      Effect.gen(function* () {
        yield* commit(store, put(aJob("job_a")), put(aJob("job_b")), put(aJob("job_c")))
        const expected: Array<readonly [string, number]> = []
        const say = (jobId: string, from: number, to: number) => {
          for (let seq = from; seq <= to; seq++) expected.push([jobId, seq])
          return commit(store, append(jobId, from, to))
        }
        yield* say("job_a", 1, 3)
        yield* say("job_a", 4, 4)
        yield* say("job_b", 1, 2)
        yield* say("job_a", 5, 5)
        yield* say("job_b", 3, 3)
        yield* commit(store, append("job_c", 1, 9))
        for (let i = 0; i < 40; i++) {
          yield* say("job_b", 4 + i, 4 + i)
          yield* say("job_a", 6 + 2 * i, 7 + 2 * i)
        }
        yield* say("job_b", 44, 1_500)
        const backlog = (a: number, b: number, limit: number) =>
          Effect.map(
            store.backlog(
              [
                { jobId: "job_a", seq: a },
                { jobId: "job_b", seq: b },
                { jobId: "job_x", seq: 0 }
              ],
              limit
            ),
            (events) => events.map(({ jobId, seq }) => [jobId, seq] as const)
          )
        assert.deepStrictEqual(yield* backlog(0, 0, 9_999), expected)
        assert.deepStrictEqual(yield* backlog(0, 0, 50), expected.slice(0, 50))
        const all: Array<readonly [string, number]> = []
        for (let page: ReadonlyArray<readonly [string, number]> = [["", 0]]; page.length > 0; ) {
          const last = (jobId: string) => all.findLast(([id]) => id === jobId)?.[1] ?? 0
          page = yield* backlog(last("job_a"), last("job_b"), 70)
          all.push(...page)
        }
        assert.deepStrictEqual(all, expected)
        yield* commit(store, Op.TrimJob({ jobId: "job_a", seq: 30 }), Op.DropJob({ jobId: "job_b" }))
        yield* vacuumAll
        assert.deepStrictEqual(
          yield* backlog(10, 0, 9_999),
          expected.filter(([jobId, seq]) => jobId === "job_a" && seq >= 30)
        )
        // A limit counts what is retained.
        assert.deepStrictEqual(
          yield* backlog(0, 0, 5),
          upTo(34, 30).map((seq) => ["job_a", seq] as const)
        )
        const event = {
          seq: 86,
          type: "job.error",
          kind: "",
          audience: "sess_a",
          payload: "x".repeat(100)
        } as const
        yield* commit(store, Op.Append({ jobId: "job_a", events: [event] }))
        const [late] = yield* store.backlog([{ jobId: "job_a", seq: 85 }], 9)
        assert.deepInclude(late, { jobId: "job_a", seq: 86, type: "job.error", kind: "", audience: "sess_a" })
        assert.isAbove(late?.bytes ?? 0, 64)
        assert.deepStrictEqual(yield* store.backlog([], 9), [])
      }))

    test("a session whose cursor is trimmed past has lost events, and needs no others that it had not numbered", (store) =>
      Effect.gen(function* () {
        yield* commit(store, ...opening, observe("sess_a", "job_a", 30), observe("sess_b", "job_a", 60))
        yield* commit(store, observe("sess_a", "job_b", 2), Op.TrimJob({ jobId: "job_a", seq: 31 }))
        assert.isFalse(yield* store.hasLost("sess_a"))
        yield* commit(store, Op.TrimJob({ jobId: "job_a", seq: 32 }))
        assert.isTrue(yield* store.hasLost("sess_a"))
        assert.isFalse(yield* store.hasLost("sess_b"))
        assert.isFalse(yield* store.hasLost("sess_x"))
        assert.strictEqual(yield* store.needed("job_b"), undefined)
        assert.strictEqual(yield* store.needed("job_a"), 61)
        assert.deepStrictEqual(yield* store.lagging("job_a"), ["sess_b"])
        yield* commit(store, Op.PutSession({ session: aSession("sess_a", { acked: 3 }) }))
        assert.isTrue(yield* store.hasLost("sess_a"))
        yield* commit(store, Op.Lose({ sessionId: "sess_b" }), Op.Lose({ sessionId: "sess_x" }))
        assert.isTrue(yield* store.hasLost("sess_b"))
        assert.strictEqual(yield* store.needed("job_a"), undefined)
      }))

    test("a session loses nothing by a job that it has left in the same commit", (store) =>
      Effect.gen(function* () {
        yield* commit(store, ...opening, observe("sess_a", "job_a", 40), observe("sess_b", "job_a", 40))
        const leave = (jobId: string) => Op.Unobserve({ sessionId: "sess_a", jobId })
        yield* commit(store, leave("job_a"), Op.TrimJob({ jobId: "job_a", seq: 60 }))
        assert.isFalse(yield* store.hasLost("sess_a"))
        assert.isTrue(yield* store.hasLost("sess_b"))
        yield* commit(store, observe("sess_a", "job_b", 2))
        yield* commit(store, leave("job_b"), Op.DropJob({ jobId: "job_b" }))
        assert.isFalse(yield* store.hasLost("sess_a"))
      }))

    test("a session that has not come to the end of a job loses by it when the job is dropped, and no other does", (store) =>
      Effect.gen(function* () {
        const dropped = aSession("sess_c")
        yield* commit(
          store,
          ...opening,
          Op.PutSession({ session: dropped }),
          observe("sess_a", "job_a", 99),
          observe("sess_b", "job_a", 100),
          observe("sess_c", "job_a", 1)
        )
        yield* commit(
          store,
          Op.PutSession({ session: aSession("sess_a", { acked: 1 }) }),
          Op.DropJob({ jobId: "job_a" }),
          Op.DropSession({ sessionId: "sess_c" }),
          Op.Need({ sessionId: "sess_a", eventSeq: 2 })
        )
        assert.isTrue(yield* store.hasLost("sess_a"))
        assert.strictEqual((yield* store.session("sess_a"))?.acked, 1)
        assert.isFalse(yield* store.hasLost("sess_b"))
        assert.isUndefined(yield* store.session("sess_c"))
        assert.deepStrictEqual(yield* places(store, "sess_a"), [])
      }))
  })
}
