/** What every store promises of the numbers that sessions have given to the events of jobs, run for each implementation. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import {
  type Numbering,
  Op,
  Store,
  type StoreError,
  type StoreService
} from "../../../src/services/store/Store.js"
import { aJob, append, aRun, aSession, put, vacuumAll } from "./fixtures.js"

const none: Numbering = { last: 0, through: 0, next: undefined }

const putRun = (sessionId: string, ...run: Parameters<typeof aRun>): Op =>
  Op.PutRun({ sessionId, run: aRun(...run) })

/** A job of `sess_a`, which `sess_b` observes too, and another one. */
const twoJobs = (store: StoreService) =>
  store.commit({
    ops: [
      Op.PutSession({ session: aSession("sess_a") }),
      Op.PutSession({ session: aSession("sess_b") }),
      put(aJob("job_a")),
      put(aJob("job_b", { sessionId: "sess_b" })),
      append("job_a", 1, 3_000),
      append("job_b", 1, 3),
      putRun("sess_a", 1, 1_000, "job_a", 1),
      putRun("sess_a", 1_001, 3, "job_b", 1),
      putRun("sess_a", 1_004, 1_000, "job_a", 1_001),
      putRun("sess_a", 2_004, 990, "job_a", 2_011),
      putRun("sess_b", 1, 3, "job_b", 1),
      putRun("sess_b", 4, 500, "job_a", 501)
    ],
    owners: []
  })

export const numberingSuite = (name: string, layer: Layer.Layer<Store, StoreError>): void => {
  const test = <E>(title: string, body: (store: StoreService) => Effect.Effect<void, E, Store>): void =>
    it.effect(title, () => Effect.flatMap(Store, body).pipe(Effect.provide(layer)))

  describe(`Numbering: ${name}`, () => {
    test("is what a session has numbered of a job, and what comes first after a number", (store) =>
      Effect.gen(function* () {
        yield* twoJobs(store)
        const at = (after: number) => store.numbering("sess_a", "job_a", after)
        const all = { last: 2_993, through: 3_000 }
        for (const [after, next] of [
          [0, 1],
          [1, 2],
          [999, 1_000],
          [1_000, 1_001],
          [1_003, 1_001],
          [1_004, 1_002],
          // What was not numbered counts as the last that was before it.
          [2_003, 2_011],
          [2_992, 3_000],
          [2_993, undefined],
          [9_999, undefined]
        ] as const)
          assert.deepStrictEqual(yield* at(after), { ...all, next }, `after ${after}`)
        assert.deepStrictEqual(yield* store.numbering("sess_b", "job_a", 3), {
          last: 503,
          through: 1_000,
          next: 501
        })
        assert.deepStrictEqual(yield* store.numbering("sess_c", "job_a", 0), none)
        assert.deepStrictEqual(yield* store.numbering("sess_a", "job_c", 0), none)
      }))

    test("of history that was asked for again the lowest number counts", (store) =>
      Effect.gen(function* () {
        yield* store.commit({
          ops: [
            Op.PutSession({ session: aSession("sess_a") }),
            put(aJob("job_a")),
            append("job_a", 1, 20),
            putRun("sess_a", 1, 10, "job_a", 1),
            putRun("sess_a", 11, 7, "job_a", 4),
            putRun("sess_a", 18, 5, "job_a", 11),
            putRun("sess_a", 23, 15, "job_a", 1)
          ],
          owners: []
        })
        const next = (after: number) =>
          Effect.map(store.numbering("sess_a", "job_a", after), (numbering) => numbering.next)
        for (const [after, seq] of [
          [3, 4],
          [10, 11],
          [14, 11],
          [17, 11],
          [18, 12],
          [22, undefined],
          [30, undefined]
        ] as const)
          assert.strictEqual(yield* next(after), seq, `after ${after}`)
        yield* store.commit({ ops: [putRun("sess_a", 23, 20, "job_a", 1)], owners: [] })
        assert.strictEqual(yield* next(22), 16)
        assert.strictEqual(yield* next(37), 16)
        assert.strictEqual(yield* next(38), 17)
      }))

    test("outlives the floor and the session that owns the job, and nothing else does", (store) =>
      Effect.gen(function* () {
        yield* twoJobs(store)
        yield* store.commit({ ops: [Op.TrimSession({ sessionId: "sess_a", eventSeq: 2_500 })], owners: [] })
        yield* vacuumAll
        assert.deepStrictEqual(yield* store.view("sess_a"), { first: 2_500, last: 2_993 })
        assert.deepStrictEqual(yield* store.numbering("sess_a", "job_a", 17), {
          last: 2_993,
          through: 3_000,
          next: 18
        })
        assert.deepStrictEqual(yield* store.numbering("sess_a", "job_b", 0), none)
        yield* store.commit({
          ops: [Op.DropSession({ sessionId: "sess_a" }), Op.DropSession({ sessionId: "sess_b" })],
          owners: []
        })
        for (let round = 0; round < 2; round++) {
          assert.deepStrictEqual(yield* store.numbering("sess_a", "job_a", 1_003), {
            last: 2_993,
            through: 3_000,
            next: 1_001
          })
          assert.deepStrictEqual(yield* store.runs("sess_a", 0, 9), [])
          assert.deepStrictEqual(yield* store.page("sess_a", 2_600, 9, 9_999), [])
          assert.strictEqual(yield* store.needed("job_a"), undefined)
          assert.deepStrictEqual(yield* store.viewers(["job_a"]), [])
          yield* vacuumAll
        }
        assert.deepStrictEqual(yield* store.numbering("sess_b", "job_a", 0), none)
        assert.strictEqual((yield* store.numbering("sess_b", "job_b", 0)).through, 3)
      }))

    test("goes with the events of the job, with the job, and with who owns it", (store) =>
      Effect.gen(function* () {
        yield* twoJobs(store)
        yield* store.commit({
          ops: [
            Op.TrimSession({ sessionId: "sess_a", eventSeq: 2_994 }),
            Op.TrimJob({ jobId: "job_a", seq: 1_500 }),
            Op.DropSession({ sessionId: "sess_b" })
          ],
          owners: []
        })
        yield* vacuumAll
        // The first run is of events that are gone.
        assert.deepStrictEqual(yield* store.numbering("sess_a", "job_a", 0), {
          last: 2_993,
          through: 3_000,
          next: 1_001
        })
        yield* store.commit({
          ops: [Op.DropSession({ sessionId: "sess_a" }), put(aJob("job_a", { sessionId: "sess_c" }))],
          owners: []
        })
        yield* vacuumAll
        assert.deepStrictEqual(yield* store.numbering("sess_a", "job_a", 0), none)
        assert.strictEqual((yield* store.numbering("sess_b", "job_b", 0)).last, 3)
        yield* store.commit({
          ops: [Op.DropJob({ jobId: "job_a" }), Op.DropJob({ jobId: "job_b" })],
          owners: []
        })
        yield* vacuumAll
        assert.deepStrictEqual(yield* store.numbering("sess_b", "job_b", 0), none)
      }))
  })
}
