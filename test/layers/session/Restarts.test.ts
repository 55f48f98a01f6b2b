/** What of a session is stored, and when: so that the next process knows as much as this one (protocol 4.3). */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as AuthLayer from "../../../src/layers/auth/Auth.js"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import { encode } from "../../../src/protocol/Codec.js"
import { all } from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Auth } from "../../../src/services/auth/Auth.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Sessions } from "../../../src/services/session/Sessions.js"
import { boot, Disk } from "../../support/Rig.js"
import { connect, type Frame, hello, open } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
const flood = Agent.handle(Agent.make("flood", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    for (let n = 0; n < 3_000; n++) yield* job.emit("x-vendor.test.n", { n })
    return "done"
  })
)
const agents = [echo, flood]

type Opened = Effect.Effect.Success<ReturnType<typeof open>>

const from = (session: Opened, last_event_seq = 0, resume_token = session.welcome.resume_token) => ({
  resume: { session_id: session.sessionId, resume_token, last_event_seq }
})
const refusal = (more: Record<string, unknown>) =>
  Effect.gen(function* () {
    const wire = yield* connect
    yield* wire.send("session.hello", hello(more))
    const { payload, type } = yield* wire.next(() => true)
    if (type !== "session.error") return type
    yield* wire.closed
    return payload.code as string
  })
const alive = (session: Opened) =>
  Effect.zipRight(session.request("session.ping", { nonce: "alive" }), session.expect("session.pong"))
const settle = Effect.repeatN(eventLoop.next, 50)
const gone = (session: Opened) => Effect.zipRight(session.connection.close(1000, ""), settle)

describe("the window over several processes", () => {
  const options = { resumeWindow: "60 seconds" } as const

  it.scoped(
    "counts from the end of the process that the session was attached in, not from that of the next",
    () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const one = yield* boot(agents, { disk, options })
        const session = yield* one.run(open())
        yield* one.kill
        yield* TestClock.adjust("30 seconds")
        const two = yield* boot(agents, { disk, options })
        for (let i = 0; i < 6; i++) yield* Effect.zipRight(TestClock.adjust("5 seconds"), settle)
        yield* two.kill
        yield* TestClock.adjust("30 seconds")
        const three = yield* boot(agents, { disk, options })
        assert.strictEqual(yield* three.run(refusal(from(session))), "RESUME_WINDOW_EXPIRED")
      })
  )

  it.scoped("counts from the end of its last transport, although the process lived on", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const one = yield* boot(agents, { disk, options })
      const [early, late] = yield* one.run(Effect.all([open(), open()]))
      yield* TestClock.adjust("20 seconds")
      yield* gone(early)
      // At once: nothing has to pass first.
      assert.deepInclude(yield* disk.store.session(early.sessionId), { attached: false, lastSeenAt: 20_000 })
      assert.deepInclude(yield* disk.store.session(late.sessionId), { attached: true })
      for (let i = 0; i < 8; i++) yield* Effect.zipRight(TestClock.adjust("5 seconds"), settle)
      yield* one.kill
      yield* TestClock.adjust("21 seconds")
      const two = yield* boot(agents, { disk, options })
      assert.strictEqual(yield* two.run(refusal(from(early))), "RESUME_WINDOW_EXPIRED")
      yield* two.run(Effect.flatMap(open(from(late)), alive))
    })
  )
})

describe("a resume", () => {
  it.scoped("ends the token before it for good, once the client has sent a frame", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const one = yield* boot(agents, { disk })
      const first = yield* one.run(open())
      const second = yield* one.run(open(from(first)))
      yield* alive(second)
      yield* one.kill
      const two = yield* boot(agents, { disk })
      assert.strictEqual(yield* two.run(refusal(from(first))), "RESUME_WINDOW_EXPIRED")
      yield* two.run(Effect.flatMap(open(from(second)), alive))
    })
  )

  it.scoped(
    "that comes late, on a connection the client has given up, leaves the token of the one that came",
    () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const one = yield* boot(agents, { disk })
        const first = yield* one.run(open())
        const kept = yield* one.run(open(from(first)))
        // Sent before that one and overtaken by it: many of them, nobody reads their welcomes.
        for (let i = 0; i < 5; i++) yield* one.run(Effect.flatMap(open(from(first)), gone))
        assert.strictEqual((yield* kept.closed).code, 4001)
        yield* one.kill
        const two = yield* boot(agents, { disk })
        const again = yield* two.run(open(from(kept)))
        // Now the one that the client held is known: those that nobody read are over.
        assert.strictEqual(yield* two.run(refusal(from(first))), "RESUME_WINDOW_EXPIRED")
        yield* alive(again)
        assert.strictEqual(yield* two.run(refusal(from(kept))), "RESUME_WINDOW_EXPIRED")
        yield* two.run(Effect.flatMap(open(from(again)), alive))
      })
  )

  it.scoped("can be asked for with the newest tokens only, however many were issued", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk })
      const first = yield* run(open())
      const issued: Array<Opened> = []
      for (let i = 0; i < 40; i++) issued.push(yield* run(Effect.tap(open(from(first)), gone)))
      const record = yield* disk.store.session(first.sessionId)
      assert.isAtMost(JSON.stringify(record).length, 4_000)
      assert.strictEqual(yield* run(refusal(from(issued[0] as Opened))), "RESUME_WINDOW_EXPIRED")
      yield* run(Effect.flatMap(open(from(issued[30] as Opened)), alive))
    })
  )

  it.scoped("closes the transport before it with 4001", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk })
      yield* run(
        Effect.gen(function* () {
          const first = yield* open()
          const second = yield* open(from(first))
          assert.strictEqual((yield* first.closed).code, 4001)
          yield* alive(second)
        })
      )
    })
  )

  it.scoped("agrees on features anew, and stores what was agreed", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk })
      yield* run(
        Effect.gen(function* () {
          const first = yield* open()
          const fewer = all.filter((feature) => feature !== "list_jobs")
          const second = yield* open(from(first), fewer)
          assert.deepStrictEqual(second.welcome.capabilities.features.includes("list_jobs"), false)
          const request_id = yield* second.request("session.list_jobs", {})
          const error = yield* second.expect("session.error")
          assert.deepInclude(error.payload, { code: "INVALID_REQUEST" })
          assert.strictEqual(error.payload.details.request_id, request_id)
          const stored = yield* disk.store.session(first.sessionId)
          assert.notInclude(stored?.features ?? [], "list_jobs")
          const third = yield* open(from(second))
          yield* third.request("session.list_jobs", {})
          yield* third.expect("session.jobs")
        })
      )
    })
  )

  it.scoped("replaces the session's identity by that of its token", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const auth = Layer.succeed(
        Auth,
        AuthLayer.fromToken((token) =>
          Effect.succeed({
            principal: "alice",
            agents: Redacted.value(token) === "narrow" ? ["flood"] : undefined
          })
        )
      )
      const { run } = yield* boot(agents, { disk, auth, policy: PolicyLayer.layerSamePrincipal })
      yield* run(
        Effect.gen(function* () {
          const wide = yield* open()
          const narrow = yield* open({ ...from(wide), auth: { scheme: "bearer", token: "narrow" } })
          assert.deepStrictEqual(
            narrow.welcome.capabilities.agents.map(({ name }: { name: string }) => name),
            ["flood"]
          )
          yield* narrow.request("job.submit", { agent: "echo", input: 1 })
          assert.include(
            ["PERMISSION_DENIED", "AGENT_NOT_AVAILABLE"],
            (yield* narrow.expect("job.error")).payload.code
          )
          const again = yield* open(from(narrow, 1))
          yield* again.request("job.submit", { agent: "echo", input: 1 })
          yield* again.expect("job.result")
        })
      )
    })
  )
})

describe("a session that is gone", () => {
  it.scoped("is dropped when the store takes it, if not at once", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, options: { resumeWindow: "10 seconds" } })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          yield* gone(session)
          disk.mode = "fails"
          for (let i = 0; i < 6; i++) yield* Effect.zipRight(TestClock.adjust("3 seconds"), settle)
          assert.isDefined(yield* disk.store.session(session.sessionId))
          disk.mode = "works"
          for (let i = 0; i < 12; i++) yield* Effect.zipRight(TestClock.adjust("3 seconds"), settle)
          assert.isUndefined(yield* disk.store.session(session.sessionId))
          yield* alive(yield* open())
        })
      )
    })
  )

  it.scoped("holds none of its jobs: they go on as fast as they can", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, options: { maxRetainedEvents: 1_000 } })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          yield* session.request("job.submit", { agent: "flood", input: 1 })
          const { job_id } = yield* session.expect("job.accepted")
          yield* gone(session)
          const status = Effect.map(disk.store.job(job_id as string), (job) => job?.status)
          // No clock moves here: whoever waited for the client would wait for ever.
          yield* Effect.repeat(eventLoop.next, {
            until: () => Effect.map(status, (s) => s === "success"),
            times: 50_000
          })
          assert.strictEqual(yield* status, "success")
        })
      )
    })
  )
})

describe("malformed frames", () => {
  it.scoped("close the connection only when there are too many within the window", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, {
        disk,
        options: { maxMalformedFrames: 3, malformedWindow: "10 seconds" }
      })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          const malformed = Effect.zipRight(session.sendText("{"), session.expect("session.error"))
          for (let i = 0; i < 4; i++) {
            yield* Effect.repeatN(malformed, 2)
            yield* alive(session)
            yield* TestClock.adjust("11 seconds")
          }
          yield* Effect.repeatN(malformed, 2)
          yield* malformed
          assert.strictEqual((yield* session.closed).code, 1008)
          // It stays resumable.
          yield* alive(yield* open(from(session)))
        })
      )
    })
  )
})

describe("malformed submits", () => {
  it.scoped("count as any malformed frame; each is refused before the connection is closed", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, {
        disk,
        options: { maxMalformedFrames: 3, malformedWindow: "10 seconds" }
      })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          for (let i = 0; i < 4; i++) yield* session.request("job.submit", { agent: 5 })
          for (let i = 0; i < 4; i++)
            assert.strictEqual((yield* session.expect("job.error")).payload.code, "INVALID_REQUEST")
          assert.strictEqual((yield* session.closed).code, 1008)
          // One that is refused for what it asks for is none.
          const again = yield* open(from(session))
          for (let i = 0; i < 5; i++) yield* again.request("job.submit", { agent: "nobody", input: i })
          yield* alive(again)
        })
      )
    })
  )
})

describe("a session that is being deleted", () => {
  it.scoped("cannot be resumed while its transport ends", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk })
      yield* run(
        Effect.gen(function* () {
          const sessions = yield* Sessions
          const [client, server] = yield* TransportMemory.make
          // Its end takes its time.
          yield* Effect.forkScoped(sessions.serve({ ...server, close: () => Effect.void }))
          yield* client.send([encode({ id: "m1", type: "session.hello", payload: hello() })])
          const [welcome] = Chunk.toReadonlyArray(yield* client.take)
          const { payload, session_id } = JSON.parse(String(welcome)) as Frame
          assert.strictEqual(yield* sessions.forget("alice"), 1)
          const resume = { session_id, resume_token: payload.resume_token, last_event_seq: 0 }
          assert.strictEqual(yield* refusal({ resume }), "RESUME_WINDOW_EXPIRED")
        })
      )
    })
  )
})

describe("many resumes at once", () => {
  const many = 200

  it.scoped("are few commits: what waits for the disk is committed together, also after a restart", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const one = yield* boot(agents, { disk, options: { maxSessionsPerPrincipal: many } })
      const sessions = yield* one.run(Effect.replicateEffect(open(), many))
      /** All come back while the disk takes one commit. Returns them, and how many commits that took. */
      const comeBack = (before: ReadonlyArray<Opened>) =>
        Effect.gen(function* () {
          disk.mode = "hangs"
          const coming = yield* Effect.forEach(before, (session) => Effect.fork(open(from(session))))
          yield* Effect.repeatN(eventLoop.next, 2 * many)
          assert.strictEqual(disk.hanging, 1)
          const { commits } = disk
          yield* disk.release()
          const back = yield* Fiber.joinAll(coming)
          return { back, took: disk.commits - commits }
        })
      const here = yield* one.run(comeBack(sessions))
      assert.isAtMost(here.took, 3)
      yield* one.kill
      const two = yield* boot(agents, { disk, options: { maxSessionsPerPrincipal: many } })
      const again = yield* two.run(comeBack(here.back))
      assert.isAtMost(again.took, 3)
      yield* two.run(Effect.forEach(again.back.slice(0, 3), alive))
    })
  )
})
