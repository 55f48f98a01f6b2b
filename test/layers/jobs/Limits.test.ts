import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import { open } from "../../support/Wire.js"
import { agents, makeStore, pong, type Session, serve, submit } from "./support.js"

const options = { heartbeatInterval: "1 day", resumeWindow: "10 days" } as const

/** The test's clock, with a wall clock that is set wrong by so much (ms). Timers and nanoseconds go on as they were. */
const wrongBy = (offset: () => number) =>
  Effect.map(Effect.clock, (clock) => {
    const wrong: Partial<Clock.Clock> = {
      unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + offset(),
      currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + offset())
    }
    return new Proxy(clock, {
      get: (target, key) => {
        const value = Reflect.get(Object.hasOwn(wrong, key) ? wrong : target, key)
        return typeof value === "function" ? value.bind(target) : value
      }
    })
  })

const ended = (session: Session) => session.seen.some(({ type }) => type === "job.error")
const hour = 3_600_000

describe("a wall clock that jumps", () => {
  const jumping = (
    jump: number,
    more: Record<string, unknown>,
    after: (session: Session) => Effect.Effect<void>
  ) =>
    Effect.gen(function* () {
      let offset = 0
      const clock = yield* wrongBy(() => offset)
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "forever", {}, more)
        yield* session.expect("job.event")
        offset = jump
        yield* after(session)
      }).pipe(Effect.provide(serve(yield* makeStore, agents, options)), Effect.withClock(clock))
    })
  const passes = (session: Session, seconds: number) =>
    Effect.gen(function* () {
      yield* TestClock.adjust(seconds * 1000)
      yield* session.request("session.ping", { nonce: "n" })
      yield* session.expect("session.pong")
    })

  for (const jump of [hour, -hour])
    it.scoped(`by ${jump / hour} h does not change when max_runtime_sec ends a job`, () =>
      jumping(jump, { max_runtime_sec: 60 }, (session) =>
        Effect.gen(function* () {
          yield* passes(session, 59)
          assert.isFalse(ended(session))
          yield* TestClock.adjust("2 seconds")
          assert.strictEqual((yield* session.expect("job.error")).payload.final_status, "timed_out")
        })
      )
    )

  it.scoped("forward past expires_at ends the job, which is a point in time", () =>
    jumping(hour, { lease_constraints: { expires_at: "1970-01-01T00:30:00Z" } }, (session) =>
      Effect.gen(function* () {
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* session.expect("job.error")).payload.code, "LEASE_EXPIRED")
      })
    )
  )

  it.scoped("back keeps the job until the clock shows expires_at", () =>
    jumping(-hour, { lease_constraints: { expires_at: "1970-01-01T00:30:00Z" } }, (session) =>
      Effect.gen(function* () {
        yield* passes(session, 80 * 60)
        assert.isFalse(ended(session))
        yield* TestClock.adjust("11 minutes")
        assert.strictEqual((yield* session.expect("job.error")).payload.code, "LEASE_EXPIRED")
      })
    )
  )
})

describe("a lease", () => {
  for (const [name, outcome] of [
    ["returns", Effect.succeed("done")],
    ["fails", Effect.fail("refused")]
  ] as const)
    it.scoped(`is how a job ends whose handler ${name} after it, before any timer has said so`, () =>
      Effect.gen(function* () {
        let offset = 0
        const late = Agent.handle(
          Agent.make("late", {
            version: "1.0.0",
            input: Schema.Struct({}),
            output: Schema.String,
            error: Schema.String
          }),
          () =>
            Effect.suspend(() => {
              offset = 60_000
              return outcome
            })
        )
        yield* Effect.gen(function* () {
          const session = yield* open()
          yield* submit(session, "late", {}, { lease_constraints: { expires_at: "1970-01-01T00:01:00Z" } })
          assert.strictEqual((yield* session.expect("job.error")).payload.code, "LEASE_EXPIRED")
        }).pipe(
          Effect.provide(serve(yield* makeStore, [late], options)),
          Effect.withClock(yield* wrongBy(() => offset))
        )
      })
    )

  it.scoped("ends all that was delegated under it as itself, whichever timer comes first", () =>
    Effect.gen(function* () {
      const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
        Effect.gen(function* () {
          const job = yield* Job
          yield* Effect.all([job.delegate("forever", {}), job.delegate("forever", {})])
          yield* Effect.never
        }).pipe(Effect.orDie)
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(
          session,
          "parent",
          {},
          {
            lease_request: { "agent.delegate": ["*"] },
            lease_constraints: { expires_at: "1970-01-01T00:01:00Z" }
          }
        )
        for (let i = 0; i < 2; i++) yield* session.expect("job.event", (f) => f.payload.kind === "delegate")
        yield* pong(session)
        yield* TestClock.adjust("1 minute")
        yield* session.expect("job.error", (frame) => frame.job_id === job_id)
        const codes = session.seen
          .filter(({ type }) => type === "job.error")
          .map(({ payload }) => payload.code)
        assert.deepStrictEqual(codes, ["LEASE_EXPIRED", "LEASE_EXPIRED", "LEASE_EXPIRED"])
      }).pipe(Effect.provide(serve(yield* makeStore, [parent, ...agents], options)))
    })
  )

  it.scoped("is over at exactly expires_at, for an operation and for a submit", () =>
    Effect.gen(function* () {
      const asks = Agent.handle(
        Agent.make("asks", { version: "1.0.0", input: Schema.Number, output: Schema.String }),
        (at) =>
          Effect.gen(function* () {
            const lease = yield* Lease
            yield* Effect.uninterruptible(
              Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.sleep(at - now))
            )
            const exit = yield* Effect.exit(lease.authorize("tool.call", "x"))
            return Exit.isSuccess(exit) ? "allowed" : "refused"
          })
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const expires = {
          lease_request: { "tool.call": ["x"] },
          lease_constraints: { expires_at: "1970-01-01T00:01:00Z" }
        }
        yield* submit(session, "asks", 59_999, expires)
        yield* session.expect("job.event")
        yield* TestClock.adjust(59_999)
        assert.strictEqual((yield* session.expect("job.result")).payload.result, "allowed")
        yield* submit(session, "asks", 60_000, expires)
        yield* session.expect("job.event")
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* session.expect("job.error")).payload.code, "LEASE_EXPIRED")
        yield* session.request("job.submit", { agent: "asks", input: 1, ...expires })
        const refused = yield* session.expect("job.error")
        assert.strictEqual(refused.payload.code, "INVALID_REQUEST")
      }).pipe(Effect.provide(serve(yield* makeStore, [asks], options)))
    })
  )

  it.effect("refuses an operation at exactly expires_at, before anything else can end the job", () =>
    Effect.gen(function* () {
      const { make } = yield* Effect.promise(() => import("../../../src/layers/lease/Lease.js"))
      let now = 59_999
      const lease = make({
        record: {
          lease: { "tool.call": ["x"] },
          leaseConstraints: { expires_at: "1970-01-01T00:01:00Z" }
        } as never,
        log: { ended: false, exhausted: undefined } as never,
        now: () => now,
        workspace: undefined,
        fetching: { maxBytes: 1024 * 1024, timeout: Duration.minutes(1), traceHeaders: false },
        anyModel: false,
        toolResult: () => Effect.void,
        flush: Effect.void,
        spend: () => Effect.void,
        onExpired: () => {}
      })
      assert.strictEqual(lease.check("tool.call", "x")._tag, "Right")
      now = 60_000
      const verdict = lease.check("tool.call", "x")
      assert.strictEqual(verdict._tag === "Left" ? verdict.left._tag : "", "LeaseExpired")
    })
  )
})
