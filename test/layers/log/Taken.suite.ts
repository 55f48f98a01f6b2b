/** What another process has taken: nothing of it is written here any more, and what was committed together with it is. */
import { assert, describe, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as NodesMemory from "../../../src/layers/cluster/NodesMemory.js"
import * as WakeMemory from "../../../src/layers/cluster/WakeMemory.js"
import { commitUnowned } from "../../../src/layers/store/unowned.js"
import { Cluster } from "../../../src/services/cluster/Cluster.js"
import { Nodes } from "../../../src/services/cluster/Nodes.js"
import { Wake } from "../../../src/services/cluster/Wake.js"
import { EventLog } from "../../../src/services/log/EventLog.js"
import { isTaken } from "../../../src/services/log/taken.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { epochOf, Op, Store, StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { survival } from "../store/fixtures.js"
import { storedOf } from "./gated.js"
import {
  awaited,
  emit,
  end,
  event,
  layerOn,
  numbers,
  openJob,
  openView,
  readAll,
  record,
  runOn,
  session,
  settle,
  upTo
} from "./harness.js"

/** A store in which another process takes something between what was asked for and its commit. */
const takenIn = (inner: () => Layer.Layer<Store, StoreError>) => {
  const control: { take: Effect.Effect<void, StoreError> | undefined; commits: number } = {
    take: undefined,
    commits: 0
  }
  const layer = Layer.effect(
    Store,
    Effect.map(
      Store,
      (store): StoreService => ({
        ...store,
        commit: (batch) =>
          Effect.suspend(() => {
            const { take = Effect.void } = control
            control.take = undefined
            control.commits++
            return Effect.zipRight(take, store.commit(batch))
          })
      })
    )
  ).pipe(Layer.provide(inner()))
  return { control, run: runOn(() => layer) }
}

/** Takes a job, or a session, as another process does. */
const takeJob = (store: StoreService, jobId: string) =>
  Effect.flatMap(store.job(jobId), (job) =>
    job === undefined
      ? Effect.die("no such job")
      : commitUnowned(store, [Op.PutJob({ job: { ...job, epoch: epochOf(job) + 1 } })])
  )
const takeSession = (store: StoreService, sessionId: string) =>
  Effect.flatMap(store.session(sessionId), (record) =>
    record === undefined
      ? Effect.die("no such session")
      : commitUnowned(store, [Op.PutSession({ session: { ...record, epoch: epochOf(record) + 1 } })])
  )

/** The log of a node. */
const onNode = (node: string, store: () => Layer.Layer<Store, StoreError>) =>
  layerOn(store()).pipe(
    Layer.provide(
      Layer.effect(
        Cluster,
        Effect.map(Effect.all([Nodes, Wake]), ([nodes, wake]) => ({ node, nodes, wake }))
      )
    ),
    Layer.provide([NodesMemory.layer(), WakeMemory.layer()])
  )

export const suite = (name: string, store: () => Layer.Layer<Store, StoreError>): void => {
  describe(`What another process has taken, on ${name}`, () => {
    it.effect(
      "of the session of jobs that are left: what was spent below one counts for it all the same",
      () => {
        const { control, run } = takenIn(store)
        return run(
          Effect.gen(function* () {
            const log = yield* EventLog
            const db = yield* Store
            const owner = yield* openView
            const terms = { lease: { "cost.budget": ["USD:1"] }, survival }
            const own = record(owner, terms)
            const parent = yield* log.openJob(own, owner)
            const child = yield* log.openJob(record(owner, { ...terms, parentJobId: own.jobId }), owner, {
              parent
            })
            control.take = Effect.catchAll(takeSession(db, owner.sessionId), Effect.die)
            const cost = { currency: "USD", amount: BigDecimal.unsafeFromString("0.25") }
            const spending = yield* Effect.fork(log.append(child, { ...event("metric", 1), cost }))
            yield* Effect.yieldNow()
            // The runtime stops, and lets go of what others go on with.
            for (const job of [parent, child]) log.leaveJob(job)
            yield* Fiber.join(spending)
            for (const { jobId } of [child, parent])
              assert.deepStrictEqual((yield* db.job(jobId))?.budget, { USD: "0.75" })
          })
        )
      }
    )

    it.effect("of a job: it is broken and ends without a word; others of the same batch go on", () => {
      const { control, run } = takenIn(store)
      return run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const db = yield* Store
          const owner = yield* openView
          const [lost, kept] = [yield* openJob(owner), yield* openJob(owner)]
          let reason: unknown
          lost.whenBroken((error) => {
            reason = error.details?.["reason"]
          })
          yield* emit(lost, 1, 2)
          yield* emit(kept, 1, 2)
          yield* settle
          control.take = Effect.catchAll(takeJob(db, lost.jobId), Effect.die)
          yield* emit(lost, 3, 4)
          yield* emit(kept, 3, 4)
          const waits = yield* Effect.fork(log.append(lost, awaited(event("log", 5))))
          yield* log.append(kept, awaited(event("log", 5)))
          assert.isTrue(Exit.isFailure(yield* waits.await))
          assert.strictEqual(reason, "superseded")
          assert.isDefined(lost.broken)
          // A zombie tries everything that it can.
          assert.isTrue(Exit.isFailure(yield* Effect.exit(log.append(lost, event("log", 6)))))
          assert.isTrue(Exit.isFailure(yield* Effect.exit(log.flush(lost))))
          const zombie = { ...record(owner), jobId: lost.jobId, agent: "zombie@1.0.0" }
          assert.isTrue(Exit.isFailure(yield* Effect.exit(log.amend(lost, zombie, () => {}))))
          yield* end(lost, owner)
          const stored = yield* db.job(lost.jobId)
          assert.deepStrictEqual([stored?.status, stored?.agent, stored?.epoch], ["running", "echo@1.0.0", 2])
          assert.deepStrictEqual(yield* storedOf(lost), [1, 2])
          assert.deepStrictEqual(yield* storedOf(kept), upTo(5))
          yield* end(kept, owner)
          const frames = yield* readAll(owner)
          assert.deepStrictEqual(numbers(frames, lost), [1, 2])
          assert.deepStrictEqual(numbers(frames, kept), [...upTo(5), undefined])
        })
      )
    })

    it.effect("of a job whose end is written: it ends here without a word", () => {
      const { control, run } = takenIn(store)
      return run(
        Effect.gen(function* () {
          const db = yield* Store
          const owner = yield* openView
          const job = yield* openJob(owner)
          yield* emit(job, 1, 2)
          control.take = Effect.catchAll(takeJob(db, job.jobId), Effect.die)
          yield* end(job, owner)
          assert.strictEqual((yield* db.job(job.jobId))?.status, "running")
          assert.deepStrictEqual(yield* storedOf(job), [])
          const { commits } = control
          yield* settle
          assert.strictEqual(control.commits, commits + 1)
        })
      )
    })

    it.effect(
      "of a session: nothing is numbered for it, its jobs go on, and it is not dropped with its scope",
      () => {
        const { control, run } = takenIn(store)
        return run(
          Effect.gen(function* () {
            const log = yield* EventLog
            const db = yield* Store
            const [lost, watcher] = [yield* openView, yield* openView]
            const job = yield* openJob(lost)
            yield* log.observe(watcher, job, { history: false, onCommit: () => {} })
            yield* emit(job, 1, 2)
            yield* settle
            let told = 0
            lost.whenTaken(() => told++)
            control.take = Effect.catchAll(takeSession(db, lost.sessionId), Effect.die)
            yield* emit(job, 3, 4)
            yield* settle
            assert.strictEqual(told, 1)
            // A zombie tries everything that it can.
            yield* log.observe(lost, job, { history: true, onCommit: () => {} })
            yield* log.unobserve(lost, job.jobId)
            const put = Op.PutSession({
              session: session({ sessionId: lost.sessionId, principal: "zombie" })
            })
            assert.isTrue(Exit.isFailure(yield* Effect.exit(log.commit([put]))))
            yield* log.dropView(lost)
            yield* end(job, watcher)
            const stored = yield* db.session(lost.sessionId)
            assert.deepStrictEqual([stored?.principal, stored?.epoch], ["alice", 2])
            assert.deepStrictEqual(yield* db.view(lost.sessionId), { first: 1, last: 2 })
            assert.deepStrictEqual(yield* storedOf(job), [...upTo(4), undefined])
            assert.deepStrictEqual(numbers(yield* readAll(watcher), job), [...upTo(4), undefined])
            assert.strictEqual(told, 1)
          })
        )
      }
    )

    it.effect(
      "of a session for which a job is opened: it is not, since the other process decides the submit anew",
      () => {
        const { control, run } = takenIn(store)
        return run(
          Effect.gen(function* () {
            const db = yield* Store
            const lost = yield* openView
            control.take = Effect.catchAll(takeSession(db, lost.sessionId), Effect.die)
            const error = yield* Effect.flip(openJob(lost))
            assert.isTrue(isTaken(error))
            yield* settle
            assert.deepStrictEqual(yield* db.jobs({ principals: "everyone", limit: 9 }), [])
            assert.deepStrictEqual(yield* db.observed(lost.sessionId), [])
          })
        )
      }
    )

    it.effect(
      "of a session for which a job was not opened: it is not by a later try, when the session is back",
      () => {
        const { control, run } = takenIn(store)
        return run(
          Effect.gen(function* () {
            const log = yield* EventLog
            const db = yield* Store
            const lost = yield* openView
            const back = Effect.gen(function* () {
              const stored = yield* db.session(lost.sessionId)
              if (stored === undefined) return yield* Effect.die("no such session")
              // It waits for this very commit.
              yield* Effect.forkDaemon(log.holdView(stored))
              yield* Effect.repeatN(eventLoop.next, 100)
              return yield* new StoreError({ message: "a mistake of another change", misuse: true })
            })
            control.take = Effect.zipRight(
              Effect.catchAll(takeSession(db, lost.sessionId), Effect.die),
              Effect.sync(() => {
                control.take = back
              })
            )
            const opening = yield* Effect.fork(Effect.flip(openJob(lost)))
            const other = yield* Effect.fork(settle)
            assert.isTrue(isTaken(yield* Fiber.join(opening)))
            yield* Fiber.join(other)
            yield* settle
            assert.deepStrictEqual(yield* db.jobs({ principals: "everyone", limit: 9 }), [])
            assert.deepStrictEqual(yield* db.observed(lost.sessionId), [])
          })
        )
      }
    )

    it.scoped(
      "of a job whose record was read before: nothing is written by that, and who reads it goes on",
      () =>
        Effect.gen(function* () {
          const log = yield* EventLog
          const db = yield* Store
          const owner = yield* openView
          const before = record(owner, { node: "a", epoch: 1, survival })
          yield* commitUnowned(db, [Op.PutJob({ job: before })])
          // It was left to nobody, and another node has taken it.
          const there = { ...before, node: "c", epoch: 3, agent: "taken@1.0.0" }
          yield* commitUnowned(db, [Op.PutJob({ job: there })])
          const refused = [
            log.reopenJob(before),
            log.holding(before, (job) => log.amend(job, before, () => {})),
            log.holding(before, (job) => log.adopt(owner, job, () => before)),
            log.holding(before, (job) => log.append(job, awaited(event("log", 1)))),
            // Also by who has read since whose it is.
            log.holding(before, (job) => log.amend(job, there, () => {})),
            log.holding(before, (job) => log.adopt(owner, job, () => there))
          ]
          for (const writing of refused) {
            const error = yield* Effect.flip(writing)
            assert.isTrue(error._tag === "InternalError" && isTaken(error))
          }
          const ended: Array<boolean> = []
          const job = yield* log.loadJob(before)
          yield* log.end(
            job,
            { type: "job.result", kind: "", payload: "{}" },
            () => ({ ...before, status: "success", endedAt: 2 }),
            (isOurs) => ended.push(isOurs)
          )
          assert.deepStrictEqual(ended, [false])
          assert.deepStrictEqual(yield* db.job(before.jobId), { ...there, lastEventSeq: 0 })
          assert.deepStrictEqual(yield* storedOf(job), [])
          // What was read of it is not what has ended: whoever looks at it does so for as long as it runs there.
          yield* log.observe(owner, yield* log.loadJob(there), { history: false, onCommit: () => {} })
          assert.deepStrictEqual(
            (yield* db.observed(owner.sessionId)).map(({ jobId }) => jobId),
            [before.jobId]
          )
        }).pipe(Effect.provide(onNode("a", store)))
    )
  })
}
