/** What every store says of nodes, and of keys that are stated to be free. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import {
  absent,
  type JobRecord,
  Op,
  type SessionFilter,
  Store,
  type StoreError
} from "../../../src/services/store/Store.js"
import { aJob, append, aSession, put, survival } from "./fixtures.js"

export const nodesSuite = (name: string, layer: Layer.Layer<Store, StoreError>): void => {
  const test = <E>(title: string, body: (store: Store["Type"]) => Effect.Effect<void, E, Store>): void =>
    it.effect(title, () => Effect.flatMap(Store, body).pipe(Effect.provide(layer)))

  describe(`Store, nodes: ${name}`, () => {
    test("finds jobs by the node that has them, and the nodes that have any", (store) =>
      Effect.gen(function* () {
        const of = (jobId: string, node: string | undefined, more: Partial<JobRecord> = {}) =>
          put({ ...aJob(jobId), node, ...more })
        const waiting = { survival: { ...survival, waiting: { dueAt: 5 } } }
        assert.deepStrictEqual(yield* store.jobNodes, [])
        yield* store.commit({
          ops: [
            of("job_a", "a"),
            of("job_a2", "a", waiting),
            of("job_b", "b\0", waiting),
            of("job_c", "c", { status: "success", endedAt: 7 }),
            of("job_d", "d", { rejected: true }),
            of("job_e", undefined)
          ],
          owners: []
        })
        assert.deepStrictEqual(yield* store.jobNodes, ["", "a", "b\0"])
        const session = (sessionId: string, node: string | undefined, attached = true) =>
          Op.PutSession({
            session: { ...aSession(sessionId, { attached, principal: '"attached":true\0' }), node }
          })
        yield* store.commit({
          ops: [
            ...[session("sess_1", "a"), session("sess_2", "a"), session("sess_3", "a", false)],
            ...[session("sess_4", "b\0"), session("sess_5", undefined)]
          ],
          owners: []
        })
        const counts = yield* store.nodeCounts
        const sorted = (of: ReadonlyMap<string, number>) => [...of].sort(([a], [b]) => (a < b ? -1 : 1))
        assert.deepStrictEqual(sorted(counts.jobs), [
          ["", 1],
          ["a", 2],
          ["b\0", 1]
        ])
        assert.deepStrictEqual(sorted(counts.sessions), [
          ["", 1],
          ["a", 2],
          ["b\0", 1]
        ])
        const open = (node: string) =>
          Effect.map(
            store.jobs({ principals: "everyone", status: ["pending", "running"], node, limit: 9 }),
            (found) => found.map(({ jobId }) => jobId)
          )
        assert.deepStrictEqual(yield* open("a"), ["job_a", "job_a2"])
        assert.deepStrictEqual(yield* open("b\0"), ["job_b"])
        assert.deepStrictEqual(yield* open("c"), [])
        assert.deepStrictEqual(yield* open(""), ["job_e"])
        const due = (node: string | undefined) =>
          Effect.map(store.due({ by: 9, node, limit: 9 }), (found) => found.map(({ jobId }) => jobId))
        assert.deepStrictEqual(yield* due("a"), ["job_a2"])
        assert.deepStrictEqual(yield* due(undefined), ["job_a2", "job_b"])
        assert.deepStrictEqual([...(yield* store.waitingCounts("b\0"))], [["alice", 1]])
        assert.deepStrictEqual([...(yield* store.waitingCounts(undefined))], [["alice", 2]])
        // Whoever takes one says so with the next epoch.
        const taken = { ...aJob("job_a2"), ...waiting, node: "e", epoch: 2 }
        yield* store.commit({ ops: [put(taken)], owners: [{ job: "job_a2", epoch: 1 }] })
        assert.deepStrictEqual(yield* due("e"), ["job_a2"])
        assert.deepStrictEqual(yield* open("a"), ["job_a"])
        yield* store.commit({
          ops: [of("job_a", "a", { status: "error", endedAt: 9 })],
          owners: [{ job: "job_a", epoch: 1 }]
        })
        assert.deepStrictEqual(yield* store.jobNodes, ["", "b\0", "e"])
      }))

    test("a job that is moved keeps what was written of it before; one that has ended stays as it is", (store) =>
      Effect.gen(function* () {
        const open = { ...aJob("job_open"), node: "a", epoch: 1 }
        const over = { ...aJob("job_over"), node: "a", epoch: 1 }
        const at = (epoch: number) => [open, over].map(({ jobId }) => ({ job: jobId, epoch }))
        yield* store.commit({ ops: [put(open), put(over)], owners: [] })
        // Between who reads them and who leaves them.
        const wanted = { ...open, cancelRequested: { reason: "enough", at: 5 } }
        const ended = { ...over, status: "success", endedAt: 9 } as const
        yield* store.commit({ ops: [put(wanted), put(ended)], owners: at(1) })
        const leave = [open, over].map(({ jobId }) => Op.MoveJob({ jobId, node: "", epoch: 2 }))
        yield* store.commit({ ops: leave, owners: at(1) })
        assert.deepStrictEqual(yield* store.job("job_open"), { ...wanted, node: "", epoch: 2 })
        assert.deepStrictEqual(yield* store.job("job_over"), ended)
        assert.deepStrictEqual(yield* store.jobNodes, [""])
        const late = { ops: [put(wanted)], owners: [{ job: "job_open", epoch: 1 }] }
        assert.strictEqual((yield* Effect.flip(store.commit(late)))._tag, "Fenced")
        const cancelRequested = { reason: 'it\'s "over"', at: 6 }
        const take = Op.MoveJob({ jobId: "job_open", node: "b\0", epoch: 3, cancelRequested })
        const taken = { ...wanted, node: "b\0", epoch: 3, cancelRequested }
        yield* store.commit({ ops: [take], owners: [{ job: "job_open", epoch: 2 }] })
        assert.deepStrictEqual(yield* store.jobNodes, ["b\0"])
        yield* store.commit({
          ops: [Op.DropJob({ jobId: "job_over" })],
          owners: [{ job: "job_over", epoch: 1 }]
        })
        assert.deepStrictEqual(yield* store.job("job_open"), taken)
        assert.isUndefined(yield* store.job("job_over"))
      }))

    test("a session that is taken keeps what was written of it before, and is written of by the new epoch only", (store) =>
      Effect.gen(function* () {
        const session = { ...aSession("sess_a", { epoch: 1 }), node: "a" }
        const issued = { ...session, issuedTokenDigests: ["newer"], acked: 7 }
        const at = (epoch: number) => [{ session: "sess_a", epoch }]
        yield* store.commit({ ops: [Op.PutSession({ session })], owners: [] })
        yield* store.commit({ ops: [Op.PutSession({ session: issued })], owners: at(1) })
        const take = Op.TakeSession({ sessionId: "sess_a", node: "b\0", epoch: 2 })
        yield* store.commit({ ops: [take], owners: at(1) })
        assert.deepStrictEqual(yield* store.session("sess_a"), { ...issued, node: "b\0", epoch: 2 })
        const late = store.commit({ ops: [Op.PutSession({ session: issued })], owners: at(1) })
        assert.strictEqual((yield* Effect.flip(late))._tag, "Fenced")
        const again = Op.TakeSession({ sessionId: "sess_a", node: "c", epoch: 3 })
        const put = Op.PutSession({ session: { ...session, node: "c", epoch: 3 } })
        yield* store.commit({
          ops: [again, Op.Need({ sessionId: "sess_a", eventSeq: 3 }), put],
          owners: at(2)
        })
        assert.deepStrictEqual(yield* store.session("sess_a"), { ...session, node: "c", epoch: 3 })
      }))

    test("a key that is stated to be free and is not: nothing is written, and it is told", (store) =>
      Effect.gen(function* () {
        const free = (since: number, key = "key", principal = "alice") => ({ key, principal, since })
        const opening = (jobId: string, owner: ReturnType<typeof free>, more: Partial<JobRecord> = {}) =>
          store.commit({
            ops: [
              put({ ...aJob(jobId), idempotencyKey: owner.key, principal: owner.principal, ...more }),
              append(jobId, 1, 1)
            ],
            owners: [{ job: jobId, epoch: absent }, owner]
          })
        const long = "k".repeat(5_000)
        yield* opening("job_a", free(0))
        yield* opening("job_l", free(0, long))
        const { createdAt } = aJob("job_a")
        const refused = yield* Effect.flip(opening("job_b", free(createdAt - 1)))
        assert.deepInclude(refused, { _tag: "Fenced", owners: [free(createdAt - 1)] })
        assert.isUndefined(yield* store.job("job_b"))
        assert.deepInclude(yield* Effect.flip(opening("job_b", free(0, long))), {
          owners: [free(0, long)]
        })
        // Together with something else that is not so.
        const both = yield* Effect.flip(
          store.commit({
            ops: [Op.PutSession({ session: aSession("sess_a") })],
            owners: [{ session: "sess_a", epoch: 3 }, free(0)]
          })
        )
        assert.deepInclude(both, { owners: [{ session: "sess_a", epoch: 3 }, free(0)] })
        // Of another principal, after its time, and freed.
        yield* opening("job_o", free(0, "key", "bob"))
        yield* opening("job_b", free(createdAt))
        for (const jobId of ["job_a", "job_b"])
          yield* store.commit({
            ops: [
              put({ ...aJob(jobId), idempotencyKey: "key", keyFreed: true, status: "error", endedAt: 9 })
            ],
            owners: [{ job: jobId, epoch: 1 }]
          })
        yield* opening("job_c", free(0))
        assert.strictEqual((yield* store.jobByKey("alice", "key"))?.jobId, "job_c")
        // A refused submit has no key.
        yield* opening("job_r", free(0, "other"), { rejected: true, endedAt: 9, status: "error" })
        yield* opening("job_s", free(0, "other"))
      }))

    test("tells where jobs and sessions are, and with which epoch", (store) =>
      Effect.gen(function* () {
        const session = (sessionId: string, more: object) =>
          Op.PutSession({ session: { ...aSession(sessionId), ...more } })
        yield* store.commit({
          ops: [
            put({ ...aJob("job_a"), node: "a\0", epoch: 3 }),
            put(aJob("job_b")),
            session("sess_a", { node: "a\0", epoch: 2 }),
            session("sess_b", {})
          ],
          owners: []
        })
        assert.deepStrictEqual(
          yield* store.jobPlaces(["job_a", "job_b", "job_none"]),
          new Map([
            ["job_a", { epoch: 3, node: "a\0" }],
            ["job_b", { epoch: 1, node: "" }]
          ])
        )
        assert.deepStrictEqual(
          yield* store.sessionPlaces(["sess_b", "sess_none", "sess_a"]),
          new Map([
            ["sess_b", { epoch: 1, node: "" }],
            ["sess_a", { epoch: 2, node: "a\0" }]
          ])
        )
        assert.strictEqual((yield* store.jobPlaces([])).size, 0)
      }))

    test("gives sessions by id, a page after the other, of a node or of none of some", (store) =>
      Effect.gen(function* () {
        const session = (sessionId: string, node: string | undefined) =>
          Op.PutSession({ session: { ...aSession(sessionId), node } })
        yield* store.commit({
          ops: [
            session("sess_c", "a\0"),
            session("sess_a", "a\0"),
            session("sess_d", "b"),
            session("sess_b", undefined)
          ],
          owners: []
        })
        const page = (filter: Omit<SessionFilter, "limit"> = {}, limit = 9) =>
          Effect.map(store.sessionPage({ ...filter, limit }), (found) =>
            found.map(({ sessionId }) => sessionId.slice(-1)).join("")
          )
        assert.strictEqual(yield* page(), "abcd")
        assert.strictEqual(yield* page({}, 2), "ab")
        assert.strictEqual(yield* page({ after: "sess_b" }, 2), "cd")
        assert.strictEqual(yield* page({ after: "sess_d" }), "")
        assert.strictEqual(yield* page({ node: "a\0" }), "ac")
        assert.strictEqual(yield* page({ node: "a\0", after: "sess_a" }), "c")
        assert.strictEqual(yield* page({ node: "" }), "b")
        assert.strictEqual(yield* page({ notOf: ["a\0", "none"] }), "bd")
        assert.strictEqual(yield* page({ notOf: ["", "b"] }), "ac")
      }))

    test("keeps what nodes want of each other until it is dropped, answers included", (store) =>
      Effect.gen(function* () {
        const wish = (id: string, jobId: string, from: string, at = 5) => ({
          ...{ id, jobId, kind: "cancel", body: '{"reason":"\\u0000é"}', from, at }
        })
        const idsOf = (node: string | undefined, limit = 9) =>
          Effect.map(store.wishes(node, limit), (found) => found.map(({ id }) => id))
        yield* store.commit({
          ops: [
            put({ ...aJob("job_a"), node: "a\0" }),
            put({ ...aJob("job_end"), node: "a\0", status: "success", endedAt: 7 }),
            put(aJob("job_none")),
            Op.PutWish({ wish: wish("wish_2", "job_a", "b") }),
            Op.PutWish({ wish: wish("wish_1", "job_a", "c") }),
            Op.PutWish({ wish: wish("wish_3", "job_end", "b", 4) }),
            Op.PutWish({ wish: wish("wish_4", "job_gone", "b", 6) }),
            Op.PutWish({ wish: wish("wish_5", "job_none", "c\0", 7) })
          ],
          owners: []
        })
        // Of the node that has the job, and of the one that wants something.
        assert.deepStrictEqual(yield* store.wishes("a\0", 9), [
          { ...wish("wish_1", "job_a", "c"), job: { node: "a\0", ended: false } },
          { ...wish("wish_2", "job_a", "b"), job: { node: "a\0", ended: false } }
        ])
        assert.deepStrictEqual(yield* store.wishes("b", 9), [
          { ...wish("wish_3", "job_end", "b", 4), job: { node: "a\0", ended: true } },
          { ...wish("wish_2", "job_a", "b"), job: { node: "a\0", ended: false } },
          { ...wish("wish_4", "job_gone", "b", 6), job: undefined }
        ])
        assert.deepStrictEqual(yield* idsOf(""), ["wish_5"])
        assert.deepStrictEqual(yield* idsOf("c\0"), ["wish_5"])
        assert.deepStrictEqual(yield* idsOf(undefined, 2), ["wish_3", "wish_1"])
        assert.deepStrictEqual(yield* idsOf("z"), [])
        // The first answer counts, of whoever has the job; there is none to what was dropped.
        const answer = (id: string, text: string, epoch = 1) =>
          store.commit({ ops: [Op.AnswerWish({ id, answer: text })], owners: [{ job: "job_a", epoch }] })
        assert.strictEqual((yield* Effect.flip(answer("wish_2", "{}", 2)))._tag, "Fenced")
        yield* answer("wish_2", '{"ok":1}')
        yield* answer("wish_2", '{"ok":2}')
        yield* answer("wish_9", "{}")
        assert.deepStrictEqual(yield* idsOf("a\0"), ["wish_1"])
        assert.strictEqual((yield* store.wishes("b", 9))[1]?.answer, '{"ok":1}')
        // It outlives its job.
        yield* store.commit({
          ops: [Op.DropJob({ jobId: "job_end" }), Op.DropWishes({ ids: ["wish_2", "wish_4", "wish_9"] })],
          owners: []
        })
        assert.deepStrictEqual(yield* store.wishes("b", 9), [
          { ...wish("wish_3", "job_end", "b", 4), job: undefined }
        ])
        // In the order of the batch.
        yield* store.commit({
          ops: [
            Op.PutWish({ wish: wish("wish_6", "job_a", "d") }),
            Op.AnswerWish({ id: "wish_6", answer: "6" }),
            Op.PutWish({ wish: wish("wish_7", "job_a", "d") }),
            Op.DropWishes({ ids: ["wish_7"] }),
            Op.DropWishes({ ids: ["wish_8"] }),
            Op.PutWish({ wish: wish("wish_8", "job_a", "d", 8) })
          ],
          owners: []
        })
        const left = yield* store.wishes("d", 9)
        assert.deepStrictEqual(
          left.map(({ answer, id }) => [id, answer]),
          [
            ["wish_6", "6"],
            ["wish_8", undefined]
          ]
        )
      }))
  })
}
