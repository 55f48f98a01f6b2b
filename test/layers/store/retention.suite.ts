/** What every store promises about what is kept, for whom, and how much it is. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { Op, Store, type StoreError } from "../../../src/services/store/Store.js"
import { aJob, append, aRun, aSession, put, range, someEvents, vacuumAll } from "./fixtures.js"

const putSession = (sessionId: string) => Op.PutSession({ session: aSession(sessionId) })
const putRun = (sessionId: string, eventSeq: number, count: number, jobId = "job_a", jobSeq = eventSeq) =>
  Op.PutRun({ sessionId, run: aRun(eventSeq, count, jobId, jobSeq) })
const trimSession = (sessionId: string, eventSeq: number) => Op.TrimSession({ sessionId, eventSeq })
const need = (sessionId: string, eventSeq: number) => Op.Need({ sessionId, eventSeq })
const ended = (jobId: string, endedAt: number, fields: Parameters<typeof aJob>[1] = {}) =>
  put(aJob(jobId, { endedAt, status: "success", ...fields }))

/** A session that has the one event of a job. */
const watched = (sessionId: string, eventSeq: number, jobId: string) => [
  append(jobId, 1, 1),
  putRun(sessionId, eventSeq, 1, jobId, 1)
]

export const retentionSuite = (name: string, layer: Layer.Layer<Store, StoreError>): void => {
  const test = <E>(title: string, body: (store: Store["Type"]) => Effect.Effect<void, E, Store>): void =>
    it.effect(title, () => Effect.flatMap(Store, body).pipe(Effect.provide(layer)))

  describe(`Store, retention: ${name}`, () => {
    test("has nothing to say of what it does not know", (store) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* store.view("sess_a"), { first: 1, last: 0 })
        assert.deepStrictEqual(yield* store.page("sess_a", 0, 10, 1_000), [])
        assert.deepStrictEqual(Array.from(yield* store.boundsOf(["job_a"])), [])
        assert.deepStrictEqual(yield* store.marks("job_a"), [])
        assert.deepStrictEqual(Array.from(yield* store.observersOf(["job_a"])), [])
        assert.deepStrictEqual(yield* store.viewers(["job_a"]), [])
        assert.isUndefined(yield* store.needed("job_a"))
        assert.isFalse(yield* store.neededAbove("job_a"))
        assert.deepStrictEqual(yield* store.retired({ endedBefore: 9, limit: 9 }), [])
        assert.deepStrictEqual(yield* store.surplus({ principal: "alice", limit: 9, needed: true }), [])
        assert.deepStrictEqual(yield* store.surplus({ principal: "alice", limit: 9, needed: false }), [])
        assert.deepStrictEqual(Array.from(yield* store.endedCounts), [])
        assert.isUndefined(yield* store.input("job_a"))
        yield* store.commit({ ops: [need("sess_a", 5), trimSession("sess_a", 5)], owners: [] })
        assert.deepStrictEqual(yield* store.view("sess_a"), { first: 1, last: 0 })
      }))

    test("keeps the floor of a view exactly, also when everything below it is freed", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [putSession("sess_a"), putRun("sess_a", 1, 10), putRun("sess_a", 11, 10)],
          owners: []
        })
        assert.deepStrictEqual(yield* store.view("sess_a"), { first: 1, last: 20 })
        for (const [to, first] of [
          [5, 5],
          [3, 5],
          [10, 10],
          [15, 15]
        ] as const) {
          yield* store.commit({ ops: [trimSession("sess_a", to)], owners: [] })
          assert.deepStrictEqual(yield* store.view("sess_a"), { first, last: 20 })
          yield* vacuumAll
          assert.deepStrictEqual(yield* store.view("sess_a"), { first, last: 20 })
        }
        assert.deepEqual(yield* store.runs("sess_a", 1, 10), [aRun(11, 10)])
        yield* store.commit({ ops: [putSession("sess_a")], owners: [] })
        assert.deepStrictEqual(yield* store.view("sess_a"), { first: 15, last: 20 })

        yield* store.commit({ ops: [trimSession("sess_a", 99)], owners: [] })
        for (let round = 0; round < 2; round++) {
          assert.deepStrictEqual(yield* store.view("sess_a"), { first: 21, last: 20 })
          assert.deepEqual(yield* store.runs("sess_a", 1, 10), [])
          yield* vacuumAll
        }
        yield* store.commit({ ops: [putRun("sess_a", 11, 15)], owners: [] })
        assert.deepStrictEqual(yield* store.view("sess_a"), { first: 21, last: 25 })

        yield* store.commit({ ops: [Op.DropSession({ sessionId: "sess_a" })], owners: [] })
        for (let round = 0; round < 2; round++) {
          assert.deepStrictEqual(yield* store.view("sess_a"), { first: 1, last: 0 })
          yield* vacuumAll
        }
      }))

    test("needs of a job what its sessions have not put behind them", (store) =>
      Effect.gen(function* () {
        const expectNeeded = (seq: number | undefined) =>
          Effect.map(store.needed("job_a"), (found) => assert.strictEqual(found, seq))
        yield* store.commit({
          ops: [
            put(aJob("job_a")),
            append("job_a", 1, 40),
            putRun("sess_a", 1, 10),
            putRun("sess_b", 101, 5, "job_a", 3)
          ],
          owners: []
        })
        // Only stored sessions count.
        yield* expectNeeded(undefined)
        yield* store.commit({ ops: [putSession("sess_b")], owners: [] })
        yield* expectNeeded(3)
        yield* store.commit({ ops: [need("sess_a", 9)], owners: [] })
        yield* store.commit({ ops: [putSession("sess_a")], owners: [] })
        yield* expectNeeded(1)
        yield* store.commit({ ops: [need("sess_a", 6)], owners: [] })
        yield* expectNeeded(3)
        yield* store.commit({ ops: [trimSession("sess_b", 103), putSession("sess_a")], owners: [] })
        yield* expectNeeded(5)
        yield* store.commit({ ops: [need("sess_b", 106)], owners: [] })
        yield* expectNeeded(6)
        yield* store.commit({ ops: [trimSession("sess_a", 11)], owners: [] })
        yield* expectNeeded(undefined)
        // The numbering goes on: other jobs in between, then this one.
        yield* store.commit({
          ops: [
            putRun("sess_a", 11, 5, "job_b", 1),
            putRun("sess_a", 16, 5, "job_a", 11),
            putRun("sess_a", 21, 5, "job_b", 6)
          ],
          owners: []
        })
        yield* expectNeeded(11)
        yield* store.commit({ ops: [need("sess_a", 13)], owners: [] })
        yield* expectNeeded(11)
        yield* store.commit({ ops: [need("sess_a", 17)], owners: [] })
        yield* expectNeeded(12)
        yield* vacuumAll
        yield* expectNeeded(12)
        yield* store.commit({ ops: [Op.DropSession({ sessionId: "sess_a" })], owners: [] })
        yield* expectNeeded(undefined)
        yield* vacuumAll
        yield* expectNeeded(undefined)
      }))

    test("needs history that a session asked for again", (store) =>
      Effect.gen(function* () {
        const runs = [
          putRun("sess_a", 1, 20, "job_a", 1),
          putRun("sess_a", 21, 5, "job_b", 1),
          putRun("sess_a", 26, 10, "job_a", 11),
          putRun("sess_a", 36, 10, "job_a", 5),
          putRun("sess_a", 46, 10, "job_a", 30)
        ]
        yield* store.commit({
          ops: [putSession("sess_a"), put(aJob("job_a")), put(aJob("job_b")), ...runs],
          owners: []
        })
        for (const [from, seq] of [
          [1, 1],
          [3, 3],
          [8, 5],
          [26, 5],
          [35, 5],
          [36, 5],
          [40, 9],
          [45, 14],
          [46, 30],
          [56, undefined]
        ] as const) {
          yield* store.commit({ ops: [need("sess_a", from)], owners: [] })
          assert.strictEqual(yield* store.needed("job_a"), seq, `needed from ${from}`)
        }
        yield* store.commit({
          ops: [
            putSession("sess_b"),
            ...[
              putRun("sess_b", 1, 30, "job_b", 1),
              putRun("sess_b", 31, 5, "job_b", 11),
              putRun("sess_b", 36, 5, "job_b", 31)
            ]
          ],
          owners: []
        })
        yield* store.commit({ ops: [need("sess_a", 26), need("sess_b", 20)], owners: [] })
        assert.strictEqual(yield* store.needed("job_b"), 11)
        yield* store.commit({ ops: [need("sess_a", 1), trimSession("sess_a", 40)], owners: [] })
        yield* vacuumAll
        assert.strictEqual(yield* store.needed("job_a"), 9)
      }))

    test("tells who has a job in view, and until where", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [
            ...["sess_a", "sess_b", "sess_c"].map(putSession),
            ...["job_a", "job_b"].map((jobId) => put(aJob(jobId))),
            putRun("sess_a", 1, 10, "job_a", 1),
            putRun("sess_a", 11, 10, "job_b", 1),
            putRun("sess_a", 21, 4, "job_a", 11),
            putRun("sess_b", 1, 3, "job_a", 1),
            putRun("sess_b", 4, 3, "job_b", 1),
            putRun("sess_x", 1, 3, "job_a", 1)
          ],
          owners: []
        })
        const list = (jobIds: ReadonlyArray<string>) =>
          Effect.map(store.viewers(jobIds), (viewers) =>
            viewers.map(({ end, jobId, sessionId }) => `${jobId} ${sessionId} ${end}`).sort()
          )
        assert.deepStrictEqual(yield* list(["job_a", "job_b", "job_c"]), [
          "job_a sess_a 25",
          "job_a sess_b 4",
          "job_b sess_a 21",
          "job_b sess_b 7"
        ])
        assert.deepStrictEqual(yield* list(["job_b"]), ["job_b sess_a 21", "job_b sess_b 7"])
        yield* store.commit({ ops: [trimSession("sess_a", 21), trimSession("sess_b", 7)], owners: [] })
        for (let round = 0; round < 2; round++) {
          assert.deepStrictEqual(yield* list(["job_a", "job_b"]), ["job_a sess_a 25"])
          yield* vacuumAll
        }
        yield* store.commit({ ops: [Op.DropSession({ sessionId: "sess_a" })], owners: [] })
        assert.deepStrictEqual(yield* list(["job_a", "job_b"]), [])
      }))

    test("weighs a log, and marks where it can be cut", (store) =>
      Effect.gen(function* () {
        const payload = `"${"x".repeat(34)}"`
        const of = (from: number, to: number) => ({
          jobId: "job_a",
          events: someEvents(from, to, { payload })
        })
        yield* store.commit({
          ops: [put(aJob("job_a")), put(aJob("job_b")), Op.Append(of(1, 3_000))],
          owners: []
        })
        for (let seq = 3_001; seq <= 5_000; seq += 100)
          yield* store.commit({
            ops: [Op.Append(of(seq, seq + 99)), append("job_b", seq - 3_000, seq - 2_901)],
            owners: []
          })
        const bounds = Effect.map(store.boundsOf(["job_a", "job_none"]), (found) => Array.from(found))
        assert.deepStrictEqual(yield* bounds, [["job_a", { first: 1, last: 5_000, bytes: 500_000 }]])
        const marks = yield* store.marks("job_a")
        let seq = 0
        for (const mark of marks) {
          assert.isAbove(mark.seq, seq)
          assert.isAtMost(mark.seq - seq, 1_024)
          assert.strictEqual(mark.bytes, (mark.seq - seq) * 100)
          seq = mark.seq
        }
        assert.strictEqual(seq, 5_000)
        assert.isAtMost(marks.length, 10)

        const second = marks[1]?.seq ?? 0
        for (const [to, first] of [
          [second + 1, second + 1],
          [second + 101, second + 101],
          [9_999, 5_001]
        ] as const) {
          yield* store.commit({ ops: [Op.TrimJob({ jobId: "job_a", seq: to })], owners: [] })
          for (let round = 0; round < 2; round++) {
            assert.deepStrictEqual(yield* bounds, [
              ["job_a", { first, last: 5_000, bytes: (5_001 - first) * 100 }]
            ])
            const left = yield* store.marks("job_a")
            assert.strictEqual(
              left.reduce((sum, mark) => sum + mark.bytes, 0),
              (5_001 - first) * 100
            )
            if (first <= 5_000) assert.strictEqual(left.at(-1)?.seq, 5_000)
            yield* vacuumAll
          }
        }
        yield* store.commit({ ops: [Op.Append(of(5_001, 5_002))], owners: [] })
        assert.deepStrictEqual(yield* bounds, [["job_a", { first: 5_001, last: 5_002, bytes: 200 }]])
        assert.deepStrictEqual(yield* store.marks("job_a"), [{ seq: 5_002, bytes: 200 }])
      }))

    test("marks large events by their bytes", (store) =>
      Effect.gen(function* () {
        const sizes = [1_000, 300_000, 200_000, 100_000, 100, 400_000]
        yield* store.commit({ ops: [put(aJob("job_a"))], owners: [] })
        for (const [i, size] of sizes.entries())
          yield* store.commit({
            ops: [
              Op.Append({
                jobId: "job_a",
                events: someEvents(i + 1, i + 1, { payload: `"${"x".repeat(size - 66)}"` })
              })
            ],
            owners: []
          })
        const marks = yield* store.marks("job_a")
        assert.strictEqual(
          marks.reduce((sum, mark) => sum + mark.bytes, 0),
          1_001_100
        )
        let seq = 0
        for (const mark of marks) {
          const bytes = sizes.slice(seq, mark.seq).reduce((sum, size) => sum + size, 0)
          assert.strictEqual(mark.bytes, bytes)
          // One event may take it over the limit, the last of its stretch.
          assert.isBelow(bytes - (sizes[mark.seq - 1] ?? 0), 256 * 1024)
          seq = mark.seq
        }
        assert.strictEqual(seq, 6)
      }))

    test("lists the observers of many jobs", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [
            ...["job_a", "job_b", "job_c"].map((jobId) => put(aJob(jobId))),
            Op.Observe({ sessionId: "sess_a", jobId: "job_a", cursor: 0 }),
            Op.Observe({ sessionId: "sess_b", jobId: "job_a", cursor: 0 }),
            Op.Observe({ sessionId: "sess_b", jobId: "job_b", cursor: 0 }),
            Op.Observe({ sessionId: "sess_c", jobId: "job_c", cursor: 0 })
          ],
          owners: []
        })
        const found = yield* store.observersOf(["job_a", "job_b", "job_x"])
        assert.deepStrictEqual(Array.from(found.keys()).sort(), ["job_a", "job_b"])
        assert.deepStrictEqual(Array.from(found.get("job_a") ?? []).sort(), ["sess_a", "sess_b"])
        assert.deepStrictEqual(found.get("job_b"), ["sess_b"])
      }))

    test("reads a view in pages over many jobs", (store) =>
      Effect.gen(function* () {
        const jobs = ["job_a", "job_b", "job_c"]
        yield* store.commit({
          ops: jobs.map((jobId, i) => put(aJob(jobId, { traceId: `trace_${i}`, sessionId: `sess_${i}` }))),
          owners: []
        })
        // Rounds of three jobs with three events each, numbered as they come.
        const expected: Array<readonly [number, string, number]> = []
        for (let round = 0; round < 20; round++)
          for (const jobId of jobs) {
            const eventSeq = expected.length + 1
            const jobSeq = 3 * round + 1
            for (let i = 0; i < 3; i++) expected.push([eventSeq + i, jobId, jobSeq + i])
            yield* store.commit({
              ops: [append(jobId, jobSeq, jobSeq + 2), putRun("sess_a", eventSeq, 3, jobId, jobSeq)],
              owners: []
            })
          }
        const read = (after: number, limit: number, maxBytes = 1_000_000) =>
          Effect.map(store.page("sess_a", after, limit, maxBytes), (page) =>
            page.map(({ event, eventSeq, job }) => [eventSeq, job.jobId, event.seq] as const)
          )
        assert.deepStrictEqual(yield* read(0, 999), expected)
        assert.deepStrictEqual(yield* read(0, 4), expected.slice(0, 4))
        assert.deepStrictEqual(yield* read(7, 5), expected.slice(7, 12))
        assert.deepStrictEqual(yield* read(178, 5), expected.slice(178))
        assert.deepStrictEqual(yield* read(180, 5), [])
        assert.deepStrictEqual(yield* read(500, 5), [])
        const [first] = yield* store.page("sess_a", 4, 1, 1)
        assert.deepEqual(first, {
          eventSeq: 5,
          job: { jobId: "job_b", traceId: "trace_1", sessionId: "sess_1" },
          event: { ...someEvents(2, 2)[0] }
        } as typeof first)

        const bytes = `{"kind":"log","n":1}`.length + 64
        assert.strictEqual((yield* read(0, 99, 1)).length, 1)
        assert.strictEqual((yield* read(0, 99, 5 * bytes)).length, 6)
        assert.deepStrictEqual(yield* store.page("sess_b", 0, 10, 1_000), [])
      }))

    test("ends a page before the first event that is missing", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [
            put(aJob("job_a")),
            put(aJob("job_b")),
            append("job_a", 1, 2_000),
            append("job_b", 1, 10),
            putRun("sess_a", 1, 5, "job_a", 1),
            putRun("sess_a", 6, 10, "job_b", 1),
            putRun("sess_a", 16, 1_995, "job_a", 6)
          ],
          owners: []
        })
        const read = (after: number, limit = 9_999) =>
          Effect.map(store.page("sess_a", after, limit, 10_000_000), (page) =>
            page.map(({ eventSeq }) => eventSeq)
          )
        assert.deepStrictEqual(yield* read(0), range(1, 2_010))
        yield* store.commit({ ops: [Op.TrimJob({ jobId: "job_a", seq: 8 })], owners: [] })
        for (let round = 0; round < 2; round++) {
          assert.deepStrictEqual(yield* read(0), [])
          assert.deepStrictEqual(yield* read(5), range(6, 15))
          assert.deepStrictEqual(yield* read(15), [])
          assert.deepStrictEqual(yield* read(17, 3), [18, 19, 20])
          yield* vacuumAll
        }
        yield* store.commit({ ops: [trimSession("sess_a", 20), Op.DropJob({ jobId: "job_b" })], owners: [] })
        for (let round = 0; round < 2; round++) {
          assert.deepStrictEqual(yield* read(5), [])
          assert.deepStrictEqual(yield* read(18), [])
          assert.deepStrictEqual(yield* read(19, 2), [20, 21])
          yield* vacuumAll
        }
        yield* store.commit({ ops: [Op.DropSession({ sessionId: "sess_a" })], owners: [] })
        assert.deepStrictEqual(yield* read(19), [])
      }))

    test("finds all jobs that have ended at the same moment, in one search, whatever their ids", (store) =>
      Effect.gen(function* () {
        // More than are looked at in one step, the newest with the first id.
        const ids = range(1, 100).map((i) => `job_${String(1_000 - i)}`)
        yield* store.commit({
          ops: ids.map((jobId) => put(aJob(jobId, { status: "success", endedAt: 5 }))),
          owners: []
        })
        assert.deepStrictEqual(yield* store.retired({ endedBefore: 9, limit: 1_000 }), ids)
        assert.deepStrictEqual(yield* store.surplus({ principal: "alice", limit: 1_000, needed: true }), ids)
      }))

    test("names ended jobs that nobody needs, oldest end first", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [
            putSession("sess_a"),
            ended("job_c", 30),
            ended("job_b", 20, { rejected: true }),
            ended("job_a", 10, { principal: "bob" }),
            ended("job_d", 40),
            put(aJob("job_e")),
            ...watched("sess_a", 1, "job_c")
          ],
          owners: []
        })
        const retired = (endedBefore: number, limit: number) => store.retired({ endedBefore, limit })
        assert.deepStrictEqual(yield* retired(100, 10), ["job_a", "job_b", "job_d"])
        assert.deepStrictEqual(yield* retired(40, 10), ["job_a", "job_b"])
        assert.deepStrictEqual(yield* retired(100, 1), ["job_a"])
        yield* store.commit({ ops: [need("sess_a", 2)], owners: [] })
        assert.deepStrictEqual(Array.from(yield* retired(100, 10)).sort(), [
          "job_a",
          "job_b",
          "job_c",
          "job_d"
        ])
        const surplus = (principal: string, needed: boolean, limit = 10) =>
          store.surplus({ principal, limit, needed })
        yield* store.commit({ ops: [need("sess_a", 1)], owners: [] })
        assert.deepStrictEqual(yield* surplus("alice", true), ["job_b", "job_c", "job_d"])
        assert.deepStrictEqual(yield* surplus("alice", true, 2), ["job_b", "job_c"])
        assert.deepStrictEqual(yield* surplus("alice", false), ["job_b", "job_d"])
        assert.deepStrictEqual(yield* surplus("bob", false), ["job_a"])
        assert.deepStrictEqual(yield* surplus("carol", false), [])
        const counts = Effect.map(store.endedCounts, (found) => Array.from(found).sort())
        assert.deepStrictEqual(yield* counts, [
          ["alice", 3],
          ["bob", 1]
        ])
        yield* store.commit({ ops: [Op.DropJob({ jobId: "job_c" }), ended("job_e", 50)], owners: [] })
        assert.deepStrictEqual(yield* counts, [
          ["alice", 3],
          ["bob", 1]
        ])
        yield* store.commit({ ops: [Op.DropSession({ sessionId: "sess_a" })], owners: [] })
        assert.deepStrictEqual(Array.from(yield* retired(100, 10)).sort(), [
          "job_a",
          "job_b",
          "job_d",
          "job_e"
        ])
      }))

    test("keeps what a job has delegated to by its journal for as long as that has not ended", (store) =>
      Effect.gen(function* () {
        const entry = (kind: string, key: string) => ({ kind, key, ordinal: 1, about: "{}", value: "{}" })
        const below = (parentJobId: string) => ({ parentJobId })
        yield* store.commit({
          ops: [
            put(aJob("job_durable")),
            Op.PutJournal({
              jobId: "job_durable",
              entries: [entry("delegate", "a"), entry("delegate", "b"), entry("step", "c")]
            }),
            put(aJob("job_steps")),
            Op.PutJournal({ jobId: "job_steps", entries: [entry("step", "a")] }),
            put(aJob("job_plain")),
            ended("job_a", 10, below("job_durable")),
            ended("job_b", 20, below("job_durable")),
            // Of what it has delegated to itself only that one knows, and it has ended.
            ended("job_c", 30, below("job_b")),
            Op.PutJournal({ jobId: "job_b", entries: [entry("delegate", "a")] }),
            ended("job_d", 40, below("job_steps")),
            ended("job_e", 50, below("job_plain")),
            ended("job_f", 60, below("job_gone"))
          ],
          owners: []
        })
        const retired = Effect.map(store.retired({ endedBefore: 100, limit: 10 }), (ids) => [...ids].sort())
        assert.deepStrictEqual(yield* retired, ["job_c", "job_d", "job_e", "job_f"])
        const surplus = (needed: boolean) =>
          Effect.map(store.surplus({ principal: "alice", limit: 10, needed }), (ids) => [...ids].sort())
        assert.deepStrictEqual(yield* surplus(false), ["job_c", "job_d", "job_e", "job_f"])
        assert.strictEqual((yield* surplus(true)).length, 6)
        const above = Effect.filter(["job_a", "job_b", "job_c", "job_d", "job_e", "job_f"], store.neededAbove)
        assert.deepStrictEqual(yield* above, ["job_a", "job_b"])
        // No session needs anything of it.
        assert.isUndefined(yield* store.needed("job_a"))
        yield* store.commit({ ops: [ended("job_durable", 90)], owners: [] })
        assert.deepStrictEqual(yield* above, [])
        assert.deepStrictEqual(yield* retired, [
          ...["job_a", "job_b", "job_c", "job_d", "job_durable", "job_e", "job_f"]
        ])
      }))

    test("counts principals apart, whatever is in their names", (store) =>
      Effect.gen(function* () {
        const names = ["a", "a\0b", "a\0c", 'a"b', "ä😀", ""]
        for (const [i, principal] of names.entries())
          yield* store.commit({
            ops: [Op.PutJob({ job: aJob(`job_${i}`, { principal, endedAt: i + 1 }) })],
            owners: []
          })
        const found = Array.from(yield* store.endedCounts).sort()
        assert.deepStrictEqual(found, names.map((name) => [name, 1] as [string, number]).sort())
      }))

    test("finds what nobody needs among more that is needed than one search looks at", (store) =>
      Effect.gen(function* () {
        const batch: Array<Op> = [putSession("sess_a")]
        for (let i = 1; i <= 2_500; i++) {
          batch.push(ended(`job_${i}`, i))
          if (i % 500 !== 0) batch.push(...watched("sess_a", i, `job_${i}`))
          else batch.push(putRun("sess_a", i, 1, "job_other", i))
        }
        yield* store.commit({ ops: batch, owners: [] })
        for (const search of [
          store.retired({ endedBefore: 99_999, limit: 2 }),
          store.surplus({ principal: "alice", limit: 2, needed: false })
        ]) {
          const found = new Set<string>()
          let calls = 0
          for (; found.size < 5 && calls < 20; calls++) for (const jobId of yield* search) found.add(jobId)
          assert.deepStrictEqual(
            Array.from(found).sort(),
            [500, 1_000, 1_500, 2_000, 2_500].map((i) => `job_${i}`).sort()
          )
        }
      }))

    test("keeps the input of a job until the job is dropped", (store) =>
      Effect.gen(function* () {
        const input = JSON.stringify({ text: "é🙂".repeat(1_000) })
        yield* store.commit({
          ops: [Op.PutInput({ jobId: "job_a", input }), put(aJob("job_a")), put(aJob("job_b"))],
          owners: []
        })
        assert.strictEqual(yield* store.input("job_a"), input)
        assert.isUndefined(yield* store.input("job_b"))
        yield* store.commit({
          ops: [Op.PutInput({ jobId: "job_a", input: "1" }), put(aJob("job_a", { endedAt: 5 }))],
          owners: []
        })
        assert.strictEqual(yield* store.input("job_a"), "1")
        yield* store.commit({ ops: [Op.DropJob({ jobId: "job_a" })], owners: [] })
        for (let round = 0; round < 2; round++) {
          assert.isUndefined(yield* store.input("job_a"))
          yield* vacuumAll
        }
        yield* store.commit({ ops: [put(aJob("job_a")), put(aJob("job_c"))], owners: [] })
        assert.isUndefined(yield* store.input("job_a"))
        assert.isUndefined(yield* store.input("job_c"))
      }))
  })
}
