/** Who waits in the windows of jobs, and that nobody waits for ever. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { type CommitItem, CommitQueue, maxItems, sizeOfOps } from "../../../src/layers/log/CommitQueue.js"
import { EmitWindows } from "../../../src/layers/log/EmitWindows.js"
import { JobState } from "../../../src/layers/log/JobState.js"
import { InternalError } from "../../../src/protocol/Errors.js"
import { Op } from "../../../src/services/store/Store.js"
import { isCollected } from "../../support/collected.js"
import { event } from "./harness.js"

const limits = { events: 1_000_000, bytes: 1_000_000_000 }

const makeJob = () =>
  new JobState(
    { jobId: "j", traceId: "t", principal: "p", agent: "a", parentJobId: undefined, sessionId: "s" },
    { first: 1, last: 0, lastEventSeq: 0, ended: false },
    { granularity: limits, allowance: limits }
  )

const makeWindows = () =>
  new EmitWindows(
    { events: 2, bytes: 100_000, bytesInAll: 1_000_000, perCommit: { events: 1_000, bytes: 1_000_000 } },
    () => 0
  )

const one = event("log", 1)

describe("whoever waits for room", () => {
  it.effect("goes on when its job has closed meanwhile", () =>
    Effect.gen(function* () {
      const [windows, job] = [makeWindows(), makeJob()]
      for (let i = 0; i < 3; i++) windows.enter(job, one)
      assert.isFalse(windows.isOpen(job))
      const waiting = yield* Effect.fork(windows.wait(job, one))
      yield* Effect.yieldNow()
      job.close()
      for (let i = 0; i < 3; i++) windows.leave(job, one)
      windows.relieve()
      yield* Fiber.join(waiting)
      assert.isUndefined(job.window)
    })
  )

  it.effect("goes on at once when there was a commit before it came to wait", () =>
    Effect.gen(function* () {
      const [windows, job] = [makeWindows(), makeJob()]
      for (let i = 0; i < 3; i++) windows.enter(job, one)
      const wait = windows.wait(job, one)
      for (let i = 0; i < 3; i++) windows.leave(job, one)
      windows.relieve()
      yield* wait
    })
  )

  it.effect("waits while all jobs together have too much, though its own has not", () =>
    Effect.gen(function* () {
      const [windows, job, other] = [makeWindows(), makeJob(), makeJob()]
      const large = { ...one, payload: "x".repeat(1_000_000) }
      windows.enter(other, large)
      windows.enter(job, one)
      const waiting = yield* Effect.fork(windows.wait(job, one))
      yield* Effect.yieldNow()
      windows.leave(job, one)
      windows.relieve()
      yield* Effect.yieldNow()
      assert.strictEqual((yield* Fiber.poll(waiting))._tag, "None")
      windows.leave(other, large)
      windows.relieve()
      yield* Fiber.join(waiting)
      assert.isTrue(windows.isOpen(job))
    })
  )

  it("finds room in bytes once they are committed", () => {
    const [windows, job] = [makeWindows(), makeJob()]
    const large = { ...one, payload: "x".repeat(60_000) }
    for (let i = 0; i < 3; i++) {
      windows.enter(job, large)
      assert.isTrue(windows.isOpen(job))
      windows.enter(job, large)
      assert.isFalse(windows.isOpen(job))
      for (let n = 0; n < 2; n++) windows.leave(job, large)
    }
  })

  it.effect("is told when its job breaks, and when it has broken", () =>
    Effect.gen(function* () {
      const [windows, job] = [makeWindows(), makeJob()]
      for (let i = 0; i < 3; i++) windows.enter(job, one)
      const waiting = yield* Effect.fork(Effect.exit(windows.wait(job, one)))
      yield* Effect.yieldNow()

      windows.break(job, new InternalError({ message: "broken" }))
      assert.isTrue(Exit.isFailure(yield* Fiber.join(waiting)))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(windows.wait(job, one))))
    })
  )
})

describe("the queue of commits", () => {
  it.effect("holds nothing that was taken, however long it is never empty", () =>
    Effect.gen(function* () {
      const queue = new CommitQueue(() => {})
      const add = (count: number): WeakRef<object> => {
        const job = makeJob()
        for (let i = 0; i < count; i++) queue.add({ _tag: "Flush", job, done: () => {} })
        return new WeakRef(job)
      }
      const first = add(maxItems)
      for (let i = 0; i < 8; i++) {
        add(maxItems)
        queue.take()
      }
      assert.strictEqual(queue.length, maxItems)
      assert.isTrue(yield* isCollected(first))
    })
  )

  it("gives items in the order in which they came, also after some were put back", () => {
    const queue = new CommitQueue(() => {})
    const job = makeJob()
    const items = Array.from(
      { length: 5 * maxItems },
      (): CommitItem => ({ _tag: "Flush", job, done: () => {} })
    )
    const taken: Array<CommitItem> = []
    for (const item of items) queue.add(item)
    for (let i = 0; queue.length > 0; i++) {
      const batch = queue.take()
      if (i % 2 === 0) queue.putBack(batch)
      else taken.push(...batch)
    }
    assert.isTrue(taken.length === items.length && taken.every((item, i) => item === items[i]))
  })
})

describe("a batch of commits", () => {
  const large = "x".repeat(64 * 1024)
  const done = () => {}
  const event = { type: "job.event", kind: "log", payload: "{}" } as const
  for (const [what, item] of [
    [
      "events",
      (job): CommitItem => ({
        _tag: "Append",
        job,
        event: { ...event, payload: large },
        returned: true,
        done
      })
    ],
    [
      "outcomes of steps",
      (job): CommitItem => ({
        _tag: "Append",
        job,
        event: { ...event, journal: { kind: "step", key: "a", ordinal: 1, about: "", value: large } },
        returned: true,
        done
      })
    ],
    [
      "results",
      (job): CommitItem => ({
        _tag: "End",
        job,
        event: { type: "job.result", kind: "", payload: large },
        record: () => Op.Alive({ at: 1 }),
        done
      })
    ],
    [
      "inputs",
      (): CommitItem => ({
        _tag: "Change",
        change: () => {},
        size: sizeOfOps([Op.PutInput({ jobId: "job_a", input: large })]),
        done
      })
    ]
  ] as ReadonlyArray<[string, (job: JobState) => CommitItem]>)
    it(`has a bounded number of bytes, of ${what}, too`, () => {
      const queue = new CommitQueue(() => {})
      const job = makeJob()
      for (let i = 0; i < 40; i++) queue.add(item(job))
      assert.deepStrictEqual([queue.take().length, queue.take().length, queue.take().length], [16, 16, 8])
    })
})

describe("a job that has ended", () => {
  it.effect(
    "is held by its log no more, whose tail may be read for long: nor are its handler's services",
    () =>
      Effect.gen(function* () {
        const run = (broken: boolean) => {
          const [windows, job] = [makeWindows(), makeJob()]
          const handler = { services: "many" }
          job.whenBroken(() => handler.services)
          if (broken) windows.break(job, new InternalError({ message: "storage" }))
          job.close()
          return { job, handler: new WeakRef(handler) }
        }
        for (const broken of [false, true]) {
          const { handler, job } = run(broken)
          assert.isTrue(yield* isCollected(handler))
          assert.strictEqual(job.broken === undefined, !broken)
        }
      })
  )
})
