/** The thread that writes to a SQLite file: that nobody waits for it who need not, how it ends, and how it dies. */
import { once } from "node:events"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import type { Worker } from "node:worker_threads"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import * as Thread from "../../../src/layers/store/sqliteThread.js"
import { begin, take, workerFile } from "../../../src/layers/store/sqliteWorkerStart.js"
import { EventLog } from "../../../src/services/log/EventLog.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Op, Store, StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { awaited, event, openJob, openView, runOn } from "../log/harness.js"
import { aJob, boundsOf, someEvents } from "./fixtures.js"

const tempFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "arcp-thread-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

/** Times at which the runtime is told to have been alive: what the thread does when it is to store one. */
const at = { beforeCommit: 11, beforeAnswer: 12, thrown: 13, slow: 14, unseen: 15, hung: 16 }

/** Returns the worker, which dies, or takes its time, when it is told to store one of those times. */
const fragile = (folder: string): URL => {
  const file = path.join(folder, "fragile.mjs")
  fs.writeFileSync(
    file,
    `import fs from "node:fs"
    import { syncBuiltinESMExports } from "node:module"
    import { parentPort } from "node:worker_threads"
    const { statSync } = fs
    fs.statSync = (...args) => {
      if (asked === ${at.unseen}) throw Object.assign(new Error("permission denied"), { code: "EACCES" })
      return statSync(...args)
    }
    syncBuiltinESMExports()
    const { on, postMessage } = parentPort
    let asked
    parentPort.on = (name, listener) => on.call(parentPort, name, (message) => {
      const { batch = [] } = message.request
      asked = batch.ops?.find((op) => op._tag === "Alive")?.at
      if (asked === ${at.beforeCommit}) process.exit(7)
      if (asked === ${at.thrown}) queueMicrotask(() => { throw new Error("out of order") })
      if (asked === ${at.slow}) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300)
      if (asked === ${at.hung}) for (;;);
      listener(message)
    })
    parentPort.postMessage = (answer) => {
      if (asked === ${at.beforeAnswer}) process.exit(8)
      postMessage.call(parentPort, answer)
    }
    await import(${JSON.stringify(workerFile().href)})
    `
  )
  return pathToFileURL(file)
}

/** Builds a store on the file for the scope. */
const built = (filename: string, worker?: URL): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  Effect.map(Layer.build(StoreSqlite.layer({ filename, worker })), (context) =>
    context.unsafeMap.get(Store.key)
  )

const beforehand = [
  Op.PutJob({ job: aJob("job_a") }),
  Op.Append({ jobId: "job_a", events: someEvents(1, 4) })
]
const alive = (when: number) => [Op.Alive({ at: when })]

/** Lets everything happen that can without the thread. */
const turns = Effect.repeatN(eventLoop.next, 20)

describe("the thread that writes to a SQLite file", () => {
  for (const [how, said] of [
    ["beforeCommit", /has died \(it has ended with code 7\); restart the runtime/],
    ["beforeAnswer", /has died \(it has ended with code 8\)/],
    ["thrown", /has died \(out of order\)/]
  ] as const)
    it.scoped(`dies (${how}): what was sent to it fails, what comes too, and what is stored is read`, () =>
      Effect.gen(function* () {
        const folder = yield* tempFolder
        const filename = path.join(folder, "arcp.db")
        const scope = yield* Scope.make()
        const store = yield* Scope.extend(built(filename, fragile(folder)), scope)
        yield* store.commit({ ops: beforehand, owners: [] })
        const died = yield* Effect.fork(Effect.flip(store.died ?? Effect.die("it cannot die")))
        const sent = yield* Effect.forEach([at[how], 99, 100], (when) =>
          Effect.fork(Effect.exit(store.commit({ ops: alive(when), owners: [] })))
        )
        const error = yield* Fiber.join(died)
        assert.instanceOf(error, StoreError)
        assert.match(error.message, said)
        assert.include(error.message, filename)
        assert.notInclude(error.publicMessage ?? filename, filename)
        const [first, ...later] = yield* Effect.forEach(sent, Fiber.join)
        // What throws has answered before, or not.
        if (how !== "thrown") assert.deepStrictEqual(first, Exit.fail(error))
        for (const exit of later) assert.deepStrictEqual(exit, Exit.fail(error))
        assert.strictEqual(yield* Effect.flip(store.vacuum), error)
        assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 1, last: 4 })
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(
          fs.readdirSync(folder).filter((name) => /-(wal|shm|journal)$/.test(name)),
          []
        )
        const again = yield* built(filename)
        assert.strictEqual(yield* again.aliveAt, how === "beforeCommit" ? 0 : at[how])
        yield* again.commit({ ops: [Op.Append({ jobId: "job_a", events: someEvents(5, 5) })], owners: [] })
        assert.deepStrictEqual(yield* boundsOf(again, "job_a"), { first: 1, last: 5 })
      })
    )

  it.effect("dies under a log: the log stops, whoever waits is told, and nothing hangs", () =>
    Effect.gen(function* () {
      const folder = yield* tempFolder
      const store = () =>
        StoreSqlite.layer({ filename: path.join(folder, "arcp.db"), worker: fragile(folder) })
      yield* runOn(store)(
        Effect.gen(function* () {
          const log = yield* EventLog
          const job = yield* openJob(yield* openView)
          yield* log.append(job, event("log", 1))
          const emitting = yield* Effect.fork(Effect.exit(log.append(job, awaited(event("log", 2)))))
          yield* Effect.ignore(log.commit(alive(at.beforeCommit)))
          const error = yield* Effect.flip(log.stopped)
          assert.deepStrictEqual(error.details, { reason: "storage" })
          assert.strictEqual((yield* Effect.flip(log.flush(job))).code, "INTERNAL_ERROR")
          // It was in the batch before, or in none.
          yield* Fiber.join(emitting)
          assert.strictEqual((yield* Effect.flip(log.append(job, event("log", 3)))).code, "INTERNAL_ERROR")
          assert.isTrue(Exit.isFailure(yield* Effect.exit(log.commit([]))))
        })
      )
    }).pipe(Effect.scoped)
  )

  it.scoped("a commit that the disk holds up holds up nobody else, and its end is waited for", () =>
    Effect.gen(function* () {
      const folder = yield* tempFolder
      const filename = path.join(folder, "arcp.db")
      const scope = yield* Scope.make()
      const store = yield* Scope.extend(built(filename, fragile(folder)), scope)
      yield* store.commit({ ops: beforehand, owners: [] })
      const slow = yield* Effect.fork(store.commit({ ops: alive(at.slow), owners: [] }))
      yield* turns
      assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 1, last: 4 })
      assert.isTrue((yield* Fiber.poll(slow))._tag === "None", "the turns waited for the commit")
      // The scope closes meanwhile: what was sent is stored and answered before the file is let go.
      const last = yield* Effect.fork(store.commit({ ops: alive(99), owners: [] }))
      yield* turns
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(slow)))
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(last)))
      assert.deepStrictEqual(
        fs.readdirSync(folder).filter((name) => /-(wal|shm|journal)$/.test(name)),
        []
      )
      assert.strictEqual(yield* (yield* built(filename)).aliveAt, 99)
    })
  )

  for (const [what, displace] of [
    ["removed", (filename: string) => fs.rmSync(filename)],
    ["replaced", (filename: string) => fs.renameSync(`${filename}.other`, filename)]
  ] as const)
    it.scoped(`ends when its file was ${what}: nothing is told to be stored that nobody would find`, () =>
      Effect.gen(function* () {
        const folder = yield* tempFolder
        const filename = path.join(folder, "arcp.db")
        yield* Effect.scoped(
          Effect.flatMap(built(`${filename}.other`), (store) =>
            store.commit({ ops: [...beforehand, ...alive(5)], owners: [] })
          )
        )
        const scope = yield* Scope.make()
        const store = yield* Scope.extend(built(filename), scope)
        yield* store.commit({ ops: alive(98), owners: [] })
        displace(filename)
        const died = yield* Effect.fork(Effect.flip(store.died ?? Effect.die("it cannot die")))
        // As many as come until that is known.
        const sent = yield* Effect.forEach([99, 100, 101], (when) =>
          Effect.fork(Effect.exit(store.commit({ ops: alive(when), owners: [] })))
        )
        const error = yield* Fiber.join(died)
        assert.match(error.message, /was removed or replaced while it was open.*restart the runtime/)
        assert.notInclude(error.publicMessage ?? filename, filename)
        for (const fiber of sent) assert.deepStrictEqual(yield* Fiber.join(fiber), Exit.fail(error))
        yield* Scope.close(scope, Exit.void)
        // What has the name now is whole, and has nothing of the other's.
        const next = yield* built(filename)
        assert.strictEqual(yield* next.aliveAt, what === "replaced" ? 5 : 0)
        if (what === "replaced") assert.deepStrictEqual(yield* boundsOf(next, "job_a"), { first: 1, last: 4 })
      })
    )

  it.scoped("that hangs is ended when the store is closed, which says so; what was stored is there", () =>
    Effect.gen(function* () {
      const folder = yield* tempFolder
      const filename = path.join(folder, "arcp.db")
      const said: Array<string> = []
      const logger = Logger.make(({ message }) => said.push(String(message)))
      const scope = yield* Scope.make()
      const patience = { closing: 200, ending: 5_000 }
      const starting = yield* Scope.extend(Thread.start(filename, fragile(folder), patience), scope)
      // What ends with the scope says so to those whom its beginning told.
      const thread = yield* starting
        .open(filename, ["journal_mode = WAL"])
        .pipe(Scope.extend(scope), Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      yield* thread.run("create table told (id)", [])
      const died = yield* Effect.fork(thread.died)
      const hung = yield* Effect.fork(Effect.exit(thread.commit({ ops: alive(at.hung), owners: [] })))
      yield* turns
      yield* Scope.close(scope, Exit.void)
      assert.match(said.join(), /has not closed it within 0.2 s, and is ended/)
      const lost = yield* Fiber.join(hung)
      assert.match(String(lost), /was ended, since the runtime stops/)
      assert.isNull(died.unsafePoll())
      yield* Fiber.interrupt(died)
      const again = yield* (yield* Thread.start(filename)).open(filename, [])
      assert.deepStrictEqual(yield* again.run("select count(*) from told", []), [[0]])
    })
  )

  it.scoped("what cannot be sent to it fails by itself, and what follows is stored", () =>
    Effect.gen(function* () {
      const filename = path.join(yield* tempFolder, "arcp.db")
      const store = yield* built(filename)
      yield* store.commit({ ops: beforehand, owners: [] })
      const odd = Object.assign(aJob("job_b"), { agent: () => "a function" })
      // biome-ignore lint/suspicious/noExplicitAny: what a type would not let through
      const exit = yield* Effect.exit(store.commit({ ops: [Op.PutJob({ job: odd as any })], owners: [] }))
      assert.isTrue(Exit.isFailure(exit))
      yield* store.commit({ ops: alive(99), owners: [] })
      assert.strictEqual(yield* store.aliveAt, 99)
      assert.isUndefined(yield* store.job("job_b"))
    })
  )

  it.scoped(
    "where it cannot be seen whether the file is there, nothing is written, and it may be tried again",
    () =>
      Effect.gen(function* () {
        const folder = yield* tempFolder
        const store = yield* built(path.join(folder, "arcp.db"), fragile(folder))
        yield* store.commit({ ops: [...beforehand, ...alive(1)], owners: [] })
        const error = yield* Effect.flip(store.commit({ ops: alive(at.unseen), owners: [] }))
        assert.strictEqual(error._tag, "StoreError")
        assert.include(error.message, "cannot be opened")
        assert.strictEqual(yield* store.aliveAt, 1)
        yield* store.commit({ ops: alive(99), owners: [] })
        assert.strictEqual(yield* store.aliveAt, 99)
      })
  )

  it.scoped("where there is none, the store says so and commits itself", () =>
    Effect.gen(function* () {
      const folder = yield* tempFolder
      const said: Array<string> = []
      const logger = Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ message }) => said.push(String(message)))
      )
      const missing = pathToFileURL(path.join(folder, "missing.mjs"))
      const store = yield* Effect.provide(built(path.join(folder, "arcp.db"), missing), logger)
      assert.lengthOf(said, 1)
      assert.match(said[0] ?? "", /commits hold up this process.*missing\.mjs/)
      yield* store.commit({ ops: [...beforehand, ...alive(99)], owners: [] })
      assert.strictEqual(yield* store.aliveAt, 99)
      assert.deepStrictEqual(yield* boundsOf(store, "job_a"), { first: 1, last: 4 })
    })
  )

  it.scoped(
    "is the one that was begun before, once, and where none was begun, or it has ended, another",
    () =>
      Effect.gen(function* () {
        const folder = yield* tempFolder
        const stored = (name: string) =>
          Effect.scoped(
            Effect.gen(function* () {
              const store = yield* built(path.join(folder, name))
              yield* store.commit({ ops: alive(99), owners: [] })
              assert.strictEqual(yield* store.aliveAt, 99)
            })
          )
        const ended = (worker: Worker | undefined) => {
          let over = false
          worker?.once("exit", () => {
            over = true
          })
          return () => over
        }
        const first = ended(begin())
        yield* stored("first.db")
        assert.isTrue(first())
        yield* stored("second.db")
        const gone = begin()
        yield* Effect.promise(async () => gone?.terminate())
        yield* stored("third.db")
        // What is named is what is meant.
        const unused = begin()
        const named = take(pathToFileURL(path.join(folder, "missing.mjs")))
        yield* Effect.promise(() => once(named, "error"))
        assert.strictEqual(take(), unused)
        yield* Effect.promise(async () => unused?.terminate())
      })
  )

  it.scoped("says what SQLite fails with: a full disk, a mistake, what is no database", () =>
    Effect.gen(function* () {
      const folder = yield* tempFolder
      const filename = path.join(folder, "arcp.db")
      yield* Effect.scoped(
        Effect.flatMap(built(filename), (store) => store.commit({ ops: beforehand, owners: [] }))
      )
      const thread = yield* (yield* Thread.start(filename)).open(filename, ["max_page_count = 64"])
      const append = (from: number, to: number) => [
        Op.Append({ jobId: "job_a", events: someEvents(from, to) })
      ]
      const full = yield* Effect.flip(thread.commit({ ops: append(5, 20_000), owners: [] }))
      assert.match(full.message, /the disk is full: free space.*SQLITE_FULL/)
      assert.include(full.message, filename)
      const mistake = yield* Effect.flip(thread.commit({ ops: append(9, 9), owners: [] }))
      assert.isTrue(mistake._tag === "StoreError" && mistake.misuse)
      yield* thread.commit({ ops: append(5, 5), owners: [] })
      const text = path.join(folder, "text.db")
      fs.writeFileSync(text, "no database ".repeat(1_000))
      const refused = yield* Effect.flip((yield* Thread.start(text)).open(text, ["synchronous = FULL"]))
      assert.instanceOf(refused, StoreError)
      assert.match(refused.message, /is not a SQLite database/)
    })
  )
})
