/** Freeing beside others who free, and who commit: nothing is taken for freed that is still there. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import pg from "pg"
import { afterAll, describe } from "vitest"
import * as StorePg from "../../../../src/layers/store/pg/StorePg.js"
import { commitUnowned } from "../../../../src/layers/store/unowned.js"
import { Op, Store } from "../../../../src/services/store/Store.js"
import { missing, query } from "../../../testing/Postgres.js"
import { aJob, aRun, aSession, put, range, vacuumAll } from "../fixtures.js"
import { makeStores } from "./layers.js"

const stores = makeStores()
afterAll(stores.drop)

describe.skipIf(missing !== undefined)(`freeing${missing === undefined ? "" : ` (${missing})`}`, () => {
  it.scopedLive("two at once leave nothing of a dropped session, nor of a dropped job", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(stores.url)
      const ask = (text: string) => Effect.promise(() => query(url, text))
      const prefix = "frees_"
      const store = yield* StorePg.make({ url: Redacted.make(url), prefix })
      yield* commitUnowned(store, [
        put(aJob("job_a")),
        Op.PutSession({ session: aSession("sess_a") }),
        Op.PutJournal({
          jobId: "job_a",
          entries: range(1, 200).map((n) => ({
            kind: "step",
            key: `${n}`,
            ordinal: n,
            about: "{}",
            value: "1"
          }))
        }),
        ...range(1, 1200).map((n) => Op.PutRun({ sessionId: "sess_a", run: aRun(n, 1) }))
      ])
      yield* commitUnowned(store, [Op.DropSession({ sessionId: "sess_a" }), Op.DropJob({ jobId: "job_a" })])
      const bothWait = ask(
        `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'WITH t AS%${prefix}%'`
      ).pipe(
        Effect.filterOrFail((rows) => rows.length === 2),
        Effect.retry(Schedule.intersect(Schedule.spaced("10 millis"), Schedule.recurs(1_000)))
      )
      /** Holds the rows of a table until it is let go: who deletes them has chosen which by then. */
      const held = (table: string) =>
        Effect.promise(async () => {
          const client = new pg.Client({ connectionString: url })
          await client.connect()
          await client.query(`BEGIN; SELECT 1 FROM ${prefix}${table} FOR UPDATE`)
          return Effect.promise(() => client.end())
        })
      const letRuns = yield* held("runs")
      const letJournal = yield* held("journal")
      const freeing = yield* Effect.fork(
        Effect.all([store.vacuum, store.vacuum], { concurrency: "unbounded" })
      )
      yield* bothWait
      yield* letRuns
      yield* Effect.delay(bothWait, "50 millis")
      yield* letJournal
      yield* Fiber.join(freeing)
      yield* Effect.provideService(vacuumAll, Store, store)
      for (const table of ["runs", "run_trims", "run_drops", "journal", "event_trims"])
        assert.deepStrictEqual(yield* ask(`SELECT count(*)::integer FROM ${prefix}${table}`), [[0]], table)
    })
  )
})
