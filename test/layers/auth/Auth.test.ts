import { describe, expect, it, vi } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as AuthLayer from "../../../src/layers/auth/Auth.js"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import { Auth } from "../../../src/services/auth/Auth.js"
import { Policy } from "../../../src/services/auth/Policy.js"
import type { JobRecord } from "../../../src/services/store/Store.js"

const peer = { kind: "memory", remote: "memory" } as const

const verify = (token: string) =>
  Effect.flatMap(Auth, (auth) => auth.authenticate({ peer, token: Redacted.make(token) }))

describe("layerStatic", () => {
  const ceiling = { "tool.call": ["search.*"] }
  const layer = AuthLayer.layerStatic({
    "token-a": "alice",
    "token-b": { principal: "bob", agents: ["echo"], leaseCeiling: ceiling, scopes: ["read"] },
    "token-c": { principal: "carol", expiresAt: 5_000 },
    "": "nobody"
  })

  it.effect("gives the identity of a known token", () =>
    Effect.gen(function* () {
      expect(yield* verify("token-a")).toEqual({ principal: "alice" })
      expect(yield* verify("token-b")).toEqual({
        principal: "bob",
        agents: ["echo"],
        leaseCeiling: ceiling,
        scopes: ["read"]
      })
    }).pipe(Effect.provide(layer))
  )

  it.effect("refuses every other token with one answer that does not repeat it", () =>
    Effect.gen(function* () {
      const messages = new Set<string>()
      for (const token of ["token-x", "", "TOKEN-A", "token-a ", "token-", "__proto__", "constructor"]) {
        const error = yield* Effect.flip(verify(token))
        expect(error.code).toBe("UNAUTHENTICATED")
        expect(error.details).toBeUndefined()
        messages.add(error.message)
      }
      yield* TestClock.setTime(5_000)
      messages.add((yield* Effect.flip(verify("token-c"))).message)
      expect([...messages]).toEqual(["the token is missing, unknown or expired"])
    }).pipe(Effect.provide(layer))
  )

  it.effect("goes through all of the table, whatever is shown", () =>
    Effect.gen(function* () {
      const looks = vi.spyOn(String.prototype, "charCodeAt")
      const looked = (token: string) =>
        Effect.suspend(() => {
          looks.mockClear()
          return Effect.map(Effect.either(verify(token)), () => looks.mock.calls.length)
        })
      const all = yield* looked("token-a")
      expect(all).toBeGreaterThan(3 * 64)
      for (const token of ["token-b", "token-c", "token-x", "t"]) expect(yield* looked(token)).toBe(all)
    }).pipe(Effect.ensuring(Effect.sync(() => vi.restoreAllMocks())), Effect.provide(layer))
  )

  it.effect("accepts an identity until it expires", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(4_999)
      expect((yield* verify("token-c")).principal).toBe("carol")
      yield* TestClock.setTime(5_000)
      expect((yield* Effect.flip(verify("token-c"))).code).toBe("UNAUTHENTICATED")
    }).pipe(Effect.provide(layer))
  )
})

describe("layerConfig", () => {
  const layer = (tokens: string | undefined) =>
    AuthLayer.layerConfig().pipe(
      Layer.provide(
        Layer.setConfigProvider(
          ConfigProvider.fromMap(new Map(tokens === undefined ? [] : [["ARCP_TOKENS", tokens]]))
        )
      )
    )

  it.effect("reads token=principal pairs; a token may hold =", () =>
    Effect.gen(function* () {
      expect((yield* verify("t1")).principal).toBe("alice")
      expect((yield* verify("dDI=")).principal).toBe("bob")
      expect((yield* Effect.flip(verify("alice"))).code).toBe("UNAUTHENTICATED")
    }).pipe(Effect.provide(layer("t1=alice, dDI==bob")))
  )

  it.effect("refuses a table that is not one, without repeating it", () =>
    Effect.gen(function* () {
      for (const tokens of ["", "sekret", "sekret=", "=alice", "t=a,,sekret=b", "sekret=a,sekret=b"]) {
        const cause = yield* Effect.flip(Effect.sandbox(verify("t").pipe(Effect.provide(layer(tokens)))))
        expect(Cause.pretty(cause)).toContain("ARCP_TOKENS")
        expect(Cause.pretty(cause) + JSON.stringify(cause)).not.toContain("sekret")
      }
      expect(String(yield* Effect.flip(verify("t").pipe(Effect.provide(layer(undefined)))))).toContain(
        "ARCP_TOKENS"
      )
    })
  )

  it.effect("tells whether there is a table", () =>
    Effect.gen(function* () {
      const configured = (env: ReadonlyArray<[string, string]>) =>
        Effect.withConfigProvider(AuthLayer.configured, ConfigProvider.fromMap(new Map(env)))
      expect(yield* configured([["ARCP_TOKENS", "t=a"]])).toBe(true)
      expect(yield* configured([])).toBe(false)
    })
  )
})

it.effect("layerDev takes any token that is not empty", () =>
  Effect.gen(function* () {
    expect(yield* verify("whatever")).toEqual({ principal: "dev" })
    expect((yield* Effect.flip(verify(""))).code).toBe("UNAUTHENTICATED")
  }).pipe(Effect.provide(AuthLayer.layerDev))
)

it.effect("the default policy shows a principal its own jobs and its permitted agents", () =>
  Effect.gen(function* () {
    const policy = yield* Policy
    const job = { principal: "alice" } as JobRecord
    expect(yield* policy.listable({ principal: "alice" })).toEqual(["alice"])
    expect(yield* policy.maySubscribe({ principal: "alice" }, job)).toBe(true)
    expect(yield* policy.maySubscribe({ principal: "bob" }, job)).toBe(false)
    expect(yield* policy.mayUseAgent({ principal: "bob" }, "echo")).toBe(true)
    expect(yield* policy.mayUseAgent({ principal: "bob", agents: ["echo"] }, "echo")).toBe(true)
    expect(yield* policy.mayUseAgent({ principal: "bob", agents: ["ech"] }, "echo")).toBe(false)
    expect(yield* policy.mayUseAgent({ principal: "bob", agents: [] }, "echo")).toBe(false)
  }).pipe(Effect.provide(PolicyLayer.layerSamePrincipal))
)
