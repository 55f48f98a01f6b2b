/** Identities from what the peer shows (§6.1): over real sockets, with a cookie, a proxy's header, a certificate. */
import { createServer } from "node:http"
import { createServer as createHttpsServer, type ServerOptions } from "node:https"
import type { AddressInfo } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { WebSocket } from "ws"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as AuthLayer from "../../../src/layers/auth/Auth.js"
import * as AuthPeer from "../../../src/layers/auth/AuthPeer.js"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as RuntimeOptions from "../../../src/layers/runtime/RuntimeOptions.js"
import * as DialerWebSocket from "../../../src/layers/transport/DialerWebSocket.js"
import * as TransportWebSocket from "../../../src/layers/transport/TransportWebSocket.js"
import { InternalError, Unauthenticated } from "../../../src/protocol/Errors.js"
import { Auth } from "../../../src/services/auth/Auth.js"
import { type Peer, TransportServer } from "../../../src/services/transport/Transport.js"
import { agentsForClients, Count } from "../../support/agents.js"
import { open } from "../../support/Wire.js"
import { selfSigned } from "../transport/certificate.js"

const secret = "s3cr3t-of-alice"

/** Sessions of web pages, as an application would keep them. */
const sessions: Readonly<Record<string, string>> = {
  [secret]: "alice",
  "other-of-alice": "alice",
  "of-bob": "bob"
}
const byCookie: AuthPeer.PeerJudge = (peer) =>
  Effect.flatMap(AuthPeer.cookie(peer, "session"), (cookie) => {
    const principal = sessions[Redacted.value(cookie)]
    return principal === undefined
      ? new Unauthenticated({ message: "there is no such session" })
      : Effect.succeed({ principal })
  })
const tokens = AuthLayer.layerStatic({ "token-of-carol": "carol" })

/** A runtime on an HTTP, or HTTPS, server of the application. */
const serving = (
  auth: Layer.Layer<Auth>,
  { tls, ...policy }: TransportWebSocket.UpgradePolicy & { readonly tls?: ServerOptions } = {}
) =>
  Effect.gen(function* () {
    const options = { maxHeaderSize: 128 * 1024 }
    const server = tls === undefined ? createServer(options) : createHttpsServer({ ...options, ...tls })
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () => Effect.sync(() => server.close())
    )
    const services = yield* Layer.build(
      Runtime.serve().pipe(
        Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: "0 millis" } })),
        Layer.provide(Registry.layer(agentsForClients)),
        Layer.provide(auth),
        Layer.provideMerge(TransportWebSocket.mount({ ...policy, server })),
        Layer.provide(RuntimeOptions.layer())
      )
    )
    const { address } = Context.get(services, TransportServer)
    return {
      url: address.replace("127.0.0.1", "localhost"),
      origin: `http://localhost:${(server.address() as AddressInfo).port}`
    }
  })

type Headers = Readonly<Record<string, string>>

/** Runs a job; the client may have a token or not, and sends these headers. */
const runs = (url: string, headers: Headers, token?: string) =>
  Effect.gen(function* () {
    const client = yield* ArcpClient.make({ token: token === undefined ? undefined : Redacted.make(token) })
    return yield* (yield* client.submit(Count, { to: 2 })).result
  }).pipe(Effect.scoped, Effect.provide(DialerWebSocket.layer({ url, headers })))

const works = (url: string, headers: Headers, token?: string) =>
  Effect.map(runs(url, headers, token), (result) => assert.strictEqual(result, 2))
const refused = (url: string, headers: Headers, code: string, token?: string) =>
  Effect.map(Effect.flip(runs(url, headers, token)), (error) => assert.strictEqual(error.code, code))

describe("a cookie", () => {
  it.scopedLive("is who the page is; a hello with a token is judged by that alone", () =>
    Effect.gen(function* () {
      const { url } = yield* serving(tokens.pipe(AuthPeer.withPeer(byCookie)))
      const alice = { Cookie: `theme=dark; session=${secret}` }
      yield* works(url, alice)
      yield* works(url, {}, "token-of-carol")
      yield* refused(url, {}, "UNAUTHENTICATED")
      yield* refused(url, { Cookie: "session=nobody" }, "UNAUTHENTICATED")
      yield* refused(url, { Cookie: `session=${secret}; session=of-bob` }, "UNAUTHENTICATED")
      yield* refused(url, { Cookie: `xsession=${secret}` }, "UNAUTHENTICATED")
      // A good cookie is no help for a bad token.
      yield* refused(url, alice, "UNAUTHENTICATED", "nobody's")
    })
  )

  it.scopedLive("is taken from the server's own pages and listed ones: no other site can ride on it", () =>
    Effect.gen(function* () {
      const { origin, url } = yield* serving(tokens.pipe(AuthPeer.withPeer(byCookie)), {
        allowedOrigins: ["https://app.example.com"]
      })
      const from = (Origin: string) => ({ Origin, Cookie: `session=${secret}` })
      yield* works(url, from(origin))
      yield* works(url, from("https://app.example.com"))
      yield* refused(url, from("https://evil.example.com"), "TRANSPORT_ERROR")
      yield* refused(url, from("null"), "TRANSPORT_ERROR")
    })
  )

  it.scopedLive("of a page that only `*` lets in is not looked at: it has to bring a token", () =>
    Effect.gen(function* () {
      const { origin, url } = yield* serving(tokens.pipe(AuthPeer.withPeer(byCookie)), {
        allowedOrigins: ["*", "https://app.example.com"]
      })
      const from = (Origin: string) => ({ Origin, Cookie: `session=${secret}` })
      yield* refused(url, from("https://evil.example.com"), "UNAUTHENTICATED")
      yield* works(url, from("https://evil.example.com"), "token-of-carol")
      yield* works(url, from("https://app.example.com"))
      yield* works(url, from(origin))
      yield* works(url, { Cookie: `session=${secret}` })
    })
  )

  it.scopedLive("resumes the session of its principal, and no other's", () =>
    Effect.gen(function* () {
      const { url } = yield* serving(Layer.succeed(Auth, AuthPeer.fromPeer(byCookie)))
      const as = <A, E, R>(cookie: string, effect: Effect.Effect<A, E, R>) =>
        Effect.provide(effect, DialerWebSocket.layer({ url, headers: { Cookie: `session=${cookie}` } }))
      const first = yield* as(secret, open({ auth: undefined }))
      const resume = {
        session_id: first.sessionId,
        resume_token: first.welcome.resume_token,
        last_event_seq: 0
      }
      const other = yield* Effect.flip(
        Effect.catchAllDefect(as("of-bob", open({ auth: undefined, resume })), (defect) =>
          Effect.fail(String(defect))
        )
      )
      assert.include(other as string, "RESUME_WINDOW_EXPIRED")
      // Another cookie of the same principal: it is the principal that counts.
      const second = yield* as("other-of-alice", open({ auth: undefined, resume }))
      assert.strictEqual(second.sessionId, first.sessionId)
    })
  )

  it.scopedLive("is not logged, not shown, and not held after the hello", () => {
    const lines: Array<string> = []
    const all = Layer.mergeAll(
      Logger.replace(
        Logger.defaultLogger,
        Logger.make((entry) =>
          lines.push(Logger.structuredLogger.log(entry) as never, Logger.logfmtLogger.log(entry))
        )
      ),
      Logger.minimumLogLevel(LogLevel.All)
    )
    return Effect.gen(function* () {
      const seen: Array<Peer> = []
      const judge: AuthPeer.PeerJudge = (peer) =>
        Effect.zipRight(
          Effect.sync(() => seen.push(peer)).pipe(Effect.zipRight(Effect.logDebug("a peer", peer))),
          byCookie(peer)
        )
      const { url } = yield* serving(Layer.succeed(Auth, AuthPeer.fromPeer(judge)))
      yield* works(url, { Cookie: `session=${secret}` })
      yield* refused(url, { Cookie: `session=${secret}x` }, "UNAUTHENTICATED")
      assert.include(seen[0], { kind: "websocket", address: "127.0.0.1" })
      assert.isAtLeast(lines.length, 1)
      assert.notInclude(JSON.stringify(seen) + JSON.stringify(lines), secret)
      assert.notInclude(String(yield* Effect.flip(runs(url, { Cookie: `session=${secret}x` }))), secret)
    }).pipe(Effect.provide(all))
  })

  it.scopedLive("cannot be longer than is held for it", () =>
    Effect.gen(function* () {
      const { url } = yield* serving(Layer.succeed(Auth, AuthPeer.fromPeer(byCookie)))
      const error = yield* Effect.flip(runs(url, { Cookie: `session=${secret}; x=${"x".repeat(40_000)}` }))
      assert.include(error.message, "431")
    })
  )

  it.scopedLive("that cannot be looked up at the moment is INTERNAL_ERROR: the client may try again", () =>
    Effect.gen(function* () {
      const down = AuthPeer.fromPeer(() => new InternalError({ message: "the sessions are out of reach" }))
      const { url } = yield* serving(Layer.succeed(Auth, down))
      yield* Effect.gen(function* () {
        const refusal = yield* Effect.flip(
          Effect.catchAllDefect(open({ auth: undefined }), (defect) => Effect.fail(String(defect)))
        )
        assert.include(refusal as string, "1013")
      }).pipe(Effect.provide(DialerWebSocket.layer({ url })))
    })
  )
})

it.scopedLive("a connection gives its evidence once", () =>
  Effect.gen(function* () {
    const { address, connections } = yield* TransportServer
    const ws = new WebSocket(address, { headers: { Cookie: "a=b", "X-Two": "1" } })
    yield* Effect.addFinalizer(() => Effect.sync(() => ws.terminate()))
    const { evidence } = yield* Effect.flatten(Stream.runHead(connections))
    const given = yield* evidence ?? Effect.die("it has none")
    assert.deepStrictEqual(given.headers?.cookie?.map(Redacted.value), ["a=b"])
    assert.deepStrictEqual(given.headers?.["x-two"]?.map(Redacted.value), ["1"])
    assert.isUndefined(given.headers?.constructor)
    assert.deepStrictEqual(yield* evidence ?? Effect.die("it has none"), {})
  }).pipe(Effect.provide(TransportWebSocket.layer({ port: 0 }).pipe(Layer.provide(RuntimeOptions.layer()))))
)

describe("a trusted proxy", () => {
  const behind = (from: ReadonlyArray<string>) =>
    Layer.succeed(Auth, AuthPeer.fromPeer(AuthPeer.behindProxy({ from, header: "X-Forwarded-User" })))

  it.scopedLive("names the principal", () =>
    Effect.gen(function* () {
      const { url } = yield* serving(behind(["127.0.0.1", "::1"]))
      yield* works(url, { "x-forwarded-user": "alice" })
      yield* refused(url, {}, "UNAUTHENTICATED")
      yield* refused(url, { "x-forwarded-user": "" }, "UNAUTHENTICATED")
    })
  )

  it.scopedLive("is one that connects from there; everybody else can write the header too", () =>
    Effect.gen(function* () {
      const { url } = yield* serving(behind(["10.0.0.2"]))
      yield* refused(url, { "x-forwarded-user": "alice" }, "UNAUTHENTICATED")
    })
  )

  it.effect("a header that came twice, or over another transport, says nothing", () =>
    Effect.gen(function* () {
      const judge = AuthPeer.behindProxy({ from: ["127.0.0.1"], header: "x-forwarded-user" })
      const names = (...values: ReadonlyArray<string>): Peer => ({
        kind: "websocket",
        remote: "127.0.0.1:1",
        address: "127.0.0.1",
        headers: { "x-forwarded-user": values.map((value) => Redacted.make(value)) }
      })
      assert.deepStrictEqual(yield* judge(names("alice")), { principal: "alice" })
      for (const peer of [
        names("alice", "mallory"),
        names(),
        names(" "),
        { ...names("alice"), kind: "stdio" as const },
        { kind: "memory" as const, remote: "memory" }
      ])
        assert.strictEqual((yield* Effect.flip(judge(peer))).code, "UNAUTHENTICATED")
      const unix = AuthPeer.behindProxy({ from: ["unix"], header: "x-forwarded-user" })
      const { address: _, ...local } = names("alice")
      assert.deepStrictEqual(yield* unix(local), { principal: "alice" })
    })
  )
})

describe("a client certificate", () => {
  const byCertificate = Layer.succeed(
    Auth,
    AuthPeer.fromPeer(({ certificate }) =>
      typeof certificate?.subject.CN === "string"
        ? Effect.succeed({ principal: certificate.subject.CN, expiresAt: certificate.validTo })
        : new Unauthenticated({ message: "a client certificate is needed" })
    )
  )

  it.scopedLive("that the server trusts names the principal; any other, or none, does not", () =>
    Effect.gen(function* () {
      const server = selfSigned()
      const known = selfSigned()
      const stranger = selfSigned()
      const tls = { ...server, requestCert: true, rejectUnauthorized: false, ca: [known.cert] }
      const { url } = yield* serving(byCertificate, { tls })
      const hello = (client?: { readonly key: string; readonly cert: string }) =>
        Effect.async<string>((resume) => {
          const ws = new WebSocket(url, { ca: server.cert, ...client })
          ws.on("open", () =>
            ws.send(
              JSON.stringify({
                arcp: "1.1",
                id: "m1",
                type: "session.hello",
                payload: { client: { name: "test", version: "1" } }
              })
            )
          )
          ws.on("message", (data) => {
            resume(Effect.succeed(String(data)))
            ws.terminate()
          })
          ws.on("error", (error) => resume(Effect.succeed(String(error))))
        })
      assert.include(yield* hello(known), '"session.welcome"')
      assert.include(yield* hello(stranger), '"UNAUTHENTICATED"')
      assert.include(yield* hello(), '"UNAUTHENTICATED"')
    })
  )
})
