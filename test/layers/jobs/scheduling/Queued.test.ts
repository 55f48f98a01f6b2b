/** Jobs that have waited, or end before they begin: over the end of their process, too. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../../src/services/agents/Agent.js"
import { StoreError } from "../../../../src/services/store/Store.js"
import { open } from "../../../support/Wire.js"
import { makeStore, pong, restarted, resume, type Session, submit, typesOf } from "../support.js"
import { asked, begins, endOf, gated, isEnd, later, listed, start } from "./waiting.js"

describe("a job that waits", () => {
  it.scoped("is cancelled without running, whatever it waits for; its lease ends it", () =>
    Effect.gen(function* () {
      const { agent, began, letGo } = gated("work", { concurrency: 1 })
      const store = yield* makeStore
      const process = yield* start(store, [agent])
      yield* process.run(
        Effect.gen(function* () {
          const session = yield* open()
          const runs = yield* submit(session, "work", "runs")
          const waits = yield* submit(session, "work", "waits")
          const later_ = yield* asked(session, "work", "later", later({ delay_sec: 60 }))
          const expires = yield* submit(session, "work", "expires", {
            lease_constraints: { expires_at: "1970-01-01T00:01:00Z" }
          })
          const last = yield* submit(session, "work", "last")
          for (const { job_id } of [waits, later_]) {
            yield* session.request("job.cancel", { reason: "changed my mind" }, { job_id })
            yield* session.request("job.cancel", {}, { job_id })
            yield* session.expect("job.cancelled", (frame) => frame.job_id === job_id)
            const end = yield* endOf(session, job_id)
            assert.strictEqual(end.payload.code, "CANCELLED")
            assert.strictEqual(end.payload.final_status, "cancelled")
            assert.strictEqual((yield* store.store.job(job_id as string))?.status, "cancelled")
          }
          yield* TestClock.adjust("60 seconds")
          assert.strictEqual((yield* endOf(session, expires.job_id)).payload.code, "LEASE_EXPIRED")
          yield* letGo(runs.job_id)
          yield* begins(session, last.job_id)
          assert.deepStrictEqual(yield* began(2), ["runs", "last"])
          for (const { job_id } of [waits, later_, expires])
            assert.strictEqual(
              session.seen.filter((frame) => isEnd(frame) && frame.job_id === job_id).length,
              1
            )
        })
      )
    })
  )

  it.scoped("is found by its key, and is its new owner's when its session is gone", () =>
    Effect.gen(function* () {
      const { agent, letGo } = gated("work", { concurrency: 1 })
      const process = yield* start(yield* makeStore, [agent], { resumeWindow: "1 minute" })
      yield* process.run(
        Effect.gen(function* () {
          const first = yield* open()
          const runs = yield* submit(first, "work", "runs")
          const keyed = { idempotency_key: "key" }
          const waits = yield* submit(first, "work", "waits", keyed)
          yield* first.request("session.bye", {})
          yield* TestClock.adjust("2 minutes")
          const second = yield* open()
          const again = yield* submit(second, "work", "waits", keyed)
          assert.strictEqual(again.job_id, waits.job_id)
          yield* letGo(runs.job_id)
          yield* begins(second, waits.job_id)
          yield* second.request("job.cancel", {}, { job_id: waits.job_id })
          assert.strictEqual((yield* endOf(second, waits.job_id)).payload.code, "CANCELLED")
        })
      )
    })
  )

  it.scoped("is passed over when its input is damaged: whoever waits behind it begins", () =>
    Effect.gen(function* () {
      const { agent, began, letGo } = gated("work", { concurrency: 1 })
      const { store, ...others } = yield* makeStore
      let broken = ""
      const input: typeof store.input = (jobId) =>
        jobId === broken
          ? Effect.fail(new StoreError({ message: "damaged", damaged: { jobId } }))
          : store.input(jobId)
      const process = yield* start({ ...others, store: { ...store, input } }, [agent])
      yield* process.run(
        Effect.gen(function* () {
          const session = yield* open()
          const runs = yield* submit(session, "work", "runs")
          broken = String((yield* submit(session, "work", "damaged")).job_id)
          const next = yield* submit(session, "work", "next")
          yield* letGo(runs.job_id)
          yield* begins(session, next.job_id)
          assert.deepStrictEqual(yield* began(2), ["runs", "next"])
          yield* session.request("job.cancel", {}, { job_id: broken })
          assert.strictEqual((yield* endOf(session, broken)).payload.code, "CANCELLED")
        })
      )
    })
  )

  for (const how of ["kill", "stop"] as const)
    it.scoped(`begins in the next process, in its order, after a ${how}`, () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        const work = gated("work", { concurrency: 1 })
        const durable = gated("durable", { concurrency: 1, durable: true })
        const before = yield* start(store, [work.agent, durable.agent])
        const session = yield* before.run(open())
        const jobs: Array<string | undefined> = []
        for (const input of ["0", "1", "2"]) jobs.push((yield* submit(session, "work", input)).job_id)
        const durables: Array<string | undefined> = []
        for (const input of ["d0", "d1"]) durables.push((yield* submit(session, "durable", input)).job_id)
        const timed = yield* asked(session, "work", "timed", later({ delay_sec: 100 }))
        yield* durable.began(1)
        yield* how === "kill" ? Effect.zipRight(pong(session), before.kill) : before.stop

        const next = gated("work", { concurrency: 1 })
        const goesOn = gated("durable", { concurrency: 1, durable: true })
        const after = yield* start(restarted(store), [next.agent, goesOn.agent])
        const again: Session = yield* after.run(open(resume(session, 0)))
        assert.strictEqual((yield* endOf(again, jobs[0])).payload.details.reason, "runtime_restart")
        // What ran has its place before what waited.
        assert.deepStrictEqual([yield* next.began(1), yield* goesOn.began(1)], [["1"], ["d0"]])
        yield* TestClock.adjust("100 seconds")
        yield* next.letGo(jobs[1])
        yield* begins(again, jobs[2])
        yield* next.letGo(jobs[2])
        yield* begins(again, timed.job_id)
        yield* goesOn.letGo(durables[0])
        yield* begins(again, durables[1])
        assert.deepStrictEqual(
          [yield* next.began(3), yield* goesOn.began(2)],
          [
            ["1", "2", "timed"],
            ["d0", "d1"]
          ]
        )
        yield* goesOn.letGo(durables[1])
        assert.strictEqual((yield* endOf(again, durables[1])).payload.result, "d1")
        // Each was accepted, ran and ended, each once.
        assert.deepStrictEqual(typesOf(again, jobs[1]), ["job.accepted", "job.event", "job.result"])
      })
    )

  it.scoped("stays, and is said to be parked, while its agent is not there", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const work = gated("work", { concurrency: 1 })
      const before = yield* start(store, [work.agent])
      const session = yield* before.run(open())
      yield* submit(session, "work", "0")
      const waits = yield* submit(session, "work", "1")
      yield* Effect.zipRight(pong(session), before.kill)
      const without = restarted(store)
      const middle = yield* start(without, [gated("other").agent])
      const still: Session = yield* middle.run(open(resume(session, 0)))
      yield* still.next(isEnd)
      const entry = (yield* listed(still)).find((job) => job["job_id"] === waits.job_id)
      assert.strictEqual(entry?.["status"], "pending")
      assert.strictEqual(entry?.["parked"], "agent_not_available")
      yield* middle.kill
      const back = gated("work", { concurrency: 1 })
      const after = yield* start(restarted(without), [back.agent])
      const again: Session = yield* after.run(open(resume(still, 0)))
      yield* begins(again, waits.job_id)
      yield* back.letGo(waits.job_id)
      assert.strictEqual((yield* endOf(again, waits.job_id)).payload.result, "1")
    })
  )

  it.scoped("ends with a runtime in memory, which nobody follows", () =>
    Effect.gen(function* () {
      const { agent } = gated("work", { concurrency: 1 })
      const store = yield* makeStore
      const memory = { ...store, store: { ...store.store, kind: "memory" as const } }
      const process = yield* start(memory, [agent])
      const session = yield* process.run(open())
      yield* submit(session, "work", "0")
      const waits = yield* submit(session, "work", "1")
      yield* pong(session)
      yield* process.stop
      assert.strictEqual((yield* store.store.job(waits.job_id as string))?.status, "error")
    })
  )

  it.scoped("has no fiber and nothing of its input in memory: thousands are begun one after the other", () =>
    Effect.gen(function* () {
      const count = 500
      const agent = Agent.handle(Agent.make("small", { version: "1.0.0", concurrency: 4 }), (input) =>
        Effect.succeed(input)
      )
      const process = yield* start(yield* makeStore, [agent])
      yield* process.run(
        Effect.gen(function* () {
          const session = yield* open()
          for (let i = 0; i < count; i++)
            yield* session.request("job.submit", { agent: "small", input: i }, later({ delay_sec: 60 }))
          yield* pong(session)
          yield* TestClock.adjust("60 seconds")
          for (let i = 0; i < count; i++) yield* session.expect("job.result")
          const results = session.seen
            .filter(({ type }) => type === "job.result")
            .map(({ payload }) => payload.result)
          assert.deepStrictEqual(
            [...results].sort((a, b) => a - b),
            Array.from({ length: count }, (_, i) => i)
          )
        })
      )
    })
  )
})
