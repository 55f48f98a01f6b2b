/** Jobs and sessions of a file whose record is damaged: whoever wants the others gets them, in pages, and is kept from none. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { mapJobs, mapSessions } from "../../../src/services/store/paged.js"
import { Op, Store, type StoreService } from "../../../src/services/store/Store.js"
import { statements } from "../../e2e/support/sqlite.js"
import { aJob, aSession, survival } from "./fixtures.js"

/** A file with jobs that are due, one after the other, and sessions, of which some are damaged. */
const withDamage = (
  damaged: ReadonlyArray<number>,
  use: (store: StoreService) => Effect.Effect<void, unknown>
) =>
  Effect.gen(function* () {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "arcp-damaged-"))),
      (path) => Effect.sync(() => rmSync(path, { recursive: true }))
    )
    const filename = join(folder, "arcp.db")
    const inFile = <A>(work: (store: StoreService) => Effect.Effect<A, unknown>) =>
      Effect.flatMap(Store, work).pipe(Effect.provide(StoreSqlite.layer({ filename })))
    const jobs = Array.from({ length: 6 }, (_, i) =>
      aJob(`job_${i}`, { createdAt: i, survival: { ...survival, waiting: { dueAt: i } } })
    )
    const sessions = jobs.map((_, i) => Op.PutSession({ session: aSession(`sess_${i}`) }))
    yield* inFile(({ commit }) =>
      commit({ ops: [...jobs.map((job) => Op.PutJob({ job })), ...sessions], owners: [] })
    )
    const ids = damaged.map((i) => `'job_${i}'`).join(", ")
    yield* Effect.promise(() =>
      statements(
        filename,
        `UPDATE jobs SET record = json_set(record, '$.createdAt', 'x') WHERE job_id IN (${ids})`
      )
    )
    yield* Effect.forEach(damaged, (i) =>
      Effect.promise(() =>
        statements(filename, `UPDATE sessions SET record = '{' || record WHERE session_id = 'sess_${i}'`)
      )
    )
    yield* inFile(use)
  })

it.scoped("are left out of what is due: no page is shorter for them before the last", () =>
  withDamage([0, 1, 3, 5], (store) =>
    Effect.gen(function* () {
      const due = (limit: number) =>
        Effect.map(store.due({ by: 9, limit }), (jobs) => jobs.map(({ jobId }) => jobId))
      assert.deepStrictEqual(yield* due(1), ["job_2"])
      assert.deepStrictEqual(yield* due(2), ["job_2", "job_4"])
      assert.deepStrictEqual(yield* due(9), ["job_2", "job_4"])
    })
  )
)

it.scoped("are left out of a listing that is asked to, and are its answer else", () =>
  withDamage([0, 3], (store) =>
    Effect.gen(function* () {
      const everyone = { principals: "everyone" } as const
      const found = yield* mapJobs(store, { ...everyone, damaged: "left out" }, ({ jobId }) => jobId)
      assert.deepStrictEqual(found, ["job_1", "job_2", "job_4", "job_5"])
      const two = yield* store.jobs({ ...everyone, damaged: "left out", limit: 2 })
      assert.deepStrictEqual(
        two.map(({ jobId }) => jobId),
        ["job_1", "job_2"]
      )
      const error = yield* Effect.flip(store.jobs({ ...everyone, limit: 9 }))
      assert.isDefined(error.damaged)
    })
  )
)

it.scoped("are left out of the sessions of a node, and of those of none: no page is shorter for them", () =>
  withDamage([0, 1, 3], (store) =>
    Effect.gen(function* () {
      for (const filter of [{}, { node: "" }, { notOf: ["a"] }]) {
        const page = yield* store.sessionPage({ ...filter, limit: 2 })
        assert.deepStrictEqual(
          page.map(({ sessionId }) => sessionId),
          ["sess_2", "sess_4"]
        )
        const all = yield* mapSessions(store, filter, ({ sessionId }) => sessionId)
        assert.deepStrictEqual(all, ["sess_2", "sess_4", "sess_5"])
      }
    })
  )
)
