/** Jobs that wait before they begin: for a place, or for their time; and over the end of their process. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../src/services/agents/Agent.js"
import { type Credential, Credentials } from "../../../src/services/credentials/Credentials.js"
import { Job } from "../../../src/services/jobs/Job.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import type { Frame } from "../../support/Wire.js"
import { open } from "../../support/Wire.js"
import {
  as,
  makeStore,
  pong,
  restarted,
  resume,
  type Session,
  serve,
  submit,
  type TestStore,
  typesOf
} from "./support.js"

const schedule = "x-vendor.effect-arcp.schedule"

/** A process on a store; `kill`: nothing more of it is stored. */
const start = (
  store: TestStore,
  agents: ReadonlyArray<Agent.Registered>,
  options: RuntimeOptions.Input = {},
  parts?: Parameters<typeof serve>[3]
) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const context = yield* Layer.buildWithScope(
      serve(store, agents, { heartbeatInterval: "1 day", ...options }, parts),
      scope
    )
    return {
      run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, context),
      kill: Effect.suspend(() => {
        store.cut = true
        return Scope.close(scope, Exit.void)
      }),
      stop: Scope.close(scope, Exit.void)
    }
  })

/** An agent whose jobs run until they are let go, in the order in which they began. */
const gated = (name: string, options: { readonly concurrency?: number; readonly durable?: boolean } = {}) => {
  const begun: Array<string> = []
  const waiting: Array<{ readonly count: number; readonly reached: Deferred.Deferred<void> }> = []
  const gates = new Map<string, Deferred.Deferred<void>>()
  const gateOf = (jobId: string) => {
    const gate = gates.get(jobId) ?? Deferred.unsafeMake<void>(FiberId.none)
    gates.set(jobId, gate)
    return gate
  }
  const agent = Agent.handle(Agent.make(name, { version: "1.0.0", ...options }), (input) =>
    Effect.gen(function* () {
      const { jobId } = yield* Job
      begun.push(String(input))
      for (const { count, reached } of waiting)
        if (begun.length >= count) yield* Deferred.succeed(reached, undefined)
      yield* Deferred.await(gateOf(jobId))
      return input
    })
  )
  return {
    agent,
    begun,
    /** Waits until so many have begun; gives which. */
    began: (count: number) =>
      Effect.suspend(() => {
        const reached = Deferred.unsafeMake<void>(FiberId.none)
        waiting.push({ count, reached })
        return Effect.as(begun.length >= count ? Effect.void : Deferred.await(reached), begun)
      }),
    /** Lets a job return, now or when it begins. */
    letGo: (jobId: string | undefined) =>
      Effect.suspend(() => Deferred.succeed(gateOf(jobId ?? ""), undefined))
  }
}

/** A frame that has come, or will. */
const find = (session: Session, wanted: (frame: Frame) => boolean) =>
  Effect.suspend(() => {
    const seen = session.seen.find(wanted)
    return seen === undefined ? session.next(wanted) : Effect.succeed(seen)
  })

const isEnd = ({ type }: Frame) => type === "job.result" || type === "job.error"
const endOf = (session: Session, jobId: string | undefined) =>
  find(session, (frame) => isEnd(frame) && frame.job_id === jobId)
const begins = (session: Session, jobId: string | undefined) =>
  find(
    session,
    ({ job_id, payload }) => job_id === jobId && payload.kind === "status" && payload.body.phase === "running"
  )

/** Submits, and gives whatever answers. */
const asked = (session: Session, agent: string, input: unknown, more: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent, input }, more)
    return yield* session.next(
      ({ payload }) => payload.request_id === id || payload.details?.request_id === id
    )
  })

const later = (at: Record<string, unknown>) => ({ extensions: { [schedule]: at } })

const listed = (session: Session) =>
  Effect.gen(function* () {
    const id = yield* session.request("session.list_jobs", {})
    const { payload } = yield* session.expect("session.jobs", ({ payload }) => payload.request_id === id)
    return payload.jobs as ReadonlyArray<Record<string, unknown>>
  })

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

describe("a submit rate", () => {
  it.scoped("is each principal's, and does not begin anew with the process", () =>
    Effect.gen(function* () {
      const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
      const options = { submitsPerPrincipal: 3, submitWindow: "60 seconds" } as const
      const limit = (frame: Frame) => frame.payload.details?.limit
      const store = yield* makeStore
      const before = yield* start(store, [echo], options)
      yield* before.run(
        Effect.gen(function* () {
          const alice = yield* open()
          for (let i = 0; i < 3; i++) yield* submit(alice, "echo", i)
          const refused = yield* asked(alice, "echo", 3)
          assert.strictEqual(limit(refused), "submits_per_principal")
          assert.strictEqual(refused.payload.details.retry_after, 20)
          yield* submit(yield* open(as("bob")), "echo", 0)
          yield* pong(alice)
        })
      )
      yield* before.kill
      yield* TestClock.adjust("10 seconds")
      const after = yield* start(restarted(store), [echo], options)
      yield* after.run(
        Effect.gen(function* () {
          const alice = yield* open()
          const refused = yield* asked(alice, "echo", 3)
          assert.strictEqual(limit(refused), "submits_per_principal")
          assert.strictEqual(refused.payload.details.retry_after, 10)
          yield* TestClock.adjust("10 seconds")
          yield* submit(alice, "echo", 3)
          assert.strictEqual(limit(yield* asked(alice, "echo", 4)), "submits_per_principal")
        })
      )
    })
  )
})

describe("a job that begins after it has waited", () => {
  it.scoped("has its credentials from then on, told after it runs; its budget is as it was asked for", () =>
    Effect.gen(function* () {
      const { agent, letGo } = gated("work", { concurrency: 1 })
      const minted: Array<string> = []
      const held = new Map<string, Credential>()
      const credentials = Layer.succeed(Credentials, {
        enabled: true,
        mint: ({ jobId }) =>
          Effect.sync(() => {
            minted.push(jobId)
            const credential = {
              id: "cred_1",
              scheme: "bearer" as const,
              value: Redacted.make(`secret of ${jobId}`),
              endpoint: "https://llm"
            }
            held.set(jobId, credential)
            return [credential]
          }),
        held: (jobId) => [held.get(jobId)].flatMap((credential) => credential ?? []),
        rotate: () => Effect.die("not used here"),
        release: (jobId) => Effect.sync(() => held.delete(jobId)),
        outstanding: Effect.succeed([]),
        revoke: () => Effect.void
      })
      const process = yield* start(yield* makeStore, [agent], {}, { credentials })
      yield* process.run(
        Effect.gen(function* () {
          const session = yield* open()
          const lease = { lease_request: { "cost.budget": ["USD:5.00"] } }
          const first = yield* submit(session, "work", 0, lease)
          assert.strictEqual(first.payload.credentials.length, 1)
          const waits = yield* submit(session, "work", 1, lease)
          assert.strictEqual(waits.payload.credentials, undefined)
          assert.deepStrictEqual(waits.payload.budget, { USD: 5 })
          assert.deepStrictEqual(minted, [first.job_id])
          yield* letGo(first.job_id)
          const told = yield* find(
            session,
            ({ job_id, payload }) => job_id === waits.job_id && payload.body?.phase === "credential_rotated"
          )
          assert.strictEqual(told.payload.body.value, `secret of ${waits.job_id}`)
          const events = session.seen.filter(
            ({ job_id, type }) => job_id === waits.job_id && type === "job.event"
          )
          assert.deepStrictEqual(
            events.map(({ payload }) => payload.body.phase),
            ["running", "credential_rotated"]
          )
          yield* letGo(waits.job_id)
          yield* endOf(session, waits.job_id)
          assert.strictEqual(held.size, 0)
        })
      )
    })
  )

  it.scoped(
    "is not begun before the store has taken that it runs, and not refused because that takes long",
    () =>
      Effect.gen(function* () {
        const { agent, began, begun, letGo } = gated("work")
        const store = yield* makeStore
        const process = yield* start(store, [agent])
        yield* process.run(
          Effect.gen(function* () {
            const session = yield* open()
            const job = yield* asked(session, "work", "later", later({ delay_sec: 1 }))
            yield* store.gate.close
            yield* TestClock.adjust("1 seconds")
            for (let i = 0; i < 20; i++) yield* pong(session)
            assert.deepStrictEqual(begun, [])
            store.failing = true
            yield* store.gate.open
            for (let i = 0; i < 20; i++) yield* pong(session)
            assert.deepStrictEqual(begun, [])
            store.failing = false
            yield* TestClock.adjust("10 seconds")
            yield* began(1)
            yield* letGo(job.job_id)
            assert.strictEqual((yield* endOf(session, job.job_id)).payload.result, "later")
            assert.deepStrictEqual(typesOf(session, job.job_id), ["job.accepted", "job.event", "job.result"])
          })
        )
      })
  )

  it.scoped("ends with the bye of its session where that cancels", () =>
    Effect.gen(function* () {
      const { agent, begun } = gated("work", { concurrency: 1 })
      const store = yield* makeStore
      const process = yield* start(store, [agent], { cancelOnBye: true, cancelGrace: 0 })
      yield* process.run(
        Effect.gen(function* () {
          const watcher = yield* open()
          const session = yield* open()
          yield* submit(session, "work", 0)
          const waits = yield* submit(session, "work", 1)
          const subscribe = yield* watcher.request(
            "job.subscribe",
            { job_id: waits.job_id },
            { job_id: waits.job_id }
          )
          const { payload } = yield* watcher.expect(
            "job.subscribed",
            ({ payload }) => payload.request_id === subscribe
          )
          assert.strictEqual(payload.current_status, "pending")
          yield* session.request("session.bye", {})
          assert.strictEqual((yield* endOf(watcher, waits.job_id)).payload.code, "CANCELLED")
          assert.deepStrictEqual(begun, ["0"])
        })
      )
    })
  )
})
