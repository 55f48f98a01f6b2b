/** The hello room (protocol 1 and 4.1): how many may wait, what they may send, and how a hello is refused. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as AuthLayer from "../../../src/layers/auth/Auth.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Auth } from "../../../src/services/auth/Auth.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Sessions } from "../../../src/services/session/Sessions.js"
import { boot, Disk } from "../../support/Rig.js"
import { connect, hello, open, runtime } from "../../support/Wire.js"

/** A connection that the runtime has taken, and that says nothing yet. */
const waiting = Effect.zipLeft(connect, Effect.repeatN(eventLoop.next, 20))

const refused = Effect.gen(function* () {
  const wire = yield* connect
  yield* wire.send("session.hello", hello())
  const { payload, type } = yield* wire.next(() => true)
  assert.strictEqual(type, "session.error")
  assert.strictEqual((yield* wire.closed).code, 1013)
  return payload
})

const sayHello = (wire: Effect.Effect.Success<typeof connect>) =>
  Effect.zipRight(wire.send("session.hello", hello()), wire.expect("session.welcome"))

describe("connections that have not said hello", () => {
  it.scoped("are bounded: as many as the option says wait, the next is told so, and may try again", () =>
    Effect.gen(function* () {
      const first = yield* waiting
      const second = yield* waiting
      const error = yield* refused
      assert.strictEqual(error.code, "INTERNAL_ERROR")
      assert.strictEqual(error.details.limit, "pending_hellos")
      assert.isTrue(error.retryable)
      // Both that were in time are heard.
      yield* sayHello(first)
      yield* sayHello(second)
    }).pipe(Effect.provide(runtime([], { maxPendingHellos: 2 })))
  )

  it.scoped("leave room when they have said it, are refused, or are gone", () =>
    Effect.gen(function* () {
      for (let i = 0; i < 3; i++) {
        yield* open()
        const wrong = yield* connect
        yield* wrong.send("session.hello", hello({ auth: { scheme: "bearer", token: "nobody" } }))
        yield* wrong.expect("session.error")
        yield* wrong.closed
        const silent = yield* waiting
        yield* silent.connection.close(1000, "")
        yield* Effect.repeatN(eventLoop.next, 20)
      }
      // Sessions that are open count no more than those that are gone.
      yield* open()
    }).pipe(Effect.provide(runtime([], { maxPendingHellos: 1 })))
  )

  it.scoped(
    "may send small frames only, whatever they say; with the welcome the bound is the session's",
    () =>
      Effect.gen(function* () {
        const name = "n".repeat(5_000)
        const wire = yield* waiting
        yield* wire.send("session.hello", hello({ client: { name, version: "1" } }))
        // Not even answered.
        assert.strictEqual((yield* Effect.flip(wire.connection.take)).code, 1009)
        const session = yield* open()
        yield* session.request("session.ping", { nonce: name })
        assert.strictEqual((yield* session.expect("session.pong")).payload.ping_nonce, name)
        yield* session.request("session.ping", { nonce: "n".repeat(10_000) })
        assert.strictEqual((yield* Effect.flip(session.connection.take)).code, 1009)
      }).pipe(Effect.provide(runtime([], { maxHelloFrameBytes: 4_096, maxFrameBytes: 10_000 })))
  )
})

describe("a verifier that never answers", () => {
  for (const [how, wait] of [
    ["", Effect.never],
    [", and cannot be interrupted", Effect.uninterruptible(Effect.never)]
  ] as const)
    it.scoped(`keeps no place for longer than the hello timeout${how}`, () =>
      Effect.gen(function* () {
        const auth = Layer.succeed(Auth, {
          ...AuthLayer.fromToken((token) =>
            Redacted.value(token) === "slow" ? wait : Effect.succeed({ principal: Redacted.value(token) })
          )
        })
        const disk = yield* Disk.make
        const options = { maxPendingHellos: 1, helloTimeout: "10 seconds" } as const
        const { run } = yield* boot([], { disk, auth, options })
        yield* run(
          Effect.gen(function* () {
            const slow = yield* connect
            const id = yield* slow.send("session.hello", hello({ auth: { scheme: "bearer", token: "slow" } }))
            yield* Effect.repeatN(eventLoop.next, 20)
            yield* TestClock.adjust("9 seconds")
            const next = yield* connect
            yield* next.send("session.hello", hello())
            yield* TestClock.adjust("1 second")
            const error = yield* slow.expect("session.error")
            assert.strictEqual(error.payload.code, "INTERNAL_ERROR")
            assert.isTrue(error.payload.retryable)
            assert.isString(id)
            assert.strictEqual((yield* slow.closed).code, 1013)
            yield* next.expect("session.welcome")
          })
        )
      })
    )
})

describe("a hello of a connection that has gone", () => {
  it.scoped("takes no session from the connection that came after it", () =>
    Effect.gen(function* () {
      const verified = yield* Deferred.make<void>()
      const auth = Layer.succeed(Auth, {
        ...AuthLayer.fromToken((token) =>
          Effect.as(Redacted.value(token) === "slow" ? Deferred.await(verified) : Effect.void, {
            principal: "alice"
          })
        )
      })
      const { run } = yield* boot([], { disk: yield* Disk.make, auth })
      yield* run(
        Effect.gen(function* () {
          const first = yield* open()
          const resume = {
            session_id: first.sessionId,
            resume_token: first.welcome.resume_token,
            last_event_seq: 0
          }
          yield* first.connection.close(1000, "")
          const gone = yield* connect
          yield* gone.send("session.hello", hello({ resume, auth: { scheme: "bearer", token: "slow" } }))
          yield* Effect.repeatN(eventLoop.next, 20)
          yield* gone.connection.close(1000, "")
          const here = yield* open({ resume })
          yield* Deferred.succeed(verified, undefined)
          yield* Effect.repeatN(eventLoop.next, 20)
          yield* here.request("session.ping", { nonce: "still here" })
          assert.strictEqual((yield* here.expect("session.pong")).payload.ping_nonce, "still here")
        })
      )
    })
  )
})

describe("a hello that is refused", () => {
  it.scoped("is answered by an error that names it", () =>
    Effect.gen(function* () {
      for (const [type, payload, code] of [
        ["session.hello", hello({ auth: { scheme: "bearer", token: "nobody" } }), "UNAUTHENTICATED"],
        ["session.hello", hello({ auth: { scheme: "basic", token: "alice" } }), "INVALID_REQUEST"],
        ["session.hello", { client: "nobody" }, "INVALID_REQUEST"],
        ["session.ping", { nonce: "n" }, "INVALID_REQUEST"],
        [
          "session.hello",
          hello({ resume: { session_id: "sess_x", resume_token: "rt_x", last_event_seq: 0 } }),
          "RESUME_WINDOW_EXPIRED"
        ]
      ] as const) {
        const wire = yield* connect
        const id = yield* wire.send(type, payload)
        const error = yield* wire.expect("session.error")
        assert.strictEqual(error.payload.code, code)
        assert.strictEqual(error.payload.details.request_id, id)
        assert.match(error.session_id, /^sess_/)
        yield* wire.closed
      }
    }).pipe(Effect.provide(runtime([])))
  )

  it.scoped("because the runtime is stopping leaves those that are open as they are", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const patient = Agent.handle(Agent.make("patient", { version: "1.0.0" }), () => Deferred.await(gate))
      const disk = yield* Disk.make
      const { run } = yield* boot([patient], { disk, options: { shutdownGrace: "10 seconds" } })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          yield* session.request("job.submit", { agent: "patient", input: {} })
          yield* session.expect("job.event")
          const early = yield* waiting
          const stopping = yield* Effect.fork(Effect.flatMap(Sessions, (sessions) => sessions.shutdown))
          yield* Effect.repeatN(eventLoop.next, 20)
          const late = yield* connect
          yield* late.send("session.hello", hello())
          const error = yield* late.next(() => true)
          assert.strictEqual(error.type, "session.error")
          assert.strictEqual(error.payload.code, "INTERNAL_ERROR")
          assert.isTrue(error.payload.retryable)
          assert.strictEqual(error.payload.details.reason, "shutdown")
          assert.strictEqual((yield* late.closed).code, 1013)
          // Its job has the grace, and it is served meanwhile.
          yield* session.request("session.ping", { nonce: "n" })
          yield* session.expect("session.pong")
          // One that had connected before comes too late as well.
          yield* early.send("session.hello", hello())
          assert.strictEqual((yield* early.next(() => true)).payload.details.reason, "shutdown")
          assert.strictEqual((yield* early.closed).code, 1013)
          yield* Deferred.succeed(gate, undefined)
          yield* session.expect("job.result")
          yield* session.expect("session.bye")
          yield* Fiber.join(stopping)
        })
      )
    })
  )
})
