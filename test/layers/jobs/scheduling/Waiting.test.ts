/** Jobs that wait before they begin: for a place, or for their time. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../../src/services/agents/Agent.js"
import { Job } from "../../../../src/services/jobs/Job.js"
import { open } from "../../../support/Wire.js"
import { as, makeStore, pong, submit, typesOf } from "../support.js"
import { asked, begins, endOf, gated, later, listed, schedule, start } from "./waiting.js"

describe("an agent's concurrency", () => {
  it.scoped("lets what is above wait as pending, and begins it oldest first", () =>
    Effect.gen(function* () {
      const { agent, began, begun, letGo } = gated("work", { concurrency: 2 })
      const store = yield* makeStore
      const process = yield* start(store, [agent])
      yield* process.run(
        Effect.gen(function* () {
          const session = yield* open()
          const jobs: Array<string | undefined> = []
          for (let i = 0; i < 5; i++) jobs.push((yield* submit(session, "work", i)).job_id)
          assert.deepStrictEqual(yield* began(2), ["0", "1"])
          assert.deepStrictEqual(
            (yield* listed(session)).map(({ status }) => status),
            ["running", "running", "pending", "pending", "pending"]
          )
          // The accept, and nothing else.
          assert.deepStrictEqual(typesOf(session, jobs[3]), ["job.accepted"])
          for (let i = 0; i < 5; i++) {
            yield* letGo(jobs[i])
            yield* endOf(session, jobs[i])
            if (i + 2 < 5) yield* begins(session, jobs[i + 2])
          }
          assert.deepStrictEqual(begun, ["0", "1", "2", "3", "4"])
          const frames = session.seen.filter(({ job_id }) => job_id === jobs[4])
          assert.deepStrictEqual(
            frames.map(({ type }) => type),
            ["job.accepted", "job.event", "job.result"]
          )
          assert.deepStrictEqual(frames[1]?.payload.body, { phase: "running" })
          assert.strictEqual(frames[2]?.payload.result, 4)
          const record = yield* store.store.job(jobs[4] as string)
          assert.strictEqual(record?.queued, undefined)
          assert.strictEqual(record?.status, "success")
        })
      )
    })
  )

  it.scoped(
    "counts what is delegated, which never waits: nobody waits for a child that waits for its place",
    () =>
      Effect.gen(function* () {
        const inner = gated("inner")
        const parent: Agent.Registered = Agent.handle(
          Agent.make("tree", { version: "1.0.0", concurrency: 1 }),
          (depth) =>
            Effect.gen(function* () {
              const job = yield* Job
              if (depth === 0)
                return yield* Effect.flatMap(job.delegate("inner", "leaf", {}), (child) => child.await)
              const child = yield* job.delegate("tree", Number(depth) - 1, { lease: job.lease })
              return yield* child.await
            }).pipe(Effect.orDie)
        )
        const process = yield* start(yield* makeStore, [parent, inner.agent])
        yield* process.run(
          Effect.gen(function* () {
            const session = yield* open()
            const lease_request = { "agent.delegate": ["*"] }
            const { job_id } = yield* submit(session, "tree", 3, { lease_request })
            const waits = yield* submit(session, "tree", 0, { lease_request })
            const leaf = yield* session.expect(
              "job.accepted",
              ({ payload }) => payload.agent === "inner@1.0.0"
            )
            assert.deepStrictEqual(yield* inner.began(1), ["leaf"])
            yield* inner.letGo(leaf.job_id)
            assert.strictEqual((yield* endOf(session, job_id)).payload.result, "leaf")
            yield* begins(session, waits.job_id)
          })
        )
      })
  )

  it.scoped("refuses what is above the bound of those that wait", () =>
    Effect.gen(function* () {
      const { agent } = gated("work", { concurrency: 1 })
      const process = yield* start(yield* makeStore, [agent], {
        maxPendingJobsPerPrincipal: 2,
        maxPendingJobs: 3
      })
      yield* process.run(
        Effect.gen(function* () {
          const alice = yield* open()
          const bob = yield* open(as("bob"))
          for (let i = 0; i < 3; i++) yield* submit(alice, "work", i)
          const refused = yield* asked(alice, "work", 3)
          assert.strictEqual(refused.type, "job.error")
          assert.strictEqual(refused.payload.code, "INTERNAL_ERROR")
          assert.strictEqual(refused.payload.details.limit, "pending_jobs_per_principal")
          yield* submit(bob, "work", 0)
          assert.strictEqual((yield* asked(bob, "work", 1)).payload.details.limit, "pending_jobs")
        })
      )
    })
  )
})

describe("a principal's concurrency", () => {
  it.scoped("is one principal's; over all its agents", () =>
    Effect.gen(function* () {
      const one = gated("one")
      const two = gated("two", { concurrency: 1 })
      const process = yield* start(yield* makeStore, [one.agent, two.agent], { concurrencyPerPrincipal: 2 })
      yield* process.run(
        Effect.gen(function* () {
          const alice = yield* open()
          const bob = yield* open(as("bob"))
          const jobs: Array<string | undefined> = []
          for (const agent of ["one", "two", "one", "two"])
            jobs.push((yield* submit(alice, agent, `alice ${jobs.length}`)).job_id)
          const other = yield* submit(bob, "two", "bob")
          yield* submit(bob, "one", "bob")
          yield* pong(bob)
          assert.deepStrictEqual(
            [yield* one.began(2), yield* two.began(1)],
            [["alice 0", "bob"], ["alice 1"]]
          )
          // A place of the agent's is for the oldest of all, one of the principal's for who can use it.
          yield* one.letGo(jobs[0])
          assert.deepStrictEqual(yield* one.began(3), ["alice 0", "bob", "alice 2"])
          yield* two.letGo(jobs[1])
          assert.deepStrictEqual(yield* two.began(2), ["alice 1", "alice 3"])
          yield* two.letGo(jobs[3])
          yield* begins(bob, other.job_id)
        })
      )
    })
  )
})

describe("a job that is to begin later", () => {
  it.scoped("is accepted at once, and begins at its time", () =>
    Effect.gen(function* () {
      const { agent, began, letGo } = gated("work")
      const process = yield* start(yield* makeStore, [agent])
      yield* process.run(
        Effect.gen(function* () {
          const session = yield* open()
          const { job_id, payload } = yield* asked(session, "work", "later", later({ delay_sec: 600 }))
          assert.strictEqual(payload["x-vendor.effect-arcp.start_at"], "1970-01-01T00:10:00.000Z")
          const at = yield* asked(session, "work", "at", later({ start_at: "1970-01-01T00:05:00Z" }))
          const now = yield* asked(session, "work", "now", later({ start_at: "1969-12-31T00:00:00Z" }))
          yield* begins(session, now.job_id)
          yield* TestClock.adjust("299 seconds")
          yield* pong(session)
          assert.deepStrictEqual(yield* began(1), ["now"])
          const entry = (yield* listed(session)).find((job) => job["job_id"] === job_id)
          assert.strictEqual(entry?.["status"], "pending")
          assert.strictEqual(entry?.["x-vendor.effect-arcp.start_at"], "1970-01-01T00:10:00.000Z")
          yield* TestClock.adjust("1 seconds")
          yield* begins(session, at.job_id)
          yield* TestClock.adjust("300 seconds")
          yield* begins(session, job_id)
          assert.deepStrictEqual(yield* began(3), ["now", "at", "later"])
          const after = (yield* listed(session)).find((job) => job["job_id"] === job_id)
          assert.strictEqual(after?.["status"], "running")
          assert.strictEqual(after?.["x-vendor.effect-arcp.start_at"], undefined)
          yield* letGo(job_id)
          assert.strictEqual((yield* endOf(session, job_id)).payload.result, "later")
        })
      )
    })
  )

  it.scoped("has its runtime counted from when it begins, and ends when its lease does before that", () =>
    Effect.gen(function* () {
      const { agent, began, begun } = gated("work")
      const store = yield* makeStore
      const process = yield* start(store, [agent])
      yield* process.run(
        Effect.gen(function* () {
          const session = yield* open()
          const submitted = (more: Record<string, unknown>, at: Record<string, unknown>) =>
            Effect.gen(function* () {
              const id = yield* session.request("job.submit", { agent: "work", input: 0, ...more }, later(at))
              return yield* session.next(
                ({ payload }) => payload.request_id === id || payload.details?.request_id === id
              )
            })
          const timed = yield* submitted({ max_runtime_sec: 10 }, { delay_sec: 60 })
          const lease_constraints = { expires_at: "1970-01-01T00:00:30Z" }
          const impossible = yield* submitted({ lease_constraints }, { delay_sec: 60 })
          assert.strictEqual(impossible.payload.code, "INVALID_REQUEST")
          const lease = yield* submitted({ lease_constraints }, { delay_sec: 20 })
          yield* TestClock.adjust("20 seconds")
          yield* began(1)
          yield* TestClock.adjust("10 seconds")
          assert.strictEqual((yield* endOf(session, lease.job_id)).payload.code, "LEASE_EXPIRED")
          yield* TestClock.adjust("30 seconds")
          yield* began(2)
          yield* TestClock.adjust("9 seconds")
          yield* pong(session)
          assert.deepStrictEqual(typesOf(session, timed.job_id), ["job.accepted", "job.event"])
          yield* TestClock.adjust("1 seconds")
          assert.strictEqual((yield* endOf(session, timed.job_id)).payload.code, "TIMEOUT")
          assert.strictEqual(begun.length, 2)
        })
      )
    })
  )

  it.scoped("is refused when the schedule is none", () =>
    Effect.gen(function* () {
      const { agent } = gated("work")
      const process = yield* start(yield* makeStore, [agent])
      yield* process.run(
        Effect.gen(function* () {
          const session = yield* open()
          for (const wrong of [
            {},
            "soon",
            { delay_sec: -1 },
            { delay_sec: 1e12 },
            { delay_sec: "1" },
            { start_at: "tomorrow" },
            { start_at: "2030-01-01T00:00:00+01:00" },
            { start_at: "2030-01-01T00:00:00Z", delay_sec: 1 }
          ]) {
            const refused = yield* asked(session, "work", 0, { extensions: { [schedule]: wrong } })
            assert.strictEqual(refused.payload.code, "INVALID_REQUEST", JSON.stringify(wrong))
          }
        })
      )
    })
  )
})
