/** What becomes of an attached session whose token ends, protocol 4.1. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as AuthLayer from "../../../src/layers/auth/Auth.js"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import { all } from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Policy } from "../../../src/services/auth/Policy.js"
import { Job } from "../../../src/services/jobs/Job.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { boot, Disk } from "../../support/Rig.js"
import { connect, hello, open } from "../../support/Wire.js"

/** Says something every 10 s, and ends after so many. */
const ticking = Agent.handle(Agent.make("ticking", { version: "1.0.0" }), (times) =>
  Effect.gen(function* () {
    const job = yield* Job
    for (let i = 1; i <= Number(times); i++) {
      yield* Effect.sleep("10 seconds")
      yield* job.log("info", `tick ${i}`)
    }
    return "done"
  })
)

/** `short` ends after a minute; the clock of a test begins at 0. */
const auth = AuthLayer.layerStatic({
  short: { principal: "alice", expiresAt: 60_000 },
  long: "alice",
  bob: "bob"
})
const watchAll = Layer.effect(
  Policy,
  Effect.map(Policy, (service) => Policy.of({ ...service, maySubscribe: () => Effect.succeed(true) }))
).pipe(Layer.provide(PolicyLayer.layer()))

const renewal = [...all, "x-vendor.effect-arcp.renewal"]
const as = (token: string) => ({ auth: { scheme: "bearer", token } })
const settle = Effect.repeatN(eventLoop.next, 30)
/** Passes time in steps of five seconds. */
const pass = (seconds: number) =>
  Effect.forEach(
    Array.from({ length: Math.ceil(seconds / 5) }),
    () => Effect.zipRight(TestClock.adjust("5 seconds"), Effect.repeatN(eventLoop.next, 5)),
    { discard: true }
  )

const running = <A, E, R>(body: Effect.Effect<A, E, R>, options: RuntimeOptions.Input = {}) =>
  Effect.gen(function* () {
    const disk = yield* Disk.make
    const { run } = yield* boot([ticking], { disk, options, auth, policy: watchAll })
    return yield* run(body)
  })

const submit = (session: Effect.Effect.Success<ReturnType<typeof open>>, times: number) =>
  Effect.zipRight(
    session.request("job.submit", { agent: "ticking", input: times }),
    Effect.map(session.expect("job.accepted"), ({ payload }) => payload.job_id as string)
  )

describe("a token that ends", () => {
  it.scoped(
    "with renewal: the transport closes, the session is resumed with a fresh token, jobs run on",
    () =>
      running(
        Effect.gen(function* () {
          const session = yield* open(as("short"), renewal)
          assert.include(session.welcome.capabilities.features, "x-vendor.effect-arcp.renewal")
          const jobId = yield* submit(session, 12)
          yield* pass(65)
          const refusal = yield* session.expect("session.error")
          assert.strictEqual(refusal.payload.code, "UNAUTHENTICATED")
          assert.strictEqual((yield* session.closed).code, 4003)
          const from = {
            session_id: session.sessionId,
            resume_token: session.welcome.resume_token,
            last_event_seq: 0
          }
          const late = yield* connect
          yield* late.send("session.hello", hello({ ...as("short"), resume: from }, renewal))
          assert.strictEqual((yield* late.expect("session.error")).payload.code, "UNAUTHENTICATED")
          const again = yield* open({ ...as("long"), resume: from }, renewal)
          assert.strictEqual(again.sessionId, session.sessionId)
          yield* pass(65)
          const end = yield* again.expect("job.result")
          assert.deepStrictEqual([end.job_id, end.payload.result], [jobId, "done"])
          yield* submit(again, 1)
        })
      )
  )

  it.scoped("without: requests are refused, events of its own jobs go on, and then it closes", () =>
    running(
      Effect.gen(function* () {
        const other = yield* open(as("bob"))
        const foreign = yield* submit(other, 50)
        const session = yield* open(as("short"))
        const own = yield* submit(session, 10)
        yield* session.request("job.subscribe", { job_id: foreign })
        yield* session.expect("job.subscribed")
        yield* pass(55)
        yield* session.expect("job.event", (frame) => frame.job_id === foreign)
        yield* pass(10)
        for (const [type, payload] of [
          ["session.list_jobs", {}],
          ["job.cancel", { job_id: own }],
          ["job.subscribe", { job_id: foreign }]
        ] as const) {
          const id = yield* session.request(type, payload)
          const { payload: error } = yield* session.expect("session.error")
          assert.deepStrictEqual([error.code, error.details.request_id], ["UNAUTHENTICATED", id], type)
        }
        yield* session.request("job.submit", { agent: "ticking", input: 1 })
        assert.strictEqual((yield* session.expect("job.error")).payload.code, "UNAUTHENTICATED")
        yield* session.request("session.ping", { nonce: "x" })
        yield* session.expect("session.pong")
        const before = session.seen.length
        yield* pass(45)
        assert.strictEqual((yield* session.expect("job.result")).job_id, own)
        assert.strictEqual((yield* session.expect("session.error")).payload.code, "UNAUTHENTICATED")
        assert.strictEqual((yield* session.closed).code, 4003)
        assert.deepStrictEqual(
          session.seen.slice(before).filter((frame) => frame.job_id === foreign),
          []
        )
      })
    )
  )

  it.scoped("without: it closes after an hour, whatever still runs", () =>
    running(
      Effect.gen(function* () {
        const session = yield* open(as("short"))
        yield* submit(session, 1_000)
        yield* pass(60)
        yield* TestClock.adjust("59 minutes")
        yield* settle
        yield* session.request("session.ping", { nonce: "x" })
        yield* session.expect("session.pong")
        yield* TestClock.adjust("1 minute")
        yield* pass(5)
        assert.strictEqual((yield* session.closed).code, 4003)
      })
    )
  )

  it.scoped("with tokenExpiry close: the transport closes at once", () =>
    running(
      Effect.gen(function* () {
        const session = yield* open(as("short"))
        yield* submit(session, 10)
        yield* pass(55)
        yield* session.request("session.ping", { nonce: "x" })
        yield* session.expect("session.pong")
        yield* pass(10)
        assert.strictEqual((yield* session.expect("session.error")).payload.code, "UNAUTHENTICATED")
        assert.strictEqual((yield* session.closed).code, 4003)
      }),
      { tokenExpiry: "close" }
    )
  )
})
