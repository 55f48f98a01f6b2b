/** What becomes of an attached session whose token ends, protocol 4.1. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as AuthLayer from "../../../src/layers/auth/Auth.js"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import * as Ownership from "../../../src/layers/jobs/Ownership.js"
import * as Expiry from "../../../src/layers/session/Expiry.js"
import { Outbox } from "../../../src/layers/session/Outbox.js"
import { encode } from "../../../src/protocol/Codec.js"
import type { ArcpError } from "../../../src/protocol/Errors.js"
import { all } from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Policy } from "../../../src/services/auth/Policy.js"
import { Job } from "../../../src/services/jobs/Job.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { type Batch, StoreError } from "../../../src/services/store/Store.js"
import { cluster } from "../../support/Nodes.js"
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

/** A frame of 100 kB now, and again, so many of them. */
const flood = Agent.handle(Agent.make("flood", { version: "1.0.0" }), (count) =>
  Effect.gen(function* () {
    const job = yield* Job
    const text = "x".repeat(100_000)
    for (let n = 0; n < Number(count); n++) yield* job.emit("x-vendor.test.n", { n, text })
  })
)

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

const running = <A, E, R>(body: (disk: Disk) => Effect.Effect<A, E, R>, options: RuntimeOptions.Input = {}) =>
  Effect.gen(function* () {
    const disk = yield* Disk.make
    const { run } = yield* boot([ticking, flood], { disk, options, auth, policy: watchAll })
    return yield* run(body(disk))
  })

type Session = Effect.Effect.Success<ReturnType<typeof open>>
const submit = (session: Session, times: number, more: Record<string, unknown> = {}) =>
  Effect.zipRight(
    session.request("job.submit", { agent: "ticking", input: times, ...more }),
    Effect.map(session.expect("job.accepted"), ({ payload }) => payload.job_id as string)
  )
const from = ({ sessionId, welcome: { resume_token } }: Session, last_event_seq = 0) => ({
  resume: { session_id: sessionId, resume_token, last_event_seq }
})
const subscribe = (session: Session, jobId: string) =>
  Effect.zipRight(
    session.request("job.subscribe", { job_id: jobId }),
    session.next(({ type }) => type === "job.subscribed" || type === "session.error")
  )
/** Takes what has come, and what a ping is answered after. */
const read = (session: Session) =>
  Effect.zipRight(session.request("session.ping", { nonce: "x" }), session.expect("session.pong"))
const ofJob = ({ seen }: Session, jobId: string) =>
  seen.filter((frame) => frame.job_id === jobId && frame.event_seq !== undefined)
const isUnobserve = ({ ops }: Batch) => ops.some(({ _tag }) => _tag === "Unobserve")
const away = new StoreError({ message: "the disk is full" })

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

describe("a token that ends: subscriptions to jobs of others", () => {
  for (const failing of ["read", "commit"] as const)
    it.scoped(`end also while the store fails a ${failing}, and that is stored when it works`, () =>
      running((disk) =>
        Effect.gen(function* () {
          const other = yield* open(as("bob"))
          const foreign = [yield* submit(other, 50), yield* submit(other, 50)]
          const session = yield* open(as("short"))
          const own = yield* submit(session, 20)
          for (const jobId of foreign) yield* subscribe(session, jobId)
          let tries = 0
          const fail = Effect.suspend(() => (++tries < 6 ? away : Effect.void))
          if (failing === "read") disk.onRead = (name) => (name === "waitingObserved" ? fail : undefined)
          else disk.onCommit = (batch) => (isUnobserve(batch) ? fail : Effect.void)
          yield* pass(65)
          yield* read(session)
          const before = foreign.map((jobId) => ofJob(session, jobId).length)
          assert.isAbove(before[0] ?? 0, 0)
          yield* pass(60)
          yield* read(session)
          assert.deepStrictEqual(
            foreign.map((jobId) => ofJob(session, jobId).length),
            before
          )
          assert.isAtLeast(tries, 6)
          const observed = yield* disk.store.observed(session.sessionId)
          assert.deepStrictEqual(
            observed.map(({ jobId }) => jobId),
            [own]
          )
          yield* pass(100)
          assert.strictEqual((yield* session.expect("job.result")).job_id, own)
          const seqs = session.seen.flatMap(({ event_seq: seq }) => (seq === undefined ? [] : [seq]))
          assert.deepStrictEqual(
            seqs,
            seqs.map((_, i) => i + 1)
          )
        })
      )
    )

  it.scoped("keep nobody from being closed who can renew, while the store hangs", () =>
    running((disk) =>
      Effect.gen(function* () {
        const session = yield* open(as("short"), renewal)
        disk.onRead = (name) => (name === "waitingObserved" ? Effect.never : undefined)
        yield* pass(65)
        assert.strictEqual((yield* session.expect("session.error")).payload.code, "UNAUTHENTICATED")
        assert.strictEqual((yield* session.closed).code, 4003)
      })
    )
  )

  it.scoped("do not end the ones that the session has after it was renewed", () =>
    running((disk) =>
      Effect.gen(function* () {
        const other = yield* open(as("bob"))
        const foreign = yield* submit(other, 50)
        const session = yield* open(as("short"), renewal)
        yield* subscribe(session, foreign)
        disk.onCommit = (batch) => (isUnobserve(batch) ? away : Effect.void)
        yield* pass(65)
        assert.strictEqual((yield* session.closed).code, 4003)
        const again = yield* open({ ...as("long"), ...from(session) }, renewal)
        yield* pass(20)
        const refused = yield* subscribe(again, foreign)
        assert.deepStrictEqual([refused.type, refused.payload.code], ["session.error", "INTERNAL_ERROR"])
        const before = ofJob(again, foreign).length
        disk.onCommit = () => Effect.void
        assert.strictEqual((yield* subscribe(again, foreign)).type, "job.subscribed")
        yield* pass(60)
        yield* read(again)
        assert.isAtLeast(ofJob(again, foreign).length, before + 5)
      })
    )
  )
})

describe("a token that ends: jobs that the session owns and that still run", () => {
  it.scoped("are those that it has taken over, too", () =>
    running(
      () =>
        Effect.gen(function* () {
          const keyed = { idempotency_key: "k" }
          const gone = yield* open(as("long"))
          const jobId = yield* submit(gone, 20, keyed)
          yield* gone.connection.close(1000, "")
          yield* pass(45)
          const session = yield* open(as("short"))
          assert.strictEqual(yield* submit(session, 20, keyed), jobId)
          yield* session.request("job.submit", { agent: "ticking", input: 1 })
          const full = yield* session.expect("job.error")
          assert.strictEqual(full.payload.details.limit, "jobs_per_session")
          yield* pass(60)
          yield* read(session)
          yield* pass(120)
          assert.strictEqual((yield* session.expect("job.result")).job_id, jobId)
          yield* session.expect("session.error")
          assert.strictEqual((yield* session.closed).code, 4003)
          const next = yield* open(as("long"))
          yield* submit(next, 1)
        }),
      { resumeWindow: "20 seconds", maxJobsPerSession: 1 }
    )
  )

  it.scoped("are those on another node, too", () =>
    Effect.gen(function* () {
      const { start } = yield* cluster
      const a = yield* start("a", [ticking], { auth })
      const b = yield* start("b", [ticking], { auth })
      const first = yield* a.run(open(as("long")))
      const jobId = yield* submit(first, 8)
      const session = yield* b.run(open({ ...as("short"), ...from(first) }))
      yield* pass(70)
      yield* read(session)
      yield* pass(20)
      assert.strictEqual((yield* session.expect("job.result")).job_id, jobId)
      yield* session.expect("session.error")
      assert.strictEqual((yield* session.closed).code, 4003)
    })
  )

  it.scoped("are those on another node that it has taken over, too", () =>
    Effect.gen(function* () {
      const { start } = yield* cluster
      const given = { auth, options: { resumeWindow: "20 seconds" } } as const
      const a = yield* start("a", [ticking], given)
      const b = yield* start("b", [ticking], given)
      const keyed = { idempotency_key: "k" }
      const gone = yield* a.run(open(as("long")))
      const jobId = yield* submit(gone, 9, keyed)
      yield* gone.connection.close(1000, "")
      yield* pass(45)
      const session = yield* b.run(open(as("short")))
      assert.strictEqual(yield* submit(session, 9, keyed), jobId)
      yield* pass(30)
      yield* read(session)
      yield* pass(20)
      assert.strictEqual((yield* session.expect("job.result")).job_id, jobId)
      yield* session.expect("session.error")
      assert.strictEqual((yield* session.closed).code, 4003)
    })
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
  it("are in no answer from then on", () => {
    const at = { now: 0 }
    const { shown } = Ownership.make({
      credentials: { held: () => ["a credential"] },
      now: () => at.now
    } as never)
    const session = {
      identity: { principal: "alice", expiresAt: 60_000 },
      features: ["provisioned_credentials"]
    }
    const seen = () =>
      shown(session as never, { principal: "alice", agent: "a@1", lease: {} } as never).length
    assert.strictEqual(seen(), 1)
    at.now = 60_000
    assert.strictEqual(seen(), 0)
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
