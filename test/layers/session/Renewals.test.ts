/** Renewals of a session's token that are many, late, wrong, or at the same time (protocol 4.1, "A token ends"). */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import { fromToken } from "../../../src/layers/auth/Auth.js"
import * as Expiry from "../../../src/layers/session/Expiry.js"
import { Outbox } from "../../../src/layers/session/Outbox.js"
import { Unauthenticated } from "../../../src/protocol/Errors.js"
import { all } from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Auth, type Identity } from "../../../src/services/auth/Auth.js"
import { Job } from "../../../src/services/jobs/Job.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { boot, Disk } from "../../support/Rig.js"
import { connect, hello, open } from "../../support/Wire.js"

/** Says something every second, for so many seconds. */
const ticking = Agent.handle(Agent.make("ticking", { version: "1.0.0" }), (times) =>
  Effect.gen(function* () {
    const job = yield* Job
    for (let i = 1; i <= Number(times); i++) {
      yield* Effect.sleep("1 second")
      yield* job.log("info", `tick ${i}`)
    }
    return Object.keys(job.lease)
  })
)

/** Tokens are `principal:seconds`: until when they hold, on a clock that begins at 0; `alice:30:narrow` has a ceiling. */
const auth = fromToken((token) => {
  const [principal = "", seconds = "", narrow] = Redacted.value(token).split(":")
  const expiresAt = Number(seconds) * 1_000
  return Effect.flatMap(Effect.clock, (clock) =>
    clock.unsafeCurrentTimeMillis() < expiresAt
      ? Effect.succeed<Identity>({
          principal,
          expiresAt,
          ...(narrow === undefined ? {} : { leaseCeiling: { "fs.read": ["/narrow/**"] } })
        })
      : new Unauthenticated({ message: "this token is over" })
  )
})
const renewal = [...all, "x-vendor.effect-arcp.renewal"]
const as = (token: string) => ({ auth: { scheme: "bearer", token } })
type Session = Effect.Effect.Success<ReturnType<typeof open>>
const from = ({ sessionId, welcome }: Session, last_event_seq = 0) => ({
  session_id: sessionId,
  resume_token: welcome.resume_token,
  last_event_seq
})
const renew = (session: Session, token: string, last = 0) =>
  open({ ...as(token), resume: from(session, last) }, renewal)
const settle = Effect.repeatN(eventLoop.next, 20)
const pass = (seconds: number) =>
  Effect.forEach(
    Array.from({ length: seconds }),
    () => Effect.zipRight(TestClock.adjust("1 second"), Effect.repeatN(eventLoop.next, 5)),
    { discard: true }
  )
const submit = (session: Session, times: number, more: Record<string, unknown> = {}) =>
  Effect.zipRight(
    session.request("job.submit", { agent: "ticking", input: times, ...more }),
    Effect.map(session.expect("job.accepted"), ({ payload }) => payload.job_id as string)
  )
const seqs = (session: Session) =>
  session.seen.flatMap(({ event_seq: seq }) => (seq === undefined ? [] : [seq]))

const running = <A, E, R>(body: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const disk = yield* Disk.make
    const { run } = yield* boot([ticking], { disk, auth: Layer.succeed(Auth, auth) })
    return yield* run(body)
  })

describe("renewals", () => {
  it.scoped("a thousand in a second: the last one counts, nothing is lost, and nobody else waits", () =>
    running(
      Effect.gen(function* () {
        const bob = yield* open(as("bob:9999"), renewal)
        const first = yield* open(as("alice:60"), renewal)
        const jobId = yield* submit(first, 100)
        let session = first
        for (let i = 1; i <= 1_000; i++) {
          session = yield* renew(session, `alice:${100 + i}`)
          if (i % 250 === 0) {
            yield* bob.request("session.ping", { nonce: `${i}` })
            yield* bob.expect("session.pong")
            yield* pass(1)
          }
        }
        assert.strictEqual(session.sessionId, first.sessionId)
        yield* pass(100)
        const end = yield* session.expect("job.result")
        assert.strictEqual(end.job_id, jobId)
        assert.deepStrictEqual(
          seqs(session),
          seqs(session).map((_, i) => i + 1)
        )
        // The sixty seconds of the first token are over.
        yield* submit(session, 0)
        assert.isUndefined(session.seen.find(({ type }) => type === "session.error"))
      })
    )
  )

  it.scoped("with another's token, one that is over, and garbage take nothing from the session", () =>
    running(
      Effect.gen(function* () {
        const session = yield* open(as("alice:60"), renewal)
        const jobId = yield* submit(session, 10)
        for (const [token, code] of [
          ["bob:9999", "RESUME_WINDOW_EXPIRED"],
          ["alice:0", "UNAUTHENTICATED"],
          ["alice:-5", "UNAUTHENTICATED"],
          ["alice", "UNAUTHENTICATED"],
          [":::", "UNAUTHENTICATED"],
          ["alice:NaN", "UNAUTHENTICATED"]
        ] as const) {
          const wrong = yield* connect
          yield* wrong.send("session.hello", hello({ ...as(token), resume: from(session) }, renewal))
          assert.strictEqual((yield* wrong.expect("session.error")).payload.code, code, token)
          yield* wrong.closed
        }
        yield* session.request("session.ping", { nonce: "x" })
        yield* session.expect("session.pong")
        yield* pass(11)
        assert.strictEqual((yield* session.expect("job.result")).job_id, jobId)
        yield* submit(session, 0)
      })
    )
  )

  it.scoped("with a narrower ceiling bind what is submitted from then on; jobs keep their lease", () =>
    running(
      Effect.gen(function* () {
        const wide = yield* open(as("alice:60"), renewal)
        const lease = { lease_request: { "fs.read": ["/wide/**"] } }
        const before = yield* submit(wide, 10, lease)
        const narrow = yield* renew(wide, "alice:70:narrow")
        yield* narrow.request("job.submit", { agent: "ticking", input: 1, ...lease })
        const reduced = yield* narrow.expect("job.accepted", ({ job_id }) => job_id !== before)
        assert.deepStrictEqual(reduced.payload.lease, { "fs.read": [] })
        yield* pass(11)
        const end = yield* narrow.expect("job.result", ({ job_id }) => job_id === before)
        assert.deepStrictEqual(end.payload.result, ["fs.read"])
        const again = yield* renew(narrow, "alice:9999")
        yield* submit(again, 1, lease)
      })
    )
  )

  it.scoped("as the token ends: the end that comes too late takes nothing from the renewed session", () =>
    Effect.gen(function* () {
      const clock = yield* Effect.clock
      const now = () => clock.unsafeCurrentTimeMillis()
      for (const renewed of [true, false]) {
        let ended = 0
        const jobs = { unsubscribeForeign: () => Effect.sync(() => ended++), hasRunning: () => false }
        const session = {
          identity: { principal: "alice", expiresAt: now() + 30_000 },
          has: () => true,
          frame: () => ""
        }
        const outbox = new Outbox(1_000)
        const expiry = Expiry.make({
          jobs: jobs as never,
          options: RuntimeOptions.make(),
          now,
          elapsed: now
        })
        assert.strictEqual(expiry.left(session.identity.expiresAt), 30_000)
        yield* TestClock.adjust("31 seconds")
        assert.isAtMost(expiry.left(session.identity.expiresAt), 0)
        if (renewed) session.identity = { principal: "alice", expiresAt: now() + 60_000 }
        yield* expiry.ended(session as never, { outbox } as never, () => Effect.void)
        assert.deepStrictEqual([ended, outbox.farewell?.code], renewed ? [0, undefined] : [1, 4003])
      }
    })
  )

  it.scoped("several at a time: each is welcome or superseded, and one of them holds the session", () =>
    running(
      Effect.gen(function* () {
        const session = yield* open(as("alice:30"), renewal)
        const jobId = yield* submit(session, 50)
        const wires = yield* Effect.forEach(Array.from({ length: 12 }), () => connect)
        yield* Effect.forEach(
          wires,
          (wire, i) =>
            wire.send("session.hello", hello({ ...as(`alice:${100 + i}`), resume: from(session) }, renewal)),
          { concurrency: "unbounded" }
        )
        const welcomes = yield* Effect.forEach(
          wires,
          (wire) => wire.next(({ type }) => type === "session.welcome" || type === "session.error"),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual([...new Set(welcomes.map(({ type }) => type))], ["session.welcome"])
        yield* settle
        // Each welcome is the client's if it is the one that it received: any of them resumes.
        const middle = welcomes[5]?.payload
        const last = yield* open(
          {
            ...as("alice:9999"),
            resume: { session_id: session.sessionId, resume_token: middle.resume_token, last_event_seq: 0 }
          },
          renewal
        )
        yield* pass(60)
        assert.strictEqual((yield* last.expect("job.result")).job_id, jobId)
        assert.deepStrictEqual(
          seqs(last),
          seqs(last).map((_, i) => i + 1)
        )
      })
    )
  )
})
