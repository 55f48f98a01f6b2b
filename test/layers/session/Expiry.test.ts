/** What becomes of an attached session whose token ends, protocol 4.1. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as Ownership from "../../../src/layers/jobs/Ownership.js"
import * as Expiry from "../../../src/layers/session/Expiry.js"
import { Outbox } from "../../../src/layers/session/Outbox.js"
import { encode } from "../../../src/protocol/Codec.js"
import type { ArcpError } from "../../../src/protocol/Errors.js"
import { all } from "../../../src/protocol/Features.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { connect, hello, open } from "../../support/Wire.js"
import { as, from, pass, renewal, running, settle, submit } from "./expiring.js"

describe("a token that ends", () => {
  it.scoped(
    "with renewal: the transport closes, the session is resumed with a fresh token, jobs run on",
    () =>
      running(() =>
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
    running(() =>
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
    running(() =>
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
      () =>
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

describe("a token that ends: a submit that comes again", () => {
  it.scoped("is refused as any other, and answered as before when the token is fresh", () =>
    running(() =>
      Effect.gen(function* () {
        const session = yield* open(as("short"))
        const { sessionId: session_id } = session
        const own = encode({
          id: "own",
          type: "job.submit",
          session_id,
          payload: { agent: "ticking", input: 30 }
        })
        const bad = encode({
          id: "bad",
          type: "job.submit",
          session_id,
          payload: { agent: "none", input: 1 }
        })
        yield* session.sendText(own)
        const accepted = yield* session.expect("job.accepted")
        yield* session.sendText(bad)
        const rejection = yield* session.expect("job.error")
        yield* pass(65)
        const malformed = encode({ id: "own", type: "job.submit", session_id, payload: { agent: 1 } })
        for (const frame of [own, malformed]) {
          yield* session.sendText(frame)
          const { job_id, payload } = yield* session.next(
            ({ type }) => type === "job.error" || type === "job.accepted"
          )
          assert.deepStrictEqual([payload.code, payload.details?.request_id], ["UNAUTHENTICATED", "own"])
          assert.notStrictEqual(job_id, accepted.payload.job_id)
        }
        yield* session.sendText(bad)
        assert.deepStrictEqual(yield* session.expect("job.error"), rejection)
        const again = yield* open({ ...as("long"), ...from(session) })
        yield* again.sendText(own)
        assert.strictEqual((yield* again.expect("job.accepted")).payload.job_id, accepted.payload.job_id)
      })
    )
  )
})

describe("a token that ends: the credentials of a job", () => {
  it("are in no answer from then on, whenever that was decided", () => {
    const at = { now: 0 }
    const { shown } = Ownership.make({
      credentials: { held: () => ["a credential"] },
      now: () => at.now
    } as never)
    const session = {
      identity: { principal: "alice", expiresAt: 60_000 },
      features: ["provisioned_credentials"]
    }
    const decided = () =>
      Effect.runSync(shown(session as never, { principal: "alice", agent: "a@1", lease: {} } as never))
    const before = decided()
    assert.strictEqual(before().length, 1)
    at.now = 60_000
    assert.strictEqual(before().length, 0)
    assert.strictEqual(decided()().length, 0)
  })
})

describe("a token that ends: a peer that does not read", () => {
  for (const [name, features, options] of [
    ["with renewal", renewal, {}],
    ["with tokenExpiry close", all, { tokenExpiry: "close" }]
  ] as const)
    it.scoped(`${name}: is cut off after a minute, though it pings`, () =>
      running(
        (disk) =>
          Effect.gen(function* () {
            const session = yield* open(as("short"), features)
            yield* session.request("job.submit", { agent: "flood", input: 100 })
            const pinging = Effect.zipRight(session.request("session.ping", { nonce: "x" }), pass(10))
            yield* Effect.repeatN(pinging, 10)
            const isAttached = Effect.map(disk.store.session(session.sessionId), (record) => record?.attached)
            assert.isTrue(yield* isAttached)
            yield* Effect.repeatN(pinging, 1)
            assert.isFalse(yield* isAttached)
            assert.strictEqual((yield* session.closed).code, 4003)
          }),
        { heartbeatInterval: "30 seconds", ...options }
      )
    )

  it.scoped("but by little and little: has an hour for all of it, and no more", () =>
    Effect.gen(function* () {
      const clock = yield* Effect.clock
      const now = () => clock.unsafeCurrentTimeMillis()
      const jobs = { unsubscribeForeign: () => Effect.void, hasRunning: () => false }
      const session = { identity: { principal: "alice", expiresAt: 0 }, has: () => false, frame: () => "" }
      const outbox = new Outbox(1_000)
      const { ended } = Expiry.make({
        jobs: jobs as never,
        options: RuntimeOptions.make(),
        now,
        elapsed: now
      })
      let code: string | undefined
      const giveUp = (error: ArcpError) =>
        Effect.sync(() => {
          code = error.code
        })
      yield* Effect.fork(ended(session as never, { outbox } as never, giveUp))
      yield* TestClock.adjust("59 minutes")
      assert.deepStrictEqual([outbox.farewell?.code, outbox.farewell?.drained, code], [4003, true, undefined])
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(code, "UNAUTHENTICATED")
    })
  )
})
