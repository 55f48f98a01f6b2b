import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { afterAll } from "vitest"
import * as CredentialStoreMemory from "../../../src/layers/credentials/CredentialStoreMemory.js"
import * as CredentialStoreSql from "../../../src/layers/credentials/CredentialStoreSql.js"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { CredentialStore } from "../../../src/services/credentials/CredentialStore.js"
import { StoreError } from "../../../src/services/store/Store.js"
import { pass, passing, passUntil } from "../../support/besideThreads.js"
import * as SqliteClient from "../../support/sqliteClient.js"
import { aRecord, suite } from "./CredentialStore.suite.js"

const tempFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "arcp-credentials-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)
const tempFile = Effect.map(tempFolder, (folder) => path.join(folder, "arcp.db.credentials"))
const open = (filename: string) => CredentialStoreSql.layerSqlite({ filename })

const [shared, alone] = [{ shared: true }, { shared: false }]

suite("memory", CredentialStoreMemory.layer(), shared)
suite("SQLite file", Layer.unwrapScoped(Effect.map(tempFile, open)), alone)

/** One database for the whole suite, which is closed after it; what is without a prefix is below. */
const scope = Effect.runSync(Scope.make())
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
const sql = Effect.runSync(
  Effect.cached(SqliteClient.make({ filename: ":memory:" }).pipe(Scope.extend(scope)))
)
let stores = 0
suite(
  "SQL client, with a prefix",
  Layer.unwrapEffect(
    Effect.map(sql, (sql) =>
      CredentialStoreSql.layer({ prefix: `a${++stores}_` }).pipe(
        Layer.provide(Layer.succeed(SqlClient.SqlClient, sql))
      )
    )
  ),
  alone
)

const using =
  (layer: Layer.Layer<CredentialStore, StoreError>) =>
  <A, E>(body: (store: CredentialStore["Type"]) => Effect.Effect<A, E>) =>
    Effect.flatMap(CredentialStore, body).pipe(Effect.provide(layer))

const withSql = <A, E>(filename: string, body: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>) =>
  Effect.flatMap(SqliteClient.make({ filename, disableWAL: true }), body).pipe(Effect.scoped)

const refuses = (filename: string, message: RegExp) =>
  Effect.gen(function* () {
    const before = fs.readFileSync(filename).toString("base64")
    const error = yield* Effect.flip(Effect.scoped(Layer.build(open(filename))))
    expect(error).toBeInstanceOf(StoreError)
    expect(error.message).toMatch(message)
    expect(error.message).toContain(filename)
    expect(fs.readFileSync(filename).toString("base64")).toBe(before)
  })

describe("CredentialStoreSql", () => {
  it.scoped("shares a database, and its one connection, with an application and other stores", () =>
    Effect.gen(function* () {
      const sql = yield* SqliteClient.make({ filename: ":memory:" })
      const store = (prefix?: string) =>
        CredentialStoreSql.make({ prefix }).pipe(Effect.provideService(SqlClient.SqlClient, sql))
      const [first, second] = [yield* store(), yield* store("b_")]
      yield* sql`CREATE TABLE credentials (mine TEXT)`
      yield* first.insert(aRecord("cred_a"))
      yield* sql.withTransaction(sql`INSERT INTO credentials VALUES ('x')`)
      yield* second.insert(aRecord("cred_b"))
      expect((yield* first.list).map(({ id }) => id)).toEqual(["cred_a"])
      expect((yield* second.list).map(({ id }) => id)).toEqual(["cred_b"])
      expect((yield* sql`SELECT id FROM arcp_credentials UNION SELECT id FROM b_credentials`).length).toBe(2)
      expect((yield* Effect.flip(store("b-"))).message).toContain("prefix")
    })
  )

  it.effect("only the SQL one is durable", () =>
    Effect.gen(function* () {
      expect((yield* CredentialStoreMemory.make).kind).toBe("memory")
      const kind = yield* using(Layer.unwrapScoped(Effect.map(tempFile, open)))((store) =>
        Effect.succeed(store.kind)
      )
      expect(kind).toBe("durable")
    })
  )

  it.scoped("creates its folder, and is there after a restart", () =>
    Effect.gen(function* () {
      const filename = path.join(yield* tempFolder, "a", "b", "c.credentials")
      yield* using(open(filename))((store) => store.insert(aRecord("cred_a")))
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          expect(yield* store.list).toEqual([aRecord("cred_a")])
          yield* store.insert(aRecord("cred_b"))
        })
      )
    })
  )

  it.scoped("a record is in the file when insert returns: a crash right then leaves it there", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const crashed = `${filename}.crashed`
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* store.insert(aRecord("cred_a"))
          yield* store.insert(aRecord("cred_b"))
          yield* store.update(aRecord("cred_b", { state: "active" }))
          for (const suffix of ["", "-wal"]) fs.copyFileSync(filename + suffix, crashed + suffix)
        })
      )
      const left = yield* using(open(crashed))((store) => store.list)
      expect(left).toEqual([aRecord("cred_a"), aRecord("cred_b", { state: "active" })])
    })
  )

  it.scoped("writes down no more than a record has", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          const slipped = { ...aRecord("cred_a"), value: Redacted.make("sk-secret"), token: "sk-secret" }
          yield* store.insert(slipped)
          yield* store.update(slipped)
          expect(JSON.stringify(yield* store.list)).not.toContain("sk-secret")
          for (const suffix of ["", "-wal"])
            expect(fs.readFileSync(filename + suffix, "latin1")).not.toContain("sk-secret")
        })
      )
    })
  )

  it.scoped("is of one runtime at a time; a tool sees it, and whether one runs", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          yield* store.insert(aRecord("cred_a"))
          const error = yield* passing(Effect.flip(Effect.scoped(Layer.build(open(filename)))))
          expect(error.message).toMatch(/another arcp runtime of this process uses .*arcp\.db\.credentials/)
          expect(yield* CredentialStoreSql.inUse({ filename })).toBe(true)
          yield* using(CredentialStoreSql.layerSqliteShared({ filename }))((tool) =>
            Effect.gen(function* () {
              expect(yield* tool.list).toEqual([aRecord("cred_a")])
              yield* tool.remove("cred_a")
            })
          )
          expect(yield* store.list).toEqual([])
        })
      )
      expect(yield* CredentialStoreSql.inUse({ filename })).toBe(false)
    })
  )

  it.scoped("a lock of another program is waited for without holding up this one, and may be given up", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* using(open(filename))((store) =>
        Effect.gen(function* () {
          const foreign = yield* Effect.flatMap(SqliteClient.make({ filename }), (sql) => sql.reserve)
          yield* foreign.executeRaw("BEGIN IMMEDIATE", [])
          const insert = yield* Effect.fork(store.insert(aRecord("cred_a")))
          const left = yield* Effect.fork(store.insert(aRecord("cred_b")))
          yield* pass("10 seconds")
          expect(Option.isNone(yield* Fiber.poll(insert))).toBe(true)
          expect(yield* store.list).toEqual([])
          yield* Fiber.interrupt(left)
          yield* foreign.executeRaw("ROLLBACK", [])
          yield* passUntil(insert)
          expect(yield* store.list).toEqual([aRecord("cred_a")])

          yield* foreign.executeRaw("BEGIN IMMEDIATE", [])
          const patient = yield* Effect.fork(Effect.flip(store.remove("cred_a")))
          expect((yield* passUntil(patient)).message).toMatch(/is locked by another program/)
          yield* foreign.executeRaw("ROLLBACK", [])
        }).pipe(Effect.scoped)
      )
    })
  )

  it.scoped("a tool does not make the file it was to look at", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(CredentialStoreSql.layerSqliteShared({ filename })))
      )
      expect(error.message).toMatch(/does not exist/)
      expect(fs.existsSync(filename)).toBe(false)
    })
  )

  it.scoped("stays apart from the runtime's own database", () =>
    Effect.gen(function* () {
      const folder = yield* tempFolder
      const database = path.join(folder, "arcp.db")
      const filename = CredentialStoreSql.beside(database)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Layer.build(StoreSqlite.layer({ filename: database }))
          yield* Layer.build(open(filename))
        })
      )
      yield* refuses(database, /does not hold the credentials of a runtime/)
      const error = yield* Effect.flip(Effect.scoped(Layer.build(StoreSqlite.layer({ filename }))))
      expect(error.message).toMatch(/another application/)
    })
  )

  it.scoped("refuses what is not its file, and leaves it alone", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      fs.writeFileSync(filename, "not a database ".repeat(20))
      yield* refuses(filename, /not a SQLite database/)
      fs.rmSync(filename)
      yield* withSql(filename, (sql) => sql`CREATE TABLE other (id)`)
      yield* refuses(filename, /does not hold the credentials/)
      fs.rmSync(filename)
      yield* using(open(filename))((store) => store.insert(aRecord("cred_a")))
      yield* withSql(filename, (sql) => sql.unsafe("PRAGMA user_version = 99"))
      yield* refuses(filename, /newer version/)
    })
  )
})
