/** The driver below `StoreSqlite`, whichever SQLite this Node has it over. */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Worker } from "node:worker_threads"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { schemaVersion } from "../../../src/layers/store/schema.js"
import { toStoreError } from "../../../src/layers/store/sqlError.js"
import { type Database, type Driver, loadDriver, substitute } from "../../../src/layers/store/sqliteDriver.js"
import { inspect } from "../../../src/layers/store/sqliteFile.js"

const driver = Effect.promise(loadDriver)

const tempFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "arcp-driver-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const opened = (driver: Driver, file: string, readOnly = false) =>
  Effect.acquireRelease(
    Effect.sync(() => driver.open(file, { readOnly })),
    (database) => Effect.promise(async () => database.close())
  )

/** Runs what must fail; returns what it fails with. */
const failure = (f: () => unknown): unknown => {
  try {
    f()
  } catch (cause) {
    return cause
  }
  return assert.fail("it did not fail")
}

/** Runs what must fail; returns what the operator is told. */
const told = (f: () => unknown): string => toStoreError("the file")(failure(f)).message

const run = (database: Database, ...texts: ReadonlyArray<string>): void => {
  for (const text of texts) database.prepare(text).run([])
}

/** Returns a file whose table has been overwritten. */
const corrupt = (driver: Driver, folder: string) =>
  Effect.gen(function* () {
    const file = path.join(folder, "corrupt.db")
    yield* Effect.scoped(
      Effect.map(opened(driver, file), (database) =>
        run(database, "CREATE TABLE t (a)", "INSERT INTO t VALUES (zeroblob(100000))")
      )
    )
    const bytes = fs.readFileSync(file)
    fs.writeFileSync(file, bytes.fill(7, 4096))
    return file
  })

describe("the SQLite driver", () => {
  it.scoped("gives back what was stored, as objects and as arrays, in turn", () =>
    Effect.gen(function* () {
      const database = yield* opened(yield* driver, ":memory:")
      run(database, "CREATE TABLE t (a INTEGER PRIMARY KEY, b, c, d)")
      const rows = [
        [1, "x", null, 1.5],
        [2, "ä😀", Uint8Array.of(0, 1, 255), -0.25],
        [Number.MAX_SAFE_INTEGER, "", null, 1e300]
      ]
      for (const row of rows) database.prepared("INSERT INTO t VALUES (?, ?, ?, ?)").run(row)
      const select = database.prepared("SELECT a, b, c, d FROM t WHERE a >= ? ORDER BY a")
      for (let i = 0; i < 2; i++) {
        assert.deepEqual(select.values([1]), rows)
        assert.deepEqual(
          select.all([2]).map((row) => Object.entries(row)),
          rows.slice(1).map((row) => ["a", "b", "c", "d"].map((name, i) => [name, row[i]]))
        )
      }
      assert.strictEqual(database.prepared("SELECT a, a FROM t LIMIT 1").values([])[0]?.length, 2)
      const written = database.prepared("DELETE FROM t WHERE a = ?").run([1])
      assert.deepInclude(written, { changes: 1 })
      assert.deepEqual(database.prepared("DELETE FROM t WHERE a = ? RETURNING a").values([2]), [[2]])
    })
  )

  it.scoped("stores text whole, also with a NUL", () =>
    Effect.gen(function* () {
      const database = yield* opened(yield* driver, ":memory:")
      run(database, "CREATE TABLE t (a TEXT UNIQUE, b)")
      for (const text of ["a", "a\0", "a\0b", "\0"])
        database.prepared("INSERT INTO t VALUES (?, ?)").run([text, 1])
      for (const text of ["a", "a\0", "a\0b", "\0"])
        assert.deepEqual(
          database.prepared("SELECT json_quote(a), typeof(a) FROM t WHERE b = ? AND a = ?").values([1, text]),
          [[JSON.stringify(text), "text"]]
        )
    })
  )

  it.scoped("takes the parameters of the largest insert", () =>
    Effect.gen(function* () {
      const database = yield* opened(yield* driver, ":memory:")
      run(database, "CREATE TABLE t (a, b, c, d, e, f, g, h, i, j, k, l, m)")
      const row = `(${Array(13).fill("?").join(",")})`
      const insert = database.prepared(`INSERT INTO t VALUES ${Array(1024).fill(row).join(",")}`)
      insert.run(Array(13 * 1024).fill("x"))
      assert.deepEqual(database.prepared("SELECT count(*) FROM t").values([]), [[1024]])
    })
  )

  it.scoped("prepares a text once, and remembers no more texts than it may", () =>
    Effect.gen(function* () {
      const database = yield* opened(yield* driver, ":memory:")
      const often = database.prepared("SELECT 'often'")
      for (let i = 0; i < 1_000; i++) {
        assert.deepEqual(database.prepared(`SELECT ${i}`).values([]), [[i]])
        assert.strictEqual(database.prepared("SELECT 'often'"), often)
      }
      const seldom = database.prepared("SELECT 'seldom'")
      for (let i = 0; i < 256; i++) database.prepared(`SELECT ${i}`)
      assert.notStrictEqual(database.prepared("SELECT 'seldom'"), seldom)
    })
  )

  it.scoped("says by name what fails, whether it reads or writes", () =>
    Effect.gen(function* () {
      const [native, folder] = [yield* driver, yield* tempFolder]
      const file = path.join(folder, "a.db")
      const [one, two] = [yield* opened(native, file), yield* opened(native, file)]
      run(one, "CREATE TABLE t (a UNIQUE)", "INSERT INTO t VALUES (1)")
      assert.match(
        told(() => run(one, "INSERT INTO t VALUES (1)")),
        /UNIQUE constraint failed/
      )
      assert.match(
        told(() => run(one, "SELECT a FROM nowhere")),
        /no such table/
      )
      run(one, "BEGIN EXCLUSIVE")
      for (const text of ["BEGIN IMMEDIATE", "SELECT * FROM t"])
        assert.match(
          told(() => two.prepared(text).values([])),
          /locked by another program/
        )
      run(one, "COMMIT", "PRAGMA max_page_count = 1")
      assert.match(
        told(() => run(one, "INSERT INTO t VALUES (zeroblob(1000000))")),
        /disk is full.*SQLITE_FULL/
      )
      const reader = yield* opened(native, file, true)
      assert.match(
        told(() => run(reader, "INSERT INTO t VALUES (2)")),
        /read-only/
      )
      assert.match(
        told(() => native.open(path.join(folder, "no", "a.db"))),
        /cannot be opened/
      )
      assert.match(
        told(() => native.open(path.join(folder, "missing.db"), { readOnly: true })),
        /cannot be opened/
      )
      assert.isFalse(fs.existsSync(path.join(folder, "missing.db")))
      fs.writeFileSync(path.join(folder, "text.db"), "no database ".repeat(1_000))
      const text = yield* opened(native, path.join(folder, "text.db"))
      for (const statement of ["SELECT * FROM sqlite_master", "CREATE TABLE t (a)"])
        assert.match(
          told(() => run(text, statement)),
          /is not a SQLite database/
        )
      const broken = yield* opened(native, yield* corrupt(native, folder))
      for (const statement of ["SELECT * FROM t", "INSERT INTO t VALUES (1)"])
        assert.match(
          told(() => run(broken, statement)),
          /is corrupt/
        )
    })
  )

  it.scoped("releases files and locks when it is closed, whatever was prepared, done or failed", () =>
    Effect.gen(function* () {
      const [native, folder] = [yield* driver, yield* tempFolder]
      const file = path.join(folder, "a.db")
      for (let i = 0; i < 5; i++) {
        const database = native.open(file)
        run(database, "PRAGMA journal_mode = WAL", "CREATE TABLE IF NOT EXISTS t (a)", "BEGIN EXCLUSIVE")
        for (let n = 0; n < 50; n++) database.prepared(`INSERT INTO t VALUES (${n})`).run([])
        database.prepared("SELECT * FROM t").values([])
        const failed = failure(() => database.prepared("BEGIN").run([]))
        yield* Effect.promise(async () => database.close())
        assert.deepStrictEqual(fs.readdirSync(folder), ["a.db"])
        assert.instanceOf(failed, Error)
      }
      const after = yield* opened(native, file)
      assert.deepEqual(after.prepared("SELECT count(*) FROM t").values([]), [[0]])
    })
  )

  it.scoped("what only looks at a file leaves no statement, for which closing would have to collect", () =>
    Effect.gen(function* () {
      const file = path.join(yield* tempFolder, "a.db")
      yield* Effect.scoped(Layer.build(StoreSqlite.layer({ filename: file })))
      let survived = 0
      for (let i = 0; i < 3; i++) {
        // In a turn of its own, since what is made lives to the end of that.
        const made = new WeakRef({})
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        assert.strictEqual(yield* inspect(file, file), schemaVersion)
        if (made.deref() !== undefined) survived++
      }
      assert.isAbove(survived, 0, "each look at the file collected everything")
    })
  )

  it.scoped("closes while another thread takes the function that collects away from under it", () =>
    Effect.gen(function* () {
      const sqlite = yield* driver
      const folder = yield* tempFolder
      const other = yield* Effect.acquireRelease(
        Effect.async<Worker>((resume) => {
          const worker = new Worker(
            `const { setFlagsFromString } = require("node:v8")
            require("node:worker_threads").parentPort.postMessage("goes")
            for (;;) setFlagsFromString("--no-expose-gc")`,
            { eval: true }
          )
          worker.once("message", () => resume(Effect.succeed(worker)))
        }),
        (worker) => Effect.promise(() => worker.terminate())
      )
      assert.isAbove(other.threadId, 0)
      for (let i = 0; i < 10; i++) {
        const database = sqlite.open(path.join(folder, `${i}.db`), { readOnly: false })
        run(database, "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
        yield* Effect.promise(async () => database.close())
      }
    })
  )

  it("survives the collection of dropped statements, with the database open and after", {
    timeout: 60_000
  }, () => {
    const script = `
      const { DatabaseSync } = process.getBuiltinModule("node:sqlite") ?? (await import("${substitute}"))
      for (let round = 0; round < 3; round++) {
        const database = new DatabaseSync(":memory:")
        for (let i = 0; i < 2_000; i++) database.prepare("SELECT " + i).all()
        gc()
        await new Promise(setImmediate)
        database.close()
        gc()
        await new Promise(setImmediate)
      }
      console.log("alive")`
    const child = spawnSync(process.execPath, ["--expose-gc", "--input-type=module", "-e", script], {
      encoding: "utf8"
    })
    assert.strictEqual(child.stdout.trim(), "alive", child.stderr)
    assert.strictEqual(child.status, 0)
  })
})
