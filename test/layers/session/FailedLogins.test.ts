/** Failed logins are slowed down, each peer's by themselves (protocol 4.1): over sockets, under a clock of the test's. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { WebSocket } from "ws"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import { FailedLogins } from "../../../src/layers/session/FailedLogins.js"
import * as Identifying from "../../../src/layers/session/identifying.js"
import * as Logins from "../../../src/layers/session/Logins.js"
import { addressGroup, trustedProxies } from "../../../src/layers/transport/clientAddress.js"
import * as TransportWebSocket from "../../../src/layers/transport/TransportWebSocket.js"
import { Unauthenticated } from "../../../src/protocol/Errors.js"
import { families } from "../../../src/services/runtime/Metrics.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { TransportServer } from "../../../src/services/transport/Transport.js"
import { measured } from "../../support/measured.js"
import { hello } from "../../support/Wire.js"

const serving = (policy: TransportWebSocket.UpgradePolicy, options: RuntimeOptions.Input = {}) =>
  Layer.build(
    Runtime.serve().pipe(
      Layer.provideMerge(TransportWebSocket.layer({ port: 0, ...policy })),
      Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: "0 millis", ...options } })),
      Layer.provide(Registry.layer([])),
      Layer.provide(Auth.layerStatic({ alice: "alice" }))
    )
  ).pipe(Effect.map((services) => Context.get(services, TransportServer).address))

/** Says hello, and keeps what the first answer is. */
const login = (address: string, token: string, from?: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const headers = from === undefined ? {} : { "x-forwarded-for": from }
      const ws = new WebSocket(address, { headers })
      const state: { answer: string | undefined } = { answer: undefined }
      const answered = new Promise<string>((resolve) => {
        ws.on("message", (data) => {
          const { payload, type } = JSON.parse(data.toString())
          state.answer ??= payload.code ?? type
          resolve(state.answer as string)
        })
      })
      ws.on("error", () => {})
      ws.on("open", () => {
        const payload = hello({ auth: { scheme: "bearer", token } })
        ws.send(JSON.stringify({ arcp: "1.1", id: "m1", type: "session.hello", payload }))
      })
      return { ws, state, answer: Effect.promise(() => answered) }
    }),
    ({ ws }) => Effect.sync(() => ws.terminate())
  )
const answer = (...args: Parameters<typeof login>) => Effect.flatMap(login(...args), (made) => made.answer)

/** Logins that this judges, at a time that the test sets. */
const loginsOf = (authenticate: Auth.Auth["Type"]["authenticate"], elapsed = () => 0) =>
  Logins.make({
    auth: { authenticate },
    options: RuntimeOptions.make(),
    secrets: { digest: Effect.succeed, resumeToken: Effect.succeed(Redacted.make("")) },
    elapsed
  })

const bad = "nobody"
const proxied = { trustedProxies: ["127.0.0.0/8", "10.0.0.0/8"] }

describe("failed logins", () => {
  it.scoped("of one address are answered one per interval after the first few; good ones do not wait", () =>
    Effect.gen(function* () {
      const address = yield* serving({})
      for (let i = 0; i < 5; i++) assert.strictEqual(yield* answer(address, bad), "UNAUTHENTICATED")
      const sixth = yield* login(address, bad)
      for (let i = 0; i < 3; i++) assert.strictEqual(yield* answer(address, "alice"), "session.welcome")
      assert.isUndefined(sixth.state.answer)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* sixth.answer, "UNAUTHENTICATED")
    })
  )

  it.scoped("that wait take no place of those that have not said hello", () =>
    Effect.gen(function* () {
      const address = yield* serving({}, { maxPendingHellos: 1 })
      for (let i = 0; i < 5; i++) yield* answer(address, bad)
      const waiting = yield* Effect.forEach([1, 2, 3], () => login(address, bad))
      assert.strictEqual(yield* answer(address, "alice"), "session.welcome")
      assert.isTrue(waiting.every(({ state }) => state.answer === undefined))
    })
  )

  it.scoped("are not looked at while too many wait, and are again when those have been answered", () =>
    Effect.gen(function* () {
      const address = yield* serving(proxied)
      const waiting = []
      for (let i = 0; i < 10; i++) {
        waiting.push(yield* login(address, bad, "192.0.2.1"))
        // One that is welcome shows that the one before it has been decided.
        assert.strictEqual(yield* answer(address, "alice", "192.0.2.2"), "session.welcome")
      }
      const more = yield* login(address, "alice", "192.0.2.1")
      assert.strictEqual(yield* more.answer, "INTERNAL_ERROR")
      assert.strictEqual(waiting.filter(({ state }) => state.answer === undefined).length, 5)
      yield* TestClock.adjust("5 seconds")
      for (const each of waiting) assert.strictEqual(yield* each.answer, "UNAUTHENTICATED")
      assert.strictEqual(yield* answer(address, "alice", "192.0.2.1"), "session.welcome")
    })
  )

  it.scoped("behind a trusted proxy are those of the client, behind another one the proxy's", () =>
    Effect.gen(function* () {
      const address = yield* serving(proxied)
      // What a client writes into the header itself comes before what its proxies add.
      for (let i = 0; i < 5; i++) yield* answer(address, bad, `198.51.100.${i}, 192.0.2.7, 10.1.2.3`)
      const slowed = yield* login(address, bad, "192.0.2.7:4711")
      assert.strictEqual(yield* answer(address, bad, "192.0.2.8"), "UNAUTHENTICATED")
      assert.isUndefined(slowed.state.answer)
      const open = yield* serving({})
      for (let i = 0; i < 5; i++) yield* answer(open, bad, `192.0.2.${i}`)
      const again = yield* login(open, bad, "192.0.2.99")
      yield* answer(open, "alice")
      assert.isUndefined(again.state.answer)
    })
  )

  it.scoped("that wait hold no shutdown", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const address = yield* Scope.extend(serving({}), scope)
      for (let i = 0; i < 5; i++) yield* answer(address, bad)
      const held = yield* login(address, bad)
      yield* answer(address, "alice")
      yield* Scope.close(scope, Exit.void)
      // Its answer was due in a second that has not passed.
      assert.strictEqual(yield* held.answer, "UNAUTHENTICATED")
    })
  )

  it("are remembered of a thousand addresses, and forgotten with time", () => {
    let now = 0
    const logins = new FailedLogins(RuntimeOptions.make(), () => now)
    for (let i = 0; i < 5_000; i++) logins.failed(`address ${i}`)
    assert.strictEqual(logins.size, 1_000)
    for (let i = 0; i < 1_000; i++) logins.failed("flood")
    assert.isTrue(logins.crowded("flood"))
    assert.isFalse(logins.crowded("other"))
    now += 66_000
    assert.strictEqual(logins.failed("flood"), 0)
  })

  it("are not slowed down when the interval is zero", () => {
    const logins = new FailedLogins(RuntimeOptions.make({ failedLoginInterval: 0 }), () => 0)
    for (let i = 0; i < 100; i++) assert.strictEqual(logins.failed("one"), 0)
    assert.isFalse(logins.crowded("one"))
  })
})

describe("an address that many share", () => {
  const shared = () => {
    let now = 0
    let asked = 0
    const logins = loginsOf(
      ({ token }) =>
        Effect.suspend(() => {
          asked++
          return token !== undefined && /^(alice|bob)$/.test(Redacted.value(token))
            ? Effect.succeed({ principal: Redacted.value(token) })
            : new Unauthenticated({ message: "who is that?" })
        }),
      () => now
    )
    /** Logs in from there; gives what came of it. */
    const login = (token?: string, address = "shared") =>
      Effect.match(
        logins(address, {
          peer: { kind: "http", remote: address },
          token: token === undefined ? undefined : Redacted.make(token)
        }),
        { onFailure: ({ error }) => error.code, onSuccess: ({ principal }) => principal }
      )
    return {
      login,
      wait: (ms: number) => {
        now += ms
      },
      asked: () => asked
    }
  }

  it.effect("is not closed to a token that was good there, by others that are good no more", () =>
    Effect.gen(function* () {
      const { login, wait } = shared()
      assert.strictEqual(yield* login("alice"), "alice")
      const others: Array<string> = []
      // Two stale clients, each with two requests a second.
      for (let at = 0; at < 60_000; at += 250) {
        others.push(yield* login(`stale ${at % 500}`))
        assert.strictEqual(yield* login("alice"), "alice", `after ${at} ms`)
        wait(250)
      }
      assert.include(others, "INTERNAL_ERROR")
      // A token that is new there is a guess like others.
      assert.strictEqual(yield* login("bob"), "INTERNAL_ERROR")
      assert.strictEqual(yield* login("bob", "elsewhere"), "bob")
    })
  )

  it.effect("is not closed by those who show no token", () =>
    Effect.gen(function* () {
      const { login, wait } = shared()
      for (let at = 0; at < 60_000; at += 250) {
        assert.strictEqual(yield* login(), "UNAUTHENTICATED")
        wait(250)
      }
      assert.strictEqual(yield* login("alice"), "alice")
    })
  )

  it.effect("lets nobody guess quickly, not even what was good there", () =>
    Effect.gen(function* () {
      const { asked, login, wait } = shared()
      yield* login("alice")
      let found = 0
      for (let at = 0; at < 60_000; at += 5) {
        // Of a hundred guesses one is right.
        if ((yield* login(at % 500 === 495 ? "alice" : `guess ${at}`)) === "alice") found++
        wait(5)
      }
      assert.isBelow(asked() - found, 100)
      assert.isBelow(found, 60)
      // Nor what else than a token may be a secret.
      const before = asked()
      for (let i = 0; i < 1_000; i++) yield* login(undefined, "other")
      assert.isBelow(asked() - before, 150)
    })
  )

  it.effect("is closed to a token that is good no more", () =>
    Effect.gen(function* () {
      let isGood = true
      const logins = loginsOf(() =>
        isGood ? Effect.succeed({ principal: "alice" }) : new Unauthenticated({ message: "it has ended" })
      )
      const request = { peer: { kind: "http", remote: "here" }, token: Redacted.make("alice") } as const
      yield* logins("here", request)
      isGood = false
      const codes = []
      for (let i = 0; i < 30; i++) codes.push((yield* Effect.flip(logins("here", request))).error.code)
      assert.strictEqual(codes.at(-1), "INTERNAL_ERROR")
    })
  )
})

describe("addresses", () => {
  it("of IPv6 count by their network", () => {
    assert.strictEqual(addressGroup("2001:db8:1:2:3:4:5:6"), addressGroup("2001:db8:1:2::9"))
    assert.notStrictEqual(addressGroup("2001:db8:1:2::1"), addressGroup("2001:db8:1:3::1"))
    assert.strictEqual(addressGroup("::1"), "0:0:0:0::/64")
    assert.strictEqual(addressGroup("192.0.2.1"), "192.0.2.1")
    assert.strictEqual(addressGroup("unix"), "unix")
  })

  it("of proxies are checked", () => {
    const trusted = trustedProxies(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "unix"])
    for (const inside of ["10.9.8.7", "2001:db8:7::1", "192.0.2.1", "unix"]) assert.isTrue(trusted(inside))
    for (const outside of ["11.0.0.1", "2001:db9::1", "192.0.2.2", "nonsense"])
      assert.isFalse(trusted(outside))
    for (const wrong of ["localhost", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8/8", "::/129", "", "10.0.0/8"])
      assert.throws(() => trustedProxies([wrong]), /neither an IP address/)
  })
})

describe("who asks without a hello", () => {
  it.effect("is counted when refused, as whoever says hello is", () =>
    Effect.gen(function* () {
      const options = RuntimeOptions.make()
      const asking = (isMeasured: boolean) =>
        Effect.flip(
          Identifying.make({
            logins: loginsOf(() => new Unauthenticated({ message: "who is that?" })),
            options,
            stopping: () => false,
            isMeasured,
            halted: Effect.void
          })({ kind: "http", remote: "here" }, undefined)
        )
      const count = () => measured(families.loginsRefused, "unauthenticated")
      const before = count()
      yield* asking(false)
      assert.strictEqual(count() - before, 0)
      yield* asking(true)
      assert.strictEqual(count() - before, 1)
    })
  )

  it.scoped("is told in time that a verifier which cannot be interrupted has not decided", () =>
    Effect.gen(function* () {
      const options = RuntimeOptions.make({ helloTimeout: "10 seconds" })
      const begun = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const authenticate = Identifying.make({
        logins: loginsOf(() =>
          Deferred.succeed(begun, undefined).pipe(
            Effect.zipRight(Deferred.await(release)),
            Effect.as({ principal: "alice" }),
            Effect.uninterruptible
          )
        ),
        options,
        stopping: () => false,
        isMeasured: true,
        halted: Effect.never
      })
      const asking = yield* Effect.fork(
        Effect.flip(authenticate({ kind: "http", remote: "here" }, undefined))
      )
      yield* Deferred.await(begun)
      yield* TestClock.adjust("10 seconds")
      yield* Effect.repeatN(eventLoop.next, 5)
      const told = asking.unsafePoll()
      yield* Deferred.succeed(release, undefined)
      const error = yield* Fiber.join(asking)
      assert.isNotNull(told)
      assert.strictEqual(error._tag, "InternalError")
    })
  )
})
