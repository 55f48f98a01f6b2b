/** What `arcp db sweep` forgets is what the retention of a runtime forgets. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { sweep } from "../../../src/layers/runtime/atRest/sweep.js"
import { owning } from "../../../src/layers/store/care/ours.js"
import { trying } from "../../../src/layers/store/care/trial.js"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { all } from "../../../src/protocol/Features.js"
import { EventLog } from "../../../src/services/log/EventLog.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import {
  type JobRecord,
  Op,
  type SessionRecord,
  Store,
  type StoreService
} from "../../../src/services/store/Store.js"
import { emit, event, layerOn, record, session, settled } from "../log/harness.js"

const day = 86_400_000
const now = 10 * day
const limits = {
  maxRetainedEvents: 2048,
  maxRetainedJobs: 3,
  jobRetention: "1 day",
  tailBytes: 1
} satisfies RuntimeOptions.Input

/** A session that was seen now and is absent, and has acknowledged so much. */
const seen = (acked: number): SessionRecord =>
  session({ features: all, attached: false, lastSeenAt: now, acked })

/** Running jobs with more events than their cap; ended ones that are old, that are too many, and that are needed. */
const written = Effect.gen(function* () {
  const log = yield* EventLog
  const running: Array<JobRecord> = []
  const sessions = [seen(0), seen(2_900), seen(0), seen(50), seen(0)]
  const views = yield* Effect.forEach(sessions, log.openView)
  const [unread, read, gone, owner, needing] = views as [(typeof views)[0], ...typeof views]
  for (const view of [unread, read, gone] as ReadonlyArray<typeof unread>) {
    const own = record(view)
    running.push(own)
    yield* emit(yield* log.openJob(own, view), 1, 3_000)
  }
  const end = (view: typeof unread, at: number) =>
    Effect.gen(function* () {
      const own = record(view)
      const job = yield* log.openJob(own, view)
      yield* emit(job, 1, 9)
      const ended = { ...own, status: "success" as const, endedAt: at }
      yield* log.end(job, { type: "job.result", kind: "", payload: "{}" }, () => ended)
    })
  for (const at of [now - 2 * day, now - 5, now - 4, now - 3, now - 2]) yield* end(owner as typeof unread, at)
  yield* end(needing as typeof unread, now - 3 * day)
  yield* log.dropView(gone as typeof unread)
  yield* log.commit([Op.Alive({ at: now })])
  return { running, sessions: sessions.filter((_, i) => i !== 2) }
})

/** What is retained. */
const retained = (store: StoreService, sessions: ReadonlyArray<SessionRecord>) =>
  Effect.gen(function* () {
    const jobs = yield* store.jobs({ principals: "everyone", limit: 99 })
    const bounds = yield* store.boundsOf(jobs.map(({ jobId }) => jobId))
    const views = yield* Effect.forEach(sessions, ({ sessionId }) => store.view(sessionId))
    return {
      jobs: jobs.map(({ jobId }) => [jobId, bounds.get(jobId)?.first]),
      views: views.map(({ first }) => first)
    }
  })

describe("a sweep at rest", () => {
  it.effect("forgets what a runtime forgets, and says before what that will be", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "arcp-sweep-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const [a, b] = [join(folder, "a.db"), join(folder, "b.db")]
      yield* TestClock.setTime(now)
      const on = (options: RuntimeOptions.Input) =>
        layerOn(StoreSqlite.layer({ filename: a, synchronous: "NORMAL" }), options)
      const { running, sessions } = yield* written.pipe(Effect.scoped, Effect.provide(on({ tailBytes: 1 })))
      copyFileSync(a, b)

      const byRuntime = yield* Effect.gen(function* () {
        const log = yield* EventLog
        const views = yield* Effect.forEach(sessions, log.holdView)
        const jobs = yield* Effect.forEach(running, log.loadJob)
        for (const job of jobs) yield* log.append(job, event("log", 3_001))
        for (const view of views) yield* log.detach(view)
        yield* settled
        yield* TestClock.adjust("1 minute")
        yield* settled
        return yield* retained(yield* Store, sessions)
      }).pipe(Effect.scoped, Effect.provide(on(limits)))

      const options = RuntimeOptions.make(limits)
      const before = readFileSync(b)
      const tried = yield* trying(b, (store) =>
        Effect.zip(sweep(store, options, now), retained(store, sessions))
      )
      assert.isTrue(readFileSync(b).equals(before))
      const done = yield* owning({ filename: b, compact: false }, (store) =>
        Effect.zip(sweep(store, options, now), retained(store, sessions))
      )
      assert.deepStrictEqual(done, tried)
      const [swept, bySweep] = done
      assert.deepStrictEqual(bySweep, byRuntime)
      assert.deepStrictEqual(
        swept.jobs.map(({ why }) => why),
        ["jobRetention", "maxRetainedJobs", "maxRetainedJobs"]
      )
      assert.deepStrictEqual(
        swept.logs.map(({ id, why }) => [id, why]),
        running.map(({ jobId }) => [jobId, "maxRetainedEvents"])
      )
      assert.deepStrictEqual(
        swept.views.map(({ id }) => id),
        [sessions[0], sessions[1]].map((of) => of?.sessionId)
      )
      assert.deepInclude(swept.kept, { unfinished: 3, needed: 1, recent: 2, over: 0, sessions: 4 })
      // Nothing is left to be done.
      const again = yield* owning({ filename: b, compact: true }, (store) => sweep(store, options, now))
      assert.deepInclude(again, { jobs: [], logs: [], views: [], sessions: [] })
    }).pipe(Effect.scoped)
  )
})
