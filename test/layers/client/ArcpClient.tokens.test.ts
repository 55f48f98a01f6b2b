/** Where a client has its token from, and what becomes of its session when that ends (protocol 4.1). */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as jose from "jose"
import * as AuthJwt from "../../../src/layers/auth/AuthJwt.js"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import { all } from "../../../src/protocol/Features.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import type { TokenSource } from "../../../src/services/client/ArcpClient.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Dialer, TransportError } from "../../../src/services/transport/Transport.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import { boot, Disk } from "../../support/Rig.js"
import { scripted } from "./scripted.js"

const { event, message, result, sessionError, subscribed, welcome } = ScriptedRuntime

const renewal = "x-vendor.effect-arcp.renewal"
const atOnce = Schedule.recurs(20)
/** Everything that is ready happens: promises, and what waits for a turn. */
const settle = Effect.repeatN(eventLoop.next, 20)
/** Passes time second by second, so that what waits for one thing after another gets to each. */
const pass = (seconds: number) =>
  Effect.forEach(
    Array.from({ length: seconds }),
    () => Effect.zipRight(TestClock.adjust("1 second"), Effect.repeatN(signed, 3)),
    { discard: true }
  )
/** A signature of its own, and a few turns: what others sign and verify, which began before, is done with it. */
const signed = Effect.zipRight(
  Effect.promise(() => new jose.SignJWT({}).setProtectedHeader({ alg: "HS256" }).sign(new Uint8Array(32))),
  Effect.repeatN(eventLoop.next, 5)
)
const authOf = (hello: ScriptedRuntime.Received) => hello.payload["auth"]
/** Unsigned, for runtimes that do not look: what a client reads of a token is when it ends. */
const ending = (atSec: number, id = 0) =>
  `e30.${btoa(JSON.stringify({ exp: atSec, id }))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "")}.x`

describe("a client's token", () => {
  it.scoped("is not asked for without end: a function that gives a function gives no text", () =>
    Effect.gen(function* () {
      const { connecting } = yield* scripted
      const itself = (): unknown => itself
      const promised = async (): Promise<unknown> => promised
      for (const token of [itself, promised, () => Effect.succeed(itself), Effect.succeed(itself)]) {
        const error = yield* Effect.flip(
          Effect.flatMap(connecting({ token: token as unknown as TokenSource }), Fiber.join)
        )
        assert.deepInclude(error, { _tag: "TokenUnavailable", retryable: false })
        assert.include(error.message, "it is not a text")
      }
    })
  )

  it.scoped("is a text, redacted, an effect, or a function of whatever kind", () =>
    Effect.gen(function* () {
      const kinds: Record<string, TokenSource> = {
        text: "secret",
        redacted: Redacted.make("secret"),
        effect: Effect.succeed("secret"),
        "effect of redacted": Effect.succeed(Redacted.make("secret")),
        function: () => "secret",
        "function of redacted": () => Redacted.make("secret"),
        "async function": async () => "secret",
        "async function of redacted": () => Promise.resolve(Redacted.make("secret")),
        "function of an effect": () => Effect.as(Effect.yieldNow(), "secret")
      }
      for (const [kind, token] of Object.entries(kinds)) {
        const { connecting, greeted } = yield* scripted
        const client = yield* connecting({ token })
        const { hello, server } = yield* greeted
        assert.deepStrictEqual(authOf(hello), { scheme: "bearer", token: "secret" }, kind)
        const features = (hello.payload["capabilities"] as { features: Array<string> }).features
        const asked = kind !== "text" && kind !== "redacted"
        assert.deepStrictEqual(features, asked ? [...all, renewal] : [...all], kind)
        yield* server.send(welcome())
        yield* Fiber.join(client)
      }
    })
  )

  it.scoped("is not needed, and features are those that are named", () =>
    Effect.gen(function* () {
      const { connecting, greeted } = yield* scripted
      yield* connecting({ token: undefined })
      const { hello } = yield* greeted
      assert.isUndefined(authOf(hello))
      yield* connecting({ token: () => "secret", features: ["ack"] })
      const other = yield* greeted
      assert.deepStrictEqual((other.hello.payload["capabilities"] as { features: unknown }).features, ["ack"])
    })
  )

  it.scoped("is asked for at each hello, in turn", () =>
    Effect.gen(function* () {
      const { connecting, greeted } = yield* scripted
      let asked = 0
      yield* connecting({ reconnect: atOnce, token: async () => `token ${++asked}` })
      for (const n of [1, 2, 3]) {
        const { hello, server } = yield* greeted
        assert.deepStrictEqual(authOf(hello), { scheme: "bearer", token: `token ${n}` })
        yield* server.send(welcome())
        yield* server.drop
      }
    })
  )

  it.scoped("that cannot be had fails with its cause, and says whether to try again", () =>
    Effect.gen(function* () {
      class Refused extends Error {
        readonly retryable = false
      }
      const wiped = Redacted.make("secret")
      Redacted.unsafeWipe(wiped)
      const down = new Error("the identity provider is down")
      const cases: ReadonlyArray<readonly [TokenSource, string, boolean]> = [
        [() => Promise.reject(down), "the identity provider is down", true],
        [
          () => {
            throw down
          },
          "the identity provider is down",
          true
        ],
        [Effect.fail({ _tag: "Outage", message: "no route" }), "no route", true],
        [Effect.fail("just so"), "just so", true],
        [Effect.die(down), "the identity provider is down", true],
        [() => Effect.fail(new Refused("locked out")), "locked out", false],
        [() => undefined as unknown as string, "not a text", false],
        [(() => 7) as unknown as () => string, "not a text", false],
        [7 as unknown as string, "not a text", false],
        [wiped, "Unable to get redacted value", true]
      ]
      for (const [token, why, retryable] of cases) {
        const { connecting, dialled } = yield* scripted
        const error = yield* Effect.flip(Fiber.join(yield* connecting({ token })))
        assert.deepInclude(error, { _tag: "TokenUnavailable", code: "TOKEN_UNAVAILABLE", retryable }, why)
        assert.include(error.message, why)
        assert.strictEqual(ArcpClient.isRetryable(error), retryable)
        assert.strictEqual(yield* dialled, 0)
      }
      const { connecting } = yield* scripted
      const error = yield* Effect.flip(Fiber.join(yield* connecting({ token: () => Promise.reject(down) })))
      assert.strictEqual((error as { readonly cause?: unknown }).cause, down)
    })
  )

  it.scoped("whatever is thrown in its place, the error says what to do, and is not tried again", () =>
    Effect.gen(function* () {
      const trap = (): never => {
        throw proxy
      }
      const proxy: object = new Proxy(
        {},
        { get: trap, has: trap, ownKeys: trap, getPrototypeOf: trap, getOwnPropertyDescriptor: trap }
      )
      const hostile: Record<string, unknown> = {
        "a symbol": Symbol("no"),
        "a proxy": proxy,
        "an object whose getters throw": Object.defineProperties(
          {},
          { message: { get: trap, enumerable: true }, retryable: { get: trap }, stack: { get: trap } }
        ),
        "an error whose message is a symbol": Object.assign(new Error(), { message: Symbol("no") }),
        "an object without a prototype": Object.create(null)
      }
      for (const [what, thrown] of Object.entries(hostile)) {
        const throwing = () => {
          throw thrown
        }
        const sources: Record<string, unknown> = {
          thrown: throwing,
          rejected: () => Promise.reject(thrown),
          // Effect itself cannot fail with this proxy.
          ...(thrown === proxy
            ? {}
            : {
                failed: Effect.suspend(() => Effect.fail(thrown)),
                died: Effect.suspend(() => Effect.die(thrown)),
                "failed in a function": () => Effect.fail(thrown),
                "in an effect": Effect.sync(throwing)
              }),
          returned: () => thrown,
          resolved: async () => thrown,
          succeeded: Effect.succeed(thrown),
          ...(thrown === proxy ? {} : { itself: thrown })
        }
        for (const [how, token] of Object.entries(sources)) {
          const { connecting, dialled } = yield* scripted
          const exit = yield* Fiber.await(yield* connecting({ token: token as TokenSource }))
          const error = Exit.isFailure(exit)
            ? Option.getOrUndefined(Cause.failureOption(exit.cause))
            : undefined
          assert.deepInclude(error, { _tag: "TokenUnavailable", retryable: false }, `${what}, ${how}`)
          assert.match(
            (error as { message: string }).message,
            /no token: .*(not a text|an Error)/,
            `${what}, ${how}`
          )
          assert.isString(Cause.pretty(Cause.fail(error), { renderErrorCause: true }))
          assert.strictEqual(yield* dialled, 0)
        }
      }
    })
  )

  it.scoped("that does not come is not waited for for ever", () =>
    Effect.gen(function* () {
      const { connecting } = yield* scripted
      const client = yield* connecting({ token: () => new Promise(() => {}) })
      yield* settle
      yield* TestClock.adjust("30 seconds")
      const error = yield* Effect.flip(Fiber.join(client))
      assert.strictEqual(error._tag, "TokenUnavailable")
      assert.include(error.message, "no answer in time")
    })
  )

  it.scoped("that fails while a connection is made again is tried until the resume window has passed", () =>
    Effect.gen(function* () {
      const { connecting, submitted, welcomed } = yield* scripted
      let asked = 0
      const connected = yield* connecting({
        reconnect: undefined,
        token: () => (++asked === 1 ? "secret" : Promise.reject(new Error("no network")))
      })
      const server = yield* welcomed(welcome([], { resume_window_sec: 60 }))
      const client = yield* Fiber.join(connected)
      const job = yield* submitted(client, server)
      yield* server.drop
      yield* settle
      yield* pass(40)
      const status = yield* client.status.get
      assert.strictEqual(status._tag === "Reconnecting" && status.reason, "no token: no network")
      const before = asked
      assert.isAbove(before, 5)
      assert.isBelow(before, 40)
      yield* pass(40)
      const error = yield* Effect.flip(job.result)
      assert.strictEqual(error._tag, "TokenUnavailable")
      const end = yield* client.status.get
      assert.strictEqual(end._tag === "Closed" && end.error, error)
      const after = asked
      yield* pass(30)
      assert.strictEqual(asked, after)
    })
  )

  it.scoped("that fails for good, or when attempts end, ends the session with that", () =>
    Effect.gen(function* () {
      for (const [reconnect, failure] of [
        [Schedule.recurs(1_000), { message: "revoked", retryable: false }],
        [Schedule.recurs(3), { message: "no network" }]
      ] as const) {
        const { connecting, submitted, welcomed } = yield* scripted
        let asked = 0
        const connected = yield* connecting({
          reconnect,
          token: () => (++asked === 1 ? Effect.succeed("secret") : Effect.fail(failure))
        })
        const server = yield* welcomed()
        const job = yield* submitted(yield* Fiber.join(connected), server)
        yield* server.drop
        const error = yield* Effect.flip(job.result)
        assert.deepInclude(error, { _tag: "TokenUnavailable", cause: failure })
      }
    })
  )

  it.scoped("that is refused is asked for once more, at the first hello and at any other", () =>
    Effect.gen(function* () {
      const { connecting, greeted } = yield* scripted
      let asked = 0
      const connected = yield* connecting({ reconnect: atOnce, token: () => `token ${++asked}` })
      const refuse = Effect.flatMap(greeted, ({ hello, server }) =>
        Effect.as(server.send(sessionError("UNAUTHENTICATED")), authOf(hello))
      )
      assert.deepInclude(yield* refuse, { token: "token 1" })
      const second = yield* greeted
      assert.deepInclude(authOf(second.hello), { token: "token 2" })
      yield* second.server.send(welcome())
      const client = yield* Fiber.join(connected)
      yield* second.server.drop
      assert.deepInclude(yield* refuse, { token: "token 3" })
      assert.deepInclude(yield* refuse, { token: "token 4" })
      yield* Stream.runDrain(client.status.changes)
      const end = yield* client.status.get
      assert.strictEqual(end._tag === "Closed" && end.error?._tag, "Unauthenticated")
      assert.strictEqual(asked, 4)
    })
  )

  it.scoped("that is always the same is shown once: refused, or ended, it ends the session", () =>
    Effect.gen(function* () {
      const { connecting, dialled, greeted } = yield* scripted
      const refused = yield* connecting({ token: "secret" })
      yield* Effect.flatMap(greeted, ({ server }) => server.send(sessionError("UNAUTHENTICATED")))
      assert.strictEqual((yield* Effect.flip(Fiber.join(refused)))._tag, "Unauthenticated")
      assert.strictEqual(yield* dialled, 1)

      const other = yield* scripted
      const { client, server } = yield* other.open(undefined, { token: "secret" })
      yield* server.send(sessionError("UNAUTHENTICATED"))
      yield* server.connection.close(4003, "the token has ended")
      yield* Stream.runDrain(client.status.changes)
      const end = yield* client.status.get
      assert.deepInclude(end._tag === "Closed" ? end.error : undefined, {
        _tag: "Unauthenticated",
        message: "the token has ended"
      })
      assert.strictEqual(yield* other.dialled, 1)
    })
  )

  it.scoped("that has ended is followed by another: the session is resumed", () =>
    Effect.gen(function* () {
      const { connecting, greeted, submitted, welcomed } = yield* scripted
      let asked = 0
      const connected = yield* connecting({ reconnect: atOnce, token: () => `opaque ${++asked}` })
      const server = yield* welcomed(welcome([renewal]))
      const job = yield* submitted(yield* Fiber.join(connected), server)
      yield* server.send(sessionError("UNAUTHENTICATED"))
      yield* server.connection.close(4003, "the token has ended")
      const again = yield* greeted
      assert.deepInclude(authOf(again.hello), { token: "opaque 2" })
      assert.deepInclude(again.hello.payload["resume"], { session_id: "sess_1", resume_token: "rt_1" })
      yield* again.server.send(welcome([renewal]), result(1))
      assert.strictEqual(yield* job.result, 7)
    })
  )

  for (const [what, isHeard] of [
    ["that is away for a moment", true],
    ["that does not answer", false]
  ] as const)
    it.scoped(
      `may have ended subscriptions: of a runtime ${what} nothing is known but that something may be missing`,
      () =>
        Effect.gen(function* () {
          const { connecting, greeted, welcomed } = yield* scripted
          let asked = 0
          const connected = yield* connecting({ reconnect: atOnce, token: () => `opaque ${++asked}` })
          const features = [renewal, Vendor.requests, "subscribe"]
          const server = yield* welcomed(welcome(features))
          const client = yield* Fiber.join(connected)
          const watching = yield* Effect.fork(client.subscribe("job_2"))
          yield* server.send(subscribed((yield* server.expect("job.subscribe")).id, 0, "job_2"))
          const watched = yield* Fiber.join(watching)
          yield* server.drop
          const { server: second } = yield* greeted
          yield* second.send(welcome(features))
          const first = yield* second.expect("job.subscribe")
          let last = second
          if (isHeard) {
            yield* second.send(sessionError("INTERNAL_ERROR", true, first.id))
            yield* settle
            yield* TestClock.adjust("5 seconds")
          } else {
            yield* second.drop
            last = (yield* greeted).server
            yield* last.send(welcome(features))
          }
          // It goes on now, perhaps because it was asked for before.
          const answer = JSON.parse(subscribed((yield* last.expect("job.subscribe")).id, 0, "job_2"))
          Object.assign(answer.payload, { [Vendor.goesOn]: true })
          yield* last.send(JSON.stringify(answer))
          const told = Option.getOrThrow(yield* Stream.runHead(watched.events))
          assert.deepInclude(told.body, { reason: "unsubscribed" })
        })
    )

  for (const goesOn of [true, false])
    it.scoped(
      `may have ended subscriptions to jobs of others: asked, one ${goesOn ? "goes on" : "had"}`,
      () =>
        Effect.gen(function* () {
          const { connecting, greeted, submitted, welcomed } = yield* scripted
          let asked = 0
          const connected = yield* connecting({ reconnect: atOnce, token: () => `opaque ${++asked}` })
          const features = [renewal, Vendor.requests, "subscribe"]
          const server = yield* welcomed(welcome(features))
          const client = yield* Fiber.join(connected)
          yield* submitted(client, server)
          const watching = yield* Effect.fork(client.subscribe("job_2"))
          yield* server.send(subscribed((yield* server.expect("job.subscribe")).id, 0, "job_2"))
          const watched = yield* Fiber.join(watching)
          // Left while nothing is connected: not to be asked for again.
          const scope = yield* Scope.make()
          const leaving = yield* Effect.fork(Scope.extend(client.subscribe("job_3"), scope))
          yield* server.send(subscribed((yield* server.expect("job.subscribe")).id, 0, "job_3"))
          yield* Fiber.join(leaving)
          yield* server.drop
          const { server: again } = yield* greeted
          yield* Scope.close(scope, Exit.void)
          yield* again.send(welcome(features))
          const { id, job_id } = yield* again.expect("job.subscribe")
          assert.strictEqual(job_id, "job_2")
          // What is replayed comes after the answer, and is of numbers before that.
          const answer = JSON.parse(subscribed(id, 3, "job_2"))
          Object.assign(answer.payload, goesOn ? { [Vendor.goesOn]: true } : {})
          const events = [1, 2, 3].map((seq) => event(seq, undefined, "log", "job_2"))
          yield* again.send(JSON.stringify(answer), ...events, result(4, undefined, "job_2"))
          assert.deepStrictEqual(
            Array.from(yield* Stream.runCollect(watched.events), ({ body, eventSeq, kind }) =>
              kind === "gap" ? body.reason : eventSeq
            ),
            [...(goesOn ? [] : ["unsubscribed"]), 1, 2, 3]
          )
          // And is the only one.
          yield* Effect.fork(client.submit("x", 1))
          const types: Array<string> = []
          while (!types.includes("job.submit")) types.push(...(yield* again.received).map(({ type }) => type))
          assert.notInclude(types, "job.subscribe")
        })
    )
})

describe("subscriptions that a token may have ended", () => {
  /** A client with so many subscriptions, to jobs 1 and on, that has come back with another token. */
  const another = (count: number) =>
    Effect.gen(function* () {
      const { connecting, greeted, welcomed } = yield* scripted
      let asked = 0
      const connected = yield* connecting({ reconnect: atOnce, token: () => `opaque ${++asked}` })
      const features = [renewal, Vendor.requests, "subscribe"]
      const server = yield* welcomed(welcome(features))
      const client = yield* Fiber.join(connected)
      const watched: Array<Effect.Effect.Success<ReturnType<typeof client.subscribe>>> = []
      for (let i = 1; i <= count; i++) {
        const watching = yield* Effect.fork(client.subscribe(`job_${i}`))
        yield* server.send(subscribed((yield* server.expect("job.subscribe")).id, 0, `job_${i}`))
        watched.push(yield* Fiber.join(watching))
      }
      yield* server.drop
      const { server: again } = yield* greeted
      yield* again.send(welcome(features))
      return { again, client, watched }
    })
  const goesOn = (id: string, jobId: string) => {
    const answer = JSON.parse(subscribed(id, 0, jobId))
    return JSON.stringify({ ...answer, payload: { ...answer.payload, [Vendor.goesOn]: true } })
  }

  it.scoped("what goes on then may be that of a handle that is new", () =>
    Effect.gen(function* () {
      const { again, client, watched } = yield* another(1)
      const { id } = yield* again.expect("job.subscribe")
      const watching = yield* Effect.fork(client.subscribe("job_1"))
      const second = yield* again.expect("job.subscribe")
      // It is repeated to a runtime that has begun it anew for the handle.
      yield* again.send(subscribed(second.id, 0, "job_1"))
      yield* Fiber.join(watching)
      yield* again.send(goesOn(id, "job_1"))
      const told = Option.getOrThrow(yield* Stream.runHead((watched[0] as (typeof watched)[number]).events))
      assert.deepInclude(told.body, { reason: "unsubscribed" })
    })
  )
})

describe("the renewal of a token that says when it ends", () => {
  it.scoped("is a resume before that, with what was asked for while the connection was there", () =>
    Effect.gen(function* () {
      const { connecting, greeted, submitted, welcomed } = yield* scripted
      let asked = 0
      const connected = yield* connecting({ token: async () => ending(600 * ++asked, asked) })
      const server = yield* welcomed(welcome([renewal]))
      const client = yield* Fiber.join(connected)
      const job = yield* submitted(client, server)
      yield* settle
      yield* TestClock.adjust("569 seconds")
      yield* settle
      assert.strictEqual(asked, 1)
      yield* TestClock.adjust("1 second")
      yield* settle
      const again = yield* greeted
      assert.deepInclude(authOf(again.hello), { token: ending(1200, 2) })
      assert.deepInclude(again.hello.payload["resume"], { session_id: "sess_1" })
      assert.strictEqual(asked, 2)
      yield* again.server.send(welcome([renewal]), result(1))
      assert.strictEqual(yield* job.result, 7)
      // Nothing of it is a lost connection.
      assert.strictEqual((yield* client.status.get)._tag, "Connected")
    })
  )

  it.scoped(
    "is tried again while it fails, and waits while it is the same, without touching the connection",
    () =>
      Effect.gen(function* () {
        const { connecting, dialled, greeted, welcomed } = yield* scripted
        let asked = 0
        const connected = yield* connecting({
          token: () => {
            asked++
            if (asked > 6) return Effect.succeed(ending(1200))
            return asked % 2 === 1 ? Effect.succeed(ending(600)) : Effect.fail("no network")
          }
        })
        const server = yield* welcomed(welcome([renewal]))
        const client = yield* Fiber.join(connected)
        yield* settle
        yield* TestClock.adjust("570 seconds")
        yield* settle
        yield* pass(2)
        assert.isAbove(asked, 2)
        const ping = yield* Effect.fork(client.ping)
        const { payload } = yield* server.expect("session.ping")
        yield* server.send(message("session.pong", { ping_nonce: payload["nonce"], received_at: "" }))
        yield* Fiber.join(ping)
        assert.strictEqual(yield* dialled, 1)
        yield* pass(20)
        assert.deepInclude(authOf((yield* greeted).hello), { token: ending(1200) })
        assert.isBelow(asked, 12)
      })
  )

  it.scoped(
    "is not tried with runtimes that do not know it, nor of a token that has ended, or says nothing",
    () =>
      Effect.gen(function* () {
        for (const [token, features] of [
          [ending(600), []],
          [ending(-5), [renewal]],
          ["a.b.c", [renewal]],
          [`e30.${btoa(JSON.stringify({ exp: "soon" }))}.x`, [renewal]]
        ] as const) {
          const { connecting, dialled, welcomed } = yield* scripted
          let asked = 0
          const connected = yield* connecting({
            token: () => {
              asked++
              return token
            }
          })
          yield* welcomed(welcome(features))
          yield* Fiber.join(connected)
          yield* settle
          yield* TestClock.adjust("1 hour")
          yield* settle
          assert.deepStrictEqual([asked, yield* dialled], [1, 1], token)
        }
      })
  )
})

const secret = "a secret of at least thirty-two bytes!"
/** Signs a token that is good for so many seconds of the test's clock. */
const sign = (seconds: number, sub = "alice") =>
  Effect.flatMap(
    Effect.clockWith((clock) => clock.currentTimeMillis),
    (now) =>
      Effect.promise(() =>
        new jose.SignJWT({ sub, exp: Math.floor(now / 1000) + seconds, jti: `${Math.random()}` })
          .setProtectedHeader({ alg: "HS256" })
          .sign(new TextEncoder().encode(secret))
      )
  )
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
const running = <A, E, R>(body: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    yield* TestClock.setTime(1_700_000_000_000)
    const disk = yield* Disk.make
    const auth = Layer.orDie(AuthJwt.layer({ key: { secret }, clockTolerance: 0 }))
    return yield* (yield* boot([ticking], { disk, auth })).run(body)
  })
const ticks = Array.from({ length: 12 }, (_, i) => `tick ${i + 1}`)
const messages = (events: Iterable<ArcpClient.JobEvent>) =>
  [...events].flatMap((event) => (event.kind === "log" ? [event.body.message] : []))

describe("with JWTs of seconds", () => {
  it.scoped("a session goes on over many of them, and its connection never ends with one", () =>
    running(
      Effect.gen(function* () {
        let asked = 0
        const token = Effect.suspend(() => {
          asked++
          return sign(20)
        })
        const client = yield* ArcpClient.make({ token })
        const statuses = yield* Effect.fork(Stream.runCollect(client.status.changes))
        const job = yield* client.submit("ticking", 12)
        const events = yield* Effect.fork(Stream.runCollect(job.events))
        yield* pass(125)
        assert.strictEqual(yield* job.result, "done")
        assert.deepStrictEqual(messages(yield* Fiber.join(events)), ticks)
        assert.isAtLeast(asked, 7)
        assert.isAtMost(asked, 12)
        yield* client.ping
        yield* client.close
        const seen = [...(yield* Fiber.join(statuses))].map(({ _tag }) => _tag)
        assert.notInclude(seen, "Reconnecting")
      })
    )
  )

  it.scoped("a job whose token ends while the connection is away is not lost to its client", () =>
    running(
      Effect.gen(function* () {
        let away = false
        const { connect } = yield* Dialer
        const dialer = Dialer.of({
          connect: Effect.suspend(() =>
            away ? Effect.fail(new TransportError({ message: "no network" })) : connect
          )
        })
        const client = yield* Effect.provideService(
          ArcpClient.make({ token: () => sign(20) }),
          Dialer,
          dialer
        )
        const job = yield* client.submit("ticking", 12)
        const events = yield* Effect.fork(Stream.runCollect(job.events))
        yield* pass(5)
        away = true
        yield* client.dropTransport
        yield* pass(60)
        assert.strictEqual((yield* client.status.get)._tag, "Reconnecting")
        away = false
        yield* pass(65)
        assert.strictEqual(yield* job.result, "done")
        assert.deepStrictEqual(messages(yield* Fiber.join(events)), ticks)
      })
    )
  )

  it.scoped("a fixed one sees its own jobs to their end, and then ends the session for what it is", () =>
    running(
      Effect.gen(function* () {
        const client = yield* ArcpClient.make({ token: yield* sign(20) })
        const job = yield* client.submit("ticking", 12)
        yield* pass(30)
        const refused = yield* Effect.flip(client.submit("ticking", 1))
        assert.strictEqual(refused._tag, "Unauthenticated")
        yield* pass(95)
        assert.strictEqual(yield* job.result, "done")
        yield* pass(5)
        const end = yield* client.status.get
        assert.strictEqual(end._tag === "Closed" && end.error?._tag, "Unauthenticated")
      })
    )
  )

  it.scoped("a function that gives another principal's gives another session", () =>
    running(
      Effect.gen(function* () {
        let asked = 0
        const client = yield* ArcpClient.make({
          token: Effect.suspend(() => sign(20, ++asked === 1 ? "alice" : "bob"))
        })
        const { sessionId } = yield* client.resumeState
        yield* pass(20)
        assert.notStrictEqual((yield* client.resumeState).sessionId, sessionId)
        yield* client.ping
      })
    )
  )

  it.scoped("closing does not wait for a token that does not come", () =>
    running(
      Effect.gen(function* () {
        const asking = yield* Deferred.make<void>()
        let asked = 0
        const client = yield* ArcpClient.make({
          token: Effect.suspend(() =>
            ++asked === 1 ? sign(20) : Effect.zipRight(Deferred.succeed(asking, undefined), Effect.never)
          )
        })
        yield* Effect.fork(pass(20))
        yield* Deferred.await(asking)
        yield* client.close
        const end = yield* client.status.get
        assert.strictEqual(end._tag, "Closed")
        assert.isUndefined(end._tag === "Closed" ? end.error : Cause.empty)
      })
    )
  )
})
