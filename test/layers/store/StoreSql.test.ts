/** The store in a database of an application: beside its tables, its transactions, and other stores. */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as Migrator from "@effect/sql/Migrator"
import * as SqlClient from "@effect/sql/SqlClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { afterAll } from "vitest"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import { naming } from "../../../src/layers/store/naming.js"
import * as StoreSql from "../../../src/layers/store/StoreSql.js"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { applicationId, migrations, schemaVersion } from "../../../src/layers/store/schema.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import { Op, Store, StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { agentsForClients, Count } from "../../support/agents.js"
import * as SqliteClient from "../../support/sqliteClient.js"
import { aJob, append, aSession, put, seqs, someEvents } from "./fixtures.js"
import { suite } from "./Store.suite.js"

const tempFile = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "arcp-sql-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
).pipe(Effect.map((folder) => path.join(folder, "app.db")))

const clientOn = (filename: string) => SqliteClient.make({ filename })

/** One database for the whole suite, which is closed after it. */
const scope = Effect.runSync(Scope.make())
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
const shared = Effect.runSync(
  Effect.cached(
    Effect.flatMap(tempFile, clientOn).pipe(
      // Nothing here survives a power cut.
      Effect.tap((sql) => sql`PRAGMA synchronous = OFF`),
      Effect.orDie,
      Scope.extend(scope)
    )
  )
)
/** The database of the suite, without what the test before has made: hundreds of tables would make each statement dear. */
const emptied = Effect.tap(shared, (sql) =>
  sql<{ name: string }>`SELECT name FROM sqlite_master WHERE type = 'table'`.pipe(
    Effect.flatMap((rows) =>
      Effect.forEach(rows, ({ name }) => sql.unsafe(`DROP TABLE ${name}`), { discard: true })
    ),
    Effect.orDie
  )
)

// Without one it has the names that it has in a file of its own (StoreSqlite.test.ts).
suite(
  "SQL, with a prefix of one's own",
  Layer.unwrapEffect(
    Effect.map(emptied, (sql) =>
      StoreSql.layer({ prefix: "a1_" }).pipe(Layer.provide(Layer.succeed(SqlClient.SqlClient, sql)))
    )
  )
)

/** A store over a client that others have too. */
const storeOn = (
  sql: SqlClient.SqlClient,
  options?: StoreSql.Options
): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  Effect.map(
    Layer.build(StoreSql.layer(options).pipe(Layer.provide(Layer.succeed(SqlClient.SqlClient, sql)))),
    Context.get(Store)
  )

const tablesOf = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql.unsafe<{ name: string }>(
      "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    ),
    (rows) => rows.map(({ name }) => name)
  )

const aBatch = (jobId: string, from: number, to: number) => [append(jobId, from, to)]

describe("tables", () => {
  it.scoped("all of them, and their indexes, have the prefix: an application's own are left alone", () =>
    Effect.gen(function* () {
      const sql = yield* Effect.flatMap(tempFile, clientOn)
      // Names that a store without a prefix would have.
      yield* sql`CREATE TABLE jobs (title TEXT)`
      yield* sql`CREATE TABLE events (what TEXT)`
      yield* sql`CREATE INDEX jobs_by_key ON jobs (title)`
      yield* sql`INSERT INTO jobs VALUES ('mine')`
      const store = yield* storeOn(sql)
      yield* store.commit({ ops: [put(aJob("job_a")), append("job_a", 1, 3)], owners: [] })
      const names = yield* tablesOf(sql)
      assert.deepStrictEqual(
        names.filter((name) => !name.startsWith("arcp_")),
        ["events", "jobs", "jobs_by_key"]
      )
      assert.include(names, "arcp_jobs")
      assert.deepStrictEqual(yield* sql`SELECT * FROM jobs`, [{ title: "mine" }])
      assert.deepStrictEqual(yield* sql`PRAGMA application_id`, [{ application_id: 0 }])
      assert.deepStrictEqual(yield* sql`PRAGMA user_version`, [{ user_version: 0 }])
    })
  )

  it.scoped("a prefix that is none is refused before anything is done", () =>
    Effect.gen(function* () {
      const sql = yield* Effect.flatMap(tempFile, clientOn)
      for (const prefix of [
        "A_",
        "1_",
        "x-",
        "x; DROP TABLE users; --",
        "sqlite_x",
        "é",
        "_",
        "x".repeat(33),
        "a\n"
      ]) {
        const error = yield* Effect.flip(storeOn(sql, { prefix }))
        assert.instanceOf(error, StoreError)
        assert.include(error.message, "prefix")
        assert.strictEqual(
          (yield* Effect.flip(Effect.provideService(StoreSql.migrate({ prefix }), SqlClient.SqlClient, sql)))
            .message,
          error.message
        )
      }
      assert.deepStrictEqual(yield* tablesOf(sql), [])
    })
  )

  it.scoped("are made by a migration of the application's, and then need nothing more", () =>
    Effect.gen(function* () {
      const sql = yield* Effect.flatMap(tempFile, clientOn)
      const run = Migrator.make({})({
        loader: Migrator.fromRecord({
          "0001_users": Effect.flatMap(SqlClient.SqlClient, (sql) => sql`CREATE TABLE users (name TEXT)`),
          "0002_arcp": StoreSql.migrate({ prefix: "x_" })
        })
      }).pipe(Effect.provideService(SqlClient.SqlClient, sql))
      assert.deepStrictEqual(
        (yield* run).map(([id]) => id),
        [1, 2]
      )
      const before = yield* tablesOf(sql)
      assert.includeMembers([...before], ["users", "x_jobs", "x_store"])
      const store = yield* storeOn(sql, { prefix: "x_" })
      yield* store.commit({ ops: [put(aJob("job_a"))], owners: [] })
      assert.deepStrictEqual(yield* tablesOf(sql), before)
      assert.deepStrictEqual(yield* run, [])
    })
  )

  it.scoped("of a migration that fails are not there", () =>
    Effect.gen(function* () {
      const sql = yield* Effect.flatMap(tempFile, clientOn)
      yield* sql`CREATE TABLE arcp_inputs (x)`
      const migrate = Effect.provideService(StoreSql.migrate(), SqlClient.SqlClient, sql)
      assert.match((yield* Effect.flip(migrate)).message, /already exists/)
      assert.deepStrictEqual(yield* tablesOf(sql), ["arcp_inputs"])
      yield* sql`DROP TABLE arcp_inputs`
      yield* migrate
      yield* migrate
      assert.include(yield* tablesOf(sql), "arcp_jobs")
    })
  )

  it.scoped("of versions 1 and on are brought up to date, those of a newer one refused", () =>
    Effect.gen(function* () {
      for (const prefix of ["", "x_"]) {
        const sql = yield* Effect.flatMap(tempFile, clientOn)
        const name = naming(prefix)
        // As the store of version 1 has left it; without a prefix, in a file of its own.
        yield* Effect.forEach(migrations[0] ?? [], (statement) => sql.unsafe(name(statement)))
        if (prefix === "") {
          yield* sql.unsafe(`PRAGMA application_id = ${applicationId}`)
          yield* sql.unsafe("PRAGMA user_version = 1")
        } else {
          yield* sql.unsafe(
            name("CREATE TABLE {store} (id INTEGER PRIMARY KEY, version INTEGER, owner TEXT)")
          )
          yield* sql.unsafe(name("INSERT INTO {store} VALUES (0, 1, '')"))
        }
        const record = JSON.stringify(aSession("sess_a"))
        yield* sql.unsafe(name("INSERT INTO {sessions} (session_id, record) VALUES ('sess_a', ?)"), [record])
        const store = yield* storeOn(sql, { prefix })
        assert.deepEqual(yield* store.session("sess_a"), aSession("sess_a"))
        yield* store.commit({ ops: [put(aJob("job_a")), append("job_a", 1, 3)], owners: [] })
        assert.deepStrictEqual(seqs(yield* store.events("job_a", 1, 9)), [1, 2, 3])
        yield* sql.unsafe(name("UPDATE {store} SET version = 99"))
        assert.match((yield* Effect.flip(storeOn(sql, { prefix }))).message, /newer version \(schema 99/)
      }
    })
  )

  it.scoped("of a file of StoreSqlite are the same without a prefix, there and back", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const own = <A, E>(use: (store: StoreService) => Effect.Effect<A, E>) =>
        Effect.flatMap(Store, use).pipe(Effect.scoped, Effect.provide(StoreSqlite.layer({ filename })))
      yield* own((store) => store.commit({ ops: [put(aJob("job_a")), append("job_a", 1, 3)], owners: [] }))
      yield* Effect.scoped(
        Effect.gen(function* () {
          const sql = yield* clientOn(filename)
          const store = yield* storeOn(sql, { prefix: "" })
          yield* store.commit({ ops: [append("job_a", 4, 6)], owners: [] })
          assert.deepStrictEqual(yield* sql`PRAGMA user_version`, [{ user_version: schemaVersion }])
        })
      )
      yield* own((store) =>
        Effect.map(store.events("job_a", 1, 9), (events) => assert.deepEqual(events, someEvents(1, 6)))
      )
    })
  )
})

describe("two stores in one database", () => {
  it.scoped("with prefixes of their own know nothing of each other, on one connection or two", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const first = yield* clientOn(filename)
      for (const second of [first, yield* clientOn(filename)]) {
        const suffix = second === first ? "same" : "other"
        const a = yield* storeOn(first, { prefix: `a_${suffix}_` })
        const b = yield* storeOn(second, { prefix: `b_${suffix}_` })
        yield* a.commit({ ops: [put(aJob("job_a", { principal: "a" })), Op.Alive({ at: 1 })], owners: [] })
        yield* b.commit({ ops: [put(aJob("job_a", { principal: "b" })), Op.Alive({ at: 2 })], owners: [] })
        yield* Effect.all(
          [a, b].map((store) =>
            Effect.forEach(
              Array.from({ length: 50 }, (_, i) => i),
              (i) => store.commit({ ops: aBatch("job_a", 2 * i + 1, 2 * i + 2), owners: [] })
            )
          ),
          { concurrency: "unbounded" }
        )
        for (const [store, principal, at] of [
          [a, "a", 1],
          [b, "b", 2]
        ] as const) {
          assert.strictEqual((yield* store.job("job_a"))?.principal, principal)
          assert.strictEqual(yield* store.aliveAt, at)
          assert.deepEqual(yield* store.events("job_a", 1, 200), someEvents(1, 100))
        }
      }
    })
  )

  it.scoped("with the same prefix: the first is told at its next commit, and has destroyed nothing", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const first = yield* storeOn(yield* clientOn(filename))
      yield* first.commit({ ops: [put(aJob("job_a")), append("job_a", 1, 3)], owners: [] })
      const second = yield* storeOn(yield* clientOn(filename))
      const error = yield* Effect.flip(first.commit({ ops: [append("job_a", 4, 4)], owners: [] }))
      assert.match(error.message, /another runtime uses these tables/)
      yield* second.commit({ ops: [append("job_a", 4, 6)], owners: [] })
      assert.deepEqual(yield* second.events("job_a", 1, 9), someEvents(1, 6))
      assert.deepEqual(yield* first.events("job_a", 1, 9), someEvents(1, 6))
      assert.isFalse(yield* second.vacuum)
      assert.match((yield* Effect.flip(first.vacuum)).message, /another runtime/)
    })
  )
})

describe("beside an application", () => {
  const users = (sql: SqlClient.SqlClient) => sql`CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)`
  const countOf = (sql: SqlClient.SqlClient) =>
    Effect.map(sql<{ n: number }>`SELECT count(*) AS n FROM users`, ([row]) => row?.n)

  it.scoped("on its one connection: no transaction is in the other's, whichever ends how", () =>
    Effect.gen(function* () {
      const sql = yield* Effect.flatMap(tempFile, clientOn)
      yield* users(sql)
      const store = yield* storeOn(sql)
      yield* store.commit({ ops: [put(aJob("job_a"))], owners: [] })
      const inside = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      const theirs = yield* Effect.fork(
        sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`INSERT INTO users (name) VALUES ('ann')`
            yield* Deferred.succeed(inside, undefined)
            yield* Deferred.await(goOn)
            return yield* Effect.fail("rolled back")
          })
        )
      )
      yield* Deferred.await(inside)
      const ours = yield* Effect.fork(store.commit({ ops: aBatch("job_a", 1, 3), owners: [] }))
      for (let i = 0; i < 20; i++) yield* Effect.yieldNow()
      assert.isNull(
        yield* Fiber.poll(ours).pipe(Effect.map((exit) => (exit._tag === "Some" ? exit.value : null)))
      )
      yield* Deferred.succeed(goOn, undefined)
      assert.strictEqual(yield* Effect.flip(Fiber.join(theirs)), "rolled back")
      yield* Fiber.join(ours)
      // Theirs is undone and ours is not.
      assert.strictEqual(yield* countOf(sql), 0)
      assert.deepEqual(yield* store.events("job_a", 1, 9), someEvents(1, 3))
    })
  )

  it.scoped("a commit that is asked for inside its transaction waits for it, and not for ever", () =>
    Effect.gen(function* () {
      const sql = yield* Effect.flatMap(tempFile, clientOn)
      yield* users(sql)
      const store = yield* storeOn(sql)
      yield* store.commit({ ops: [put(aJob("job_a"))], owners: [] })
      const fiber = yield* Effect.fork(
        sql.withTransaction(
          Effect.zipRight(
            sql`INSERT INTO users (name) VALUES ('ann')`,
            Effect.flip(store.commit({ ops: aBatch("job_a", 1, 3), owners: [] }))
          )
        )
      )
      yield* TestClock.adjust("31 seconds")
      assert.match(
        (yield* Fiber.join(fiber)).message,
        /not free within 30 s: a transaction of the application/
      )
      // Given up, it is not done later.
      assert.deepStrictEqual(yield* store.events("job_a", 1, 9), [])
      yield* store.commit({ ops: aBatch("job_a", 1, 3), owners: [] })
      assert.strictEqual(yield* countOf(sql), 1)
    })
  )

  for (const connections of ["one connection", "two connections"] as const)
    it.scopedLive(`${connections}: commits of both at once, all of them whole`, () =>
      Effect.gen(function* () {
        const filename = yield* tempFile
        const sql = yield* clientOn(filename)
        yield* users(sql)
        const store = yield* storeOn(connections === "one connection" ? sql : yield* clientOn(filename))
        yield* store.commit({ ops: [put(aJob("job_a"))], owners: [] })
        const rounds = Array.from({ length: 40 }, (_, i) => i)
        // Over turns of the event loop, with its lock held: a store that waited inside SQLite would wait for itself.
        const turn = Effect.async<void>((resume) => {
          setImmediate(() => resume(Effect.void))
        })
        const began = performance.now()
        yield* Effect.all(
          [
            Effect.forEach(rounds, (i) =>
              sql
                .withTransaction(
                  Effect.gen(function* () {
                    yield* sql`INSERT INTO users (name) VALUES (${`${i}`})`
                    yield* turn
                    yield* sql`INSERT INTO users (name) VALUES (${`${i}`})`
                    if (i % 4 === 0) yield* Effect.fail("undone")
                  })
                )
                .pipe(Effect.ignore)
            ),
            Effect.forEach(rounds, (i) =>
              Effect.zipRight(
                store.commit({ ops: aBatch("job_a", 50 * i + 1, 50 * i + 50), owners: [] }),
                turn
              )
            ),
            Effect.forEach(rounds, () => Effect.zipRight(store.events("job_a", 1, 10), turn))
          ],
          { concurrency: "unbounded" }
        )
        assert.strictEqual(yield* countOf(sql), 60)
        assert.deepStrictEqual(
          seqs(yield* store.events("job_a", 1, 5_000)),
          Array.from({ length: 2_000 }, (_, i) => i + 1)
        )
        // SQLite's own waiting is 5 s at a time.
        assert.isBelow(performance.now() - began, 20_000)
        assert.deepStrictEqual(yield* sql`PRAGMA busy_timeout`, [{ timeout: 5_000 }])
      })
    )

  it.scoped("nothing of its own waits while the store has nothing to do", () =>
    Effect.gen(function* () {
      const sql = yield* Effect.flatMap(tempFile, clientOn)
      yield* users(sql)
      yield* storeOn(sql)
      yield* sql.withTransaction(sql`INSERT INTO users (name) VALUES ('ann')`)
      assert.strictEqual(yield* countOf(sql), 1)
    })
  )
})

describe("two runtimes in one SQLite file, with the application's own tables", () => {
  /** A runtime on tables of its own, and a client of it, for the scope. */
  const runtimeOn = (sql: SqlClient.SqlClient, prefix: string) =>
    Effect.gen(function* () {
      const context = yield* Layer.build(
        Runtime.serve().pipe(
          Layer.provideMerge(TransportMemory.layer()),
          Layer.provide(Runtime.layer({ options: { shutdownGrace: "0 millis" } })),
          Layer.provide(Registry.layer(agentsForClients)),
          Layer.provide(Auth.layerStatic({ t: prefix })),
          Layer.provide(StoreSql.layer({ prefix })),
          Layer.provide(Layer.succeed(SqlClient.SqlClient, sql))
        )
      )
      return yield* ArcpClient.make({ token: Redacted.make("t") }).pipe(Effect.provide(context))
    })

  it.scopedLive("each runs its jobs beside the others' transactions, and knows them after a restart", () =>
    Effect.gen(function* () {
      const sql = yield* Effect.flatMap(tempFile, clientOn)
      yield* sql`CREATE TABLE orders (job_id TEXT)`
      const jobIds = yield* Effect.scoped(
        Effect.gen(function* () {
          const clients = [yield* runtimeOn(sql, "a_"), yield* runtimeOn(sql, "b_")]
          const one = (client: (typeof clients)[number]) =>
            Effect.gen(function* () {
              const job = yield* client.submit(Count, { to: 20 })
              yield* sql.withTransaction(sql`INSERT INTO orders VALUES (${job.jobId})`)
              assert.strictEqual(yield* job.result, 20)
              return job.jobId
            })
          return yield* Effect.forEach(
            clients,
            (client) => Effect.replicateEffect(one(client), 5, { concurrency: "unbounded" }),
            { concurrency: "unbounded" }
          )
        })
      )
      assert.strictEqual((yield* sql`SELECT DISTINCT job_id FROM orders`).length, 10)
      for (const [i, prefix] of ["a_", "b_"].entries()) {
        const client = yield* runtimeOn(sql, prefix)
        const listed = yield* Stream.runCollect(client.list({ status: ["success"] }))
        assert.deepStrictEqual(
          Array.from(listed, (entry) => entry.job_id).sort(),
          [...(jobIds[i] ?? [])].sort()
        )
      }
    })
  )
})
