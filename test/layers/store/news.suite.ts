/** What a store that nodes share tells a node of jobs of others, in one read. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { type NewsQuery, Op, Store, type StoreError } from "../../../src/services/store/Store.js"
import { aJob, append, aRun, aSession, put, survival } from "./fixtures.js"

export const newsSuite = (name: string, layer: Layer.Layer<Store, StoreError>): void => {
  describe(`News: ${name}`, () => {
    it.effect(
      "is what follows, in the order of commits, and who has more to look at or has lost something",
      () =>
        Effect.gen(function* () {
          const store = yield* Store
          const commit = (...ops: ReadonlyArray<Op>) => store.commit({ ops, owners: [] })
          const observe = (sessionId: string, jobId: string, cursor = 1) =>
            Op.Observe({ sessionId, jobId, cursor })
          const ask = (after: NewsQuery["after"], more: Partial<NewsQuery> = {}) =>
            store.news?.({
              ...{ node: "b", sessions: ["sess_a", "sess_b"], after, limit: 100, maxBytes: 1_000_000 },
              ...more
            }) ?? Effect.dieMessage("it has no news")
          yield* commit(
            Op.PutSession({ session: aSession("sess_a") }),
            Op.PutSession({ session: aSession("sess_b") }),
            put(aJob("job_a", { node: "a\0" })),
            put(aJob("job_c", { node: "c" })),
            put(aJob("job_own", { node: "b" })),
            put(aJob("job_none")),
            append("job_a", 1, 2),
            observe("sess_a", "job_a"),
            observe("sess_a", "job_c", 0),
            ...["job_a", "job_own", "job_none"].map((jobId) => observe("sess_b", jobId))
          )
          assert.deepInclude(yield* Effect.map(store.observed("sess_a"), ([a]) => a), {
            jobId: "job_a",
            node: "a\0",
            ended: false
          })
          // Of what has said nothing there is nothing to be seen.
          const silent = yield* ask(["job_a", "job_c"].map((jobId) => ({ jobId, seq: 9 })))
          assert.deepStrictEqual([...silent.joined], [])
          yield* commit(append("job_c", 1, 1))
          yield* commit(append("job_a", 3, 4))
          const after = [
            { jobId: "job_a", seq: 1 },
            { jobId: "job_c", seq: 0 },
            { jobId: "job_gone", seq: 0 }
          ]
          const all = yield* ask(after)
          const found = (news: typeof all) => news.events.map(({ jobId, seq }) => [jobId, seq])
          assert.deepStrictEqual(found(all), [
            ["job_a", 2],
            ["job_c", 1],
            ["job_a", 3],
            ["job_a", 4]
          ])
          const [stored] = yield* store.events("job_a", 2, 1)
          assert.deepInclude(all.events[0], { ...stored, jobId: "job_a" })
          assert.isAbove(all.events[0]?.bytes ?? 0, 0)
          // It may be asked for on behalf of another, who observes it as well.
          assert.deepStrictEqual(
            [[...all.joined], [...all.lost], [...all.gone]],
            [["sess_a"], [], ["job_gone"]]
          )
          yield* commit(
            observe("sess_b", "job_c", 0),
            Op.PutRun({ sessionId: "sess_a", run: aRun(1, 1, "job_c") })
          )
          assert.deepStrictEqual([...(yield* ask(after)).joined], ["sess_b"])
          yield* commit(observe("sess_b", "job_c"))
          assert.deepStrictEqual([...(yield* ask(after)).joined], [])
          // Only so many, and the payloads of the first.
          const few = yield* ask(after, { limit: 3, maxBytes: 2 * (all.events[0]?.bytes ?? 0) })
          assert.deepStrictEqual(found(few), found(all).slice(0, 3))
          assert.deepStrictEqual(
            few.events.map(({ payload }) => payload !== undefined),
            [true, true, false]
          )
          // Of this node's own, and of jobs that no node has, it is told otherwise.
          const less = yield* ask(after.slice(0, 1))
          assert.deepStrictEqual([...less.joined].sort(), ["sess_a", "sess_b"])
          yield* commit(
            put(aJob("job_c", { node: "c", status: "success", endedAt: 9 })),
            // Neither had come to it.
            Op.TrimJob({ jobId: "job_a", seq: 3 })
          )
          const later = yield* ask(after.slice(0, 1))
          assert.deepStrictEqual(found(later), [
            ["job_a", 3],
            ["job_a", 4]
          ])
          assert.deepStrictEqual(
            [[...later.joined].sort(), [...later.lost].sort()],
            [
              ["sess_a", "sess_b"],
              ["sess_a", "sess_b"]
            ]
          )
        }).pipe(Effect.provide(layer))
    )

    it.effect("jobs on other nodes are counted by who has them, and by whether they have begun", () =>
      Effect.gen(function* () {
        const store = yield* Store
        const count = (nodes: string, ...principals: ReadonlyArray<string>) =>
          Effect.map(
            store.openOn?.(nodes.split(" "), principals) ?? Effect.dieMessage("it does not count them"),
            (found) => Object.fromEntries(found)
          )
        const waiting = { survival: { ...survival, waiting: { dueAt: 5 } } }
        const zoe = "zoe\0"
        yield* store.commit({
          ops: [
            put(aJob("job_a", { node: "a\0" })),
            put(aJob("job_a2", { node: "a\0", parentJobId: "job_a" })),
            put(aJob("job_b", { node: "b" })),
            put(aJob("job_left", { node: "" })),
            put(aJob("job_queued", { node: "b", status: "pending" })),
            put(aJob("job_zoe", { node: "b", principal: zoe })),
            // What only waits has no place, also when it is a part of another.
            put(aJob("job_row", { node: "b", ...waiting })),
            put(aJob("job_part", { node: "b", ...waiting, parentJobId: "job_b" })),
            put(aJob("job_ended", { node: "b", status: "success", endedAt: 7 })),
            put(aJob("job_refused", { node: "b", status: "error", endedAt: 7, rejected: true }))
          ],
          owners: []
        })
        assert.deepStrictEqual(yield* count("b", "alice", zoe, "nobody"), {
          alice: { running: 1, pending: 1 },
          [zoe]: { running: 1, pending: 0 }
        })
        assert.deepStrictEqual(yield* count("a\0 gone", "alice", zoe), { alice: { running: 2, pending: 0 } })
        assert.deepStrictEqual(yield* count("a\0 b", zoe), { [zoe]: { running: 1, pending: 0 } })
        assert.deepStrictEqual(yield* count("b"), {})
        yield* store.commit({
          ops: [
            put(aJob("job_b", { node: "b", status: "error", endedAt: 8 })),
            Op.MoveJob({ jobId: "job_left", node: "a\0", epoch: 2 })
          ],
          owners: []
        })
        assert.deepStrictEqual(yield* count("a\0 b", "alice"), { alice: { running: 3, pending: 1 } })
      }).pipe(Effect.provide(layer))
    )
  })
}
