/** Leases, budgets and delegation through a whole runtime, over a store that waits for its commits and one that does not. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as RuntimeSqlite from "../../../src/layers/runtime/RuntimeSqlite.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import { agents as conformance } from "../../../src/programs/agents/conformance.js"
import { type ArcpError, BudgetExhausted } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import type { RuntimeOptions } from "../../../src/services/runtime/RuntimeOptions.js"
import type { Sessions } from "../../../src/services/session/Sessions.js"
import type { Dialer } from "../../../src/services/transport/Transport.js"
import { type Frame, open } from "../../support/Wire.js"

class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

const Double = Agent.make("double", {
  version: "1.0.0",
  input: Schema.NumberFromString,
  output: Schema.NumberFromString,
  error: Refused
})
const double = Agent.handle(Double, (n) => (n < 0 ? new Refused({ why: "negative" }) : Effect.succeed(2 * n)))
/** Delegates by contract, and says what came of it. */
const typed = Agent.handle(Agent.make("typed", { version: "1.0.0", input: Schema.Number }), (n) =>
  Effect.gen(function* () {
    const job = yield* Job
    const child = yield* job.delegate(Double, n)
    const events = yield* Stream.runCollect(child.events)
    const outcome = yield* Effect.either(child.await)
    return {
      result: Either.getOrUndefined(outcome),
      refused: Either.isLeft(outcome) && outcome.left instanceof Refused ? outcome.left.why : undefined,
      kinds: Chunk.toReadonlyArray(events).map((event) => event.kind)
    }
  })
)
/** Tries to give itself more than it was given. */
const greedy = Agent.handle(Agent.make("greedy", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const lease = yield* Lease
    const code = <A>(effect: Effect.Effect<A, ArcpError>) =>
      Effect.match(effect, { onFailure: (error) => error.code, onSuccess: () => "allowed" })
    const evil = "https://evil.example/"
    for (const terms of [job.lease, lease.terms] as unknown as ReadonlyArray<Record<string, Array<string>>>) {
      yield* Effect.ignore(Effect.try(() => terms["net.fetch"]?.push("**")))
      yield* Effect.ignore(
        Effect.try(() => {
          terms["net.fetch"] = ["**"]
        })
      )
    }
    const own = yield* code(lease.authorize("net.fetch", evil))
    // Narrow while it is looked at, wide afterwards.
    const wanted: Record<string, Array<string>> = { "net.fetch": ["https://a.example/x"] }
    const child = yield* job.delegate("fetch", { url: evil }, { lease: wanted })
    wanted["net.fetch"] = ["**"]
    const theirs = yield* code(child.await)
    const wide = yield* code(job.delegate("fetch", { url: evil }, { lease: wanted }))
    return [own, theirs, wide]
  })
)
const later = Agent.handle(Agent.make("later", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    yield* job.log("info", "ready")
    yield* Effect.sleep("1 second")
    return yield* Effect.orDie((yield* job.delegate(Double, 1)).await)
  })
)
/** Streams its result; `gather` delegates to it and takes the result whole. */
const letters = Agent.handle(Agent.make("letters", { version: "1.0.0" }), () =>
  Effect.flatMap(Job, (job) => job.streamResult(Stream.make("ab", "cd")))
)
const gather = Agent.handle(Agent.make("gather", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    return yield* (yield* job.delegate("letters", null)).await
  })
)
/** Starts children that never end, and returns, or waits with them. */
const brood = Agent.handle(
  Agent.make("brood", {
    version: "1.0.0",
    input: Schema.Struct({
      children: Schema.Int,
      wait: Schema.Boolean,
      depth: Schema.optionalWith(Schema.Int, { default: () => 1 })
    })
  }),
  ({ children, wait, depth }) =>
    Effect.gen(function* () {
      const job = yield* Job
      const started = yield* Effect.forEach(Array.from({ length: children }), () =>
        depth > 1
          ? job.delegate(
              "brood",
              { children, wait: true, depth: depth - 1 },
              { lease: { "agent.delegate": ["*"] } }
            )
          : job.delegate("forever", null)
      )
      if (wait) yield* Effect.forEach(started, (child) => child.await, { concurrency: "unbounded" })
      return started.length
    })
)
const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    return yield* Effect.never.pipe(Effect.onInterrupt(() => Effect.ignore(job.log("info", "cleanup"))))
  })
)
/** Returns once its child cannot be interrupted any more. */
const clinging = Agent.handle(Agent.make("clinging", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const child = yield* job.delegate("hold", null)
    yield* child.events.pipe(
      Stream.filter((event) => event.kind === "log"),
      Stream.runHead
    )
    return "left"
  })
)
const hold = Agent.handle(Agent.make("hold", { version: "1.0.0" }), () =>
  Effect.flatMap(Job, (job) => Effect.zipRight(job.log("info", "holding"), Effect.never)).pipe(
    Effect.uninterruptible
  )
)
/** Spends in `workers` fibers at once until refused; every operation costs 1. */
const crowd = Agent.handle(
  Agent.make("crowd", {
    version: "1.0.0",
    input: Schema.Struct({ workers: Schema.Int, children: Schema.Int })
  }),
  ({ workers, children }) =>
    Effect.gen(function* () {
      const job = yield* Job
      const lease = yield* Lease
      const started = yield* Effect.forEach(Array.from({ length: children }), () =>
        job.delegate("crowd", { workers, children: 0 }, { lease: { "tool.call": ["*"] } })
      )
      const worker: Effect.Effect<number> = Effect.gen(function* () {
        let done = 0
        for (;;) {
          const allowed = yield* Effect.either(lease.authorize("tool.call", "t"))
          if (allowed._tag === "Left") {
            assert.instanceOf(allowed.left, BudgetExhausted)
            return done
          }
          yield* Effect.yieldNow()
          yield* Effect.orDie(lease.spend({ amount: 1, currency: "c" }))
          done++
        }
      })
      const own = yield* Effect.forEach(Array.from({ length: workers }), () => worker, {
        concurrency: "unbounded"
      })
      const theirs = yield* Effect.forEach(started, (child) => child.await)
      return [...own, ...(theirs as ReadonlyArray<number>)].reduce((a, b) => a + b, 0)
    })
)
const agents = [
  ...conformance,
  double,
  typed,
  greedy,
  later,
  letters,
  gather,
  brood,
  forever,
  clinging,
  hold,
  crowd
] as const

const serve = <E, R>(runtime: Layer.Layer<Sessions | RuntimeOptions, E, R>) =>
  Runtime.serve().pipe(
    Layer.provideMerge(TransportMemory.layer()),
    Layer.provide(runtime),
    Layer.provide(Registry.layer(agents)),
    Layer.provide(NodeFileSystem.layer),
    Layer.provide(
      Auth.layerStatic({
        alice: "alice",
        bob: "bob",
        limited: {
          principal: "limited",
          leaseCeiling: { "fs.read": ["/work/**"], "tool.call": ["demo.*"], "cost.budget": ["USD:2"] }
        }
      })
    )
  )

const options = { shutdownGrace: "0 millis", cancelGrace: "1000 millis" } as const

type Session = Effect.Effect.Success<ReturnType<typeof open>>

const submit = (session: Session, agent: string, input: unknown, more: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent, input, ...more })
    return yield* session.expect("job.accepted", (frame) => frame.payload.request_id === id)
  })

/** The job's frames up to its end. */
const finish = (session: Session, jobId: string | undefined) =>
  Effect.gen(function* () {
    const isEnd = (frame: Frame) =>
      frame.job_id === jobId && (frame.type === "job.result" || frame.type === "job.error")
    const end = session.seen.find(isEnd) ?? (yield* session.next(isEnd))
    return { end, frames: session.seen.filter((frame) => frame.job_id === jobId) }
  })

const metrics = (frames: ReadonlyArray<Frame>, name: string) =>
  frames.filter((frame) => frame.payload.kind === "metric" && frame.payload.body.name === name)

const suite = <E>(name: string, layer: () => Layer.Layer<Dialer, E>) => {
  const test = (
    title: string,
    body: (session: Session) => Effect.Effect<void, unknown, Scope.Scope | Dialer>
  ) =>
    it.scoped(title, () =>
      Effect.flatMap(Effect.orDie(open()), (session) => body(session)).pipe(Effect.provide(layer()))
    )

  describe(`authority on ${name}`, () => {
    test("counts costs exactly, reports them, and refuses when nothing is left", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(
          session,
          "spend",
          { amount: "0.1", times: 12 },
          { lease_request: { "tool.call": ["demo.*"], "cost.budget": ["USD:0.60", "USD:0.40"] } }
        )
        assert.deepStrictEqual(job.payload.budget, { USD: 1 })
        const { end, frames } = yield* finish(session, job.job_id)
        assert.deepStrictEqual(end.payload.result, { spent: 10, denied: 2 })
        assert.strictEqual(metrics(frames, "cost.demo").length, 10)
        assert.deepStrictEqual(
          metrics(frames, "cost.budget.remaining").map((frame) => frame.payload.body.value),
          [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0]
        )
        const refusals = frames.filter((frame) => frame.payload.body?.error !== undefined)
        assert.deepStrictEqual(
          refusals.map((frame) => [frame.payload.body.error.code, frame.payload.body.error.retryable]),
          [
            ["BUDGET_EXHAUSTED", false],
            ["BUDGET_EXHAUSTED", false]
          ]
        )
        yield* session.request("job.subscribe", { job_id: job.job_id })
        const subscribed = yield* session.expect("job.subscribed")
        assert.deepStrictEqual(subscribed.payload.budget, { USD: 0 })
      }))

    test("reports at steps of five per cent only, and counts only its currency", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(
          session,
          "spend",
          { amount: "0.02", times: 7 },
          { lease_request: { "tool.call": ["*"], "cost.budget": ["USD:1", "credits:3"] } }
        )
        const { frames } = yield* finish(session, job.job_id)
        assert.deepStrictEqual(
          metrics(frames, "cost.budget.remaining").map((frame) => [
            frame.payload.body.value,
            frame.payload.body.unit
          ]),
          [
            [0.94, "USD"],
            [0.88, "USD"]
          ]
        )
        yield* session.request("job.subscribe", { job_id: job.job_id })
        assert.deepStrictEqual((yield* session.expect("job.subscribed")).payload.budget, {
          USD: 0.86,
          credits: 3
        })
      }))

    test("a negative cost fails and changes nothing", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(
          session,
          "spend",
          { amount: "-1", times: 1 },
          { lease_request: { "tool.call": ["*"], "cost.budget": ["USD:1"] } }
        )
        const { end, frames } = yield* finish(session, job.job_id)
        assert.strictEqual(end.payload.code, "INVALID_REQUEST")
        assert.strictEqual(metrics(frames, "cost.demo").length, 0)
        yield* session.request("job.subscribe", { job_id: job.job_id })
        assert.deepStrictEqual((yield* session.expect("job.subscribed")).payload.budget, { USD: 1 })
      }))

    test("a tree that spends at once never overspends by more than what was in flight", (session) =>
      Effect.gen(function* () {
        const workers = 7
        const children = 5
        const job = yield* submit(
          session,
          "crowd",
          { workers, children },
          { lease_request: { "tool.call": ["*"], "agent.delegate": ["crowd"], "cost.budget": ["c:200"] } }
        )
        const { end } = yield* finish(session, job.job_id)
        const spent = end.payload.result
        assert.isAtLeast(spent, 200)
        assert.isAtMost(spent, 200 + workers * (children + 1) - 1)
        yield* session.request("job.subscribe", { job_id: job.job_id })
        const { budget } = (yield* session.expect("job.subscribed")).payload
        assert.strictEqual(budget.c, 200 - spent)
        const total = session.seen
          .filter((frame) => frame.payload.body?.name === "cost.other")
          .map((frame) => BigDecimal.unsafeFromNumber(frame.payload.body.value))
        assert.strictEqual(BigDecimal.format(BigDecimal.sumAll(total)), String(spent))
      }))

    test("delegates by contract: decoded result, typed failure, events of the child", (session) =>
      Effect.gen(function* () {
        const lease_request = { "agent.delegate": ["double"] }
        const good = yield* submit(session, "typed", 21, { lease_request })
        const first = yield* finish(session, good.job_id)
        assert.deepStrictEqual(first.end.payload.result, { result: 42, kinds: ["status"] })
        const accepted = session.seen.find((frame) => frame.payload.parent_job_id === good.job_id)
        assert.isDefined(accepted)
        assert.strictEqual(accepted?.trace_id, good.trace_id)
        assert.isUndefined(accepted?.payload.request_id)
        const delegated = first.frames.find((frame) => frame.payload.kind === "delegate")
        assert.strictEqual(delegated?.payload.body.delegate_id, accepted?.payload.delegate_id)
        assert.strictEqual(delegated?.payload.body.input, "21")
        const bad = yield* submit(session, "typed", -1, { lease_request })
        const second = yield* finish(session, bad.job_id)
        assert.strictEqual(second.end.payload.result.refused, "negative")
      }))

    test("a child accepted while nobody was connected is announced where it belongs", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(session, "later", null, { lease_request: { "agent.delegate": ["double"] } })
        yield* session.expect("job.event", (frame) => frame.payload.body?.message === "ready")
        const seq = session.seen[session.seen.length - 1]?.event_seq
        yield* session.connection.close(1000, "gone")
        yield* TestClock.adjust("1 second")
        const resumed = yield* open({
          resume: {
            session_id: session.sessionId,
            resume_token: session.welcome.resume_token,
            last_event_seq: seq
          }
        })
        yield* resumed.next((frame) => frame.type === "job.result" && frame.job_id === job.job_id)
        const order = resumed.seen.filter((frame) => frame.type.startsWith("job."))
        assert.deepStrictEqual(
          order.map((frame) => [frame.type, frame.payload.kind, frame.job_id === job.job_id]),
          [
            ["job.event", "delegate", true],
            ["job.accepted", undefined, false],
            ["job.event", "status", false],
            ["job.result", undefined, false],
            ["job.result", undefined, true]
          ]
        )
      }))

    test("takes a child's streamed result whole", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(session, "gather", null, {
          lease_request: { "agent.delegate": ["letters"] }
        })
        assert.strictEqual((yield* finish(session, job.job_id)).end.payload.result, "abcd")
      }))

    test("refuses a child that would get more, and the parent goes on", (session) =>
      Effect.gen(function* () {
        const mine = {
          "agent.delegate": ["echo", "spend"],
          "fs.read": ["/work/**"],
          "cost.budget": ["USD:1"]
        }
        const cases: ReadonlyArray<readonly [Record<string, unknown>, string]> = [
          [{ agent: "echo", input: 1, lease_request: { "fs.read": ["/**"] } }, "LEASE_SUBSET_VIOLATION"],
          [{ agent: "echo", input: 1, lease_request: { "fs.write": ["/work/a"] } }, "LEASE_SUBSET_VIOLATION"],
          [
            { agent: "echo", input: 1, lease_request: { "cost.budget": ["USD:2"] } },
            "LEASE_SUBSET_VIOLATION"
          ],
          [
            {
              agent: "echo",
              input: 1,
              lease_request: {},
              lease_constraints: { expires_at: "1970-01-01T01:00:00Z" }
            },
            "LEASE_SUBSET_VIOLATION"
          ],
          [{ agent: "sleep", input: { ms: 1 } }, "PERMISSION_DENIED"],
          [{ agent: "spend", input: {} }, "INVALID_REQUEST"],
          [{ agent: "echo@9", input: 1 }, "AGENT_VERSION_NOT_AVAILABLE"]
        ]
        for (const [input, code] of cases) {
          const job = yield* submit(session, "delegate", input, {
            lease_request: mine,
            lease_constraints: { expires_at: "1970-01-01T00:30:00Z" }
          })
          const { end, frames } = yield* finish(session, job.job_id)
          assert.deepStrictEqual(end.payload.result, { error: code })
          const delegated = frames.find((frame) => frame.payload.kind === "delegate")
          const refusal = frames.find((frame) => frame.payload.kind === "tool_result")
          assert.strictEqual(refusal?.payload.body.call_id, delegated?.payload.body.delegate_id)
          assert.strictEqual(refusal?.payload.body.error.code, code)
        }
        const job = yield* submit(
          session,
          "delegate",
          { agent: "echo", input: 7, lease_request: { "fs.read": ["/work/a/**"], "cost.budget": ["USD:1"] } },
          { lease_request: mine, lease_constraints: { expires_at: "1970-01-01T00:30:00Z" } }
        )
        assert.deepStrictEqual((yield* finish(session, job.job_id)).end.payload.result, { child: 7 })
        const child = session.seen.find((frame) => frame.payload.parent_job_id === job.job_id)
        assert.deepStrictEqual(child?.payload.lease_constraints, { expires_at: "1970-01-01T00:30:00Z" })
        assert.deepStrictEqual(child?.payload.budget, { USD: 1 })
      }))

    test("a child's cost counts against its ancestors, which say so", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(
          session,
          "delegate",
          {
            agent: "spend",
            input: { amount: "0.25", times: 4 },
            lease_request: { "tool.call": ["demo.tool"], "cost.budget": ["USD:0.5"] }
          },
          {
            lease_request: {
              "agent.delegate": ["spend"],
              "tool.call": ["demo.tool"],
              "cost.budget": ["USD:1"]
            }
          }
        )
        const { end, frames } = yield* finish(session, job.job_id)
        assert.deepStrictEqual(end.payload.result, { child: { spent: 2, denied: 2 } })
        assert.deepStrictEqual(
          metrics(frames, "cost.budget.remaining").map((frame) => frame.payload.body.value),
          [0.75, 0.5]
        )
      }))

    test("cancel ends children before their parents", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(
          session,
          "brood",
          { children: 2, wait: true, depth: 3 },
          { lease_request: { "agent.delegate": ["*"] } }
        )
        for (let i = 0; i < 14; i++)
          yield* session.expect(
            "job.event",
            (frame) => frame.payload.body.phase === "running" && frame.job_id !== job.job_id
          )
        yield* session.send("job.cancel", {}, { session_id: session.sessionId, job_id: job.job_id })
        const { end } = yield* finish(session, job.job_id)
        assert.strictEqual(end.payload.final_status, "cancelled")
        const parents = new Map(
          session.seen
            .filter((frame) => frame.type === "job.accepted")
            .map((frame) => [frame.job_id, frame.payload.parent_job_id])
        )
        assert.strictEqual(parents.size, 15)
        const ended = session.seen.filter((frame) => frame.type === "job.error").map((frame) => frame.job_id)
        assert.strictEqual(ended.length, 15)
        for (const [child, parent] of parents)
          if (parent !== undefined) assert.isBelow(ended.indexOf(child), ended.indexOf(parent))
        assert.strictEqual(
          session.seen.filter((frame) => frame.payload.body?.message === "cleanup").length,
          8
        )
      }))

    test("children end with a parent that returns", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(
          session,
          "brood",
          { children: 2, wait: false },
          { lease_request: { "agent.delegate": ["forever"] } }
        )
        const { end } = yield* finish(session, job.job_id)
        assert.strictEqual(end.payload.result, 2)
        const ends = session.seen.filter((frame) => frame.type === "job.error" || frame.type === "job.result")
        assert.deepStrictEqual(
          ends.map((frame) => frame.payload.final_status),
          ["cancelled", "cancelled", "success"]
        )
      }))

    test("a child that does not stop holds its parent for the grace at most", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(session, "clinging", null, {
          lease_request: { "agent.delegate": ["hold"] }
        })
        yield* session.expect("job.event", (frame) => frame.payload.body.message === "holding")
        yield* TestClock.adjust(1_000)
        const { end } = yield* finish(session, job.job_id)
        assert.strictEqual(end.payload.result, "left")
        const child = session.seen.find((frame) => frame.type === "job.error")
        assert.isBelow(child?.event_seq as number, end.event_seq as number)
      }))

    test("a cancel counts while only children are waited for", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(session, "clinging", null, {
          lease_request: { "agent.delegate": ["hold"] }
        })
        yield* session.expect("job.event", (frame) => frame.payload.body.message === "holding")
        // The handler returns; its child does not stop.
        yield* TestClock.adjust(500)
        yield* session.send("job.cancel", {}, { session_id: session.sessionId, job_id: job.job_id })
        yield* session.expect("job.cancelled")
        yield* TestClock.adjust(500)
        const { end } = yield* finish(session, job.job_id)
        assert.strictEqual(end.payload.final_status, "cancelled")
        assert.strictEqual(session.seen.filter((frame) => frame.type === "job.error").length, 2)
      }))

    test("caps the depth of delegation, and says which limit it was", (session) =>
      Effect.gen(function* () {
        const nested = (levels: number): Record<string, unknown> =>
          levels === 0
            ? { agent: "echo", input: "bottom" }
            : { agent: "delegate", input: nested(levels - 1), lease_request: { "agent.delegate": ["**"] } }
        const lease_request = { "agent.delegate": ["**"] }
        const fits = yield* submit(session, "delegate", nested(15), { lease_request })
        assert.match(JSON.stringify((yield* finish(session, fits.job_id)).end.payload.result), /bottom/)
        const deep = yield* submit(session, "delegate", nested(16), { lease_request })
        assert.match(
          JSON.stringify((yield* finish(session, deep.job_id)).end.payload.result),
          /INTERNAL_ERROR/
        )
        const refusal = session.seen.find((frame) => frame.payload.body?.error?.details?.limit !== undefined)
        assert.strictEqual(refusal?.payload.body.error.details.limit, "delegation_depth")
      }))

    test("caps the children of one job", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(
          session,
          "brood",
          { children: 101, wait: false },
          { lease_request: { "agent.delegate": ["forever"] } }
        )
        const { end } = yield* finish(session, job.job_id)
        assert.strictEqual(end.payload.code, "INTERNAL_ERROR")
        assert.strictEqual(end.payload.details.limit, "children_per_job")
      }))

    it.scoped("reduces a lease to the identity's ceiling, and imposes its budget", () =>
      Effect.gen(function* () {
        const session = yield* open({ auth: { scheme: "bearer", token: "limited" } })
        const job = yield* submit(
          session,
          "spend",
          { amount: "1", times: 3 },
          {
            lease_request: {
              "fs.read": ["/**", "/etc/a"],
              "fs.write": ["/work/a"],
              "tool.call": ["demo.tool"]
            }
          }
        )
        assert.deepStrictEqual(job.payload.lease, {
          "fs.read": ["/work/**"],
          "fs.write": [],
          "tool.call": ["demo.tool"],
          "cost.budget": ["USD:2"]
        })
        assert.deepStrictEqual((yield* finish(session, job.job_id)).end.payload.result, {
          spent: 2,
          denied: 1
        })
      }).pipe(Effect.provide(layer()))
    )

    test("a handler cannot change its lease, nor a child's after it was checked", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(session, "greedy", null, {
          lease_request: { "agent.delegate": ["fetch"], "net.fetch": ["https://a.example/**"] }
        })
        const { end } = yield* finish(session, job.job_id)
        assert.deepStrictEqual(end.payload.result, [
          "PERMISSION_DENIED",
          "PERMISSION_DENIED",
          "LEASE_SUBSET_VIOLATION"
        ])
      }))

    test("expiry comes before budget, budget before pattern", (session) =>
      Effect.gen(function* () {
        const empty = yield* submit(
          session,
          "fetch",
          { url: "https://a.example/" },
          { lease_request: { "cost.budget": ["USD:0"] } }
        )
        assert.strictEqual((yield* finish(session, empty.job_id)).end.payload.code, "BUDGET_EXHAUSTED")
        const denied = yield* submit(session, "fetch", { url: "https://a.example/" }, { lease_request: {} })
        const { end, frames } = yield* finish(session, denied.job_id)
        assert.strictEqual(end.payload.code, "PERMISSION_DENIED")
        assert.isTrue(frames.some((frame) => frame.payload.body?.error?.code === "PERMISSION_DENIED"))
        const allowed = yield* submit(
          session,
          "fetch",
          { url: "HTTPS://A.example:443/x/../y" },
          { lease_request: { "net.fetch": ["https://a.example/*"] } }
        )
        assert.deepStrictEqual((yield* finish(session, allowed.job_id)).end.payload.result, {
          url: "https://a.example/y"
        })
      }))

    test("an expired lease interrupts the job and its children", (session) =>
      Effect.gen(function* () {
        const job = yield* submit(
          session,
          "brood",
          { children: 1, wait: true },
          {
            lease_request: { "agent.delegate": ["*"] },
            lease_constraints: { expires_at: "1970-01-01T00:00:10Z" }
          }
        )
        yield* session.expect("job.event", (frame) => frame.job_id !== job.job_id)
        yield* TestClock.adjust("10 seconds")
        const { end } = yield* finish(session, job.job_id)
        assert.strictEqual(end.payload.code, "LEASE_EXPIRED")
        assert.isFalse(end.payload.retryable)
        assert.strictEqual(session.seen.filter((frame) => frame.type === "job.error").length, 2)
      }))
  })
}

suite("memory", () => serve(Runtime.layerMemory({ options })))
suite("SQLite", () =>
  Layer.unwrapScoped(
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const directory = yield* files.makeTempDirectoryScoped({ prefix: "arcp-authority-" })
      return serve(RuntimeSqlite.layer({ filename: `${directory}/arcp.db` }, { options }))
    })
  ).pipe(Layer.provide(NodeFileSystem.layer)))
