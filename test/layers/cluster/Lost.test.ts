/** What a node cannot go on with: jobs that it has taken, and what others have dropped meanwhile. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { type JobFilter, Op, type StoreService } from "../../../src/services/store/Store.js"
import { cluster } from "../../support/Nodes.js"
import { open } from "../../support/Wire.js"
import { aJob } from "../store/fixtures.js"

const settle = Effect.repeatN(eventLoop.next, 60)

it.scoped("jobs that are above themselves are taken by nobody, and nobody waits for them", () =>
  Effect.gen(function* () {
    const { disk, start } = yield* cluster
    // Above themselves: no runtime has written that.
    const put = (jobId: string, parentJobId: string) =>
      Op.PutJob({ job: { ...aJob(jobId, { parentJobId }), node: "gone" } })
    yield* disk.store.commit({ ops: [put("job_a", "job_b"), put("job_b", "job_a")], owners: [] })
    const a = yield* start("a", [])
    yield* settle
    yield* TestClock.adjust("1 second")
    yield* settle
    for (const jobId of ["job_a", "job_b"]) {
      const record = yield* disk.store.job(jobId)
      assert.deepStrictEqual([record?.node, record?.epoch], ["gone", undefined])
    }
    const session = yield* a.run(open())
    yield* session.request("job.cancel", {}, { job_id: "job_a" })
    yield* TestClock.adjust("25 seconds")
    const { payload } = yield* session.expect("session.error")
    assert.isTrue(payload.retryable)
    assert.deepStrictEqual(yield* disk.store.wishes(undefined, 9), [])
  })
)

it.scoped("what nobody can take is looked at once a minute, and what its node leaves later at once", () =>
  Effect.gen(function* () {
    const { disk, idle, start } = yield* cluster
    const put = (jobId: string, parentJobId?: string) =>
      Op.PutJob({ job: { ...aJob(jobId, { parentJobId }), node: "gone" } })
    yield* disk.store.commit({ ops: [put("job_a", "job_b"), put("job_b", "job_a")], owners: [] })
    let looks = 0
    disk.onRead = (name, [filter]) => {
      if (name === "jobs" && (filter as JobFilter).node === "gone") looks++
      return undefined
    }
    yield* start("a", [])
    const seconds = (n: number) =>
      Effect.repeatN(Effect.zipRight(TestClock.adjust("1 second"), Effect.repeatN(eventLoop.next, 12)), n - 1)
    yield* seconds(59)
    assert.strictEqual(looks, 1)
    yield* seconds(4)
    assert.strictEqual(looks, 2)
    // Somebody has the name again, and leaves more.
    const again = yield* Scope.make()
    yield* idle("gone").pipe(Scope.extend(again))
    yield* disk.store.commit({ ops: [put("job_c")], owners: [] })
    yield* seconds(2)
    yield* Scope.close(again, Exit.void)
    yield* seconds(2)
    assert.strictEqual((yield* disk.store.job("job_c"))?.node, "a")
  })
)

it.scoped(
  "a session whose events another node drops while it catches up is lost, and not looked at for ever",
  () =>
    Effect.gen(function* () {
      const { disk, start, wakes } = yield* cluster
      const words = yield* Queue.unbounded<number>()
      const speak = Agent.handle(Agent.make("speak", { version: "1.0.0" }), () =>
        Effect.flatMap(Job, (job) =>
          Effect.flatMap(Queue.take(words), (n) => job.emit("x-vendor.test.n", { n }))
        ).pipe(Effect.orDie)
      )
      const { backlog } = disk.store
      const asked = { count: 0, drops: undefined as string | undefined }
      const watched: Pick<StoreService, "backlog"> = {
        backlog: (after, limit) =>
          Effect.gen(function* () {
            asked.count++
            if (asked.drops !== undefined)
              yield* Effect.orDie(
                disk.store.commit({ ops: [Op.DropJob({ jobId: asked.drops })], owners: [] })
              )
            return yield* backlog(after, limit)
          })
      }
      Object.assign(disk.store, watched)
      const a = yield* start("a", [speak])
      const b = yield* start("b", [speak])
      const c = yield* start("c", [speak])
      const from = (session: typeof first, last_event_seq: number) => ({
        resume: { session_id: session.sessionId, resume_token: session.welcome.resume_token, last_event_seq }
      })
      const first = yield* a.run(open())
      yield* first.request("job.submit", { agent: "speak", input: {} })
      const jobId = String((yield* first.expect("job.accepted")).job_id)
      yield* settle
      const second = yield* b.run(open(from(first, 0)))
      yield* settle
      // It ends without "b" hearing of it.
      wakes.lost = true
      yield* Queue.offer(words, 1)
      yield* settle
      assert.strictEqual((yield* disk.store.job(jobId))?.status, "success")
      asked.drops = jobId
      asked.count = 0
      // It is told, at the welcome or by its end.
      const third = yield* Effect.fork(Effect.exit(c.run(open(from(second, 0)))))
      yield* settle
      yield* settle
      yield* Fiber.interrupt(third)
      assert.isTrue(yield* disk.store.hasLost(first.sessionId))
      assert.isBelow(asked.count, 5)
    })
)
