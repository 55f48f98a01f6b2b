/**
 * A writer, and somebody who takes what it writes to, in transactions that race: one comes after the other, so never do both
 * commit as if there were none but them.
 */
import { assert, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import pg from "pg"
import { afterAll, describe } from "vitest"
import { naming } from "../../../../src/layers/store/naming.js"
import { pooled } from "../../../../src/layers/store/pg/connections.js"
import { transaction } from "../../../../src/layers/store/pg/migrate.js"
import * as StorePg from "../../../../src/layers/store/pg/StorePg.js"
import type { PgStatements } from "../../../../src/layers/store/pg/statement.js"
import { type Batch, Op, type StoreService } from "../../../../src/services/store/Store.js"
import { missing } from "../../../testing/Postgres.js"
import { aJob, append, aSession, put, range, seqs } from "../fixtures.js"
import { makeStores } from "./layers.js"

const stores = makeStores()
afterAll(stores.drop)

describe.skipIf(missing !== undefined)(
  `racing for rows${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    let prefixes = 0
    const openAs = (node: string | undefined) =>
      Effect.gen(function* () {
        const prefix = `race${++prefixes}_`
        const url = yield* Effect.promise(stores.url)
        return { prefix, store: yield* StorePg.make({ url: Redacted.make(url), prefix, node }) }
      })
    const open = openAs(undefined)
    /** A connection as another node has one. */
    const other = Effect.acquireRelease(
      Effect.promise(async () => {
        const client = new pg.Client({ connectionString: await stores.url() })
        await client.connect()
        return client
      }),
      (client) => Effect.promise(() => client.end())
    )
    const ask = (client: pg.Client, text: string, values: ReadonlyArray<unknown> = []) =>
      Effect.promise(async () => {
        const { rows } = await client.query({ text, values: [...values], rowMode: "array" })
        return rows as ReadonlyArray<ReadonlyArray<unknown>>
      })
    /** Waits until some statement with this in it waits for a lock of somebody else. */
    const waitsForLock = (client: pg.Client, text: string) =>
      ask(
        client,
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1 AND pid <> pg_backend_pid()",
        [`%${text}%`]
      ).pipe(
        Effect.filterOrFail((rows) => rows.length > 0),
        Effect.retry(Schedule.intersect(Schedule.spaced("10 millis"), Schedule.recurs(1_000)))
      )
    const owned = (ops: Batch["ops"], epoch = 1): Batch => ({ ops, owners: [{ job: "job_a", epoch }] })
    const prepared = Effect.gen(function* () {
      const { prefix, store } = yield* open
      yield* store.commit({
        ops: [put(aJob("job_a")), append("job_a", 1, 1), Op.PutSession({ session: aSession("sess_a") })],
        owners: [
          { job: "job_a", epoch: 0 },
          { session: "sess_a", epoch: 0 }
        ]
      })
      return { prefix, store, taker: yield* other, watcher: yield* other }
    })
    it.scopedLive("a transaction in which nothing is said is ended by Postgres", () =>
      Effect.gen(function* () {
        const patience = Duration.seconds(10)
        const { lend } = yield* pooled(
          {
            url: Redacted.make(yield* Effect.promise(stores.url)),
            maxConnections: 1,
            connectTimeout: patience,
            statementTimeout: patience
          },
          naming("race_")
        )
        const told = (statements: PgStatements) =>
          statements.executeValues("SHOW idle_in_transaction_session_timeout", [])
        assert.deepStrictEqual(yield* lend((on) => transaction(on, told(on))), [["2s"]])
        // That of the session is left as it was.
        assert.deepStrictEqual(yield* lend(told), [["0"]])
      })
    )

    const pause = (milliseconds: number) =>
      Effect.promise(() => new Promise((resolve) => setTimeout(resolve, milliseconds)))
    const log = (store: StoreService) => Effect.map(store.events("job_a", 1, 9_999), seqs)

    for (const [what, taking, owner] of [
      ["a job", "jobs SET epoch = epoch + 1 WHERE job_id = 'job_a'", { job: "job_a", epoch: 1 }],
      [
        "a session",
        "sessions SET epoch = epoch + 1 WHERE session_id = 'sess_a'",
        { session: "sess_a", epoch: 1 }
      ]
    ] as const)
      it.scopedLive(`${what} that is being taken: the writer waits, and writes nothing`, () =>
        Effect.gen(function* () {
          const { prefix, store, taker, watcher } = yield* prepared
          yield* ask(taker, "BEGIN")
          yield* ask(taker, `UPDATE ${prefix}${taking}`)
          const owners = "job" in owner ? [owner] : [{ job: "job_a", epoch: 1 }, owner]
          const committing = yield* Effect.fork(
            Effect.either(store.commit({ ops: [append("job_a", 2, 3)], owners }))
          )
          yield* waitsForLock(watcher, `${prefix}events`)
          yield* ask(taker, "COMMIT")
          const result = yield* Fiber.join(committing)
          assert.deepInclude(Either.isLeft(result) ? result.left : {}, { _tag: "Fenced", owners: [owner] })
          assert.deepStrictEqual(yield* log(store), [1])
        })
      )

    it.scopedLive("a job that is being written to: whoever takes it waits, and finds what was written", () =>
      Effect.gen(function* () {
        const { prefix, store, taker, watcher } = yield* prepared
        // The statement of the commit stops after its fence, where it writes its events.
        yield* ask(
          watcher,
          `CREATE FUNCTION ${prefix}pause() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM pg_advisory_xact_lock_shared(hashtext('${prefix}')); RETURN NULL; END $$`
        )
        yield* ask(
          watcher,
          `CREATE TRIGGER pause BEFORE INSERT ON ${prefix}events EXECUTE FUNCTION ${prefix}pause()`
        )
        const gate = yield* other
        yield* ask(gate, `SELECT pg_advisory_lock(hashtext('${prefix}'))`)
        const committing = yield* Effect.fork(store.commit(owned([append("job_a", 2, 3)])))
        yield* waitsForLock(watcher, `put_events`)
        const taking = yield* Effect.fork(
          ask(taker, `UPDATE ${prefix}jobs SET epoch = epoch + 1 WHERE job_id = 'job_a' RETURNING epoch`)
        )
        yield* waitsForLock(watcher, `UPDATE ${prefix}jobs SET epoch`)
        yield* ask(gate, `SELECT pg_advisory_unlock(hashtext('${prefix}'))`)
        yield* Fiber.join(committing)
        yield* Fiber.join(taking)
        const [[last] = []] = yield* ask(taker, `SELECT max(seq)::integer FROM ${prefix}events`)
        assert.strictEqual(last, 3)
        assert.strictEqual((yield* Effect.flip(store.commit(owned([append("job_a", 4, 4)]))))._tag, "Fenced")
      })
    )

    it.scopedLive("what is owned is locked in one order, so that no two wait for each other", () =>
      Effect.gen(function* () {
        const { prefix, store, taker, watcher } = yield* prepared
        yield* store.commit({ ops: [put(aJob("job_0"))], owners: [{ job: "job_0", epoch: 0 }] })
        yield* ask(taker, "BEGIN")
        yield* ask(taker, `SELECT 1 FROM ${prefix}jobs WHERE job_id = 'job_0' FOR UPDATE`)
        const committing = yield* Effect.fork(
          store.commit({
            ops: [append("job_a", 2, 2)],
            owners: ["job_a", "job_0"].map((job) => ({ job, epoch: 1 }))
          })
        )
        yield* waitsForLock(watcher, `${prefix}events`)
        const free = yield* ask(
          watcher,
          `SELECT job_id FROM ${prefix}jobs WHERE job_id = 'job_a' FOR UPDATE SKIP LOCKED`
        )
        assert.deepStrictEqual(free, [["job_a"]])
        yield* ask(taker, "COMMIT")
        yield* Fiber.join(committing)
      })
    )

    it.scopedLive("what a node has left is not taken when it is back, or comes back right then", () =>
      Effect.gen(function* () {
        const { prefix, store } = yield* openAs("b")
        const [taker, watcher] = [yield* other, yield* other]
        const job = aJob("job_a", { node: "a" })
        yield* store.commit({ ops: [put(job)], owners: [{ job: "job_a", epoch: 0 }] })
        const move = store.commit({
          ops: [Op.MoveJob({ jobId: "job_a", node: "b", epoch: 2 })],
          owners: [{ job: "job_a", epoch: 1 }],
          gone: "a"
        })
        yield* ask(taker, "BEGIN")
        yield* ask(taker, `SELECT pg_advisory_xact_lock(hashtextextended('${prefix}writers', 0))`)
        yield* ask(
          taker,
          `INSERT INTO ${prefix}writers VALUES ('node a', 'x', 'a', 0, clock_timestamp(), clock_timestamp() + interval '1 minute')`
        )
        const moving = yield* Effect.fork(Effect.flip(move))
        yield* waitsForLock(watcher, `pg_advisory_xact_lock(hashtextextended('${prefix}writers'`)
        yield* ask(taker, "COMMIT")
        const refused = yield* Fiber.join(moving)
        assert.deepInclude(refused, { _tag: "Fenced", owners: [], back: "a" })
        assert.deepInclude(yield* Effect.flip(move), { _tag: "Fenced", back: "a" })
        assert.deepInclude(yield* store.job("job_a"), { node: "a" })
        yield* ask(taker, `DELETE FROM ${prefix}writers WHERE slot = 'node a'`)
        yield* move
        assert.deepInclude(yield* store.job("job_a"), { node: "b", epoch: 2 })
      })
    )

    it.scopedLive("of two that open the same session, or job, one is told that it is taken", () =>
      Effect.gen(function* () {
        const { prefix, store, taker, watcher } = yield* prepared
        for (const [table, id, op, opened] of [
          [
            "sessions",
            "session_id",
            Op.PutSession({ session: aSession("sess_new") }),
            { session: "sess_new", epoch: 0 }
          ],
          ["jobs", "job_id", put(aJob("job_new")), { job: "job_new", epoch: 0 }]
        ] as const) {
          const [name] = "session" in opened ? [opened.session] : [opened.job]
          yield* ask(taker, "BEGIN")
          yield* ask(
            taker,
            `INSERT INTO ${prefix}${table} SELECT (jsonb_populate_record(t, jsonb_build_object('${id}', $1::text)
             || CASE '${table}' WHEN 'jobs' THEN '{"id": 1000000}'::jsonb ELSE '{}'::jsonb END)).* FROM ${prefix}${table} t LIMIT 1`,
            [name]
          )
          const committing = yield* Effect.fork(
            Effect.either(
              store.commit({
                ops: [op, append("job_a", 2, 2)],
                owners: [opened, { job: "job_a", epoch: 1 }]
              })
            )
          )
          yield* waitsForLock(watcher, `INSERT INTO ${prefix}${table}`)
          yield* ask(taker, "COMMIT")
          const result = yield* Fiber.join(committing)
          assert.deepInclude(Either.isLeft(result) ? result.left : {}, { _tag: "Fenced", owners: [opened] })
          assert.deepStrictEqual(yield* log(store), [1])
        }
      })
    )

    it.scopedLive("many rounds: nothing of whoever had it comes after what the taker has found", () =>
      Effect.gen(function* () {
        const { prefix, store, taker } = yield* prepared
        let [last, waited] = [1, 0]
        for (let round = 1; round <= 300; round++) {
          const committing = yield* Effect.fork(
            Effect.either(
              // Before, within or after the other's transaction.
              Effect.zipRight(
                pause(round % 5),
                store.commit(owned([append("job_a", last + 1, last + 3)], round))
              )
            )
          )
          yield* pause(2)
          yield* ask(taker, "BEGIN")
          yield* ask(taker, `UPDATE ${prefix}jobs SET epoch = epoch + 1 WHERE job_id = 'job_a'`)
          const [[found] = []] = yield* ask(taker, `SELECT max(seq)::integer FROM ${prefix}events`)
          yield* ask(taker, "SELECT pg_sleep(0.001)")
          yield* ask(taker, "COMMIT")
          const written = Either.isRight(yield* Fiber.join(committing))
          if (written) waited++
          last += written ? 3 : 0
          assert.strictEqual(found, last)
        }
        assert.deepStrictEqual(yield* log(store), range(1, last))
        assert.isAbove(waited, 0)
        assert.isBelow(waited, 300)
      })
    )
  }
)
