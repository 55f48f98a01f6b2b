/** Who owns a session, and until when: protocol 4.3, 4.5 and 4.8. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import { commitUnowned } from "../../../src/layers/store/unowned.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Policy } from "../../../src/services/auth/Policy.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Op } from "../../../src/services/store/Store.js"
import { boot, Disk } from "../../support/Rig.js"
import { connect, hello, open } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)
const agents = [echo, forever]

type Opened = Effect.Effect.Success<ReturnType<typeof open>>

const from = (session: Opened, last_event_seq = 0, resume_token = session.welcome.resume_token) => ({
  resume: { session_id: session.sessionId, resume_token, last_event_seq }
})

/** The answer to a hello that is refused, which no welcome came before. */
const refusal = (more: Record<string, unknown>) =>
  Effect.gen(function* () {
    const wire = yield* connect
    yield* wire.send("session.hello", hello(more))
    const error = yield* wire.next(() => true)
    assert.strictEqual(error.type, "session.error")
    yield* wire.closed
    return error.payload
  })

const alive = (session: Opened) =>
  Effect.gen(function* () {
    const id = yield* session.request("session.ping", { nonce: "alive" })
    return yield* Effect.as(session.expect("session.pong"), id)
  })

const submit = (session: Opened, agent: string) =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent, input: {} })
    return yield* session.expect("job.accepted", (frame) => frame.payload.request_id === id)
  })

const gone = (session: Opened) => Effect.zipRight(session.connection.close(1000, ""), settle)

/** Lets everything that is ready happen: real turns of the event loop. */
const settle = Effect.repeatN(eventLoop.next, 50)

const until = (holds: () => boolean) => Effect.repeat(eventLoop.next, { until: () => Effect.sync(holds) })

describe("a resume and the end of the old transport", () => {
  it.scoped("the old one ends while the resume is being stored: the session stays the new one's", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, options: { resumeWindow: "10 seconds" } })
      yield* run(
        Effect.gen(function* () {
          const first = yield* open()
          disk.mode = "hangs"
          const resuming = yield* Effect.fork(open(from(first)))
          yield* until(() => disk.hanging > 0)
          yield* gone(first)
          yield* disk.release()
          const second = yield* Fiber.join(resuming)
          yield* alive(second)
          for (let i = 0; i < 10; i++) yield* TestClock.adjust("5 seconds")
          yield* settle
          yield* submit(second, "echo")
          yield* second.expect("job.result")
          assert.isTrue((yield* disk.store.session(first.sessionId))?.attached)
        })
      )
    })
  )

  it.scoped(
    "the old one ends while the resume is being stored, and the resume fails: the window begins",
    () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const { run } = yield* boot(agents, { disk, options: { resumeWindow: "10 seconds" } })
        yield* run(
          Effect.gen(function* () {
            const first = yield* open()
            disk.mode = "hangs"
            const resuming = yield* Effect.fork(refusal(from(first)))
            yield* until(() => disk.hanging > 0)
            yield* gone(first)
            yield* disk.release("fails")
            assert.strictEqual((yield* Fiber.join(resuming)).code, "INTERNAL_ERROR")
            disk.mode = "works"
            yield* TestClock.adjust("9 seconds")
            yield* gone(yield* open(from(first)))
            for (let i = 0; i < 10; i++) yield* TestClock.adjust("2 seconds")
            yield* settle
            assert.isUndefined(yield* disk.store.session(first.sessionId))
          })
        )
      })
  )

  it.scoped(
    "two transports that resume one session at the same time: one after the other, the last has it",
    () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const { run } = yield* boot(agents, { disk })
        yield* run(
          Effect.gen(function* () {
            const first = yield* open()
            const [a, b] = yield* Effect.all([open(from(first)), open(from(first))], {
              concurrency: "unbounded"
            })
            assert.notStrictEqual(a.welcome.resume_token, b.welcome.resume_token)
            const ends = yield* Effect.raceFirst(
              Effect.as(a.closed, "a" as const),
              Effect.as(b.closed, "b" as const)
            )
            yield* alive(ends === "a" ? b : a)
          })
        )
      })
  )
})

describe("a hello that fails half-way", () => {
  it.scoped("a resume that cannot be stored leaves the session as it was", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, options: { maxSessionsPerPrincipal: 1 } })
      yield* run(
        Effect.gen(function* () {
          const first = yield* open()
          yield* gone(first)
          disk.mode = "fails"
          for (let i = 0; i < 3; i++) {
            const error = yield* refusal(from(first))
            assert.strictEqual(error.code, "INTERNAL_ERROR")
            assert.isTrue(error.retryable)
          }
          disk.mode = "works"
          yield* alive(yield* open(from(first)))
        })
      )
    })
  )

  it.scoped("a hello that cannot be stored uses up nothing of the cap", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, options: { maxSessionsPerPrincipal: 2 } })
      yield* run(
        Effect.gen(function* () {
          disk.mode = "fails"
          for (let i = 0; i < 5; i++) assert.strictEqual((yield* refusal({})).code, "INTERNAL_ERROR")
          disk.mode = "works"
          yield* alive(yield* open())
          yield* alive(yield* open())
        })
      )
    })
  )

  it.scoped("a policy that throws at hello is INTERNAL_ERROR, opens nothing, and resumes nothing", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      let throws = false
      const policy = Layer.map(PolicyLayer.layerSamePrincipal, (context) => context).pipe(
        Layer.flatMap(() =>
          Layer.succeed(Policy, {
            listable: (identity) => Effect.succeed([identity.principal]),
            maySubscribe: () => Effect.succeed(true),
            mayCancel: () => Effect.succeed(true),
            mayAnswer: () => Effect.succeed(true),
            mayUseAgent: () => {
              if (throws) throw new Error("the policy is broken")
              return Effect.succeed(true)
            }
          })
        )
      )
      const { run } = yield* boot(agents, { disk, policy, options: { maxSessionsPerPrincipal: 5 } })
      yield* run(
        Effect.gen(function* () {
          const first = yield* open()
          yield* gone(first)
          throws = true
          for (let i = 0; i < 6; i++) {
            assert.strictEqual((yield* refusal({})).code, "INTERNAL_ERROR")
            assert.strictEqual((yield* refusal(from(first))).code, "INTERNAL_ERROR")
          }
          throws = false
          yield* alive(yield* open(from(first)))
          for (let i = 0; i < 4; i++) yield* alive(yield* open())
        })
      )
    })
  )
})

describe("a principal at its session cap", () => {
  const options = { maxSessionsPerPrincipal: 2, resumeWindow: "10 minutes" } as const

  it.scoped("gets room by the session that is gone longest", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, options })
      yield* run(
        Effect.gen(function* () {
          const [a, b] = [yield* open(), yield* open()]
          assert.strictEqual((yield* refusal({})).details.limit, "sessions_per_principal")
          yield* gone(b)
          yield* TestClock.adjust("1 second")
          yield* gone(a)
          const c = yield* open()
          assert.strictEqual((yield* refusal(from(b))).code, "RESUME_WINDOW_EXPIRED")
          assert.isUndefined(yield* disk.store.session(b.sessionId))
          yield* alive(yield* open(from(a)))
          yield* alive(c)
        })
      )
    })
  )

  it.scoped("but never by one with a live job, also when the client has closed it", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, options })
      yield* run(
        Effect.gen(function* () {
          const [a, b] = [yield* open(), yield* open()]
          yield* submit(a, "forever")
          yield* a.request("session.close", {})
          yield* a.expect("session.closed")
          yield* a.closed
          yield* TestClock.adjust("1 second")
          yield* gone(b)
          const c = yield* open()
          assert.strictEqual((yield* refusal(from(b))).code, "RESUME_WINDOW_EXPIRED")
          yield* submit(c, "forever")
          yield* gone(c)
          assert.strictEqual((yield* refusal({})).details.limit, "sessions_per_principal")
          yield* alive(yield* open(from(a, 1)))
        })
      )
    })
  )
})

describe("the resume window", () => {
  it.scoped("is enforced at the resume, whenever the sweeper comes", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, options: { resumeWindow: "200 seconds" } })
      yield* run(
        Effect.gen(function* () {
          const earlier = yield* open()
          const first = yield* open()
          yield* gone(earlier)
          yield* TestClock.adjust("5 seconds")
          yield* gone(first)
          // The sweeper comes at 200 s, for the earlier one, and not again before 230 s.
          for (let i = 0; i < 40; i++) yield* TestClock.adjust("5 seconds")
          yield* TestClock.adjust("3 seconds")
          yield* settle
          assert.isUndefined(yield* disk.store.session(earlier.sessionId))
          assert.isDefined(yield* disk.store.session(first.sessionId))
          assert.strictEqual((yield* refusal(from(first))).code, "RESUME_WINDOW_EXPIRED")
          yield* TestClock.adjust("25 seconds")
          yield* settle
          assert.isUndefined(yield* disk.store.session(first.sessionId))
        })
      )
    })
  )

  it.scoped("after a crash counts from the death of the process, not from the last message", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const options = { resumeWindow: "60 seconds" } as const
      const first = yield* Effect.gen(function* () {
        const { run, kill } = yield* boot(agents, { disk, options })
        const first = yield* run(open())
        // Attached, and silent, for much longer than the window.
        for (let i = 0; i < 120; i++) {
          yield* TestClock.adjust("2500 millis")
          yield* settle
        }
        yield* kill
        return first
      }).pipe(Effect.scoped)
      yield* TestClock.adjust("58 seconds")
      const { run } = yield* boot(agents, { disk, options })
      yield* run(Effect.flatMap(open(from(first)), alive))
    })
  )

  it.scoped("after a crash ends, at the resume and in the store", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const options = { resumeWindow: "60 seconds" } as const
      const first = yield* Effect.gen(function* () {
        const { run, kill } = yield* boot(agents, { disk, options })
        const first = yield* run(open())
        yield* kill
        return first
      }).pipe(Effect.scoped)
      yield* TestClock.adjust("40 seconds")
      const { run } = yield* boot(agents, { disk, options })
      // The process may have lived on for a quarter of the window before it said so again.
      yield* TestClock.adjust("36 seconds")
      assert.strictEqual((yield* run(refusal(from(first)))).code, "RESUME_WINDOW_EXPIRED")
      yield* TestClock.adjust("20 seconds")
      yield* settle
      assert.isUndefined(yield* disk.store.session(first.sessionId))
    })
  )
})

describe("resume positions and acknowledgements", () => {
  it.scoped("the newest is taken, the one after it is refused without a welcome", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk })
      yield* run(
        Effect.gen(function* () {
          const first = yield* open()
          yield* submit(first, "echo")
          const last = (yield* first.expect("job.result")).event_seq as number
          assert.strictEqual((yield* refusal(from(first, last + 1))).code, "INVALID_REQUEST")
          const second = yield* open(from(first, last))
          yield* alive(second)
          assert.deepStrictEqual(
            second.seen.map(({ type }) => type),
            ["session.welcome", "session.pong"]
          )
        })
      )
    })
  )

  it.scoped("one that is no longer retained is refused without a welcome; the session has what is left", () =>
    Effect.gen(function* () {
      const count = Agent.handle(Agent.make("count", { version: "1.0.0" }), () =>
        Effect.flatMap(Job, (job) => Effect.repeatN(job.log("info", "x"), 350))
      )
      const disk = yield* Disk.make
      const options = { maxRetainedEvents: 64, backPressureLag: 100_000 }
      const { run } = yield* boot([count], { disk, options })
      yield* run(
        Effect.gen(function* () {
          const first = yield* open()
          for (let i = 0; i < 2; i++) {
            yield* submit(first, "count")
            const end = yield* first.expect("job.result")
            yield* first.request("session.ack", { last_processed_seq: end.event_seq })
          }
          yield* gone(first)
          // Until the retention has done all that it has to.
          const view = yield* Effect.repeat(
            Effect.zipRight(TestClock.adjust("1 second"), disk.store.view(first.sessionId)),
            { until: (view) => view.last - view.first < 64, times: 200 }
          )
          assert.strictEqual(view.last, 706)
          assert.isAbove(view.first, 706 - 64)
          assert.strictEqual((yield* refusal(from(first))).code, "RESUME_WINDOW_EXPIRED")
          assert.strictEqual((yield* refusal(from(first, view.first - 2))).code, "RESUME_WINDOW_EXPIRED")
          const second = yield* open(from(first, view.first - 1))
          const next = yield* second.next((frame) => frame.event_seq !== undefined)
          assert.strictEqual(next.event_seq, view.first)
          // A resume that is refused supersedes nobody.
          assert.strictEqual((yield* refusal(from(second))).code, "RESUME_WINDOW_EXPIRED")
          yield* alive(second)
        })
      )
    })
  )

  it.scoped("an acknowledgement goes up only, and outlives the process", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          yield* submit(session, "echo")
          yield* session.expect("job.result")
          const acked = Effect.map(disk.store.session(session.sessionId), (record) => record?.acked)
          for (const last_processed_seq of [2, 1]) {
            yield* session.request("session.ack", { last_processed_seq })
            yield* alive(session)
            yield* TestClock.adjust("31 seconds")
            yield* settle
            assert.strictEqual(yield* acked, 2)
          }
          yield* gone(session)
          assert.strictEqual(yield* acked, 2)
        })
      )
    })
  )
})

describe("a session that another process takes", () => {
  it.scoped(
    "its transport is closed as superseded with the next event, its job goes on, and its record stays",
    () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const { run } = yield* boot(agents, { disk })
        yield* run(
          Effect.gen(function* () {
            const session = yield* open({}, [])
            const { job_id } = yield* submit(session, "forever")
            const record = yield* disk.store.session(session.sessionId)
            assert.isDefined(record)
            if (record !== undefined)
              yield* commitUnowned(disk.store, [Op.PutSession({ session: { ...record, epoch: 2 } })])
            yield* session.request("job.submit", { agent: "echo", input: {} })
            assert.strictEqual((yield* session.closed).code, 4001)
            yield* settle
            assert.strictEqual((yield* disk.store.session(session.sessionId))?.epoch, 2)
            assert.strictEqual((yield* disk.store.job(String(job_id)))?.status, "running")
          })
        )
      })
  )
})
