/** What every store promises (`src/services/store/Store.ts`), run for each implementation. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Turn from "../../../src/services/runtime/Turn.js"
import { never } from "../../../src/services/store/dueAt.js"
import {
  absent,
  type Batch,
  eventOverhead,
  type JobFilter,
  type JobRecord,
  Op,
  Store,
  type StoredEvent,
  type StoreError
} from "../../../src/services/store/Store.js"
import { cursorSuite } from "./cursors.suite.js"
import {
  aJob,
  append,
  aRun,
  aSession,
  boundsOf,
  observersOf,
  put,
  range,
  seqs,
  someEvents,
  survival,
  vacuumAll
} from "./fixtures.js"
import { nodesSuite } from "./nodes.suite.js"
import { numberingSuite } from "./numbering.suite.js"
import { retentionSuite } from "./retention.suite.js"

export const suite = (name: string, layer: Layer.Layer<Store, StoreError>): void => {
  const test = <E>(title: string, body: (store: Store["Type"]) => Effect.Effect<void, E, Store>): void =>
    it.effect(title, () => Effect.flatMap(Store, body).pipe(Effect.provide(layer)))

  retentionSuite(name, layer)
  numberingSuite(name, layer)
  cursorSuite(name, layer)
  nodesSuite(name, layer)

  describe(`Store: ${name}`, () => {
    test("is empty at first", (store) =>
      Effect.gen(function* () {
        assert.isUndefined(yield* store.session("sess_a"))
        assert.deepStrictEqual(yield* store.sessions, [])
        assert.deepStrictEqual(yield* store.view("sess_a"), { first: 1, last: 0 })
        assert.deepStrictEqual(yield* store.runs("sess_a", 0, 10), [])
        assert.deepStrictEqual(yield* observersOf(store, "job_a"), [])
        assert.isUndefined(yield* store.job("job_a"))
        assert.deepStrictEqual(yield* store.jobs({ principals: "everyone", limit: 10 }), [])
        assert.deepStrictEqual(yield* store.events("job_a", 1, 10), [])
        assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 1, last: 0 })
        assert.strictEqual(yield* store.aliveAt, 0)
        assert.isFalse(yield* store.vacuum)
        yield* store.commit({ ops: [], owners: [] })
      }))

    test("remembers when the runtime was alive", (store) =>
      Effect.gen(function* () {
        yield* store.commit({ ops: [Op.Alive({ at: 1_700_000_000_000 })], owners: [] })
        yield* store.commit({ ops: [Op.Alive({ at: 1_700_000_001_000 })], owners: [] })
        assert.strictEqual(yield* store.aliveAt, 1_700_000_001_000)
        assert.deepStrictEqual([...(yield* store.lives)], [["", 1_700_000_001_000]])
      }))

    test("keeps, replaces and drops sessions", (store) =>
      Effect.gen(function* () {
        const a = aSession("sess_a", { issuedTokenDigests: ["new", "newer"] })
        yield* store.commit({
          ops: [Op.PutSession({ session: a }), Op.PutSession({ session: aSession("sess_b") })],
          owners: []
        })
        assert.deepEqual(yield* store.session("sess_a"), a)
        const { issuedTokenDigests: _, ...rest } = a
        yield* store.commit({
          ops: [Op.PutSession({ session: { ...rest, attached: false, acked: 7 } })],
          owners: []
        })
        assert.deepEqual(yield* store.session("sess_a"), { ...rest, attached: false, acked: 7 })
        yield* store.commit({ ops: [Op.DropSession({ sessionId: "sess_b" })], owners: [] })
        assert.deepEqual(
          (yield* store.sessions).map((session) => session.sessionId),
          ["sess_a"]
        )
      }))

    test("reads events back in order, a page at a time", (store) =>
      Effect.gen(function* () {
        yield* store.commit({ ops: [put(aJob("job_a")), append("job_a", 1, 3)], owners: [] })
        yield* store.commit({ ops: [append("job_a", 4, 4)], owners: [] })
        yield* store.commit({ ops: [append("job_a", 5, 9), append("job_a", 10, 10)], owners: [] })
        assert.deepEqual(yield* store.events("job_a", 1, 100), someEvents(1, 10))
        assert.deepStrictEqual(seqs(yield* store.events("job_a", 3, 4)), [3, 4, 5, 6])
        assert.deepStrictEqual(seqs(yield* store.events("job_a", 0, 2)), [1, 2])
        assert.deepStrictEqual(seqs(yield* store.events("job_a", 10, 100)), [10])
        assert.deepStrictEqual(seqs(yield* store.events("job_a", 11, 100)), [])
        assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 1, last: 10 })
      }))

    test("counts what it retains", (store) =>
      Effect.gen(function* () {
        const retained = store.retained ?? Effect.dieMessage("this store tells")
        assert.deepStrictEqual(yield* retained, { events: 0, bytes: 0 })
        yield* store.commit({
          ops: [put(aJob("job_a")), append("job_a", 1, 3), put(aJob("job_b")), append("job_b", 1, 2)],
          owners: []
        })
        yield* store.commit({ ops: [append("job_a", 4, 4)], owners: [] })
        const bytes = [...someEvents(1, 4), ...someEvents(1, 2)].reduce(
          (sum, { payload }) => sum + payload.length + eventOverhead,
          0
        )
        assert.deepStrictEqual(yield* retained, { events: 6, bytes })
        yield* store.commit({ ops: [Op.DropJob({ jobId: "job_a" })], owners: [] })
        yield* vacuumAll
        assert.strictEqual((yield* retained).events, 2)
      }))

    test("keeps type, kind, audience and payload of an event", (store) =>
      Effect.gen(function* () {
        const events: Array<StoredEvent> = [
          { seq: 1, type: "job.event", kind: "status", payload: '{"kind":"status","a":"é 🙂 \\u0000"}' },
          {
            seq: 2,
            type: "job.event",
            kind: "x-vendor.a.b",
            audience: "sess_a",
            payload: '{"kind":"x-vendor.a.b"}'
          },
          { seq: 3, type: "job.result", kind: "", payload: '{"final_status":"success"}' }
        ]
        yield* store.commit({ ops: [Op.Append({ jobId: "job_a", events }), put(aJob("job_a"))], owners: [] })
        const read = yield* store.events("job_a", 1, 10)
        assert.deepEqual(
          read.map(
            ({ audience, ...event }): StoredEvent => (audience === undefined ? event : { ...event, audience })
          ),
          events
        )
        assert.isUndefined(read[0]?.audience)
      }))

    test("refuses what belongs to no job: nothing of such a batch is kept", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [put(aJob("job_a")), Op.PutSession({ session: aSession("sess_a") })],
          owners: []
        })
        const held = store.held()
        for (const op of [
          append("job_b", 1, 2),
          Op.PutInput({ jobId: "job_b", input: "{}" }),
          Op.PutJournal({ jobId: "job_b", entries: [] })
        ]) {
          const error = yield* Effect.flip(store.commit({ ops: [append("job_a", 1, 1), op], owners: [] }))
          assert.isTrue(error._tag === "StoreError" && error.misuse)
          assert.match(error.message, /job_b, of which there is no job record/)
        }
        assert.deepEqual(yield* store.events("job_a", 1, 10), [])
        yield* store.commit({ ops: [Op.DropJob({ jobId: "job_a" })], owners: [] })
        const late = yield* Effect.flip(store.commit({ ops: [append("job_a", 1, 1)], owners: [] }))
        assert.isTrue(late._tag === "StoreError" && late.misuse)
        assert.isAtMost(store.held(), held)
      }))

    test("writes nothing of what somebody else has taken, and says what that is", (store) =>
      Effect.gen(function* () {
        const job = { job: "job_a", epoch: 1 }
        const session = { session: "sess_a", epoch: 1 }
        const opened = [
          { job: "job_a", epoch: absent },
          { session: "sess_a", epoch: absent }
        ]
        const opening = {
          ops: [put(aJob("job_a")), Op.PutSession({ session: aSession("sess_a") })],
          owners: opened
        }
        yield* store.commit(opening)
        const fenced = (batch: Batch) =>
          Effect.map(Effect.flip(store.commit(batch)), (error) =>
            error._tag === "Fenced" ? error.owners : assert.fail(error.message)
          )
        // Somebody else had the same ids first.
        assert.deepStrictEqual(yield* fenced(opening), opened)
        yield* store.commit({ ops: [append("job_a", 1, 2)], owners: [job, session] })
        // Both are taken, one after the other; the other job of the batch is not written either.
        yield* store.commit({ ops: [put(aJob("job_a", { epoch: 2 }))], owners: [job] })
        yield* store.commit({ ops: [put(aJob("job_b"))], owners: [{ job: "job_b", epoch: absent }] })
        const late = {
          ops: [append("job_b", 1, 1), append("job_a", 3, 3)],
          owners: [{ ...job, job: "job_b" }, job]
        }
        assert.deepStrictEqual(yield* fenced(late), [job])
        yield* store.commit({
          ops: [Op.PutSession({ session: aSession("sess_a", { epoch: 7 }) })],
          owners: [session]
        })
        const run = Op.PutRun({ sessionId: "sess_a", run: aRun(1, 1) })
        assert.deepStrictEqual(yield* fenced({ ops: [run], owners: [job, session] }), [job, session])
        assert.deepStrictEqual(yield* store.runs("sess_a", 1, 9), [])
        assert.deepStrictEqual(seqs(yield* store.events("job_a", 1, 9)), [1, 2])
        assert.deepStrictEqual(yield* store.events("job_b", 1, 9), [])
        // Whoever has taken them goes on.
        yield* store.commit({
          ops: [append("job_a", 3, 3), run],
          owners: [
            { job: "job_a", epoch: 2 },
            { session: "sess_a", epoch: 7 }
          ]
        })
        assert.strictEqual((yield* store.job("job_a"))?.epoch, 2)
        assert.strictEqual((yield* store.session("sess_a"))?.epoch, 7)
        // What was dropped nobody has any more.
        yield* store.commit({
          ops: [Op.DropJob({ jobId: "job_a" }), Op.DropSession({ sessionId: "sess_a" })],
          owners: [
            { job: "job_a", epoch: 2 },
            { session: "sess_a", epoch: 7 }
          ]
        })
        const gone = [
          { job: "job_a", epoch: 2 },
          { session: "sess_a", epoch: 7 }
        ]
        assert.deepStrictEqual(yield* fenced({ ops: [put(aJob("job_a", { epoch: 2 }))], owners: gone }), gone)
        assert.isUndefined(yield* store.job("job_a"))
        yield* store.commit(opening)
      }))

    test("finds jobs that wait by when they are due, and counts them; none that is in memory again or has ended", (store) =>
      Effect.gen(function* () {
        const waiting = (jobId: string, dueAt: number, more: Partial<JobRecord> = {}) =>
          put({ ...aJob(jobId), survival: { ...survival, waiting: { dueAt } }, ...more })
        const due = (by: number, limit = 10, after?: JobRecord) =>
          Effect.map(
            store.due({
              by,
              limit,
              after: after && { dueAt: after.survival?.waiting?.dueAt as number, jobId: after.jobId }
            }),
            (found) => found.map(({ jobId }) => jobId)
          )
        yield* store.commit({
          ops: [
            waiting("job_b", 20),
            waiting("job_a", 20),
            waiting("job_c", 10, { principal: "bob" }),
            waiting("job_d", never, {
              node: "a",
              survival: { ...survival, waiting: { dueAt: never }, parked: "agent_not_available" }
            }),
            waiting("job_e", 5, { parentJobId: "job_f" }),
            put({ ...aJob("job_f"), survival }),
            append("job_a", 1, 2)
          ],
          owners: []
        })
        yield* store.commit({
          ops: ["job_a", "job_d", "job_f"].map((jobId) =>
            Op.Observe({ sessionId: "sess_x", jobId, cursor: 0 })
          ),
          owners: []
        })
        assert.deepEqual([...(yield* store.waitingObserved("sess_x"))].sort(), ["job_a", "job_d"])
        assert.deepEqual(yield* store.waitingObserved("sess_y"), [])
        assert.deepEqual(yield* store.waitingOwners("alice"), [aJob("job_a").sessionId])
        assert.deepEqual(yield* store.waitingOwners("nobody"), [])
        assert.deepEqual(yield* due(9), ["job_e"])
        assert.deepEqual(yield* due(20), ["job_e", "job_c", "job_a", "job_b"])
        assert.deepEqual(yield* due(20, 2), ["job_e", "job_c"])
        const [, , third] = yield* store.due({ by: 20, limit: 3 })
        assert.deepEqual(yield* due(20, 10, third), ["job_b"])
        assert.deepEqual((yield* due(never)).length, 5)
        assert.deepEqual([...(yield* store.waitingCounts(undefined))].sort(), [
          ["alice", 4],
          ["bob", 1]
        ])
        const listed = (waiting: "rows" | "parked" | "held", node?: string) =>
          Effect.map(store.jobs({ principals: "everyone", waiting, node, limit: 100 }), (found) =>
            found.map(({ jobId }) => jobId).sort()
          )
        assert.deepEqual(yield* listed("rows"), ["job_a", "job_b", "job_c", "job_d", "job_e"])
        assert.deepEqual(yield* listed("rows", "a"), ["job_d"])
        assert.deepEqual(yield* listed("parked"), ["job_d"])
        assert.deepEqual(yield* listed("parked", ""), [])
        assert.deepEqual(yield* listed("held"), ["job_e", "job_f"])
        // In memory again, its log goes on; another has ended.
        yield* store.commit({ ops: [put({ ...aJob("job_a"), survival }), append("job_a", 3, 1)], owners: [] })
        yield* store.commit({
          ops: [waiting("job_c", 10, { principal: "bob", endedAt: 7, status: "success" })],
          owners: []
        })
        yield* store.commit({ ops: [waiting("job_b", 3), Op.DropJob({ jobId: "job_e" })], owners: [] })
        assert.deepEqual(yield* due(never), ["job_b", "job_d"])
        assert.deepEqual([...(yield* store.waitingCounts(undefined))], [["alice", 2]])
      }))

    test("keeps a job's journal: entries replace each other by kind and key, and go with the job", (store) =>
      Effect.gen(function* () {
        const entry = (key: string, ordinal: number, value?: string, kind = "step") => ({
          kind,
          key,
          ordinal,
          about: "{}",
          value
        })
        const held = store.held()
        yield* store.commit({ ops: [put(aJob("job_a"))], owners: [] })
        yield* store.commit({
          ops: [
            Op.PutJournal({
              jobId: "job_a",
              entries: [entry("a", 1), entry("b", 2, '"é"'), entry("a", 3, "1")]
            }),
            Op.PutJournal({ jobId: "job_a", entries: [entry("a", 4, "2", "sleep")] })
          ],
          owners: []
        })
        yield* store.commit({
          ops: [Op.PutJournal({ jobId: "job_a", entries: [entry("a", 5, "11")] })],
          owners: []
        })
        const index = yield* store.journal("job_a", { kind: "", key: "" }, 10)
        assert.deepStrictEqual(
          index.map(({ key, kind, ordinal, size }) => [kind, key, ordinal, size]),
          [
            ["sleep", "a", 4, 1],
            ["step", "a", 5, 2],
            ["step", "b", 2, 4]
          ]
        )
        const rest = yield* store.journal("job_a", { kind: "step", key: "a" }, 1)
        assert.deepStrictEqual(
          rest.map(({ key }) => key),
          ["b"]
        )
        assert.strictEqual(yield* store.journalValue("job_a", "step", "a"), "11")
        assert.isUndefined(yield* store.journalValue("job_a", "sleep", "b"))
        yield* store.commit({ ops: [Op.TrimJob({ jobId: "job_a", seq: 100 })], owners: [] })
        assert.strictEqual(yield* store.journalValue("job_a", "step", "b"), '"é"')
        const many = Array.from({ length: 200 }, (_, i) => entry(`many ${i}`, 10 + i, "0".repeat(100)))
        yield* store.commit({ ops: [Op.PutJournal({ jobId: "job_a", entries: many })], owners: [] })
        yield* store.commit({ ops: [Op.DropJob({ jobId: "job_a" })], owners: [] })
        assert.deepStrictEqual(yield* store.journal("job_a", { kind: "", key: "" }, 10), [])
        while (yield* store.vacuum) {}
        assert.isAtMost(store.held(), held)
      }))

    test("keeps calls of hooks until they are dropped, by job and number, also after their jobs", (store) =>
      Effect.gen(function* () {
        const event = (jobId: string, seq: number, text = `{"n":${seq}}`) => ({ jobId, seq, text })
        const start = { jobId: "", seq: 0 }
        yield* store.commit({
          ops: [
            put(aJob("job_a")),
            Op.PutHookEvent({ event: event("job_b", 1) }),
            Op.PutHookEvent({ event: event("job_a", 10) }),
            Op.PutHookEvent({ event: event("job_a", 2) })
          ],
          owners: []
        })
        yield* store.commit({ ops: [Op.DropJob({ jobId: "job_a" })], owners: [] })
        const all = [event("job_a", 2), event("job_a", 10), event("job_b", 1)]
        assert.deepStrictEqual(yield* store.hookEvents(start, 10), all)
        assert.deepStrictEqual(yield* store.hookEvents(start, 1), all.slice(0, 1))
        assert.deepStrictEqual(yield* store.hookEvents(event("job_a", 2), 10), all.slice(1))
        yield* store.commit({
          ops: [
            Op.PutHookEvent({ event: event("job_c", 1) }),
            Op.DropHookEvents({ events: [event("job_c", 1), event("job_a", 10), event("job_x", 1)] }),
            Op.PutHookEvent({ event: event("job_b", 1, "{}") })
          ],
          owners: []
        })
        assert.deepStrictEqual(yield* store.hookEvents(start, 10), [
          event("job_a", 2),
          event("job_b", 1, "{}")
        ])
        const many = Array.from({ length: 1_000 }, (_, i) => event("job_d", i + 1))
        yield* store.commit({ ops: many.map((each) => Op.PutHookEvent({ event: each })), owners: [] })
        yield* store.commit({ ops: [Op.DropHookEvents({ events: many.slice(1) })], owners: [] })
        assert.strictEqual((yield* store.hookEvents(event("job_c", 0), 10)).length, 1)
      }))

    test("a run of a dropped job leads nowhere, and brings nothing of it back", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [put(aJob("job_a")), Op.PutSession({ session: aSession("sess_a") })],
          owners: []
        })
        yield* store.commit({ ops: [Op.DropJob({ jobId: "job_a" })], owners: [] })
        const held = store.held()
        yield* store.commit({
          ops: [
            Op.PutRun({ sessionId: "sess_a", run: aRun(1, 2) }),
            Op.Observe({ sessionId: "sess_b", jobId: "job_c", cursor: 0 })
          ],
          owners: []
        })
        // The run itself stays, and no job comes of it.
        assert.isAtMost(store.held(), held + 512)
        assert.deepEqual(yield* store.page("sess_a", 0, 10, 1_000), [])
        assert.strictEqual((yield* store.boundsOf(["job_a", "job_c"])).size, 0)
      }))

    test("keeps interleaved jobs apart", (store) =>
      Effect.gen(function* () {
        const jobs = ["job_a", "job_b", "job_c"]
        yield* store.commit({ ops: jobs.map((jobId) => put(aJob(jobId))), owners: [] })
        for (let i = 0; i < 20; i++)
          yield* store.commit({
            ops: jobs.flatMap((jobId) => [
              append(jobId, 2 * i + 1, 2 * i + 1),
              append(jobId, 2 * i + 2, 2 * i + 2)
            ]),
            owners: []
          })
        for (const jobId of jobs) {
          assert.deepEqual(yield* store.events(jobId, 1, 100), someEvents(1, 40))
          assert.deepStrictEqual(seqs(yield* store.events(jobId, 7, 9)), range(7, 15))
        }
      }))

    test("takes big batches", (store) =>
      Effect.gen(function* () {
        const one = someEvents(1, 5_000).flatMap((event) => [
          Op.Append({ jobId: "job_a", events: [event] }),
          Op.PutRun({ sessionId: "sess_a", run: aRun(1, event.seq) })
        ])
        yield* store.commit({ ops: [put(aJob("job_a")), ...one], owners: [] })
        yield* store.commit({
          ops: [Op.Append({ jobId: "job_a", events: someEvents(5_001, 10_001) })],
          owners: []
        })
        assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 1, last: 10_001 })
        assert.deepStrictEqual(seqs(yield* store.events("job_a", 4_990, 20)), range(4_990, 5_009))
        assert.deepStrictEqual(seqs(yield* store.events("job_a", 1, 20_000)), range(1, 10_001))
        assert.deepEqual(yield* store.runs("sess_a", 1, 10), [aRun(1, 5_000)])
      }))

    test("hides trimmed events at once and goes on counting behind them", (store) =>
      Effect.gen(function* () {
        yield* store.commit({ ops: [put(aJob("job_a")), append("job_a", 1, 10)], owners: [] })
        yield* store.commit({ ops: [put(aJob("job_b")), append("job_b", 1, 5)], owners: [] })
        yield* store.commit({ ops: [append("job_a", 11, 2_000)], owners: [] })
        for (const seq of [8, 3, 700]) {
          yield* store.commit({ ops: [Op.TrimJob({ jobId: "job_a", seq })], owners: [] })
          const first = Math.max(8, seq)
          assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first, last: 2_000 })
          assert.deepStrictEqual(seqs(yield* store.events("job_a", 1, 3)), range(first, first + 2))
        }
        yield* vacuumAll
        assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 700, last: 2_000 })
        yield* store.commit({ ops: [append("job_a", 2_001, 2_002)], owners: [] })
        assert.deepEqual(yield* store.events("job_a", 1, 9_999), someEvents(700, 2_002))
        assert.deepEqual(yield* store.events("job_b", 1, 9_999), someEvents(1, 5))
      }))

    test("remembers the newest event of a job of which everything was trimmed", (store) =>
      Effect.gen(function* () {
        yield* store.commit({ ops: [put(aJob("job_a")), append("job_a", 1, 600)], owners: [] })
        yield* store.commit({ ops: [Op.TrimJob({ jobId: "job_a", seq: 9_999 })], owners: [] })
        assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 601, last: 600 })
        yield* vacuumAll
        assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 601, last: 600 })
        assert.deepStrictEqual(yield* store.events("job_a", 1, 10), [])
        yield* store.commit({ ops: [append("job_a", 601, 602)], owners: [] })
        assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 601, last: 602 })
        assert.deepEqual(yield* store.events("job_a", 1, 10), someEvents(601, 602))
      }))

    test("appends and trims between the pages of a vacuum", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [put(aJob("job_a")), put(aJob("job_b")), append("job_b", 1, 1)],
          owners: []
        })
        let last = 0
        for (; last < 3_000; last += 100)
          yield* store.commit({ ops: [append("job_a", last + 1, last + 100)], owners: [] })
        yield* store.commit({ ops: [Op.TrimJob({ jobId: "job_a", seq: 1_750 })], owners: [] })
        for (let page = 0; page < 100; page++) {
          const more = yield* store.vacuum
          yield* store.commit({
            ops: [append("job_a", last + 1, last + 7), append("job_b", page + 2, page + 2)],
            owners: []
          })
          last += 7
          if (page === 1)
            yield* store.commit({ ops: [Op.TrimJob({ jobId: "job_a", seq: 2_999 })], owners: [] })
          const first = page < 1 ? 1_750 : 2_999
          assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first, last })
          assert.deepStrictEqual(seqs(yield* store.events("job_a", 1, 9_999)), range(first, last))
          if (!more && page > 1) break
        }
      }))

    test("drops a job with its events and observers", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [
            put(aJob("job_a", { idempotencyKey: "k", endedAt: 5 })),
            append("job_a", 1, 1_200),
            put(aJob("job_b")),
            append("job_b", 1, 3),
            Op.Observe({ sessionId: "sess_a", jobId: "job_a", cursor: 0 }),
            Op.Observe({ sessionId: "sess_a", jobId: "job_b", cursor: 0 })
          ],
          owners: []
        })
        yield* store.commit({
          ops: [Op.DropJob({ jobId: "job_a" }), Op.DropJob({ jobId: "job_unknown" })],
          owners: []
        })
        const gone = Effect.gen(function* () {
          assert.isUndefined(yield* store.job("job_a"))
          assert.isUndefined(yield* store.jobByKey("alice", "k"))
          assert.isUndefined(yield* store.jobBySubmit("sess_a", "submit-job_a"))
          assert.deepStrictEqual(yield* store.surplus({ principal: "alice", limit: 10, needed: true }), [])
          assert.deepStrictEqual(yield* store.events("job_a", 1, 10), [])
          assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 1, last: 0 })
          assert.deepStrictEqual(yield* observersOf(store, "job_a"), [])
          assert.deepEqual(yield* store.events("job_b", 1, 10), someEvents(1, 3))
        })
        yield* gone
        // Jobs that come after it never get what is left of it.
        yield* store.commit({ ops: [put(aJob("job_c")), append("job_c", 1, 2)], owners: [] })
        yield* vacuumAll
        yield* gone
        assert.deepEqual(yield* store.events("job_c", 1, 10), someEvents(1, 2))
        assert.isFalse(yield* store.vacuum)
      }))

    test("applies a batch in its order", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [
            put(aJob("job_a", { status: "pending" })),
            append("job_a", 1, 5),
            Op.TrimJob({ jobId: "job_a", seq: 3 }),
            append("job_a", 6, 6),
            put(aJob("job_a", { status: "success", endedAt: 9 })),
            put(aJob("job_b")),
            append("job_b", 1, 2),
            Op.DropJob({ jobId: "job_b" }),
            Op.PutSession({ session: aSession("sess_a") }),
            Op.PutRun({ sessionId: "sess_a", run: aRun(1, 2) }),
            Op.PutRun({ sessionId: "sess_a", run: aRun(1, 5) }),
            Op.PutRun({ sessionId: "sess_a", run: aRun(6, 1) }),
            Op.TrimSession({ sessionId: "sess_a", eventSeq: 6 }),
            Op.PutSession({ session: aSession("sess_b") }),
            Op.Observe({ sessionId: "sess_b", jobId: "job_a", cursor: 0 }),
            Op.DropSession({ sessionId: "sess_b" }),
            Op.Observe({ sessionId: "sess_a", jobId: "job_a", cursor: 0 }),
            Op.Unobserve({ sessionId: "sess_a", jobId: "job_a" })
          ],
          owners: []
        })
        assert.strictEqual((yield* store.job("job_a"))?.status, "success")
        assert.deepStrictEqual(seqs(yield* store.events("job_a", 1, 10)), [3, 4, 5, 6])
        assert.isUndefined(yield* store.job("job_b"))
        assert.deepEqual(yield* store.runs("sess_a", 1, 10), [aRun(6, 1)])
        assert.isUndefined(yield* store.session("sess_b"))
        assert.deepStrictEqual(yield* observersOf(store, "job_a"), [])
      }))

    test("starts a dropped job's log anew when the job is put again", (store) =>
      Effect.gen(function* () {
        yield* store.commit({ ops: [put(aJob("job_a")), append("job_a", 1, 4)], owners: [] })
        yield* store.commit({
          ops: [Op.DropJob({ jobId: "job_a" }), put(aJob("job_a")), append("job_a", 1, 2)],
          owners: []
        })
        assert.deepEqual(yield* store.events("job_a", 1, 10), someEvents(1, 2))
        yield* vacuumAll
        assert.deepEqual(yield* store.events("job_a", 1, 10), someEvents(1, 2))
      }))

    test("keeps runs, the newest growing, and trims them", (store) =>
      Effect.gen(function* () {
        const runs = Array.from({ length: 1_300 }, (_, i) =>
          aRun(10 * i + 1, 10, i % 2 ? "job_a" : "job_b", i + 1)
        )
        yield* store.commit({
          ops: [
            Op.PutSession({ session: aSession("sess_a") }),
            Op.PutRun({ sessionId: "sess_b", run: aRun(1, 1) }),
            ...runs.map((run) => Op.PutRun({ sessionId: "sess_a", run }))
          ],
          owners: []
        })
        yield* store.commit({ ops: [Op.PutRun({ sessionId: "sess_a", run: aRun(13_001, 2) })], owners: [] })
        const grown = aRun(13_001, 5)
        yield* store.commit({ ops: [Op.PutRun({ sessionId: "sess_a", run: grown })], owners: [] })
        const all = [...runs, grown]
        assert.deepStrictEqual(yield* store.view("sess_a"), { first: 1, last: 13_005 })
        assert.deepEqual(yield* store.runs("sess_a", 0, 9_999), all)
        assert.deepEqual(yield* store.runs("sess_a", 20, 2), all.slice(1, 3))
        assert.deepEqual(yield* store.runs("sess_a", 21, 2), all.slice(2, 4))
        assert.deepEqual(yield* store.runs("sess_a", 13_005, 9), [grown])
        assert.deepEqual(yield* store.runs("sess_a", 13_006, 9), [])

        for (const eventSeq of [25, 12, 12_001]) {
          yield* store.commit({ ops: [Op.TrimSession({ sessionId: "sess_a", eventSeq })], owners: [] })
          const kept = all.filter((run) => run.eventSeq + run.count > Math.max(25, eventSeq))
          assert.deepEqual(yield* store.runs("sess_a", 0, 9_999), kept)
        }
        yield* vacuumAll
        assert.deepEqual(yield* store.runs("sess_a", 0, 9_999), all.slice(1_200))
        assert.deepEqual(yield* store.runs("sess_b", 0, 9_999), [aRun(1, 1)])
      }))

    test("never trims a session's newest run, where its numbering goes on", (store) =>
      Effect.gen(function* () {
        const batch = [aRun(1, 3), aRun(4, 3)].map((run) => Op.PutRun({ sessionId: "sess_a", run }))
        yield* store.commit({ ops: [Op.PutSession({ session: aSession("sess_a") }), ...batch], owners: [] })
        yield* store.commit({ ops: [Op.TrimSession({ sessionId: "sess_a", eventSeq: 100 })], owners: [] })
        yield* vacuumAll
        assert.deepStrictEqual(yield* store.view("sess_a"), { first: 7, last: 6 })
        assert.deepEqual(yield* store.runs("sess_a", 1, 10), [])
        yield* store.commit({ ops: [Op.PutRun({ sessionId: "sess_a", run: aRun(4, 9) })], owners: [] })
        assert.deepEqual(yield* store.runs("sess_a", 1, 10), [aRun(4, 9)])
        assert.deepStrictEqual(yield* store.view("sess_a"), { first: 7, last: 12 })
      }))

    test("drops a session with its runs and observations", (store) =>
      Effect.gen(function* () {
        const runs = Array.from({ length: 1_100 }, (_, i) => aRun(i + 1, 1))
        yield* store.commit({
          ops: [
            Op.PutSession({ session: aSession("sess_a") }),
            put(aJob("job_a")),
            ...runs.map((run) => Op.PutRun({ sessionId: "sess_a", run })),
            Op.PutRun({ sessionId: "sess_b", run: aRun(1, 1) }),
            Op.Observe({ sessionId: "sess_a", jobId: "job_a", cursor: 0 }),
            Op.Observe({ sessionId: "sess_b", jobId: "job_a", cursor: 0 })
          ],
          owners: []
        })
        yield* store.commit({ ops: [Op.DropSession({ sessionId: "sess_a" })], owners: [] })
        for (let round = 0; round < 2; round++) {
          assert.isUndefined(yield* store.session("sess_a"))
          assert.deepStrictEqual(yield* store.view("sess_a"), { first: 1, last: 0 })
          assert.deepEqual(yield* store.runs("sess_a", 0, 10), [])
          assert.deepEqual(yield* observersOf(store, "job_a"), ["sess_b"])
          assert.deepStrictEqual(yield* store.view("sess_b"), { first: 1, last: 1 })
          yield* vacuumAll
        }
      }))

    test("observes once, and no longer", (store) =>
      Effect.gen(function* () {
        const observe = (sessionId: string, jobId: string) => Op.Observe({ sessionId, jobId, cursor: 0 })
        yield* store.commit({
          ops: [
            put(aJob("job_a")),
            put(aJob("job_b")),
            observe("sess_a", "job_a"),
            observe("sess_a", "job_a"),
            observe("sess_a", "job_b")
          ],
          owners: []
        })
        yield* store.commit({ ops: [observe("sess_b", "job_a"), observe("sess_a", "job_a")], owners: [] })
        assert.deepStrictEqual(Array.from(yield* observersOf(store, "job_a")).sort(), ["sess_a", "sess_b"])
        const unobserve = Op.Unobserve({ sessionId: "sess_a", jobId: "job_a" })
        yield* store.commit({
          ops: [unobserve, unobserve, Op.Unobserve({ sessionId: "sess_x", jobId: "job_x" })],
          owners: []
        })
        assert.deepStrictEqual(yield* observersOf(store, "job_a"), ["sess_b"])
      }))

    test("keeps every field of a job, and replaces it", (store) =>
      Effect.gen(function* () {
        const full = aJob("job_a", {
          leaseConstraints: { expires_at: "2030-01-01T00:00:00Z" },
          endedAt: 3_000,
          parentJobId: "job_p",
          delegateId: "del_1",
          maxRuntimeSec: 1.5,
          idempotencyKey: "key",
          paramsDigest: "d",
          lastEventSeq: 12
        })
        yield* store.commit({ ops: [put(full), append("job_a", 1, 2)], owners: [] })
        assert.deepEqual(yield* store.job("job_a"), full)
        const moved = aJob("job_a", { sessionId: "sess_b", submitId: "other", status: "success" })
        yield* store.commit({ ops: [put(moved)], owners: [] })
        assert.deepEqual(yield* store.job("job_a"), moved)
        assert.deepEqual(yield* store.jobBySubmit("sess_b", "other"), moved)
        assert.isUndefined(yield* store.jobBySubmit("sess_a", full.submitId))
        assert.isUndefined(yield* store.jobByKey("alice", "key"))
        assert.deepStrictEqual(yield* store.surplus({ principal: "alice", limit: 10, needed: true }), [])
        assert.deepEqual(yield* store.jobs({ principals: "everyone", limit: 10 }), [moved])
        assert.deepEqual(yield* store.events("job_a", 1, 10), someEvents(1, 2))
      }))

    test("finds the newest job by submit, rejected ones too", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [
            put(aJob("job_b", { submitId: "m", createdAt: 2, rejected: true, status: "error" })),
            put(aJob("job_a", { submitId: "m", createdAt: 1 })),
            put(aJob("job_c", { submitId: "m", createdAt: 3, sessionId: "sess_b" }))
          ],
          owners: []
        })
        assert.strictEqual((yield* store.jobBySubmit("sess_a", "m"))?.jobId, "job_b")
        assert.strictEqual((yield* store.jobBySubmit("sess_b", "m"))?.jobId, "job_c")
        yield* store.commit({ ops: [Op.DropJob({ jobId: "job_b" })], owners: [] })
        assert.strictEqual((yield* store.jobBySubmit("sess_a", "m"))?.jobId, "job_a")
        assert.isUndefined(yield* store.jobBySubmit("sess_a", "n"))
      }))

    test("finds the newest job by idempotency key, rejected ones not", (store) =>
      Effect.gen(function* () {
        const keyed = (jobId: string, createdAt: number, fields: Partial<JobRecord> = {}) =>
          put(aJob(jobId, { idempotencyKey: "k", createdAt, ...fields }))
        yield* store.commit({
          ops: [
            keyed("job_a", 1),
            keyed("job_b", 2),
            keyed("job_c", 3, { rejected: true, status: "error" }),
            keyed("job_d", 4, { principal: "bob" })
          ],
          owners: []
        })
        assert.strictEqual((yield* store.jobByKey("alice", "k"))?.jobId, "job_b")
        assert.strictEqual((yield* store.jobByKey("bob", "k"))?.jobId, "job_d")
        yield* store.commit({ ops: [Op.DropJob({ jobId: "job_b" })], owners: [] })
        assert.strictEqual((yield* store.jobByKey("alice", "k"))?.jobId, "job_a")
        assert.isUndefined(yield* store.jobByKey("alice", "other"))
      }))

    test("lists ended jobs, rejected ones too", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [
            put(aJob("job_a", { endedAt: 10 })),
            put(aJob("job_b", { endedAt: 20, rejected: true })),
            put(aJob("job_c", { endedAt: 30 })),
            put(aJob("job_d"))
          ],
          owners: []
        })
        assert.deepStrictEqual(Array.from(yield* store.retired({ endedBefore: 30, limit: 10 })).sort(), [
          "job_a",
          "job_b"
        ])
        assert.strictEqual((yield* store.retired({ endedBefore: 31, limit: 2 })).length, 2)
      }))

    test("lists jobs oldest first, with every filter, a page at a time", (store) =>
      Effect.gen(function* () {
        const jobs = Array.from({ length: 30 }, (_, i) =>
          aJob(`job_${String(i).padStart(2, "0")}`, {
            createdAt: 1_000 + Math.floor(i / 3),
            principal: i % 2 ? "bob" : "alice",
            status: i % 3 ? "success" : "running",
            agent: ["echo@1.0.0", "echo@2.0.0", "echo2@1.0.0"][i % 3] as string
          })
        )
        const shuffled = jobs.map((_, i) => jobs[(i * 7) % 30] as JobRecord)
        yield* store.commit({
          ops: [...shuffled.map(put), put(aJob("job_00r", { createdAt: 1_000, rejected: true }))],
          owners: []
        })

        const list = (filter: Partial<JobFilter>) =>
          store.jobs({ principals: "everyone", limit: 1_000, ...filter })
        const expectJobs = (filter: Partial<JobFilter>, expected: (job: JobRecord) => boolean) =>
          Effect.map(list(filter), (found) => assert.deepEqual(found, jobs.filter(expected)))
        yield* expectJobs({}, () => true)
        yield* expectJobs({ principals: ["bob"] }, (job) => job.principal === "bob")
        yield* expectJobs({ principals: ["bob", "alice", "carol"] }, () => true)
        yield* expectJobs({ principals: [] }, () => false)
        yield* expectJobs({ status: ["running"] }, (job) => job.status === "running")
        yield* expectJobs({ status: ["running", "success"] }, () => true)
        yield* expectJobs({ status: [] }, () => false)
        yield* expectJobs({ agent: "echo" }, (job) => job.agent.startsWith("echo@"))
        yield* expectJobs({ agent: "echo@2.0.0" }, (job) => job.agent === "echo@2.0.0")
        yield* expectJobs({ agent: "ech" }, () => false)
        yield* expectJobs({ createdAfter: 1_003 }, (job) => job.createdAt > 1_003)
        yield* expectJobs({ createdBefore: 1_003 }, (job) => job.createdAt < 1_003)
        yield* expectJobs(
          {
            principals: ["alice"],
            agent: "echo",
            status: ["running"],
            createdAfter: 1_000,
            createdBefore: 1_008
          },
          (job) =>
            job.principal === "alice" &&
            job.agent.startsWith("echo@") &&
            job.status === "running" &&
            job.createdAt > 1_000 &&
            job.createdAt < 1_008
        )

        const paged: Array<JobRecord> = []
        for (let after: JobRecord | undefined; ; ) {
          assert.isBelow(paged.length, 100, "pages never end")
          const page = yield* list({ principals: ["alice"], limit: 4, after })
          assert.isAtMost(page.length, 4)
          if (page.length === 0) break
          paged.push(...page)
          after = page.at(-1)
        }
        assert.deepEqual(
          paged,
          jobs.filter((job) => job.principal === "alice")
        )
        // The job a cursor names may be gone by the time it is used.
        const after = jobs[10] as JobRecord
        yield* store.commit({ ops: [Op.DropJob({ jobId: after.jobId })], owners: [] })
        assert.deepEqual(yield* list({ after, limit: 2 }), jobs.slice(11, 13))
      }))

    it.effect(
      "finds a job among more than one step looks at, and lets others go first after each step",
      () => {
        let turns = 0
        const counting = Turn.make((callback) => {
          turns++
          return Turn.eventLoop.onNext(callback)
        })
        return Effect.gen(function* () {
          const store = yield* Store
          const jobs = Array.from({ length: 9_000 }, (_, i) =>
            aJob(`job_${String(i).padStart(5, "0")}`, {
              createdAt: 1_000 + Math.floor(i / 2),
              principal: i % 2 ? "bob" : "alice",
              status: i % 3_000 === 2_999 ? "cancelled" : "success",
              agent: i >= 8_990 ? "rare@1.0.0" : "echo@1.0.0"
            })
          )
          yield* store.commit({ ops: jobs.map(put), owners: [] })
          turns = 0
          const expectJobs = (filter: Partial<JobFilter>, expected: ReadonlyArray<JobRecord>) =>
            Effect.map(store.jobs({ principals: "everyone", limit: 10, ...filter }), (found) =>
              assert.deepEqual(found, expected)
            )
          const rare = jobs.slice(8_990)
          yield* expectJobs({ agent: "rare" }, rare)
          yield* expectJobs({ agent: "rare", limit: 3 }, rare.slice(0, 3))
          yield* expectJobs({ agent: "rare", status: ["success", "error"] }, rare.slice(0, 9))
          assert.isAtLeast(turns, 9)
          yield* expectJobs(
            { principals: ["bob"], agent: "rare" },
            rare.filter((job) => job.principal === "bob")
          )
          const cancelled = jobs.filter((job) => job.status === "cancelled")
          yield* expectJobs({ status: ["cancelled"] }, cancelled)
          yield* expectJobs({ status: ["cancelled", "error"] }, cancelled)
          yield* expectJobs({ status: ["cancelled"], after: cancelled[0] }, cancelled.slice(1))
          yield* expectJobs(
            { agent: "rare", createdAfter: 5_496 },
            rare.filter((job) => job.createdAt > 5_496)
          )
          yield* expectJobs(
            { agent: "rare", createdBefore: 5_496 },
            rare.filter((job) => job.createdAt < 5_496)
          )
          yield* expectJobs({ agent: "none" }, [])
        }).pipe(Effect.provide(layer), Effect.provideService(Turn.Turn, counting))
      }
    )
  })
}
