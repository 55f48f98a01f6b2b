/** Several stores that share their tables, each of a node. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import pg from "pg"
import { afterAll, describe } from "vitest"
import * as StorePg from "../../../../src/layers/store/pg/StorePg.js"
import { schemaVersion } from "../../../../src/layers/store/pg/schema.js"
import { commitUnowned } from "../../../../src/layers/store/unowned.js"
import { absent, Op, type StoreService } from "../../../../src/services/store/Store.js"
import { missing, query } from "../../../testing/Postgres.js"
import { aJob, append, put, range, seqs } from "../fixtures.js"
import { makeStores } from "./layers.js"

const stores = makeStores()
afterAll(stores.drop)

describe.skipIf(missing !== undefined)(
  `nodes that share tables${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    let prefixes = 0
    const fresh = () => `shared${++prefixes}_`
    const open = (prefix: string, node?: string, options: Partial<StorePg.Options> = {}) =>
      Effect.flatMap(Effect.promise(stores.url), (url) =>
        StorePg.make({ url: Redacted.make(url), prefix, node, ...options })
      )
    const sql = (text: string) => Effect.promise(async () => query(await stores.url(), text))
    const log = (store: StoreService, jobId: string) => Effect.map(store.events(jobId, 1, 9_999), seqs)

    it.scopedLive("many that start at once on an empty database make its tables once", () =>
      Effect.gen(function* () {
        const prefix = fresh()
        const names = ["a", "b", "c", "d", "e"]
        const all = yield* Effect.forEach(names, (node) => open(prefix, node), { concurrency: "unbounded" })
        yield* Effect.forEach(all, (store, i) => commitUnowned(store, [put(aJob(`job_${i}`))]))
        assert.lengthOf(yield* sql(`SELECT 1 FROM ${prefix}jobs`), names.length)
      })
    )

    it.scopedLive("tables of an older version are brought up to date while no node of it is there", () =>
      Effect.gen(function* () {
        const prefix = fresh()
        const version = sql(`SELECT version FROM ${prefix}store`)
        const older = Effect.zipRight(
          sql(`DROP INDEX ${prefix}jobs_open`),
          sql(`UPDATE ${prefix}store SET version = ${schemaVersion - 1}`)
        )
        const start = (node: string) => open(prefix, node, { lease: "900 millis" })
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* start("old")
            yield* older
            const { message } = yield* Effect.flip(start("new"))
            assert.include(message, "of an older version, and a runtime of that is alive on them")
            assert.deepStrictEqual(yield* version, [[schemaVersion - 1]])
          })
        )
        // Of one that has died there is a place for as long as its lease.
        yield* sql(
          `INSERT INTO ${prefix}writers VALUES ('node dead', 'x', 'dead', 0, clock_timestamp(), clock_timestamp() + interval '1 second')`
        )
        const all = yield* Effect.forEach(["a", "b", "c"], start, { concurrency: "unbounded" })
        yield* Effect.forEach(all, (store, i) => commitUnowned(store, [put(aJob(`job_${i}`))]))
        assert.deepStrictEqual(yield* version, [[schemaVersion]])
        // What is newer than a program it does not touch.
        yield* sql(`UPDATE ${prefix}store SET version = ${schemaVersion + 1}`)
        assert.include((yield* Effect.flip(start("late"))).message, "were written by a newer version")
      })
    )

    it.scopedLive("two write at once, each its own jobs, and see what the other has written", () =>
      Effect.gen(function* () {
        const prefix = fresh()
        const [a, b] = [yield* open(prefix, "a"), yield* open(prefix, "b")]
        const writing = (store: StoreService, jobId: string) =>
          Effect.gen(function* () {
            yield* store.commit({
              ops: [put(aJob(jobId)), append(jobId, 1, 2)],
              owners: [{ job: jobId, epoch: absent }]
            })
            for (let i = 2; i <= 20; i++)
              yield* store.commit({
                ops: [append(jobId, 2 * i - 1, 2 * i)],
                owners: [{ job: jobId, epoch: 1 }]
              })
          })
        yield* Effect.all([writing(a, "job_a"), writing(b, "job_b")], { concurrency: "unbounded" })
        assert.deepStrictEqual(yield* log(a, "job_b"), range(1, 40))
        assert.deepStrictEqual(yield* log(b, "job_a"), range(1, 40))
        // Each says for itself that it is alive.
        yield* commitUnowned(a, [Op.Alive({ at: 7 })])
        yield* commitUnowned(b, [Op.Alive({ at: 9 })])
        assert.deepStrictEqual([yield* a.aliveAt, yield* b.aliveAt], [7, 9])
        for (const { lives } of [a, b])
          assert.deepStrictEqual(
            [...(yield* lives)].sort(([, first], [, second]) => first - second),
            [
              ["a", 7],
              ["b", 9]
            ]
          )
        yield* commitUnowned(b, [Op.ForgetLives({ before: 9 })])
        assert.deepStrictEqual([...(yield* a.lives)], [["b", 9]])
        yield* commitUnowned(b, [Op.DropJob({ jobId: "job_a" })])
        while (yield* a.vacuum);
        assert.deepStrictEqual(yield* sql(`SELECT count(*)::integer FROM ${prefix}events`), [[40]])
        assert.deepStrictEqual(yield* log(b, "job_b"), range(1, 40))
      })
    )

    it.scopedLive("a job that goes to another node and comes back goes on where the other has left it", () =>
      Effect.gen(function* () {
        const prefix = fresh()
        const [a, b] = [yield* open(prefix, "a"), yield* open(prefix, "b")]
        const at = (epoch: number) => [{ job: "job_a", epoch }]
        const took = (epoch: number, node: string) => put(aJob("job_a", { epoch, node }))
        yield* a.commit({ ops: [put(aJob("job_a")), append("job_a", 1, 3)], owners: at(absent) })
        yield* b.commit({ ops: [took(2, "b")], owners: at(1) })
        yield* b.commit({ ops: [append("job_a", 4, 9)], owners: at(2) })
        // It has not found out that it was taken.
        yield* a.commit({ ops: [took(3, "a")], owners: at(2) })
        yield* a.commit({ ops: [append("job_a", 10, 11)], owners: at(3) })
        assert.deepStrictEqual(yield* log(b, "job_a"), range(1, 11))
        const refused = yield* Effect.flip(b.commit({ ops: [append("job_a", 10, 10)], owners: at(2) }))
        assert.strictEqual(refused._tag, "Fenced")
        yield* b.commit({ ops: [took(4, "b"), append("job_a", 12, 12)], owners: at(3) })
        assert.deepStrictEqual(yield* log(a, "job_a"), range(1, 12))
      })
    )

    it.scopedLive(
      "a process that stands still within a transaction, which Postgres ends for that, commits all the same",
      () =>
        Effect.gen(function* () {
          const store = yield* open(fresh(), "a", { lease: "30 seconds" })
          yield* commitUnowned(store, [put(aJob("job_a"))])
          const { query } = pg.Client.prototype
          let stood = 0
          yield* Effect.acquireRelease(
            Effect.sync(() => {
              pg.Client.prototype.query = function (this: pg.Client, ...args: ReadonlyArray<unknown>) {
                const answer: unknown = Reflect.apply(query, this, args)
                const [config] = args as ReadonlyArray<{ readonly text?: string }>
                if (stood > 0 || config?.text?.startsWith("BEGIN") !== true) return answer
                stood++
                return (answer as Promise<unknown>).then((rows) => {
                  // Longer than a transaction in which nothing is said may last.
                  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_300)
                  return rows
                })
              } as typeof query
            }),
            () =>
              Effect.sync(() => {
                pg.Client.prototype.query = query
              })
          )
          yield* store.commit({
            ops: [put(aJob("job_b", { idempotencyKey: "key" })), append("job_b", 1, 1)],
            owners: [
              { job: "job_b", epoch: absent },
              { key: "key", principal: "alice", since: 0 }
            ]
          })
          assert.strictEqual(stood, 1)
          assert.strictEqual((yield* store.jobByKey("alice", "key"))?.jobId, "job_b")
        })
    )

    it.scopedLive("of two that use a key at the same time one wins, and the other is told and finds it", () =>
      Effect.gen(function* () {
        const prefix = fresh()
        const nodes = [yield* open(prefix, "a"), yield* open(prefix, "b")]
        const wins = [0, 0]
        for (let round = 0; round < 100; round++) {
          const key = { key: `key ${round % 7 === 0 ? "é".repeat(900) : ""}${round}`, principal: "alice" }
          const owner = { ...key, since: 0 }
          const tries = yield* Effect.forEach(
            nodes,
            (store, i) => {
              const jobId = `job_${i}_${round}`
              return Effect.either(
                store.commit({
                  ops: [put(aJob(jobId, { idempotencyKey: key.key })), append(jobId, 1, 1)],
                  owners: [{ job: jobId, epoch: absent }, owner]
                })
              )
            },
            { concurrency: "unbounded" }
          )
          const winner = tries.findIndex(Either.isRight)
          assert.lengthOf(tries.filter(Either.isRight), 1)
          wins[winner] = (wins[winner] ?? 0) + 1
          const lost = tries.find(Either.isLeft)
          assert.deepInclude(lost?.left, { _tag: "Fenced", owners: [owner] })
          for (const store of nodes)
            assert.strictEqual((yield* store.jobByKey("alice", key.key))?.jobId, `job_${winner}_${round}`)
        }
        assert.strictEqual((wins[0] ?? 0) + (wins[1] ?? 0), 100)
      })
    )

    it.scopedLive("a runtime that is alone and nodes keep each other out, and say what can be done", () =>
      Effect.gen(function* () {
        const prefix = fresh()
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* open(prefix, "a")
            const alone = yield* Effect.flip(Effect.scoped(open(prefix, undefined, { lease: "1 second" })))
            assert.match(alone.message, /node a\), which is alive; stop it, make both nodes of a cluster, or/)
            const same = yield* Effect.flip(Effect.scoped(open(prefix, "a")))
            assert.match(same.message, /node a\), which is alive; give each node a name of its own/)
          })
        )
        // It says seldom that it is alive: what is set below stands until the next node has looked.
        const alone = yield* open(prefix, undefined, { lease: "20 seconds" })
        const refused = yield* Effect.flip(Effect.scoped(open(prefix, "a")))
        assert.match(refused.message, /which is alive; stop it, make both nodes of a cluster/)
        // One that is taken for gone writes nothing any more, whoever comes after it.
        yield* sql(`UPDATE ${prefix}writers SET expires = clock_timestamp()`)
        yield* Effect.scoped(
          Effect.gen(function* () {
            const b = yield* open(prefix, "b")
            yield* commitUnowned(b, [put(aJob("job_a"))])
            const lost = yield* Effect.flip(commitUnowned(alone, [put(aJob("job_b"))]))
            assert.deepInclude(lost, { fenced: true })
            yield* sql(`DELETE FROM ${prefix}writers`)
            const gone = yield* Effect.flip(commitUnowned(b, [put(aJob("job_b"))]))
            assert.match(gone.message, /node b was taken for gone by others/)
          })
        )
        assert.match(
          (yield* Effect.flip(Effect.scoped(open(prefix, "")))).message,
          /the name of a node is not empty/
        )
        for (const name of ["a b", "a\n", 'a"', "a\0", "a\ud800", "x".repeat(256)])
          assert.match(
            (yield* Effect.flip(Effect.scoped(open(prefix, name)))).message,
            /cannot be the name of a node: give up to 255 letters/
          )
        for (const name of ["knoten-ü.1", "10.0.0.1:7777", "x".repeat(255)])
          yield* Effect.scoped(open(prefix, name))
      })
    )
  }
)
