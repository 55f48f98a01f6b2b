/** Jobs that go on from others: what they take over, and what is refused (§12.1 of the protocol page). */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { type Frame, open } from "../../support/Wire.js"
import { as, echo, makeStore, narrow, restarted, resume, type Session, serve, submit } from "./support.js"

const forking = (jobId: unknown, at?: unknown) => ({
  extensions: { "x-vendor.effect-arcp.fork": { job_id: jobId, at } }
})

/** Submits a fork, and gives what answers it: the accept, or the refusal. */
const fork = (
  session: Session,
  jobId: unknown,
  at?: unknown,
  payload: Record<string, unknown> = {}
): Effect.Effect<Frame> =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent: "durable", ...payload }, forking(jobId, at))
    return yield* session.next(
      ({ payload, type }) =>
        (type === "job.accepted" && payload.request_id === id) ||
        (type === "job.error" && payload.details?.request_id === id)
    )
  })

const endOf = (session: Session, jobId: string | undefined) =>
  Effect.suspend(() => {
    const isEnd = ({ job_id, type }: Frame) =>
      job_id === jobId && (type === "job.result" || type === "job.error")
    const seen = session.seen.find(isEnd)
    return seen === undefined ? session.next(isEnd) : Effect.succeed(seen)
  })

const Input = Schema.Struct({ fail: Schema.optional(Schema.String), name: Schema.optional(Schema.String) })

/** Three steps, of which the named one fails; counts what really ran. */
const three = (ran: Array<string>) =>
  Agent.handle(Agent.make("durable", { version: "1.0.0", durable: true, input: Input }), ({ fail, name }) =>
    Effect.gen(function* () {
      const job = yield* Job
      const all: Array<string> = []
      yield* job.log("info", `begun ${name}`)
      for (const key of ["one", "two", "three"])
        all.push(
          yield* job.step(
            key,
            Effect.suspend(() => {
              ran.push(key)
              return fail === key ? Effect.fail("no") : Effect.succeed(`${key} ${name} ${ran.length}`)
            })
          )
        )
      return all
    }).pipe(Effect.orDie)
  )

const within = <A, E>(
  agents: ReadonlyArray<Agent.Registered>,
  use: (session: Session) => Effect.Effect<A, E, Effect.Effect.Context<ReturnType<typeof open>>>,
  options?: RuntimeOptions.Input
) =>
  Effect.gen(function* () {
    const store = yield* makeStore
    return yield* Effect.provide(Effect.flatMap(open(), use), serve(store, [...agents, echo], options))
  })

describe("a job that goes on from another", () => {
  it.scopedLive(
    "takes over what was committed before the step, of one that failed and of one that ended",
    () => {
      const ran: Array<string> = []
      return within([three(ran)], (session) =>
        Effect.gen(function* () {
          const first = yield* submit(session, "durable", { name: "a", fail: "three" })
          yield* session.expect("job.error")
          assert.deepStrictEqual(ran.splice(0), ["one", "two", "three"])

          // Another input: what was taken over stays as it was.
          const second = yield* fork(session, first.job_id, "three", { input: { name: "b" } })
          const end = yield* endOf(session, second.job_id)
          assert.deepStrictEqual(end.payload.result, ["one a 1", "two a 2", "three b 1"])
          assert.deepStrictEqual(ran.splice(0), ["three"])
          const said = session.seen
            .filter(({ job_id, type }) => job_id === second.job_id && type === "job.event")
            .map(({ payload: { body } }) => body.message ?? body.key ?? body.phase)
          assert.deepStrictEqual(said, [
            "running",
            `took over 2 steps of ${first.job_id}, before three`,
            "begun b",
            "three",
            "three"
          ])

          // Of one that ended well, and with its own input.
          const third = yield* fork(session, second.job_id, "two")
          assert.deepStrictEqual((yield* endOf(session, third.job_id)).payload.result, [
            "one a 1",
            "two b 1",
            "three b 2"
          ])
          assert.deepStrictEqual(ran.splice(0), ["two", "three"])
        })
      )
    }
  )

  it.scopedLive("leaves what was committed after the step, and does the step's own parts again", () => {
    const ran: Array<string> = []
    const agent = Agent.handle(Agent.make("durable", { version: "1.0.0", durable: true }), () =>
      Effect.gen(function* () {
        const job = yield* Job
        const note = (key: string) => Effect.sync(() => void ran.push(key))
        const committed = yield* Deferred.make<void>()
        yield* Effect.all(
          [
            // Begins before `late`, and ends after it.
            job.step("slow", Effect.zipRight(Deferred.await(committed), note("slow"))),
            job.step("late", note("late")).pipe(Effect.zipRight(Deferred.succeed(committed, undefined)))
          ],
          { concurrency: 2 }
        )
        yield* job.step("outer", Effect.zipRight(job.step("inner", note("inner")), note("outer")))
        yield* job.sleep("pause", "1 millis")
      }).pipe(Effect.orDie)
    )
    return within([agent], (session) =>
      Effect.gen(function* () {
        const { job_id } = yield* submit(session, "durable")
        yield* endOf(session, job_id)
        const again = (at: string) =>
          Effect.gen(function* () {
            ran.length = 0
            const forked = yield* fork(session, job_id, at)
            const end = yield* endOf(session, forked.job_id)
            assert.strictEqual(end.type, "job.result", JSON.stringify(end.payload))
            return [...ran]
          })
        assert.deepStrictEqual(yield* again("slow"), ["slow", "inner", "outer"])
        assert.deepStrictEqual(yield* again("late"), ["late", "slow", "inner", "outer"])
        assert.deepStrictEqual(yield* again("outer"), ["inner", "outer"])
        assert.deepStrictEqual(yield* again("inner"), ["inner", "outer"])
        assert.deepStrictEqual(yield* again("pause"), [])
      })
    )
  })

  it.scopedLive("goes on from one that runs, and is run again over what it has taken over", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const ran: Array<string> = []
      const agent = (blocked: boolean) =>
        Agent.handle(Agent.make("durable", { version: "1.0.0", durable: true }), () =>
          Effect.gen(function* () {
            const job = yield* Job
            const a = yield* job.step(
              "a",
              Effect.sync(() => ran.push("a"))
            )
            const b = yield* job.step("b", blocked ? Effect.never : Effect.sync(() => ran.push("b")))
            return [a, b]
          }).pipe(Effect.orDie)
        )
      const isStarted = ({ payload }: Frame) => payload.body?.key === "b" && payload.body.state === "started"
      const { forked, session } = yield* Effect.gen(function* () {
        const session = yield* open()
        const first = yield* submit(session, "durable")
        yield* session.next((frame) => isStarted(frame) && frame.job_id === first.job_id)
        const forked = yield* fork(session, first.job_id, "b")
        yield* session.next((frame) => isStarted(frame) && frame.job_id === forked.job_id)
        return { forked, session }
      }).pipe(Effect.provide(serve(store, [agent(true)])))
      assert.deepStrictEqual(ran, ["a"])
      const end = yield* Effect.flatMap(open(resume(session, 0)), (again) =>
        endOf(again, forked.job_id)
      ).pipe(Effect.provide(serve(restarted(store), [agent(false)])))
      assert.strictEqual(end.payload.result[0], 1)
      assert.strictEqual(ran.filter((key) => key === "a").length, 1)
    })
  )

  it.scopedLive("without a step it is the same once more, also of an agent that is not durable", () => {
    const ran: Array<string> = []
    return within([three(ran)], (session) =>
      Effect.gen(function* () {
        const lease = { "tool.call": ["search.*"], "cost.budget": ["USD:2"] }
        const first = yield* submit(
          session,
          "echo",
          { deep: [1] },
          { lease_request: lease, max_runtime_sec: 60 }
        )
        yield* endOf(session, first.job_id)
        const again = yield* fork(session, first.job_id, undefined, { agent: "echo" })
        assert.deepStrictEqual(again.payload.lease, lease)
        assert.deepStrictEqual((yield* endOf(session, again.job_id)).payload.result, { deep: [1] })
        const other = yield* fork(session, first.job_id, undefined, {
          agent: "echo",
          input: null,
          lease_request: {}
        })
        assert.deepStrictEqual(other.payload.lease, {})
        assert.strictEqual((yield* endOf(session, other.job_id)).payload.result, null)

        const durable = yield* submit(session, "durable", { name: "a" })
        yield* endOf(session, durable.job_id)
        const whole = yield* fork(session, durable.job_id)
        yield* endOf(session, whole.job_id)
        assert.deepStrictEqual(ran, ["one", "two", "three", "one", "two", "three"])
      })
    )
  })

  it.scopedLive("is the same job under the same key, and refused for another step", () =>
    within([three([])], (session) =>
      Effect.gen(function* () {
        const first = yield* submit(session, "durable", { name: "a" })
        yield* endOf(session, first.job_id)
        const keyed = { idempotency_key: "k" }
        const forked = yield* fork(session, first.job_id, "two", keyed)
        yield* endOf(session, forked.job_id)
        assert.strictEqual((yield* fork(session, first.job_id, "two", keyed)).job_id, forked.job_id)
        assert.strictEqual((yield* fork(session, first.job_id, "three", keyed)).payload.code, "DUPLICATE_KEY")
      })
    )
  )
})

describe("a fork is refused", () => {
  const newer = Agent.handle(
    Agent.make("durable", { version: "2.0.0", default: true, durable: true, input: Input }),
    () => Effect.void
  )

  it.scopedLive(
    "by name: an unknown step, another agent or version, one that is not durable, more authority",
    () =>
      within([three([]), newer], (session) =>
        Effect.gen(function* () {
          const lease = { "fs.read": ["/src/**"] }
          const { job_id } = yield* submit(session, "durable@1.0.0", { name: "a" }, { lease_request: lease })
          yield* endOf(session, job_id)
          const plain = yield* submit(session, "echo")
          yield* endOf(session, plain.job_id)
          const refused = (jobId: unknown, at: unknown, more: Record<string, unknown> = {}) =>
            Effect.map(
              fork(session, jobId, at, { agent: "durable@1.0.0", ...more }),
              ({ payload }) => payload
            )

          const unknown = yield* refused(job_id, "four")
          assert.strictEqual(unknown.code, "INVALID_REQUEST")
          assert.strictEqual(unknown.details.reason, "unknown_step")
          assert.deepStrictEqual(unknown.details.keys, ["one", "two", "three"])
          assert.include(unknown.message, '"one", "two", "three"')

          const version = yield* refused(job_id, "two", { agent: "durable" })
          assert.strictEqual(version.details.reason, "agent_version")
          assert.include(version.message, "durable@1.0.0")
          assert.strictEqual((yield* refused(plain.job_id, "two")).details.reason, "agent")
          const notDurable = yield* refused(plain.job_id, "two", { agent: "echo" })
          assert.strictEqual(notDurable.details.reason, "not_durable")

          const wider = yield* refused(job_id, "two", { lease_request: { "fs.read": ["/**"] } })
          assert.strictEqual(wider.code, "LEASE_SUBSET_VIOLATION")
          assert.notInclude(wider.message, "delegat")
          // A budget is as it is asked for.
          const budgeted = yield* refused(job_id, "two", {
            lease_request: { ...lease, "cost.budget": ["USD:9"] }
          })
          assert.deepStrictEqual(budgeted.lease["cost.budget"], ["USD:9"])

          for (const [jobId, at] of [
            [7, "two"],
            [job_id, ""],
            [job_id, 3],
            [undefined, "two"]
          ])
            assert.strictEqual((yield* refused(jobId, at)).code, "INVALID_REQUEST")
          assert.strictEqual((yield* refused("job_00000000000000000000000000", "two")).code, "JOB_NOT_FOUND")

          const bob = yield* open(as("bob"))
          assert.strictEqual(
            (yield* fork(bob, job_id, "two", { agent: "durable@1.0.0" })).payload.code,
            "JOB_NOT_FOUND"
          )
        })
      )
  )

  it.scopedLive("to who may have less than the job had", () =>
    within([], (session) =>
      Effect.gen(function* () {
        const wide = yield* submit(session, "echo", {}, { lease_request: { "fs.read": ["/**"] } })
        yield* endOf(session, wide.job_id)
        const thin = yield* submit(session, "echo", 1, { lease_request: { "tool.call": ["search.web"] } })
        yield* endOf(session, thin.job_id)
        const weak = yield* open(as("narrow"))
        assert.deepStrictEqual(narrow.leaseCeiling, { "tool.call": ["search.*"] })
        const refused = yield* fork(weak, wide.job_id, undefined, { agent: "echo", lease_request: {} })
        assert.strictEqual(refused.payload.code, "PERMISSION_DENIED")
        const allowed = yield* fork(weak, thin.job_id, undefined, { agent: "echo" })
        assert.strictEqual((yield* endOf(weak, allowed.job_id)).payload.result, 1)
      })
    )
  )

  it.scopedLive("when the lease has ended, the input is not kept, or it is too much", () =>
    within(
      [three([])],
      (session) =>
        Effect.gen(function* () {
          const expires_at = new Date(Date.now() + 500).toISOString()
          const short = yield* submit(
            session,
            "durable",
            { name: "a" },
            { lease_constraints: { expires_at } }
          )
          yield* endOf(session, short.job_id)
          yield* Effect.sleep(Math.max(0, Date.parse(expires_at) - Date.now()) + 1)
          const late = yield* fork(session, short.job_id, "two")
          assert.strictEqual(late.payload.details.reason, "lease_expired")
          const fresh = { lease_constraints: { expires_at: new Date(Date.now() + 600_000).toISOString() } }
          assert.strictEqual((yield* fork(session, short.job_id, "one", fresh)).type, "job.accepted")
          const much = yield* fork(session, short.job_id, "three", fresh)
          assert.strictEqual(much.payload.details.limit, "fork_bytes")

          const { job_id } = yield* submit(session, "echo", 1)
          yield* endOf(session, job_id)
          const forgotten = yield* fork(session, job_id, undefined, { agent: "echo" })
          assert.strictEqual(forgotten.payload.details.reason, "input_unknown")
        }),
      { maxForkBytes: 24, storeInputs: false }
    )
  )

  it.scopedLive("while a job that it delegated to runs, or is gone; what it came to is taken over", () => {
    const begun: Array<unknown> = []
    const child = Agent.handle(
      Agent.make("child", { version: "1.0.0", durable: true, input: Schema.Unknown }),
      (n) =>
        Effect.suspend(() => {
          begun.push(n)
          return n === "long" ? Effect.never : Effect.succeed(`${n}!`)
        })
    )
    const parent = Agent.handle(Agent.make("durable", { version: "1.0.0", durable: true }), () =>
      Effect.gen(function* () {
        const job = yield* Job
        const short = yield* job.delegate("child", "short", { key: "short" })
        const said = yield* short.await
        const long = yield* job.delegate("child", "long", { key: "long" })
        yield* job.step("last", Effect.void)
        return [said, yield* long.await]
      }).pipe(Effect.orDie)
    )
    return within([parent, child], (session) =>
      Effect.gen(function* () {
        const lease = { lease_request: { "agent.delegate": ["*"] } }
        const { job_id } = yield* submit(session, "durable", {}, lease)
        yield* session.next(({ payload }) => payload.body?.key === "last" && payload.body.state === "ended")
        const refused = yield* fork(session, job_id, "last")
        assert.strictEqual(refused.payload.details.reason, "delegation_running")
        assert.deepStrictEqual(refused.payload.details.keys, ["long"])
        begun.length = 0
        const forked = yield* fork(session, job_id, "long")
        yield* session.next(
          (frame) =>
            frame.job_id === forked.job_id &&
            frame.payload.body?.key === "last" &&
            frame.payload.body.state === "ended"
        )
        assert.deepStrictEqual(begun, ["long"])
        // Of one that was cancelled with its parent there is an end to be had.
        yield* session.request("job.cancel", {}, { job_id })
        yield* endOf(session, job_id)
        assert.strictEqual((yield* fork(session, job_id, "last")).type, "job.accepted")
      })
    )
  })
})
