import { spawn } from "node:child_process"
import * as fs from "node:fs"
import { createRequire } from "node:module"
import * as os from "node:os"
import * as path from "node:path"
import type * as SqlClient from "@effect/sql/SqlClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { owning } from "../../../src/layers/store/care/ours.js"
import { naming } from "../../../src/layers/store/naming.js"
import * as StoreSql from "../../../src/layers/store/StoreSql.js"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { applicationId, migrations } from "../../../src/layers/store/schema.js"
import { toStoreError } from "../../../src/layers/store/sqlError.js"
import { substitute } from "../../../src/layers/store/sqliteDriver.js"
import { open as openFile } from "../../../src/layers/store/sqliteOpen.js"
import * as Thread from "../../../src/layers/store/sqliteThread.js"
import { inRealTime } from "../../../src/services/runtime/within.js"
import { Op, Store, StoreError, toInternalError } from "../../../src/services/store/Store.js"
import { pass, passing, passUntil } from "../../support/besideThreads.js"
import * as SqliteClient from "../../support/sqliteClient.js"
import { putEmpty } from "../../support/sqliteFile.js"
import { aJob, aSession, boundsOf, observersOf, seqs, someEvents, vacuumAll } from "./fixtures.js"
import { suite } from "./Store.suite.js"

const tempFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "arcp-store-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)
const tempFile = Effect.map(tempFolder, (folder) => path.join(folder, "arcp.db"))

// `NORMAL` differs in one pragma, which is looked at below; the suites of the log run with it.
// Files without tables, and with those of every version, are in what follows and in schemas.test.ts.
suite(
  "SQLite, synchronous FULL",
  Layer.unwrapScoped(
    Effect.map(Effect.tap(tempFile, putEmpty), (filename) => StoreSqlite.layer({ filename }))
  )
)

/** For the rest of the scope, is somebody whom permissions hold; what was made so far in the folder is theirs. */
const unprivileged = (folder: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      if (process.getuid?.() !== 0) return
      for (const file of ["", ...fs.readdirSync(folder)]) fs.chownSync(path.join(folder, file), 65534, 65534)
      process.seteuid?.(65534)
    }),
    () =>
      Effect.sync(() => {
        if (process.getuid?.() === 0) process.seteuid?.(0)
      })
  )

const open = (filename: string) => StoreSqlite.layer({ filename })

/** Runs with a store on the file and closes it. */
const using =
  (layer: Layer.Layer<Store, StoreError>) =>
  <A, E>(body: (store: Store["Type"]) => Effect.Effect<A, E, Store | Scope.Scope>) =>
    Effect.flatMap(Store, body).pipe(Effect.scoped, Effect.provide(layer))

/** Does something to a file as another program would. */
const withSql = <A, E>(
  filename: string,
  body: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>,
  config: { readonly readonly?: boolean; readonly disableWAL?: boolean } = {}
) => Effect.flatMap(SqliteClient.make({ filename, ...config }), body).pipe(Effect.scoped)

/** The files beside a database, without locks, and their bytes, but for what SQLite works with. */
const filesOf = (folder: string) =>
  fs
    .readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".lock"))
    .map((entry) => [
      entry.name,
      /(-shm|-wal)$/.test(entry.name) ? "" : fs.readFileSync(path.join(folder, entry.name)).toString("base64")
    ])

/** Opening fails, says so, and changes no file. */
const refuses = (filename: string, message: RegExp, layer = open(filename)) =>
  Effect.gen(function* () {
    const before = filesOf(path.dirname(filename))
    const error = yield* passing(Effect.flip(Effect.scoped(Layer.build(layer))))
    assert.instanceOf(error, StoreError)
    assert.match(error.message, message)
    assert.include(error.message, filename)
    assert.deepStrictEqual(filesOf(path.dirname(filename)), before)
  })

const job = aJob("job_a", { idempotencyKey: "k", endedAt: 50 })
const session = aSession("sess_a")
const run = { eventSeq: 1, jobId: "job_a", jobSeq: 1, count: 40, bytes: 4_000 }
const everything = [
  Op.PutSession({ session }),
  Op.PutJob({ job }),
  Op.Append({ jobId: "job_a", events: someEvents(1, 40) }),
  Op.PutRun({ sessionId: "sess_a", run }),
  Op.Observe({ sessionId: "sess_a", jobId: "job_a", cursor: 0 }),
  Op.Alive({ at: 99 })
]
const everythingIsThere = (store: Store["Type"]) =>
  Effect.gen(function* () {
    assert.deepEqual(yield* store.session("sess_a"), session)
    assert.deepEqual(yield* store.job("job_a"), job)
    assert.deepEqual(yield* store.jobByKey("alice", "k"), job)
    assert.deepEqual(yield* store.jobBySubmit("sess_a", job.submitId), job)
    assert.deepEqual(yield* store.jobs({ principals: ["alice"], limit: 10 }), [job])
    assert.deepEqual(yield* store.surplus({ principal: "alice", limit: 10, needed: true }), ["job_a"])
    assert.deepEqual(yield* store.events("job_a", 1, 100), someEvents(1, 40))
    assert.deepEqual(yield* store.runs("sess_a", 1, 10), [run])
    assert.deepEqual(yield* observersOf(store, "job_a"), ["sess_a"])
    assert.strictEqual(yield* store.aliveAt, 99)
  })

describe("StoreSqlite", () => {
  /** Permissions of every file in a folder, and of the folder. */
  const modes = (folder: string) =>
    Object.fromEntries(
      ["", ...fs.readdirSync(folder)].map((name) => [
        name === "" ? "folder" : name.replace(/^arcp\.db/, "db"),
        (fs.statSync(path.join(folder, name)).mode & 0o777).toString(8)
      ])
    )
  const withUmask = (mask: number) =>
    Effect.acquireRelease(
      Effect.sync(() => process.umask(mask)),
      (before) => Effect.sync(() => process.umask(before))
    )

  it.scoped("what it makes is for its owner only, whatever the umask", () =>
    Effect.gen(function* () {
      yield* withUmask(0)
      const folder = path.join(yield* tempFolder, "a", "b")
      const filename = path.join(folder, "arcp.db")
      yield* using(open(filename))((store) =>
        Effect.map(store.commit({ ops: everything, owners: [] }), () => {
          assert.deepStrictEqual(modes(folder), {
            folder: "700",
            db: "600",
            "db-wal": "600",
            "db-shm": "600",
            "db.lock": "600"
          })
        })
      )
      assert.strictEqual(fs.statSync(path.dirname(folder)).mode & 0o777, 0o700)
    })
  )

  it.scoped("what others could read is taken from them, but no folder that is for other things too", () =>
    Effect.gen(function* () {
      const folder = path.join(yield* tempFolder, ".arcp")
      const filename = path.join(folder, "arcp.db")
      yield* using(open(filename))((store) => store.commit({ ops: everything, owners: [] }))
      for (const name of fs.readdirSync(folder)) fs.chmodSync(path.join(folder, name), 0o666)
      fs.chmodSync(folder, 0o755)
      fs.chmodSync(path.dirname(folder), 0o755)
      // What a process that was killed has left beside it.
      for (const suffix of ["-wal", "-shm"]) fs.writeFileSync(filename + suffix, "")
      for (const suffix of ["-wal", "-shm"]) fs.chmodSync(filename + suffix, 0o644)
      yield* using(open(filename))(() =>
        Effect.sync(() =>
          assert.deepStrictEqual(new Set(Object.values(modes(folder))), new Set(["700", "600"]))
        )
      )
      assert.strictEqual(fs.statSync(path.dirname(folder)).mode & 0o777, 0o755)
      const elsewhere = path.join(yield* tempFolder, "shared", "arcp.db")
      fs.mkdirSync(path.dirname(elsewhere), { mode: 0o755 })
      yield* using(open(elsewhere))(() => Effect.void)
      assert.strictEqual(fs.statSync(path.dirname(elsewhere)).mode & 0o777, 0o755)
    })
  )

  it.scoped("creates its folder, survives being closed and opened, and goes on", () =>
    Effect.gen(function* () {
      const filename = path.join(yield* tempFolder, "a", "b", "arcp.db")
      yield* using(open(filename))((store) => store.commit({ ops: everything, owners: [] }))
      assert.deepStrictEqual(
        fs.readdirSync(path.dirname(filename)).filter((file) => !file.endsWith(".lock")),
        ["arcp.db"]
      )
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          assert.strictEqual(store.kind, "durable")
          yield* everythingIsThere(store)
          yield* store.commit({
            ops: [
              Op.PutJob({ job: aJob("job_b") }),
              Op.Append({ jobId: "job_b", events: someEvents(1, 3) }),
              Op.Append({ jobId: "job_a", events: someEvents(41, 45) })
            ],
            owners: []
          })
        })
      )
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          assert.deepEqual(yield* store.events("job_a", 39, 100), someEvents(39, 45))
          assert.deepEqual(yield* store.events("job_b", 1, 100), someEvents(1, 3))
        })
      )
    })
  )

  it.scoped("what is dropped or trimmed stays so when a vacuum never came", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) =>
        store.commit({
          ops: [
            ...everything,
            Op.PutJob({ job: aJob("job_b") }),
            Op.Append({ jobId: "job_b", events: someEvents(1, 40) }),
            Op.DropJob({ jobId: "job_b" }),
            Op.TrimJob({ jobId: "job_a", seq: 31 }),
            Op.PutRun({ sessionId: "sess_a", run: { ...run, eventSeq: 41 } }),
            Op.TrimSession({ sessionId: "sess_a", eventSeq: 41 })
          ],
          owners: []
        })
      )
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* store.commit({
            ops: [Op.PutJob({ job: aJob("job_c") }), Op.Append({ jobId: "job_c", events: someEvents(1, 2) })],
            owners: []
          })
          for (let round = 0; round < 2; round++) {
            assert.deepEqual(yield* store.events("job_a", 1, 100), someEvents(31, 40))
            assert.deepEqual(yield* store.events("job_c", 1, 100), someEvents(1, 2))
            assert.deepEqual(yield* store.runs("sess_a", 1, 100), [{ ...run, eventSeq: 41 }])
            assert.deepEqual(yield* boundsOf(store, "job_b"), { first: 1, last: 0 })
            yield* vacuumAll
          }
        })
      )
      const rows = yield* withSql(filename, (sql) => sql`SELECT count(*) AS events FROM events`)
      assert.deepEqual(rows, [{ events: 12 }])
    })
  )

  it.scoped("a job that appends alone has few extents, however small its batches", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* store.commit({ ops: [Op.PutJob({ job })], owners: [] })
          for (let seq = 1; seq <= 100; seq++)
            yield* store.commit({
              ops: [Op.Append({ jobId: "job_a", events: someEvents(seq, seq) })],
              owners: []
            })
          yield* store.commit({
            ops: [Op.Append({ jobId: "job_a", events: someEvents(101, 2_100) })],
            owners: []
          })
        })
      )
      const rows = yield* withSql(filename, (sql) => sql`SELECT seq, count FROM extents ORDER BY seq`)
      assert.deepEqual(rows, [
        { seq: 1, count: 1_024 },
        { seq: 1_025, count: 1_024 },
        { seq: 2_049, count: 52 }
      ])
    })
  )

  it.scoped("frees many jobs and sessions at once, each call in bounds, and tells what waits", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          const ids = Array.from({ length: 1_000 }, (_, i) => `job_${i}`)
          const runOf = (jobId: string, i: number) =>
            Op.PutRun({
              sessionId: `sess_${i % 10}`,
              run: { eventSeq: 1 + i, jobId, jobSeq: 1, count: 3, bytes: 0 }
            })
          yield* store.commit({
            ops: ids.flatMap((jobId, i) => [
              Op.PutJob({ job: aJob(jobId) }),
              Op.PutInput({ jobId, input: "{}" }),
              Op.Append({ jobId, events: someEvents(1, 3) }),
              runOf(jobId, i)
            ]),
            owners: []
          })
          yield* store.commit({
            ops: [Op.PutJob({ job }), Op.Append({ jobId: "job_a", events: someEvents(1, 20_000) })],
            owners: []
          })
          assert.strictEqual(yield* store.freeing, 0)
          yield* store.commit({
            ops: [
              ...ids.map((jobId) => Op.DropJob({ jobId })),
              Op.TrimJob({ jobId: "job_a", seq: 20_000 }),
              ...Array.from({ length: 10 }, (_, i) => Op.DropSession({ sessionId: `sess_${i}` }))
            ],
            owners: []
          })
          assert.approximately(yield* store.freeing, 22_999, 1_000)
          // The clock stands still, so only rows bound a call: 3 000 events in jobs, 19 999 of one, 1 000 runs.
          let calls = 0
          for (let left = Number.POSITIVE_INFINITY; yield* store.vacuum; calls++) {
            // What a call also ends by is 4 ms of the thread's own clock, so how many there are is the machine's affair.
            assert.isBelow(calls, 5_000)
            const now = yield* store.freeing
            assert.isAtMost(now, left)
            left = now
          }
          assert.isAtLeast(calls, 5)
          assert.strictEqual(yield* store.freeing, 0)
          assert.deepStrictEqual(seqs(yield* store.events("job_a", 1, 99)), [20_000])
        })
      )
      const rows = yield* withSql(
        filename,
        (
          sql
        ) => sql`SELECT (SELECT count(*) FROM events) AS events, (SELECT count(*) FROM extents) AS extents,
          (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM inputs) AS inputs,
          (SELECT count(*) FROM event_trims) AS trims, (SELECT count(*) FROM run_trims) AS floors`
      )
      assert.deepEqual(rows, [{ events: 1, extents: 1, runs: 0, inputs: 0, trims: 0, floors: 0 }])
    })
  )

  it.scoped("has everything that was committed when the process is killed", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const copy = yield* tempFile
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* store.commit({ ops: everything, owners: [] })
          // The files as they are while the store is open are what a killed process leaves.
          for (const suffix of ["", "-wal"]) fs.copyFileSync(filename + suffix, copy + suffix)
        })
      )
      yield* using(open(copy))(everythingIsThere)
    })
  )

  it.scoped("a batch that fails leaves nothing, and later ones work", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const appendTo = (jobId: string, from: number, to: number) =>
        Op.Append({ jobId, events: someEvents(from, to) })
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* store.commit({ ops: everything, owners: [] })
          const batches = [
            [appendTo("job_a", 41, 60), appendTo("job_unknown", 1, 1)],
            [Op.PutJob({ job: aJob("job_b") }), appendTo("job_b", 1, 5), appendTo("job_a", 43, 44)],
            [
              Op.DropSession({ sessionId: "sess_a" }),
              Op.DropJob({ jobId: "job_a" }),
              appendTo("job_a", 41, 41)
            ]
          ]
          for (const batch of batches) {
            const error = yield* Effect.flip(store.commit({ ops: batch, owners: [] }))
            assert.instanceOf(error, StoreError)
            yield* everythingIsThere(store)
            assert.isUndefined(yield* store.job("job_b"))
          }
          yield* store.commit({
            ops: [appendTo("job_a", 41, 42), Op.PutJob({ job: aJob("job_b") }), appendTo("job_b", 1, 1)],
            owners: []
          })
          assert.deepEqual(yield* store.events("job_a", 1, 100), someEvents(1, 42))
          assert.deepEqual(yield* store.events("job_b", 1, 100), someEvents(1, 1))
        })
      )
    })
  )

  it.scoped(
    "a statement that fails in the middle of a batch leaves nothing of it, in the file or in the writer",
    () =>
      Effect.gen(function* () {
        const filename = yield* tempFile
        yield* using(open(filename))((store) =>
          Effect.gen(function* () {
            yield* store.commit({ ops: everything, owners: [] })
            // Of a batch the events are written last; these fail when everything else is there.
            yield* withSql(
              filename,
              (sql) => sql`CREATE TRIGGER refuse BEFORE INSERT ON events WHEN new.payload = '"refused"'
              BEGIN SELECT RAISE(ABORT, 'refused'); END`
            )
            const refused = { payload: '"refused"' }
            const error = yield* Effect.flip(
              store.commit({
                ops: [
                  Op.PutSession({ session: aSession("sess_b") }),
                  Op.Need({ sessionId: "sess_a", eventSeq: 9 }),
                  Op.PutJob({ job: aJob("job_b") }),
                  Op.PutInput({ jobId: "job_b", input: "1" }),
                  Op.Observe({ sessionId: "sess_a", jobId: "job_b", cursor: 0 }),
                  Op.PutRun({ sessionId: "sess_a", run: { ...run, eventSeq: 41, jobSeq: 41 } }),
                  Op.TrimSession({ sessionId: "sess_a", eventSeq: 20 }),
                  Op.TrimJob({ jobId: "job_a", seq: 20 }),
                  Op.Alive({ at: 1_000 }),
                  Op.Append({ jobId: "job_a", events: someEvents(41, 50) }),
                  Op.Append({ jobId: "job_b", events: [...someEvents(1, 2), ...someEvents(3, 3, refused)] })
                ],
                owners: []
              })
            )
            assert.match(error.message, /refused/)
            yield* everythingIsThere(store)
            assert.isUndefined(yield* store.session("sess_b"))
            assert.isUndefined(yield* store.job("job_b"))
            assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 1, last: 40 })
            assert.deepStrictEqual(yield* store.view("sess_a"), { first: 1, last: 40 })
            assert.strictEqual(yield* store.needed("job_a"), 1)
            yield* store.commit({
              ops: [
                Op.PutJob({ job: aJob("job_c") }),
                Op.Append({ jobId: "job_c", events: someEvents(1, 3) }),
                Op.Append({ jobId: "job_a", events: someEvents(41, 42) })
              ],
              owners: []
            })
            assert.deepEqual(yield* store.events("job_a", 1, 99), someEvents(1, 42))
            assert.deepEqual(yield* store.events("job_c", 1, 99), someEvents(1, 3))
            assert.isUndefined(yield* store.input("job_c"))
          })
        )
      })
  )

  it.scoped("a full disk fails the batch by name, and only that", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) => store.commit({ ops: everything, owners: [] }))
      const limited = Layer.scoped(
        Store,
        Effect.gen(function* () {
          const sql = yield* SqliteClient.make({ filename })
          yield* sql`PRAGMA max_page_count = 64`
          return yield* StoreSql.makeKeeping(sql, filename)
        }).pipe(Effect.orDie)
      )
      yield* using(limited)((store) =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(
            store.commit({ ops: [Op.Append({ jobId: "job_a", events: someEvents(41, 20_000) })], owners: [] })
          )
          assert.match(error.message, /the disk is full: free space.*SQLITE_FULL/)
          assert.include(error.message, filename)
          yield* everythingIsThere(store)
          yield* store.commit({
            ops: [Op.Append({ jobId: "job_a", events: someEvents(41, 41) })],
            owners: []
          })
          assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 1, last: 41 })
        })
      )
    })
  )

  it.scoped("a commit is not torn by an interrupt, nor seen half done", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* store.commit({ ops: [Op.PutJob({ job })], owners: [] })
          const commits = Effect.forEach(
            Array.from({ length: 50 }, (_, i) => someEvents(i * 10 + 1, i * 10 + 10)),
            (events) => store.commit({ ops: [Op.Append({ jobId: "job_a", events })], owners: [] })
          )
          const writer = yield* Effect.fork(commits)
          let seen = 0
          for (let i = 0; seen === 0; i++) {
            assert.isBelow(i, 10_000, "nothing is ever committed")
            yield* inRealTime(Effect.sleep("1 millis"))
            seen = (yield* boundsOf(store, "job_a")).last
            assert.strictEqual(seen % 10, 0)
          }
          yield* Fiber.interrupt(writer)
          const { last } = yield* boundsOf(store, "job_a")
          assert.strictEqual(last % 10, 0)
          yield* store.commit({
            ops: [Op.Append({ jobId: "job_a", events: someEvents(last + 1, last + 1) })],
            owners: []
          })
          assert.deepEqual(yield* store.events("job_a", 1, 999), someEvents(1, last + 1))
        })
      )
    })
  )

  it.scoped("refuses a file that another runtime uses, until that one ends", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* refuses(filename, /another arcp runtime of this process uses/)
          const link = path.join(path.dirname(filename), "link.db")
          fs.symlinkSync(filename, link)
          yield* refuses(link, /another arcp runtime of this process uses/)
          yield* store.commit({ ops: everything, owners: [] })
        })
      )
      yield* using(open(filename))(everythingIsThere)
    })
  )

  it.scoped("refuses a second name of a file, in use or not", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const other = `${filename}.other`
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* store.commit({ ops: everything, owners: [] })
          fs.linkSync(filename, other)
          yield* refuses(other, /has 2 names \(hard links\)/)
          yield* refuses(other, /has 2 names/, StoreSqlite.layerReadOnly({ filename: other }))
          yield* everythingIsThere(store)
        })
      )
      yield* refuses(filename, /has 2 names/)
      fs.unlinkSync(other)
      yield* using(open(filename))(everythingIsThere)
    })
  )

  it.scoped("refuses a file, or a folder, that is read-only", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const folder = path.dirname(filename)
      yield* using(open(filename))((store) => store.commit({ ops: everything, owners: [] }))
      yield* unprivileged(folder)
      fs.chmodSync(filename, 0o444)
      yield* refuses(filename, /is read-only/)
      fs.chmodSync(filename, 0o644)
      fs.chmodSync(folder, 0o555)
      // Real permissions are told apart from those a superuser gave up; both are said in words.
      const folderIsReadOnly =
        /is read-only|check that it and its folder may be read and written|cannot be created: .* \(E/
      yield* refuses(filename, folderIsReadOnly)
      yield* refuses(path.join(folder, "new.db"), folderIsReadOnly)
      fs.chmodSync(folder, 0o755)
      yield* using(open(filename))(everythingIsThere)
    })
  )

  it.scoped("refuses what can be opened and not written", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const readOnly = Layer.scoped(
        Store,
        Effect.gen(function* () {
          const sql = yield* SqliteClient.make({ filename, readonly: true, disableWAL: true })
          return yield* StoreSql.makeKeeping(sql, filename)
        })
      )
      yield* using(open(filename))((store) => store.commit({ ops: everything, owners: [] }))
      yield* using(readOnly)((store) =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(store.commit({ ops: [Op.Alive({ at: 1 })], owners: [] }))
          assert.include(error.message, filename)
          const told = toInternalError("the log could not commit")(error)
          assert.strictEqual(
            told.message,
            "the log could not commit: the database is read-only, or was opened for reading only"
          )
          assert.deepStrictEqual(told.details, { reason: "storage" })
        })
      )
    })
  )

  it("what clients are told of a failure names no file, whatever failed", () => {
    const causes = [
      "SQLITE_FULL",
      "SQLITE_BUSY",
      "SQLITE_NOTADB",
      "SQLITE_CORRUPT",
      "SQLITE_CANTOPEN",
      "EACCES",
      "X"
    ]
    const why = causes.map((code) =>
      toStoreError("/srv/a.db")(Object.assign(new Error("open '/srv/a.db'"), { code }))
    )
    for (const failure of [
      ...why,
      new StoreError({ message: "/srv/a.db" }),
      new Error("/srv/a.db"),
      "/srv/a.db"
    ])
      assert.notInclude(toInternalError("it failed")(failure).message, "/srv")
    for (const error of why) assert.include(error.message, "/srv/a.db")
  })

  it.scoped("syncs every commit unless it is told otherwise", () =>
    Effect.gen(function* () {
      for (const [options, expected] of [
        [{}, 2],
        [{ synchronous: undefined }, 2],
        [{ synchronous: "FULL" }, 2],
        [{ synchronous: "NORMAL" }, 1]
      ] as const) {
        const filename = yield* tempFile
        const rows = yield* openFile({ filename, ...options }, ({ path, pragmas, sql }) =>
          Effect.gen(function* () {
            const thread = yield* (yield* Thread.start(filename)).open(path, pragmas)
            return [
              yield* thread.run("PRAGMA synchronous", []),
              yield* Effect.orDie(sql.unsafe("PRAGMA synchronous").values)
            ]
          }).pipe(Effect.catchTag("NoThread", Effect.die))
        ).pipe(Effect.scoped)
        assert.deepStrictEqual(rows, [[[expected]], [[expected]]])
      }
    })
  )

  it.scoped("a commit waits for another program's lock, others go on, and reads too", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* store.commit({ ops: everything, owners: [] })
          const foreign = yield* Effect.flatMap(SqliteClient.make({ filename }), (sql) => sql.reserve)
          yield* foreign.executeRaw("BEGIN IMMEDIATE", [])
          const commit = yield* Effect.fork(store.commit({ ops: [Op.Alive({ at: 100 })], owners: [] }))
          yield* pass("10 seconds")
          assert.isTrue(Option.isNone(yield* Fiber.poll(commit)))
          assert.strictEqual(yield* store.aliveAt, 99)
          yield* foreign.executeRaw("ROLLBACK", [])
          yield* passUntil(commit)
          assert.strictEqual(yield* store.aliveAt, 100)

          yield* foreign.executeRaw("BEGIN IMMEDIATE", [])
          const patient = yield* Effect.fork(
            Effect.flip(store.commit({ ops: [Op.Alive({ at: 101 })], owners: [] }))
          )
          const left = yield* Effect.fork(store.vacuum)
          assert.match((yield* passUntil(patient)).message, /is locked by another program/)
          yield* Fiber.interrupt(left)
          yield* foreign.executeRaw("ROLLBACK", [])
          yield* store.commit({ ops: [Op.Alive({ at: 102 })], owners: [] })
          assert.strictEqual(yield* store.aliveAt, 102)
        })
      )
    })
  )

  it.scoped("a runtime that is about to end is waited for", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const first = yield* Scope.make()
      const store = Context.get(yield* Layer.buildWithScope(open(filename), first), Store)
      yield* store.commit({ ops: everything, owners: [] })
      const waits = yield* Deferred.make<void>()
      const second = yield* using(open(filename))(everythingIsThere).pipe(
        Effect.provide(
          Logger.replace(
            Logger.defaultLogger,
            Logger.make(() => Deferred.unsafeDone(waits, Effect.void))
          )
        ),
        Effect.fork
      )
      yield* Deferred.await(waits)
      yield* Scope.close(first, Exit.void)
      yield* passing(Fiber.join(second))
    })
  )

  it.scoped("the lock of a killed process is gone with it", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const script = `
        const { DatabaseSync } = process.getBuiltinModule("node:sqlite") ??
          require(${JSON.stringify(createRequire(import.meta.url).resolve(substitute))})
        const database = new DatabaseSync(${JSON.stringify(`${filename}.lock`)})
        database.exec("BEGIN EXCLUSIVE")
        console.log("locked")
        setInterval(() => database, 1000)`
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] })),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      yield* Effect.async<void>((resume) => {
        child.stdout.once("data", () => resume(Effect.void))
      })
      const said: Array<string> = []
      const error = yield* passing(Effect.flip(Effect.scoped(Layer.build(open(filename))))).pipe(
        Effect.provide(
          Logger.replace(
            Logger.defaultLogger,
            Logger.make(({ message }) => said.push(String(message)))
          )
        )
      )
      const holder = process.platform === "linux" ? ` (process ${child.pid})` : ""
      assert.strictEqual(
        error.message,
        `another arcp runtime${holder} uses ${filename}; stop it, or choose another file`
      )
      // Wherever it is printed, the sentence is all there is to read.
      assert.isUndefined(error.cause)
      assert.deepStrictEqual(said, [
        `another arcp runtime${holder} uses ${filename}: it is given 5 s to let go of it`
      ])
      assert.isFalse(fs.existsSync(filename))
      yield* Effect.async<void>((resume) => {
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
      yield* using(open(filename))((store) => store.commit({ ops: everything, owners: [] }))
    })
  )

  it.scoped("refuses what is not a database", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const folder = path.join(path.dirname(filename), "folder")
      fs.mkdirSync(folder)
      yield* refuses(folder, /is a directory/)
      for (const content of ["hello", "not a database, but a longer text\n".repeat(1_000)]) {
        fs.writeFileSync(filename, content)
        yield* refuses(filename, /is not a SQLite database/)
      }
      const inMemory = yield* Effect.flip(Effect.scoped(Layer.build(open(":memory:"))))
      assert.match(inMemory.message, /with --memory or StoreMemory/)
      const below = path.join(filename, "arcp.db")
      const error = yield* Effect.flip(Effect.scoped(Layer.build(open(below))))
      assert.match(error.message, /folder of .* cannot be created/)
    })
  )

  it.scoped("refuses a corrupt database", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) =>
        store.commit({
          ops: [...everything, Op.Append({ jobId: "job_a", events: someEvents(41, 2_000) })],
          owners: []
        })
      )
      const bytes = fs.readFileSync(filename)
      fs.writeFileSync(filename, bytes.subarray(0, bytes.length / 2))
      yield* refuses(filename, /is corrupt; restore it from a backup/)
      fs.writeFileSync(filename, Buffer.from(bytes).fill(0x5a, 4096, bytes.length - 4096))
      yield* refuses(filename, /is corrupt; restore it from a backup/)
      fs.writeFileSync(filename, bytes)
      yield* using(open(filename))((store) => boundsOf(store, "job_a"))
    })
  )

  it.scoped("refuses the database of another application", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* withSql(filename, (sql) => sql`CREATE TABLE theirs (x)`)
      yield* refuses(filename, /is the database of another application/)
      yield* withSql(filename, (sql) => sql`PRAGMA application_id = 7`)
      yield* refuses(filename, /is the database of another application/)
    })
  )

  it.scoped("refuses a newer schema", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) => store.commit({ ops: everything, owners: [] }))
      yield* withSql(filename, (sql) => sql`PRAGMA user_version = 99`)
      yield* refuses(filename, /was written by a newer version \(schema 99,/)
      yield* refuses(filename, /was written by a newer version/, StoreSqlite.layerReadOnly({ filename }))
    })
  )

  it.scoped("brings a file of schema version 1 up to date", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const payload = JSON.stringify("x".repeat(34))
      const record = (jobId: string) => JSON.stringify(aJob(jobId))
      const insertJob = (id: number, jobId: string) =>
        `INSERT INTO jobs (id, job_id, session_id, submit_id, principal, agent, status, rejected, created_at, record)
         VALUES (${id}, '${jobId}', 'sess_a', 'm${id}', 'alice', 'echo@1.0.0', 'running', 0, 1000, '${record(jobId)}')`
      yield* withSql(filename, (sql) =>
        Effect.forEach(
          [
            ...(migrations[0] ?? []).map(naming("")),
            `PRAGMA application_id = ${applicationId}`,
            "PRAGMA user_version = 1",
            insertJob(1, "job_a"),
            insertJob(2, "job_b"),
            `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO events (id, job, seq, type, kind, owner_seq, payload)
             SELECT i, 1, i, 'job.event', 'log', i, '${payload}' FROM n`,
            "INSERT INTO extents (job, seq, count, row) VALUES (1, 1, 3000, 1)",
            "INSERT INTO event_trims (job, before) VALUES (1, 501)",
            `INSERT INTO sessions (session_id, record) VALUES ('sess_a', '${JSON.stringify(aSession("sess_a"))}'),
               ('sess_b', '${JSON.stringify({ ...aSession("sess_b", { tokenDigest: "new" }), previousTokenDigest: "old" })}')`,
            `INSERT INTO runs (session_id, event_seq, job_id, job_seq, count)
             VALUES ('sess_a', 1, 'job_a', 1, 2000), ('sess_a', 2001, 'job_a', 401, 200),
                    ('sess_a', 2201, 'job_a', 2001, 1000)`,
            "INSERT INTO run_trims (session_id, before) VALUES ('sess_a', 901)"
          ],
          (statement) => sql.unsafe(statement)
        )
      )
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          for (let round = 0; round < 2; round++) {
            assert.deepEqual(yield* store.view("sess_a"), { first: 901, last: 3_200 })
            assert.deepEqual(yield* store.session("sess_a"), aSession("sess_a"))
            assert.deepEqual(
              yield* store.session("sess_b"),
              aSession("sess_b", { tokenDigest: "old", issuedTokenDigests: ["new"] })
            )
            assert.deepStrictEqual(Array.from(yield* store.boundsOf(["job_a"])), [
              ["job_a", { first: 501, last: 3_000, bytes: 250_000 }]
            ])
            assert.isAtLeast((yield* store.marks("job_a")).length, 3)
            assert.strictEqual(yield* store.needed("job_a"), 401)
            const [next] = yield* store.page("sess_a", 900, 1, 1)
            assert.deepStrictEqual(next?.job, {
              jobId: "job_a",
              traceId: aJob("job_a").traceId,
              sessionId: "sess_a"
            })
            assert.strictEqual(next?.event.seq, 901)
            assert.deepEqual(
              (yield* store.runs("sess_a", 1, 9)).map((run) => run.bytes),
              [200_000, 20_000, 100_000]
            )
            yield* vacuumAll
          }
          yield* store.commit({
            ops: [Op.Append({ jobId: "job_a", events: someEvents(3_001, 3_001, { payload }) })],
            owners: []
          })
          assert.deepStrictEqual((yield* store.boundsOf(["job_a"])).get("job_a")?.bytes, 250_100)
          yield* store.commit({ ops: [Op.Need({ sessionId: "sess_a", eventSeq: 2_201 })], owners: [] })
          assert.strictEqual(yield* store.needed("job_a"), 2_001)
        })
      )
    })
  )

  it.scoped("takes an empty file, and one that was never finished being created", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      fs.writeFileSync(filename, "")
      yield* using(open(filename))((store) => store.commit({ ops: everything, owners: [] }))
      const begun = `${filename}.begun`
      yield* withSql(begun, () => Effect.void)
      yield* using(open(begun))((store) => store.commit({ ops: everything, owners: [] }))
      yield* using(open(begun))(everythingIsThere)
    })
  )

  it.scoped("is read by others while a runtime uses it, and after", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const readOnly = StoreSqlite.layerReadOnly({ filename })
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* store.commit({ ops: everything, owners: [] })
          yield* using(readOnly)((reader) =>
            Effect.gen(function* () {
              yield* everythingIsThere(reader)
              yield* store.commit({
                ops: [Op.Append({ jobId: "job_a", events: someEvents(41, 41) })],
                owners: []
              })
              assert.deepEqual(yield* reader.events("job_a", 41, 10), someEvents(41, 41))
              const error = yield* Effect.flip(reader.commit({ ops: [Op.Alive({ at: 100 })], owners: [] }))
              assert.match(error.message, /opened for reading only/)
            })
          )
          yield* store.commit({
            ops: [Op.Append({ jobId: "job_a", events: someEvents(42, 42) })],
            owners: []
          })
        })
      )
      yield* using(readOnly)((reader) =>
        Effect.map(boundsOf(reader, "job_a"), (bounds) =>
          assert.deepStrictEqual(bounds, { first: 1, last: 42 })
        )
      )
    })
  )

  it.scoped("what is deleted leaves the log as well, as soon as no reader is in the way", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const size = Effect.sync(() => fs.statSync(`${filename}-wal`).size)
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* store.commit({ ops: everything, owners: [] })
          const reader = yield* Scope.make()
          const sql = yield* Scope.extend(
            SqliteClient.make({ filename, readonly: true, disableWAL: true }),
            reader
          )
          yield* sql.unsafe("BEGIN")
          yield* sql.unsafe("SELECT count(*) FROM jobs")
          const vacuum = yield* Effect.fork(vacuumAll)
          yield* pass("10 seconds")
          assert.isAbove(yield* size, 0)
          yield* Scope.close(reader, Exit.void)
          yield* passUntil(vacuum)
          assert.strictEqual(yield* size, 0)
        })
      )
    })
  )

  it.scoped("a file that is written anew waits for its readers", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) => store.commit({ ops: everything, owners: [] }))
      const reader = yield* Scope.make()
      const sql = yield* Scope.extend(
        SqliteClient.make({ filename, readonly: true, disableWAL: true }),
        reader
      )
      yield* sql.unsafe("BEGIN")
      yield* sql.unsafe("SELECT count(*) FROM jobs")
      const owned = yield* Effect.fork(owning({ filename, compact: true }, () => Effect.void))
      yield* pass("10 seconds")
      assert.isNull(owned.unsafePoll())
      yield* Scope.close(reader, Exit.void)
      yield* passUntil(owned)
    })
  )

  it.scoped.skipIf(!fs.existsSync("/proc/locks"))(
    "reading it in the process of its runtime leaves the runtime its locks, where they can be seen",
    () =>
      Effect.gen(function* () {
        const filename = yield* tempFile
        /** How many locks this process has on it. Without one, whoever closes it next takes the log file away. */
        const locks = () =>
          fs
            .readFileSync("/proc/locks", "utf8")
            .split("\n")
            .filter(
              (line) => line.includes(` ${process.pid} `) && line.includes(`:${fs.statSync(filename).ino} `)
            ).length
        yield* using(open(filename))((store) =>
          Effect.gen(function* () {
            yield* store.commit({ ops: everything, owners: [] })
            const before = locks()
            assert.isAtLeast(before, 1)
            yield* using(StoreSqlite.layerReadOnly({ filename }))(everythingIsThere)
            assert.strictEqual(locks(), before)
          })
        )
      })
  )

  it.scoped("reading needs a file of a runtime", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(StoreSqlite.layerReadOnly({ filename }))))
      assert.isTrue(Exit.isFailure(exit))
      assert.isFalse(fs.existsSync(filename))
      assert.deepStrictEqual(fs.readdirSync(path.dirname(filename)), [])
    })
  )
})
