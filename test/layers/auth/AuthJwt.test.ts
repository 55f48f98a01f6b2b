import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import * as FileSystem from "@effect/platform/FileSystem"
import { describe, expect, it, vi } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as jose from "jose"
import * as AuthJwt from "../../../src/layers/auth/AuthJwt.js"
import { remoteKeys } from "../../../src/layers/auth/remoteKeys.js"
import { Auth } from "../../../src/services/auth/Auth.js"

const secret = "a secret of at least thirty-two bytes!"
const now = 1_700_000_000
const lease = { "tool.call": ["search.*"], "cost.budget": ["USD:5.00"] }

const sign = (
  claims: jose.JWTPayload,
  key: jose.CryptoKey | Uint8Array = new TextEncoder().encode(secret),
  header: jose.JWTHeaderParameters = { alg: "HS256" }
) => Effect.promise(() => new jose.SignJWT(claims).setProtectedHeader(header).sign(key))

const peer = { kind: "memory", remote: "memory" } as const

const verify = (token: string) =>
  Effect.flatMap(Auth, (auth) => auth.authenticate({ peer, token: Redacted.make(token) }))
const refusedBy = (token: string) =>
  Effect.map(Effect.flip(verify(token)), (error) => {
    expect(error.code).toBe("UNAUTHENTICATED")
    expect(error.details).toBeUndefined()
    return error.message
  })
const atNow = TestClock.setTime(now * 1000)
const hmac = (options: Omit<AuthJwt.Options, "key"> = {}) =>
  AuthJwt.layer({ key: { secret }, clockTolerance: 0, ...options })
const valid = { sub: "alice", exp: now + 60 }
const theAnswer = "the token is missing, unknown or expired"

describe("claims", () => {
  it.effect("become the identity", () =>
    Effect.gen(function* () {
      yield* atNow
      expect(yield* verify(yield* sign(valid))).toEqual({ principal: "alice", expiresAt: (now + 60) * 1000 })
      expect(
        yield* verify(
          yield* sign({ ...valid, arcp_agents: ["echo"], arcp_lease: lease, scope: "read  write" })
        )
      ).toEqual({
        principal: "alice",
        agents: ["echo"],
        leaseCeiling: lease,
        scopes: ["read", "write"],
        expiresAt: (now + 60) * 1000
      })
    }).pipe(Effect.provide(hmac()))
  )

  it.effect("may have other names", () =>
    Effect.gen(function* () {
      yield* atNow
      const token = yield* sign({ ...valid, user: "u1", may: [], ceiling: {}, scp: ["a"], scope: "b" })
      expect(yield* verify(token)).toMatchObject({
        principal: "u1",
        agents: [],
        leaseCeiling: {},
        scopes: ["a"]
      })
    }).pipe(
      Effect.provide(
        hmac({ claims: { principal: "user", agents: "may", leaseCeiling: "ceiling", scopes: "scp" } })
      )
    )
  )

  it.effect("refuse the token when they are malformed", () =>
    Effect.gen(function* () {
      yield* atNow
      const malformed: ReadonlyArray<jose.JWTPayload> = [
        { sub: "" },
        { sub: undefined } as unknown as jose.JWTPayload,
        { arcp_agents: "echo" },
        { arcp_agents: [1] },
        { arcp_lease: "all" },
        { arcp_lease: { "fs.everything": ["**"] } },
        { arcp_lease: { "cost.budget": ["5 dollars"] } },
        { arcp_lease: JSON.parse('{"__proto__":["**"]}') },
        { scope: { read: true } }
      ]
      for (const claims of malformed)
        expect(yield* refusedBy(yield* sign({ ...valid, ...claims }))).toBe(theAnswer)
    }).pipe(Effect.provide(hmac()))
  )
})

describe("time, issuer and audience", () => {
  it.effect("expiry is by the Clock, and required", () =>
    Effect.gen(function* () {
      yield* atNow
      const token = yield* sign(valid)
      yield* verify(token)
      yield* TestClock.setTime((now + 60) * 1000)
      expect(yield* refusedBy(token)).toBe(theAnswer)
      expect(yield* refusedBy(yield* sign({ sub: "alice" }))).toBe(theAnswer)
      expect(yield* refusedBy(yield* sign({ sub: "alice", exp: now + 999, nbf: now + 100 }))).toBe(theAnswer)
    }).pipe(Effect.provide(hmac()))
  )

  it.effect("clocks may differ by the tolerance", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime((now + 64) * 1000)
      expect((yield* verify(yield* sign(valid))).expiresAt).toBe((now + 65) * 1000)
      yield* TestClock.setTime((now + 65) * 1000)
      yield* refusedBy(yield* sign(valid))
    }).pipe(Effect.provide(hmac({ clockTolerance: "5 seconds" })))
  )

  it.effect("the tolerance is 30 seconds when nothing is said", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime((now + 89) * 1000)
      expect((yield* verify(yield* sign(valid))).expiresAt).toBe((now + 90) * 1000)
      yield* TestClock.setTime((now + 90) * 1000)
      yield* refusedBy(yield* sign(valid))
    }).pipe(Effect.provide(AuthJwt.layer({ key: { secret } })))
  )

  it.effect("that no audience is checked is warned about", () =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => {
        logged.push(`${logLevel.label} ${String(message)}`)
      })
      const building = (options: Omit<AuthJwt.Options, "key">) =>
        Effect.scoped(Layer.build(hmac(options))).pipe(
          Effect.provide(Logger.replace(Logger.defaultLogger, logger))
        )
      yield* building({ audience: "arcp" })
      expect(logged).toEqual([])
      yield* building({})
      expect(logged.join()).toMatch(/^WARN .*audience/)
    })
  )

  it.effect("expiry can be optional", () =>
    Effect.gen(function* () {
      yield* atNow
      expect(yield* verify(yield* sign({ sub: "alice" }))).toEqual({ principal: "alice" })
      yield* refusedBy(yield* sign({ sub: "alice", exp: now }))
    }).pipe(Effect.provide(hmac({ requireExpiry: false })))
  )

  it.effect("issuer and audience are checked when given", () =>
    Effect.gen(function* () {
      yield* atNow
      yield* verify(yield* sign({ ...valid, iss: "b", aud: ["x", "arcp"] }))
      for (const claims of [{ iss: "b" }, { aud: "arcp" }, { iss: "c", aud: "arcp" }, { iss: "b", aud: "x" }])
        expect(yield* refusedBy(yield* sign({ ...valid, ...claims }))).toBe(theAnswer)
    }).pipe(Effect.provide(hmac({ issuer: ["a", "b"], audience: "arcp" })))
  )
})

it.effect("why a token is refused is for the log, and has nothing of what only the token says", () =>
  Effect.gen(function* () {
    yield* atNow
    const good = { ...valid, iss: "a", aud: "arcp" }
    const why = (token: string) =>
      Effect.map(Effect.flip(verify(token)), ({ cause, message }) => {
        expect(message).toBe(theAnswer)
        expect(cause).not.toMatch(/spoiled|mallory/)
        return cause
      })
    const iat = new Date((now - 10) * 1000).toISOString()
    expect(yield* why(yield* sign({ ...good, exp: now - 10 }))).toBe(`the JWT expired at ${iat}`)
    expect(yield* why(yield* sign({ ...good, aud: "spoiled" }))).toMatch(/"aud"/)
    expect(yield* why(yield* sign({ ...good, iss: "mallory" }))).toMatch(/"iss"/)
    expect(yield* why(yield* sign({ sub: "mallory", iss: "a", aud: "arcp" }))).toMatch(/missing.*"exp"/)
    expect(yield* why(yield* sign({ ...good, nbf: now + 99 }))).toMatch(/"nbf"/)
    expect(yield* why(yield* sign({ ...good, sub: 7 as never }))).toMatch(/malformed/)
    const another = new TextEncoder().encode("another secret of thirty-two bytes!!!")
    expect(yield* why(yield* sign(good, another))).toMatch(/signature/)
    const crit = { alg: "HS256", crit: ["spoiled"], spoiled: 1 } as jose.JWTHeaderParameters
    const [, body, signature] = (yield* sign(good)).split(".")
    const head = jose.base64url.encode(JSON.stringify(crit))
    expect(yield* why(`${head}.${body}.${signature}`)).toMatch(/^ERR_/)
    expect(yield* why("nonsense")).toMatch(/^ERR_/)
  }).pipe(Effect.provide(hmac({ issuer: "a", audience: "arcp" })))
)

describe("signatures", () => {
  it.effect("everything that is not a good signature gets the same answer", () =>
    Effect.gen(function* () {
      yield* atNow
      const good = yield* sign(valid)
      const [head, body, signature] = good.split(".") as [string, string, string]
      const encode = (value: unknown) => jose.base64url.encode(JSON.stringify(value))
      const bad = [
        "",
        "nonsense",
        "a.b.c",
        `${head}.${encode({ ...valid, sub: "root" })}.${signature}`,
        `${head}.${body}.`,
        `${encode({ alg: "none" })}.${body}.`,
        `${encode({ alg: "HS512" })}.${body}.${signature}`,
        yield* sign(valid, new TextEncoder().encode("another secret of thirty-two bytes!!!")),
        yield* sign(valid, new TextEncoder().encode(secret), { alg: "HS384" })
      ]
      for (const token of bad) expect(yield* refusedBy(token)).toBe(theAnswer)
    }).pipe(Effect.provide(hmac({ algorithms: ["HS256"] })))
  )

  for (const algorithm of ["HS256", "HS384", "HS512"] as const)
    it.effect(`${algorithm} with a secret`, () =>
      Effect.gen(function* () {
        yield* atNow
        const token = yield* sign(valid, new TextEncoder().encode(secret), { alg: algorithm })
        expect((yield* verify(token)).principal).toBe("alice")
      }).pipe(Effect.provide(AuthJwt.layer({ key: { secret: Redacted.make(secret) } })))
    )

  for (const algorithm of ["RS256", "PS384", "ES256", "ES384", "EdDSA"] as const)
    it.effect(`${algorithm} with a PEM, a JWK and a key set`, () =>
      Effect.gen(function* () {
        yield* atNow
        const { publicKey, privateKey } = yield* Effect.promise(() =>
          jose.generateKeyPair(algorithm, { extractable: true })
        )
        const publicKeyPem = yield* Effect.promise(() => jose.exportSPKI(publicKey))
        const jwk = yield* Effect.promise(() => jose.exportJWK(publicKey))
        const token = yield* sign(valid, privateKey, { alg: algorithm, kid: "k1" })
        const keys: ReadonlyArray<AuthJwt.Key> = [
          { publicKeyPem },
          { jwk },
          {
            jwks: {
              keys: [
                { ...jwk, kid: "k0" },
                { ...jwk, kid: "k1" }
              ]
            }
          }
        ]
        for (const key of keys) {
          const layer = AuthJwt.layer({ key })
          expect((yield* Effect.provide(verify(token), layer)).principal).toBe("alice")
          // The public key is no HMAC secret.
          const forged = yield* sign(valid, new TextEncoder().encode(publicKeyPem), { alg: "HS256" })
          expect(yield* Effect.provide(refusedBy(forged), layer)).toBe(theAnswer)
        }
      })
    )

  it.effect("a set with a key that nothing can be checked with: by another, when the token names none", () =>
    Effect.gen(function* () {
      yield* atNow
      const short = yield* Effect.promise(() =>
        crypto.subtle.generateKey(
          {
            name: "RSASSA-PKCS1-v1_5",
            hash: "SHA-256",
            modulusLength: 1024,
            publicExponent: new Uint8Array([1, 0, 1])
          },
          true,
          ["sign", "verify"]
        )
      )
      const long = yield* Effect.promise(() => jose.generateKeyPair("RS256", { extractable: true }))
      const keys = yield* Effect.promise(() =>
        Promise.all([short.publicKey, long.publicKey].map((key) => jose.exportJWK(key)))
      )
      const other = yield* Effect.promise(() => jose.generateKeyPair("RS256"))
      for (const set of [keys, [...keys].reverse()]) {
        const layer = AuthJwt.layer({ key: { jwks: { keys: set } } })
        const by = (key: jose.CryptoKey, claims: jose.JWTPayload) => sign(claims, key, { alg: "RS256" })
        expect((yield* Effect.provide(verify(yield* by(long.privateKey, valid)), layer)).principal).toBe(
          "alice"
        )
        for (const token of [
          yield* by(long.privateKey, { ...valid, exp: now - 60 }),
          yield* by(other.privateKey, valid)
        ])
          expect(yield* Effect.provide(refusedBy(token), layer)).toBe(theAnswer)
      }
    })
  )

  it.effect("an allow-list restricts what fits the key", () =>
    Effect.gen(function* () {
      yield* atNow
      const { publicKey, privateKey } = yield* Effect.promise(() =>
        jose.generateKeyPair("RS256", { extractable: true })
      )
      const publicKeyPem = yield* Effect.promise(() => jose.exportSPKI(publicKey))
      const layer = AuthJwt.layer({ key: { publicKeyPem }, algorithms: ["PS256", "ES256"] })
      const token = yield* sign(valid, privateKey, { alg: "RS256" })
      expect(yield* Effect.provide(refusedBy(token), layer)).toBe(theAnswer)
    })
  )
})

it.effect("a configuration that cannot work is refused when the layer is built", () =>
  Effect.gen(function* () {
    const { publicKey } = yield* Effect.promise(() => jose.generateKeyPair("ES256", { extractable: true }))
    const publicKeyPem = yield* Effect.promise(() => jose.exportSPKI(publicKey))
    const problem = (options: AuthJwt.Options) =>
      Effect.map(Effect.flip(Effect.scoped(Layer.build(AuthJwt.layer(options)))), (error) => error.message)
    expect(yield* problem({ key: { secret: "" } })).toMatch(/empty/)
    expect(yield* problem({ key: { publicKeyPem: "nonsense" } })).toMatch(/PEM/)
    expect(yield* problem({ key: { publicKeyPem }, algorithms: ["RS256"] })).toMatch(/none of/)
    expect(yield* problem({ key: { publicKeyPem }, algorithms: ["HS256"] })).toMatch(/none of/)
    expect(yield* problem({ key: { secret }, algorithms: ["none" as "HS256"] })).toMatch(/not one of/)
    expect(yield* problem({ key: { jwks: { keys: "no" } as unknown as jose.JSONWebKeySet } })).toMatch(/JWKS/)
    expect(yield* problem({ key: { jwksUri: "http://example.com/jwks" } })).toMatch(/https/)
    expect(yield* problem({ key: { jwksUri: "no" } })).toMatch(/URL/)
  })
)

describe("jwksUri", () => {
  const serve = (
    respond: () => {
      readonly status: number
      readonly body: string
      readonly headers?: Readonly<Record<string, string>>
    }
  ) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.async<Server>((resume) => {
          const server = createServer((_, response) => {
            const { status, body, headers } = respond()
            response.writeHead(status, { "content-type": "application/json", ...headers }).end(body)
          })
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) =>
          Effect.async<void>((resume) => {
            server.closeAllConnections()
            server.close(() => resume(Effect.void))
          })
      ),
      (server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`
    )

  it.scoped("is fetched once and used", () =>
    Effect.gen(function* () {
      yield* atNow
      const { publicKey, privateKey } = yield* Effect.promise(() =>
        jose.generateKeyPair("ES256", { extractable: true })
      )
      const jwk = yield* Effect.promise(() => jose.exportJWK(publicKey))
      let fetched = 0
      const jwksUri = yield* serve(() => {
        fetched++
        return { status: 200, body: JSON.stringify({ keys: [{ ...jwk, kid: "k1" }] }) }
      })
      yield* Effect.gen(function* () {
        const token = yield* sign(valid, privateKey, { alg: "ES256", kid: "k1" })
        expect((yield* verify(token)).principal).toBe("alice")
        expect((yield* verify(token)).principal).toBe("alice")
        expect(fetched).toBe(1)
        const unknown = yield* sign(valid, privateKey, { alg: "ES256", kid: "k2" })
        expect(yield* refusedBy(unknown)).toBe(theAnswer)
      }).pipe(Effect.provide(AuthJwt.layer({ key: { jwksUri } })))
    })
  )

  it.live("a key that is published while the set is on its way is looked for again", () =>
    Effect.gen(function* () {
      const key = yield* Effect.promise(async () =>
        jose.exportJWK((await jose.generateKeyPair("ES256", { extractable: true })).publicKey)
      )
      const fetched: Array<() => void> = []
      const kids = ["k1"]
      const server = createServer((_, response) => {
        const body = JSON.stringify({ keys: kids.map((kid) => ({ ...key, kid })) })
        fetched.push(() => response.writeHead(200, { "content-type": "application/json" }).end(body))
        if (fetched.length === 2) second()
        else if (fetched.length === 4) next()
        else fetched.at(-1)?.()
      })
      let second = () => {}
      let next = () => {}
      yield* Effect.promise(async () => {
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
        const at = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
        const { find: keyOf, renewed } = remoteKeys(jose, at, () => {})
        const find = async (kid: string) => keyOf({ alg: "ES256", kid }, { payload: "", signature: "" })
        try {
          await find("k1")
          const underWay = new Promise<void>((resolve) => {
            second = resolve
          })
          const unknown = find("k0").catch(() => "none")
          await underWay
          kids.push("k2")
          const found = find("k2")
          fetched[1]?.()
          expect(await found).toBeDefined()
          expect(await unknown).toBe("none")
          expect(fetched.length).toBe(3)
          // So it is with a key that takes the name of one that is known: then a set is asked for that was fetched since.
          const fourth = new Promise<void>((resolve) => {
            next = resolve
          })
          const before = renewed(performance.now())
          await fourth
          const since = performance.now()
          const anew = renewed(since)
          fetched[3]?.()
          expect(await before).toBe(true)
          expect(await anew).toBe(true)
          expect(fetched.length).toBe(5)
        } finally {
          server.closeAllConnections()
          server.close()
        }
      })
    })
  )

  it.scoped("may be anywhere on loopback without TLS", () =>
    Effect.forEach(["http://127.0.0.2:1/", "http://keys.localhost:1/"], (jwksUri) =>
      Layer.build(AuthJwt.layer({ key: { jwksUri }, audience: "arcp" }))
    )
  )

  it.scoped("a token is good by whichever key it is signed with, of those that may be meant", () =>
    Effect.gen(function* () {
      yield* atNow
      const pairs = yield* Effect.promise(() =>
        Promise.all([0, 1, 2].map(() => jose.generateKeyPair("ES256", { extractable: true })))
      )
      const jwks = yield* Effect.promise(() =>
        Promise.all(pairs.map(({ publicKey }) => jose.exportJWK(publicKey)))
      )
      // An issuer that goes over from one key to the next, and does not tell them apart.
      for (const kid of [undefined, "k1"])
        for (const key of [
          { jwks: { keys: jwks.slice(0, 2).map((jwk) => ({ ...jwk, kid: "k1" })) } }
        ] as const)
          yield* Effect.gen(function* () {
            const signed = (i: number, claims = valid) =>
              sign(claims, pairs[i]?.privateKey as jose.CryptoKey, {
                alg: "ES256",
                ...(kid === undefined ? {} : { kid })
              })
            for (const i of [0, 1]) expect((yield* verify(yield* signed(i))).principal).toBe("alice")
            expect(yield* refusedBy(yield* signed(2))).toBe(theAnswer)
            expect(yield* refusedBy(yield* signed(1, { ...valid, exp: 1 }))).toBe(theAnswer)
          }).pipe(Effect.provide(AuthJwt.layer({ key })))
    })
  )

  it.scoped("a failure to fetch is no refusal of the token, and is logged as a warning", () =>
    Effect.gen(function* () {
      yield* atNow
      const { privateKey } = yield* Effect.promise(() => jose.generateKeyPair("ES256"))
      const token = yield* sign(valid, privateKey, { alg: "ES256", kid: "k1" })
      let body = "down"
      let status = 503
      const jwksUri = yield* serve(() => ({ status, body }))
      const logged: Array<string> = []
      const logger = Logger.make(({ cause, logLevel, message }) => {
        logged.push(`${logLevel.label} ${String(message)} ${Cause.pretty(cause)}`)
      })
      yield* Effect.gen(function* () {
        const unavailable = Effect.map(Effect.flip(verify(token)), (error) => {
          expect([error.code, error.retryable]).toEqual(["INTERNAL_ERROR", true])
          expect(error.message).toMatch(/try again/)
        })
        yield* unavailable
        status = 200
        yield* unavailable
        body = `{"keys":"none"}`
        yield* unavailable
        expect(logged).toHaveLength(3)
        for (const line of logged) expect(line).toMatch(/^WARN .*key set, or a key that is none \w+: /)
        expect(logged.join()).not.toContain(token)
      }).pipe(
        Effect.provide(AuthJwt.layer({ key: { jwksUri }, audience: "arcp" })),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
    })
  )

  it.scoped("one that is elsewhere is not followed", () =>
    Effect.gen(function* () {
      yield* atNow
      const { privateKey, publicKey } = yield* Effect.promise(() => jose.generateKeyPair("ES256"))
      const jwk = yield* Effect.promise(() => jose.exportJWK(publicKey))
      const token = yield* sign(valid, privateKey, { alg: "ES256", kid: "k1" })
      let asked = 0
      const inside = yield* serve(() => {
        asked++
        return { status: 200, body: JSON.stringify({ keys: [{ ...jwk, kid: "k1" }] }) }
      })
      const jwksUri = yield* serve(() => ({ status: 302, body: "", headers: { location: inside } }))
      const error = yield* Effect.flip(verify(token)).pipe(
        Effect.provide(AuthJwt.layer({ key: { jwksUri }, audience: "arcp" })),
        Effect.provide(Logger.remove(Logger.defaultLogger))
      )
      expect([error.code, asked]).toEqual(["INTERNAL_ERROR", 0])
    })
  )

  it.scoped("one that does not end is given up, and nothing is kept of it", () =>
    Effect.gen(function* () {
      yield* atNow
      let sent = 0
      const server = yield* Effect.acquireRelease(
        Effect.async<Server>((resume) => {
          const piece = Buffer.alloc(64 * 1024, "a")
          const server = createServer((_, response) => {
            const more = () => {
              for (let goesOn = true; goesOn && !response.destroyed; sent += piece.length)
                goesOn = response.write(piece)
            }
            response.on("drain", more)
            more()
          })
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) =>
          Effect.async<void>((resume) => {
            server.closeAllConnections()
            server.close(() => resume(Effect.void))
          })
      )
      const jwksUri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
      const { token } = yield* issuer("k1")
      const error = yield* Effect.flip(verify(token)).pipe(
        Effect.provide(AuthJwt.layer({ key: { jwksUri } }))
      )
      expect(error.details).toEqual({ reason: "keys" })
      // What is in the buffers on the way is sent, too.
      expect(sent).toBeLessThan(32 * 1024 * 1024)
    })
  )

  /** An issuer with a key, and tokens of it. */
  const issuer = (kid: string) =>
    Effect.gen(function* () {
      const { publicKey, privateKey } = yield* Effect.promise(() =>
        jose.generateKeyPair("ES256", { extractable: true })
      )
      const jwk = yield* Effect.promise(() => jose.exportJWK(publicKey))
      return {
        jwk: { ...jwk, kid },
        token: yield* sign(valid, privateKey, { alg: "ES256", kid })
      }
    })

  it.scoped("a rotated key is fetched at once, and unknown ones at a bounded rate", () =>
    Effect.gen(function* () {
      yield* atNow
      const first = yield* issuer("k1")
      const second = yield* issuer("k2")
      const unknown = yield* issuer("k3")
      let keys = [first.jwk]
      let fetched = 0
      const jwksUri = yield* serve(() => {
        fetched++
        return { status: 200, body: JSON.stringify({ keys }) }
      })
      yield* Effect.gen(function* () {
        yield* verify(first.token)
        keys = [second.jwk]
        expect((yield* verify(second.token)).principal).toBe("alice")
        yield* refusedBy(first.token)
        const before = fetched
        const begun = performance.now()
        yield* Effect.forEach(Array.from({ length: 50 }), () => refusedBy(unknown.token), {
          concurrency: "unbounded",
          discard: true
        })
        expect(fetched - before).toBeLessThanOrEqual(1 + (performance.now() - begun) / 1000)
        expect(yield* verify(second.token)).toMatchObject({ principal: "alice" })
      }).pipe(Effect.provide(AuthJwt.layer({ key: { jwksUri } })))
    })
  )

  it.scoped("a key that takes the name of the one before, or has none, is found as soon as it signs", () =>
    Effect.forEach(["k1", undefined], (kid) =>
      Effect.gen(function* () {
        yield* atNow
        const pairs = yield* Effect.promise(() =>
          Promise.all([0, 1, 2].map(() => jose.generateKeyPair("ES256", { extractable: true })))
        )
        const tokens = yield* Effect.forEach(pairs, ({ privateKey }) =>
          sign(valid, privateKey, { alg: "ES256", ...(kid === undefined ? {} : { kid }) })
        )
        const jwks = yield* Effect.promise(() =>
          Promise.all(pairs.map(async ({ publicKey }) => ({ ...(await jose.exportJWK(publicKey)), kid })))
        )
        const [old = "", fresh = "", forged = ""] = tokens
        let keys = jwks.slice(0, 1)
        let down = false
        const jwksUri = yield* serve(() =>
          down ? { status: 503, body: "down" } : { status: 200, body: JSON.stringify({ keys }) }
        )
        yield* Effect.gen(function* () {
          yield* verify(old)
          keys = jwks.slice(1, 2)
          expect((yield* verify(fresh)).principal).toBe("alice")
          expect(yield* refusedBy(old)).toBe(theAnswer)
          // With the issuer out of reach the keys that are known say what is good, and what is not.
          down = true
          expect(yield* refusedBy(forged)).toBe(theAnswer)
          expect((yield* verify(fresh)).principal).toBe("alice")
        }).pipe(Effect.provide(AuthJwt.layer({ key: { jwksUri } })))
      })
    )
  )

  it.scoped("a key that can be none is the issuer's fault, and not the token's", () =>
    Effect.gen(function* () {
      yield* atNow
      const good = yield* issuer("k1")
      const { token } = yield* issuer("k2")
      const { privateKey } = yield* Effect.promise(() => jose.generateKeyPair("RS256"))
      const rsa = yield* sign(valid, privateKey, { alg: "RS256", kid: "k3" })
      const broken = [
        { ...good.jwk, kid: "k2", x: "AAAA" },
        { kty: "RSA", kid: "k3", n: "AQAB", e: "AQAB" }
      ]
      const jwksUri = yield* serve(() => ({
        status: 200,
        body: JSON.stringify({ keys: [good.jwk, ...broken] })
      }))
      yield* Effect.gen(function* () {
        for (const one of [token, rsa])
          expect(yield* Effect.flip(verify(one))).toMatchObject({
            retryable: true,
            details: { reason: "keys" }
          })
        expect((yield* verify(good.token)).principal).toBe("alice")
      }).pipe(Effect.provide(AuthJwt.layer({ key: { jwksUri } })))
    })
  )

  it.scoped(
    "good keys stay good while the set cannot be fetched; what is signed with others may come again",
    () =>
      Effect.gen(function* () {
        yield* atNow
        const known = yield* issuer("k1")
        const other = yield* issuer("k2")
        let down = false
        const jwksUri = yield* serve(() =>
          down ? { status: 503, body: "down" } : { status: 200, body: JSON.stringify({ keys: [known.jwk] }) }
        )
        yield* Effect.gen(function* () {
          yield* verify(known.token)
          down = true
          expect((yield* Effect.flip(verify(other.token))).retryable).toBe(true)
          expect((yield* verify(known.token)).principal).toBe("alice")
          // As after the ten minutes for which a set is taken to be new.
          const later = performance.now() + 700_000
          const clock = vi.spyOn(performance, "now").mockImplementation(() => later)
          yield* Effect.addFinalizer(() => Effect.sync(() => clock.mockRestore()))
          expect((yield* verify(known.token)).principal).toBe("alice")
          // Not for ever: one may have been taken back since.
          clock.mockImplementation(() => later + 86_400_000)
          expect(yield* Effect.flip(verify(known.token))).toMatchObject({
            retryable: true,
            details: { reason: "keys" }
          })
        }).pipe(Effect.provide(AuthJwt.layer({ key: { jwksUri } })))
      })
  )
})

it.effect("keyFrom takes one source of keys", () => {
  const none = { secret: Option.none(), publicKeyFile: Option.none(), jwksUri: Option.none() }
  const fs = FileSystem.layerNoop({
    readFileString: (path) => (path === "key.pem" ? Effect.succeed("PEM") : Effect.die("unexpected"))
  })
  return Effect.gen(function* () {
    expect(yield* AuthJwt.keyFrom(none)).toEqual(Option.none())
    expect(yield* AuthJwt.keyFrom({ ...none, publicKeyFile: Option.some("key.pem") })).toEqual(
      Option.some({ publicKeyPem: "PEM" })
    )
    expect(yield* AuthJwt.keyFrom({ ...none, jwksUri: Option.some("https://x/y") })).toEqual(
      Option.some({ jwksUri: "https://x/y" })
    )
    const two = { ...none, secret: Option.some(Redacted.make("s")), jwksUri: Option.some("https://x/y") }
    expect((yield* Effect.flip(AuthJwt.keyFrom(two))).message).toMatch(/one source/)
  }).pipe(Effect.provide(fs))
})
