/** Backups of a file and putting them in its place: what is in them, who may read them, and what is refused. */
import * as fs from "node:fs"
import { createRequire, syncBuiltinESMExports } from "node:module"
import * as os from "node:os"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as CredentialStoreSql from "../../../../src/layers/credentials/CredentialStoreSql.js"
import * as Backup from "../../../../src/layers/store/care/backup.js"
import * as StoreSqlite from "../../../../src/layers/store/StoreSqlite.js"
import { schemaVersion } from "../../../../src/layers/store/schema.js"
import { CredentialStore } from "../../../../src/services/credentials/CredentialStore.js"
import { Op, Store } from "../../../../src/services/store/Store.js"
import { passing } from "../../../support/besideThreads.js"
import * as SqliteClient from "../../../support/sqliteClient.js"
import { aJob, append, aRun, aSession, put } from "../fixtures.js"

/** What `node:fs` is to everybody: changed, and told of with `syncBuiltinESMExports`. */
const builtin = createRequire(import.meta.url)("node:fs") as typeof fs

const tempFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "arcp-backup-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const using = <A, E>(filename: string, body: (store: Store["Type"]) => Effect.Effect<A, E>) =>
  passing(Effect.flatMap(Store, body).pipe(Effect.provide(StoreSqlite.layer({ filename }))))

const some = [
  put(aJob("job_a")),
  put(aJob("job_b", { status: "success", endedAt: 2_000 })),
  append("job_a", 1, 300),
  append("job_b", 1, 3),
  Op.PutSession({ session: aSession("sess_a") }),
  Op.PutRun({ sessionId: "sess_a", run: aRun(1, 300) }),
  Op.PutInput({ jobId: "job_a", input: '{"a":1}' })
]

/** A file with something in it, in a folder of its own. */
const made = Effect.gen(function* () {
  const folder = yield* tempFolder
  const filename = path.join(folder, "arcp.db")
  yield* using(filename, (store) => store.commit({ ops: some, owners: [] }))
  return { folder, filename, to: path.join(folder, "copy.db") }
})

const credential = {
  id: "1",
  credentialId: "cred_1",
  jobId: "job_a",
  principal: "alice",
  state: "active" as const,
  endpoint: "https://models.example",
  createdAt: 1,
  updatedAt: 1,
  attempts: 0
}

const withCredentials = (filename: string) =>
  passing(
    Effect.flatMap(CredentialStore, (store) => store.insert(credential)).pipe(
      Effect.provide(CredentialStoreSql.layerSqlite({ filename: CredentialStoreSql.beside(filename) }))
    )
  )

const names = (folder: string) =>
  fs
    .readdirSync(folder)
    .filter((name) => !name.endsWith(".lock"))
    .sort()

/** Fails so, and leaves nothing in the folder that was not there. */
const refused = <A>(folder: string, effect: Effect.Effect<A, { readonly message: string }>, said: RegExp) =>
  Effect.gen(function* () {
    const before = names(folder)
    assert.match((yield* passing(Effect.flip(effect))).message, said)
    assert.deepEqual(names(folder), before)
  })

describe("a backup", () => {
  it.scoped("is one file of its owner's, made while a runtime has the file, with all that is committed", () =>
    Effect.gen(function* () {
      const { filename, folder, to } = yield* made
      const mask = process.umask(0)
      yield* Effect.addFinalizer(() => Effect.sync(() => process.umask(mask)))
      // Whatever is not checkpointed is in the log beside the file.
      const scope = yield* Scope.make()
      const context = yield* passing(Layer.buildWithScope(StoreSqlite.layer({ filename }), scope))
      yield* passing(
        Effect.flatMap(Store, (store) => store.commit({ ops: [append("job_a", 301, 305)], owners: [] })).pipe(
          Effect.provide(context)
        )
      )
      assert.isAbove(fs.statSync(`${filename}-wal`).size, 0)
      const backup = yield* passing(Backup.backup({ filename, to }))
      assert.include(backup, { schema: schemaVersion, jobs: 2, events: 308, sessions: 1, file: to })
      assert.strictEqual(backup.credentials, undefined)
      assert.strictEqual(fs.statSync(to).mode & 0o777, 0o600)
      yield* passing(Scope.close(scope, Exit.void))
      assert.deepEqual(names(folder), ["arcp.db", "copy.db"])
      const all = yield* using(to, (store) => store.events("job_a", 1, 1_000))
      assert.strictEqual(all.length, 305)
    })
  )

  it.scoped(
    "does not take the place of anything, unless it is told to, and never of a link or a folder",
    () =>
      Effect.gen(function* () {
        const { filename, folder, to } = yield* made
        fs.writeFileSync(to, "mine")
        yield* refused(folder, Backup.backup({ filename, to }), /copy\.db exists; .*--force/)
        assert.strictEqual(fs.readFileSync(to, "utf8"), "mine")
        yield* passing(Backup.backup({ filename, to, replace: true }))
        assert.strictEqual(fs.readFileSync(to).subarray(0, 13).toString(), "SQLite format")

        const link = path.join(folder, "link.db")
        fs.symlinkSync(path.join(folder, "elsewhere.db"), link)
        fs.mkdirSync(path.join(folder, "folder"))
        for (const replace of [false, true]) {
          yield* refused(
            folder,
            Backup.backup({ filename, to: link, replace }),
            /is a link, and is not followed/
          )
          yield* refused(
            folder,
            Backup.backup({ filename, to: path.join(folder, "folder"), replace }),
            /no regular file/
          )
          // Also what is not there now: a backup of that name would be taken for the log of the database.
          for (const suffix of ["", "-wal", "-shm", "-journal", ".lock", ".credentials", ".credentials-wal"])
            yield* refused(
              folder,
              Backup.backup({ filename, to: `${filename}${suffix}`, replace }),
              /a file of the runtime itself/
            )
          const around = path.join(folder, "..", path.basename(folder), "arcp.db-wal")
          yield* refused(
            folder,
            Backup.backup({ filename, to: around, replace }),
            /a file of the runtime itself/
          )
        }
        yield* refused(
          folder,
          Backup.backup({ filename, to: path.join(folder, "no", "x.db") }),
          /no such file/
        )
      })
  )

  it.scoped("says of a file that is none of a runtime what it is, and leaves it alone", () =>
    Effect.gen(function* () {
      const { folder, to } = yield* made
      const other = path.join(folder, "other.db")
      yield* refused(folder, Backup.backup({ filename: other, to }), /other\.db does not exist/)
      fs.writeFileSync(other, "")
      yield* refused(folder, Backup.backup({ filename: other, to }), /holds no runtime's data/)
      fs.writeFileSync(other, "no database, but long enough to be taken for one".repeat(100))
      yield* refused(folder, Backup.backup({ filename: other, to }), /other\.db/)
    })
  )

  it.scoped("has the records of credentials beside it; one without takes those of an older away", () =>
    Effect.gen(function* () {
      const { filename, to } = yield* made
      yield* withCredentials(filename)
      const backup = yield* passing(Backup.backup({ filename, to }))
      assert.strictEqual(backup.credentials, `${to}.credentials`)
      assert.strictEqual(fs.statSync(`${to}.credentials`).mode & 0o777, 0o600)
      fs.rmSync(`${filename}.credentials`)
      yield* passing(Backup.backup({ filename, to, replace: true }))
      assert.isFalse(fs.existsSync(`${to}.credentials`))
    })
  )
})

describe("a restore", () => {
  const now = Date.parse("2026-01-31T12:00:00Z")

  it.scoped(
    "has as many events as the backup says, also where rows of what was forgotten are yet to be freed",
    () =>
      Effect.gen(function* () {
        const { filename, to } = yield* made
        yield* using(filename, (store) =>
          store.commit({
            ops: [
              append("job_a", 301, 400),
              Op.TrimJob({ jobId: "job_a", seq: 250 }),
              Op.DropJob({ jobId: "job_b" })
            ],
            owners: []
          })
        )
        const backup = yield* passing(Backup.backup({ filename, to }))
        assert.include(backup, { jobs: 1, events: 151 })
        const restored = yield* passing(Backup.restore({ from: to, filename, now }))
        assert.include(restored, { jobs: 1, events: 151 })
      })
  )

  it.scoped("puts everything back, keeps what was there, and ends the sessions", () =>
    Effect.gen(function* () {
      const { filename, folder, to } = yield* made
      const read = (file: string) =>
        using(file, (store) =>
          Effect.all([
            store.job("job_a"),
            store.input("job_a"),
            store.events("job_a", 1, 1_000),
            store.events("job_b", 1, 9)
          ])
        )
      const before = yield* read(filename)
      yield* passing(Backup.backup({ filename, to }))
      yield* using(filename, (store) =>
        store.commit({ ops: [append("job_a", 301, 400), put(aJob("job_c"))], owners: [] })
      )
      const restored = yield* passing(Backup.restore({ from: to, filename, now }))
      assert.include(restored, {
        jobs: 2,
        events: 303,
        sessions: 0,
        aside: `${filename}.before-20260131T120000Z`
      })
      assert.deepEqual(names(folder), ["arcp.db", "arcp.db.before-20260131T120000Z", "copy.db"])
      assert.strictEqual(fs.statSync(filename).mode & 0o777, 0o600)
      assert.deepEqual(yield* read(filename), before)
      yield* using(filename, (store) =>
        Effect.gen(function* () {
          assert.isUndefined(yield* store.session("sess_a"))
          assert.deepEqual(yield* store.viewers(["job_a"]), [])
        })
      )
      yield* using(restored.aside ?? "", (store) =>
        Effect.map(store.events("job_a", 1, 1_000), (events) => assert.strictEqual(events.length, 400))
      )
      // The backup itself is as it was, and can be restored again.
      const again = yield* passing(Backup.restore({ from: to, filename, now }))
      assert.strictEqual(again.aside, `${filename}.before-20260131T120000Z-2`)
    })
  )

  it.scoped("takes the log of a killed runtime aside with its file, also of one that is damaged", () =>
    Effect.gen(function* () {
      const { filename, to } = yield* made
      yield* passing(Backup.backup({ filename, to }))
      fs.writeFileSync(filename, "rubbish ".repeat(1_000))
      fs.writeFileSync(`${filename}-wal`, "a log")
      const { aside } = yield* passing(Backup.restore({ from: to, filename, now }))
      assert.strictEqual(fs.readFileSync(`${aside}-wal`, "utf8"), "a log")
      assert.isFalse(fs.existsSync(`${filename}-wal`))
      yield* using(filename, (store) =>
        Effect.map(store.events("job_a", 1, 1_000), (events) => assert.strictEqual(events.length, 300))
      )
    })
  )

  it.scoped("killed at any step leaves the name to the whole old file or to the new one", () =>
    Effect.gen(function* () {
      const { filename, folder, to } = yield* made
      yield* passing(Backup.backup({ filename, to }))
      const ended = path.join(folder, "ended")
      fs.mkdirSync(ended)
      // As a runtime that was killed leaves it: not all of it is in the file itself.
      yield* using(filename, (store) =>
        Effect.tap(store.commit({ ops: [append("job_a", 301, 400)], owners: [] }), () => {
          for (const name of ["arcp.db", "arcp.db-wal"])
            fs.copyFileSync(path.join(folder, name), path.join(ended, name))
        })
      )
      const real = { linkSync: builtin.linkSync, renameSync: builtin.renameSync, rmSync: builtin.rmSync }
      const mend = Effect.sync(() => {
        Object.assign(builtin, real)
        syncBuiltinESMExports()
      })
      yield* Effect.addFinalizer(() => mend)
      const found = new Set<string>()
      for (let left = 0; ; left++) {
        const there = path.join(folder, `${left}`)
        const file = path.join(there, "arcp.db")
        fs.cpSync(ended, there, { recursive: true })
        let done = 0
        for (const [name, does] of Object.entries(real))
          Object.assign(builtin, {
            [name]: (from: string, ...more: ReadonlyArray<never>) => {
              const isStep = [from, ...more].some(
                (one) => String(one).startsWith(file) && one !== `${file}.lock`
              )
              // What the process would do about a failure does not happen either.
              if (isStep && done++ >= left) throw new Error("killed")
              return Reflect.apply(does, builtin, [from, ...more])
            }
          })
        syncBuiltinESMExports()
        const exit = yield* passing(Effect.exit(Backup.restore({ from: to, filename: file, now })))
        yield* mend
        assert.isTrue(fs.existsSync(file), `after ${left} steps`)
        for (const name of names(there)) if (name.includes(".before-")) fs.rmSync(path.join(there, name))
        const events = yield* using(file, (store) => store.events("job_a", 1, 1_000))
        found.add(`${events.length} ${exit._tag}`)
        if (Exit.isSuccess(exit)) break
      }
      assert.deepEqual([...found], ["400 Failure", "300 Success"])
    })
  )

  it.scoped("takes away what a process that was killed has left a day ago or more", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.now())
      const { filename, folder, to } = yield* made
      const left = (name: string, id: string) => path.join(folder, `.${name}.${id}.tmp`)
      const [old, recent] = ["0b5d34e4-4f31-44a7-9816-00fbcad18144", "1b5d34e4-4f31-44a7-9816-00fbcad18144"]
      const gone = [left("copy.db", old), `${left("copy.db", old)}-journal`]
      const kept = [left("copy.db", recent), left("other.db", old), path.join(folder, ".copy.db.tmp")]
      for (const file of [...gone, ...kept]) fs.writeFileSync(file, "")
      for (const file of [...gone, ...kept.slice(1)]) fs.utimesSync(file, 0, 0)
      yield* passing(Backup.backup({ filename, to }))
      assert.deepEqual([...gone, ...kept].filter(fs.existsSync), kept)
    })
  )

  it.scoped("is refused while a runtime has the file, and of what is damaged or newer", () =>
    Effect.gen(function* () {
      const { filename, folder, to } = yield* made
      yield* passing(Backup.backup({ filename, to }))
      yield* using(filename, () =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(Backup.restore({ from: to, filename, now }))
          assert.match(error.message, /another arcp runtime .*uses .*stop it before a backup is restored/)
        })
      )
      yield* refused(
        folder,
        Backup.restore({ from: filename, filename, now }),
        /the file of the runtime itself/
      )
      const damaged = path.join(folder, "damaged.db")
      const bytes = fs.readFileSync(to)
      bytes.fill(0x55, 8192, 8192 + 4096)
      fs.writeFileSync(damaged, bytes)
      yield* refused(folder, Backup.restore({ from: damaged, filename, now }), /corrupt|malformed/)
      fs.rmSync(damaged)
      yield* Effect.flatMap(
        SqliteClient.make({ filename: to, disableWAL: true }),
        (sql) => sql`PRAGMA user_version = 99`
      ).pipe(Effect.scoped)
      yield* refused(folder, Backup.restore({ from: to, filename, now }), /newer version \(schema 99/)
    })
  )

  it.scoped("takes the backup's records of credentials only where there are none", () =>
    Effect.gen(function* () {
      const { filename, folder, to } = yield* made
      yield* withCredentials(filename)
      yield* passing(Backup.backup({ filename, to }))
      assert.isFalse((yield* passing(Backup.restore({ from: to, filename, now }))).credentialsRestored)
      const elsewhere = path.join(folder, "elsewhere", "arcp.db")
      assert.isTrue(
        (yield* passing(Backup.restore({ from: to, filename: elsewhere, now }))).credentialsRestored
      )
      const list = yield* passing(
        Effect.flatMap(CredentialStore, (store) => store.list).pipe(
          Effect.provide(CredentialStoreSql.layerSqlite({ filename: CredentialStoreSql.beside(elsewhere) }))
        )
      )
      assert.deepEqual(
        list.map(({ credentialId }) => credentialId),
        ["cred_1"]
      )
    })
  )
})
