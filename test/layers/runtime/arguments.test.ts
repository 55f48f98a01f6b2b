/**
 * Odd options of agents and of layers, for those who have no types: each is refused where it is given, by an error that names
 * the call, the option and what it has to be. A text where a list is meant would else be searched for parts of it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as AuthJwt from "../../../src/layers/auth/AuthJwt.js"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as CredentialProvisionerLiteLlm from "../../../src/layers/credentials/CredentialProvisionerLiteLlm.js"
import * as CredentialStoreSql from "../../../src/layers/credentials/CredentialStoreSql.js"
import * as Admission from "../../../src/layers/jobs/Admission.js"
import * as Hooks from "../../../src/layers/jobs/Hooks.js"
import * as HooksWebhook from "../../../src/layers/jobs/HooksWebhook.js"
import * as LeasedLanguageModel from "../../../src/layers/lease/LeasedLanguageModel.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as RuntimeOptions from "../../../src/layers/runtime/RuntimeOptions.js"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import * as TransportWebSocket from "../../../src/layers/transport/TransportWebSocket.js"
import * as Errors from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"

const odd: ReadonlyArray<unknown> = [
  null,
  Number.NaN,
  -1,
  Number.POSITIVE_INFINITY,
  1.5,
  1e308,
  "odd",
  {},
  [Symbol("in a list")],
  () => {},
  Symbol("odd"),
  true,
  3n
]

/** An option, and the odd values that it may have all the same. */
type Fine = Readonly<Record<string, ReadonlyArray<unknown>>>

const refused = (says: string, call: () => unknown): void => {
  try {
    call()
  } catch (error) {
    assert.instanceOf(error, Errors.InvalidRequest, `${says}: ${String(error)}`)
    assert.include(error.message, says)
    return
  }
  assert.fail(`${says}: nothing was refused`)
}

/** Gives every option every odd value, one at a time, and the call itself no options at all. */
const options = (call: string, base: object, fine: Fine, make: (given: never) => unknown): void => {
  for (const value of [null, 3, "odd", []]) refused(`${call}: `, () => make(value as never))
  const good = Object.fromEntries(
    Object.entries(fine).flatMap(([option, [one]]) => (one === undefined ? [] : [[option, one]]))
  )
  for (const option of Object.keys(fine)) {
    const slip = { ...good, ...base, [`${option}s`]: 1 } as never
    if (!Object.hasOwn(fine, `${option}s`))
      refused(`${call}: options has no ${option}s; did you mean ${option}?`, () => make(slip))
  }
  for (const [option, allowed] of Object.entries(fine))
    for (const value of odd) {
      const given = { ...base, [option]: value } as never
      if (allowed.includes(value)) make(given)
      else refused(`${call}: options.${option}`, () => make(given))
    }
}

const numbers = [Number.NaN, -1, Number.POSITIVE_INFINITY, 1.5, 1e308]
const [object, aFunction] = [odd[7], odd[9]]

describe("odd options", () => {
  it("of Agent.make, every one of them, and of who makes an agent of a contract", () => {
    const schema: ReadonlyArray<unknown> = []
    const text = ["odd"]
    options(
      "Agent.make a",
      { version: "1.0.0" },
      {
        version: text,
        default: [true],
        requiresStreaming: [true],
        awaitEmits: [true],
        durable: [true],
        restart: [],
        compensateWithin: [1.5, 3n, 1e308],
        concurrency: [],
        description: text,
        examples: [odd[8]],
        input: schema,
        output: schema,
        error: schema,
        events: []
      },
      (given) => Agent.make("a", given)
    )
    for (const name of [...odd, undefined].filter((name) => name !== "odd"))
      refused("Agent.make: name", () => Agent.make(name as never, { version: "1.0.0" }))
    refused('and is "asksD"', () => Agent.make("asksD", { version: "1.0.0" }))
    const contract = Agent.make("a", { version: "1.0.0" })
    for (const value of odd) {
      refused("Agent.handle: contract", () => Agent.handle(value as never, () => Effect.void))
      if (value === aFunction) continue
      refused("Agent.handle: handler", () => Agent.handle(contract, value as never))
      refused("Agent.fromPromise a: run", () => Agent.fromPromise("a", { version: "1.0.0" }, value as never))
    }
    refused("Agent.handle: needs.requires[0]", () =>
      Agent.handle(contract, () => Effect.void, { requires: [3 as never] })
    )
    refused("Agent.fromPromise a: options", () => Agent.fromPromise("a", null as never, () => 1))
    refused("Agent.fromPromise: run", () => Agent.fromPromise(contract, {} as never))
    refused("Agent.fromPromise: contract.version", () => Agent.fromPromise({ name: "a" } as never, () => 1))
  })

  it("of a runtime: parts and options that there are not, in a sentence", () =>
    Effect.gen(function* () {
      refused("Runtime.layer: parts has no option; did you mean options?", () =>
        Runtime.layerMemory({ option: {} } as never)
      )
      for (const [given, says] of [
        [{ cancelGrce: "5 seconds" }, "options has no cancelGrce; did you mean cancelGrace?"],
        [
          { cancelGrace: "5 secs" },
          'options.cancelGrace: expected a duration of zero or more, as "30 seconds"'
        ]
      ] as const) {
        const refusal = yield* Effect.flip(Effect.scoped(Layer.build(RuntimeOptions.layer(given as never))))
        assert.strictEqual(refusal.message, says)
      }
    }).pipe(Effect.runPromise))

  it("of what is paid for, and of who may what: a slip in a name lifts no limit", () => {
    const price = { currency: "USD", inputPerMillion: "1", outputPerMillion: "1" }
    refused("LeasedLanguageModel.leased: options has no price; did you mean prices?", () =>
      LeasedLanguageModel.leased({ name: "m", price: { m: price } } as never)
    )
    refused("the price of model m has no reasoningsPerMillion; did you mean reasoningPerMillion?", () =>
      LeasedLanguageModel.leased({
        name: "m",
        fallbackPrice: { ...price, reasoningsPerMillion: "9" } as never
      })
    )
    const gateway = { baseUrl: "https://keys.example.com", masterKey: Redacted.make("k") }
    refused("CredentialProvisionerLiteLlm: options has no maxBuget; did you mean maxBudget?", () =>
      CredentialProvisionerLiteLlm.layer({ ...gateway, maxBuget: "5" } as never)
    )
    refused("options.masterKey has to be a Redacted", () =>
      CredentialProvisionerLiteLlm.layer({ ...gateway, masterKey: "k" } as never)
    )
    for (const [identity, says] of [
      [{ leaseCeilng: {} }, "the identity of token 1 has no leaseCeilng; did you mean leaseCeiling?"],
      [{ agent: ["a"] }, "has no agent; did you mean agents?"],
      [{ leaseCeiling: { "fs.read": "/a/**" } }, "leaseCeiling has to be a lease"],
      [{ leaseCeiling: { "fs.reed": ["/a/**"] } }, "leaseCeiling has to be a lease"]
    ] as const)
      refused(says, () => Auth.layerStatic({ t: { principal: "a", ...identity } as never }))
  })

  it("of the layers that decide", () => {
    options("Policy.layer", {}, { cancel: [], operators: [] }, Policy.layer)
    options("Admission.layerRateLimit", { submits: 1, per: 1 }, { submits: [], maxPrincipals: [] }, (given) =>
      Admission.layerRateLimit(given)
    )
    for (const value of odd) {
      if (value !== aFunction) refused("Admission.layer: check", () => Admission.layer(value as never))
      if (value !== "odd") {
        const known = value === object ? "principal" : "the identity of token 1"
        refused(known, () => Auth.layerStatic({ secret: value as never }))
      }
    }
    refused("Auth.layerStatic: tokens", () => Auth.layerStatic("secret=alice" as never))
    for (const [option, value] of [
      ["agents", "survey"],
      ["expiresAt", Number.NaN],
      ["leaseCeiling", []]
    ] as const)
      refused(`Auth.layerStatic: the identity of token 1.${option}`, () =>
        Auth.layerStatic({ secret: { principal: "alice", [option]: value } })
      )
    const texts = ["odd"]
    options(
      "AuthJwt.layer",
      { key: { secret: "x".repeat(32) } },
      {
        key: [],
        algorithms: [],
        issuer: texts,
        audience: texts,
        clockTolerance: [1.5, 3n, 1e308],
        requireExpiry: [true],
        claims: [object]
      },
      AuthJwt.layer
    )
  })

  it("of the layers that keep, tell and listen", () => {
    options(
      "StoreSqlite.layer",
      { filename: "a.db" },
      { filename: ["odd"], synchronous: [], worker: [] },
      StoreSqlite.layer
    )
    options("StoreSqlite.layerReadOnly", {}, { filename: ["odd"] }, StoreSqlite.layerReadOnly)
    options("CredentialStoreSql.layerSqlite", {}, { filename: ["odd"] }, CredentialStoreSql.layerSqlite)
    options(
      "TransportWebSocket.layer",
      {},
      {
        allowedOrigins: [],
        allowedHosts: [],
        trustedProxies: [],
        allowInsecure: [true],
        host: ["odd"],
        port: [],
        path: [],
        tls: [],
        pages: [object],
        routes: []
      },
      (given) => TransportWebSocket.layer(given)
    )
    const page = { headers: { "content-type": "text/plain" }, body: "hello" }
    TransportWebSocket.layer({ pages: { "/a": page, "/b": { ...page, body: new Uint8Array(1) } } })
    for (const wrong of [{}, { ...page, body: undefined }, { ...page, headers: { "x-a": "\n" } }])
      refused("options.pages./b.", () =>
        TransportWebSocket.layer({ pages: { "/a": page, "/b": wrong as never } })
      )
    refused("options.trustedProxies: x is neither", () => TransportWebSocket.layer({ trustedProxies: ["x"] }))
    options("TransportWebSocket.mount", { server: 3 }, { server: [], path: [] }, (given) =>
      TransportWebSocket.mount(given)
    )
    options(
      "HooksWebhook.layer",
      { url: "https://a.example", secrets: ["odd"] },
      { url: ["odd"], secrets: [], kinds: [], values: [true], timeout: [1.5, 3n, 1e308] },
      HooksWebhook.layer
    )
    for (const value of odd)
      if (value !== aFunction) refused("handlers.onEnded", () => Hooks.layer({ onEnded: value as never }))
    for (const value of odd)
      if (!Array.isArray(value)) refused("Registry.layer: agents", () => Registry.layer(value as never))
    for (const value of odd) refused("Registry.layer: agents[0]", () => Registry.layer([value as never]))
  })

  it.effect("of a runtime: out of range, or no option at all", () =>
    Effect.gen(function* () {
      const failing = (input: object) =>
        Effect.flip(Effect.scoped(Layer.build(RuntimeOptions.layer(input as RuntimeOptions.Input))))
      for (const option of Object.keys(RuntimeOptions.make()))
        for (const value of [null, {}, [], Symbol("odd"), ...numbers.slice(0, 3)])
          assert.include(String(yield* failing({ [option]: value })), option)
      assert.include(String(yield* failing({ resumeWindw: "1 minute" })), "resumeWindw")
    })
  )
})
