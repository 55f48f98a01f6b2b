import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Tools from "../../../src/layers/agents/Tools.js"
import {
  BudgetExhausted,
  InternalError,
  InvalidRequest,
  PermissionDenied
} from "../../../src/protocol/Errors.js"
import type { Cost } from "../../../src/services/lease/Lease.js"
import type { Lessee } from "../../../src/services/lease/Leased.js"
import { gate, type LesseeOptions, lessee } from "../../support/lessee.js"

class Greeting extends Context.Tag("test/Greeting")<Greeting, string>() {}

const Greet = Tools.make("greet", {
  description: "Greets somebody",
  input: Schema.Struct({ name: Schema.NonEmptyString }),
  output: Schema.Struct({ text: Schema.String, at: Schema.Date }),
  cost: (_, { text }) => ({ amount: text.length, currency: "credits" })
})
const Picky = Tools.make("picky", {
  input: Schema.NumberFromString,
  error: Schema.TaggedStruct("TooBig", { limit: Schema.NumberFromString }),
  cost: { amount: "0.10", currency: "USD" },
  costOnFailure: (input, failure) =>
    failure === undefined
      ? { amount: "0.01", currency: "USD" }
      : { amount: input, currency: "USD", name: "x" }
})
const at = new Date(0)
const greet = Tools.handle(Greet, ({ name }) =>
  Effect.map(Greeting, (greeting) => ({ text: `${greeting}, ${name}`, at }))
)
const picky = Tools.handle(Picky, (n) =>
  n > 10 ? Effect.fail({ _tag: "TooBig" as const, limit: 10 }) : Effect.succeed(n)
)
const layer = Tools.layer([greet, picky]).pipe(Layer.provide(Layer.succeed(Greeting, "Hello")))

/** The service of one job, and what it puts on the stream. */
const job = (options: LesseeOptions, change: (lessee: Lessee) => Lessee = (lessee) => lessee) =>
  Effect.map(Tools.Tools, (open) => {
    const recorded = lessee(options)
    return { recorded, tools: Tools.leased.lease(open, change(recorded)) as Tools.ToolsService }
  })
const kinds = (recorded: { events: ReadonlyArray<{ kind: string }> }) => recorded.events.map((e) => e.kind)

describe("open tools", () => {
  it.effect("calls by contract and by name, decoding and encoding", () =>
    Effect.gen(function* () {
      const tools = yield* Tools.Tools
      const typed = yield* tools.call(Greet, { name: "Ann" })
      expect(typed).toEqual({ text: "Hello, Ann", at })
      expect(yield* tools.call("greet", { name: "Ann" })).toEqual({
        text: "Hello, Ann",
        at: "1970-01-01T00:00:00.000Z"
      })
    }).pipe(Effect.provide(layer))
  )

  it.effect("gives a declared failure typed to a contract, and as a protocol error to a name", () =>
    Effect.gen(function* () {
      const tools = yield* Tools.Tools
      expect(yield* Effect.flip(tools.call(Picky, 11))).toEqual({ _tag: "TooBig", limit: 10 })
      const error = yield* Effect.flip(tools.call("picky", "11"))
      expect(error).toBeInstanceOf(InternalError)
      expect(error.details).toEqual({ error: { _tag: "TooBig", limit: "10" } })
    }).pipe(Effect.provide(layer))
  )

  it.effect("refuses bad input, unknown tools, and output that breaks the contract", () =>
    Effect.gen(function* () {
      const tools = yield* Tools.Tools
      const bad = yield* Effect.flip(tools.call("greet", { name: 1 }))
      expect(bad).toBeInstanceOf(InvalidRequest)
      expect(bad.message).toBe("tool greet: input.name: expected a string")
      expect(yield* Effect.flip(tools.call("nothing"))).toBeInstanceOf(InvalidRequest)
      const Wrong = Tools.make("greet", { input: Greet.input, output: Schema.Number })
      expect(yield* Effect.flip(tools.call(Wrong, { name: "Ann" }))).toBeInstanceOf(InternalError)
    }).pipe(Effect.provide(layer))
  )

  it.effect("lists names, descriptions and the JSON Schema of the input", () =>
    Effect.gen(function* () {
      const [first, second] = yield* (yield* Tools.Tools).list
      expect(first).toMatchObject({
        name: "greet",
        description: "Greets somebody",
        inputSchema: { type: "object", required: ["name"] }
      })
      expect(second?.inputSchema).toMatchObject({ $defs: { NumberFromString: { type: "string" } } })
    }).pipe(Effect.provide(layer))
  )

  it.effect(
    "runs handlers with the layer's services and a scope of the call, not the caller's services",
    () => {
      const closed: Array<string> = []
      class Optional extends Context.Tag("test/Optional")<Optional, string>() {}
      const spy = Tools.handle(Tools.make("spy"), () =>
        Effect.gen(function* () {
          yield* Effect.addFinalizer(() => Effect.sync(() => closed.push("closed")))
          return [yield* Greeting, (yield* Effect.serviceOption(Optional))._tag]
        })
      )
      return Effect.gen(function* () {
        const tools = yield* Tools.Tools
        const call = tools
          .call("spy")
          .pipe(Effect.provideService(Greeting, "agent's"), Effect.provideService(Optional, "agent's"))
        expect(yield* call).toEqual(["Hello", "None"])
        expect(closed).toEqual(["closed"])
      }).pipe(Effect.provide(Tools.layer([spy]).pipe(Layer.provide(Layer.succeed(Greeting, "Hello")))))
    }
  )

  it.effect("refuses two tools of one name, of its own or from a source", () =>
    Effect.gen(function* () {
      const source = (...names: ReadonlyArray<string>): Tools.Source => ({
        connect: Effect.succeed(
          () => new Map(names.map((name) => [name, Tools.handle(Tools.make(name), Effect.succeed)]))
        )
      })
      const build = (items: ReadonlyArray<Tools.Registered | Tools.Source>) =>
        Effect.flip(Effect.scoped(Layer.build(Tools.layer(items))))
      expect((yield* build([picky, picky])).message).toContain("picky is registered twice")
      expect((yield* build([picky, source("picky")])).message).toContain("picky is registered twice")
      expect((yield* build([source("a", "b"), source("b")])).message).toContain("b is registered twice")
    })
  )

  it("refuses names that no lease could be asked for", () => {
    expect(() => Tools.make("")).toThrow("1 to 256")
    expect(() => Tools.make("a\nb")).toThrow("control characters")
    expect(() => Tools.make("a".repeat(257))).toThrow("1 to 256")
  })
})

describe("tools under a lease", () => {
  it.effect("shows the call, its result and then its cost", () =>
    Effect.gen(function* () {
      const { recorded, tools } = yield* job({ allow: ["greet"] })
      expect(yield* tools.call(Greet, { name: "Ann" })).toEqual({ text: "Hello, Ann", at })
      const id = recorded.events[0]?.body["call_id"]
      expect(recorded.events).toEqual([
        { kind: "tool_call", body: { tool: "greet", args: { name: "Ann" }, call_id: id } },
        {
          kind: "tool_result",
          body: { call_id: id, result: { text: "Hello, Ann", at: "1970-01-01T00:00:00.000Z" } }
        },
        {
          kind: "metric",
          body: { name: "cost.greet", value: 10, unit: "credits", dimensions: { tool: "greet", call_id: id } }
        }
      ])
      expect([...new Set(recorded.asked)]).toEqual(["tool.call greet"])
    }).pipe(Effect.provide(layer))
  )

  it.effect("gives every call its own id, or the caller's", () =>
    Effect.gen(function* () {
      const { recorded, tools } = yield* job({ allow: ["picky"] })
      yield* tools.call(Picky, 1)
      yield* tools.call(Picky, 2, { callId: "mine" })
      yield* tools.call(Picky, 3)
      const ids = recorded.events.filter((e) => e.kind === "tool_call").map((e) => e.body.call_id)
      expect(new Set(ids).size).toBe(3)
      expect(ids[1]).toBe("mine")
    }).pipe(Effect.provide(layer))
  )

  it.effect("refuses before anything runs, with one tool_result and no cost", () =>
    Effect.gen(function* () {
      const { recorded, tools } = yield* job({ allow: ["greet"] })
      expect(yield* Effect.flip(tools.call(Picky, 1, { callId: "c" }))).toBeInstanceOf(PermissionDenied)
      expect(recorded.events).toMatchObject([
        {
          kind: "tool_result",
          body: { call_id: "c", error: { code: "PERMISSION_DENIED", retryable: false } }
        }
      ])
      // Whether a tool exists is not told to those who may not call it.
      expect(yield* Effect.flip(tools.call("nothing"))).toBeInstanceOf(PermissionDenied)
    }).pipe(Effect.provide(layer))
  )

  it.effect("puts bad input and unknown tools on the stream, without cost", () =>
    Effect.gen(function* () {
      const { recorded, tools } = yield* job({ allow: ["greet", "nothing"] })
      expect(yield* Effect.flip(tools.call("greet", {}))).toBeInstanceOf(InvalidRequest)
      expect(yield* Effect.flip(tools.call("nothing"))).toBeInstanceOf(InvalidRequest)
      expect(kinds(recorded)).toEqual(["tool_call", "tool_result", "tool_call", "tool_result"])
      for (const at of [1, 3])
        expect(recorded.events[at]?.body).toMatchObject({ error: { code: "INVALID_REQUEST" } })
    }).pipe(Effect.provide(layer))
  )

  it.effect("puts a failure on the stream and charges what the contract says", () =>
    Effect.gen(function* () {
      const { recorded, tools } = yield* job({ allow: ["picky"] })
      expect(yield* Effect.flip(tools.call(Picky, 12))).toEqual({ _tag: "TooBig", limit: 10 })
      expect(recorded.events.slice(1)).toMatchObject([
        {
          kind: "tool_result",
          body: {
            error: {
              code: "INTERNAL_ERROR",
              retryable: true,
              details: { error: { _tag: "TooBig", limit: "10" } }
            }
          }
        },
        { kind: "metric", body: { name: "cost.x", value: 12 } }
      ])
    }).pipe(Effect.provide(layer))
  )

  it.effect("puts a defect on the stream without its text, and dies", () => {
    const broken = Tools.handle(Tools.make("broken"), () => Effect.die(new Error("secret")))
    return Effect.gen(function* () {
      const { recorded, tools } = yield* job({ allow: ["broken"] })
      expect(Exit.isFailure(yield* Effect.exit(tools.call("broken")))).toBe(true)
      expect(kinds(recorded)).toEqual(["tool_call", "tool_result"])
      expect(JSON.stringify(recorded.events)).not.toContain("secret")
    }).pipe(Effect.provide(Tools.layer([broken])))
  })

  it.effect("ends an interrupted call in CANCELLED, and interrupts the tool", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      let finalized = false
      const hang = Tools.handle(Tools.make("hang", { costOnFailure: { amount: 1, currency: "USD" } }), () =>
        Effect.zipRight(Deferred.succeed(started, undefined), Effect.never).pipe(
          Effect.onInterrupt(() =>
            Effect.sync(() => {
              finalized = true
            })
          )
        )
      )
      yield* Effect.gen(function* () {
        const { recorded, tools } = yield* job({ allow: ["hang"] })
        const fiber = yield* Effect.fork(tools.call("hang"))
        yield* Deferred.await(started)
        yield* Fiber.interrupt(fiber)
        expect(finalized).toBe(true)
        expect(kinds(recorded)).toEqual(["tool_call", "tool_result", "metric"])
        expect(recorded.events[1]?.body).toMatchObject({ error: { code: "CANCELLED" } })
      }).pipe(Effect.provide(Tools.layer([hang])))
    })
  )

  it.effect("spends once although the caller is interrupted when the tool has just run", () =>
    Effect.gen(function* () {
      const spending = gate()
      const { recorded, tools } = yield* job({ allow: ["picky"], beforeSpend: spending.wait })
      const fiber = yield* Effect.fork(tools.call(Picky, 1))
      yield* spending.reached
      const interrupting = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* Effect.yieldNow()
      yield* spending.open
      yield* Fiber.join(interrupting)
      expect(kinds(recorded)).toEqual(["tool_call", "tool_result", "metric"])
      expect(recorded.events[1]?.body).toHaveProperty("result")
    }).pipe(Effect.provide(layer))
  )

  it.effect("spends although the interrupt came in the last step of the tool", () =>
    Effect.gen(function* () {
      let caller: Fiber.RuntimeFiber<unknown, unknown> | undefined
      const charged = Tools.handle(Tools.make("charged", { cost: { amount: 1, currency: "USD" } }), () =>
        Effect.sync(() => {
          caller?.unsafeInterruptAsFork(FiberId.none)
          return "done"
        })
      )
      yield* Effect.gen(function* () {
        const { recorded, tools } = yield* job({ allow: ["charged"] })
        caller = yield* Effect.fork(tools.call("charged"))
        expect(Exit.isInterrupted(yield* Fiber.await(caller))).toBe(true)
        expect(kinds(recorded)).toEqual(["tool_call", "tool_result", "metric"])
        expect(recorded.events[1]?.body).toMatchObject({ result: "done" })
      }).pipe(Effect.provide(Tools.layer([charged])))
    })
  )

  it.effect("fails a call whose result the log does not take, says so on the stream, and charges it", () =>
    Effect.gen(function* () {
      const tooLarge = new InternalError({ message: "too large", details: { limit: "event_bytes" } })
      const { recorded, tools } = yield* job({ allow: ["picky"] }, ({ job, lease }) => ({
        lease,
        job: {
          ...job,
          toolResult: (body) => ("result" in body ? Effect.fail(tooLarge) : job.toolResult(body))
        }
      }))
      expect(yield* Effect.flip(tools.call("picky", "1"))).toBe(tooLarge)
      expect(kinds(recorded)).toEqual(["tool_call", "tool_result", "metric"])
      expect(recorded.events[1]?.body).toMatchObject({ error: { details: { limit: "event_bytes" } } })
    }).pipe(Effect.provide(layer))
  )

  it.effect("runs nothing when the lease is over by the time that its call is on the stream", () =>
    Effect.gen(function* () {
      const refused = new BudgetExhausted({ message: "no more" })
      const { recorded, tools } = yield* job({
        allow: ["greet"],
        commit: Effect.sync(() => {
          recorded.refuse = refused
        })
      })
      expect(yield* Effect.flip(tools.call(Greet, { name: "Ann" }))).toBe(refused)
      expect(recorded.events).toMatchObject([
        { kind: "tool_call", body: { tool: "greet" } },
        { kind: "tool_result", body: { error: { code: "BUDGET_EXHAUSTED" } } }
      ])
    }).pipe(Effect.provide(layer))
  )

  it.effect("runs nothing that the log does not take", () =>
    Effect.gen(function* () {
      let ran = 0
      const count = Tools.handle(Tools.make("count"), () => Effect.sync(() => ++ran))
      yield* Effect.gen(function* () {
        const { tools } = yield* job({ allow: ["count"] }, ({ job, lease }) => ({
          lease,
          job: { ...job, toolCall: () => new InternalError({ message: "the log is full" }) }
        }))
        expect(yield* Effect.flip(tools.call("count"))).toBeInstanceOf(InternalError)
        expect(ran).toBe(0)
      }).pipe(Effect.provide(Tools.layer([count])))
    })
  )

  it.effect("gives the tool what it shows on the stream", () => {
    const echo = Tools.handle(Tools.make("echo"), Effect.succeed)
    return Effect.gen(function* () {
      const { recorded, tools } = yield* job({ allow: ["echo"] })
      let reads = 0
      const shifty = {
        get path() {
          return `/${reads++}`
        }
      }
      expect(yield* tools.call("echo", shifty)).toEqual({ path: "/0" })
      expect(recorded.events[0]?.body).toMatchObject({ args: { path: "/0" } })
      expect(yield* Effect.flip(tools.call("echo", { n: 1n }))).toBeInstanceOf(InvalidRequest)
    }).pipe(Effect.provide(Tools.layer([echo])))
  })

  it.effect("lists what the lease allows at the moment", () =>
    Effect.gen(function* () {
      const { recorded, tools } = yield* job({ allow: ["greet"] })
      expect((yield* tools.list).map((tool) => tool.name)).toEqual(["greet"])
      recorded.refuse = new BudgetExhausted({ message: "spent" })
      expect(yield* tools.list).toEqual([])
    }).pipe(Effect.provide(layer))
  )

  it.effect("is not widened by leasing it again", () =>
    Effect.gen(function* () {
      const { tools } = yield* job({ allow: ["greet"] })
      const again = tools.leasedTo(lessee({ allow: ["greet", "picky"] }))
      expect(yield* Effect.flip(again.call(Picky, 1))).toBeInstanceOf(PermissionDenied)
    }).pipe(Effect.provide(layer))
  )

  it.effect("charges a call whose tool dies while it cleans up", () => {
    const untidy = Tools.handle(
      Tools.make("untidy", {
        cost: { amount: 1, currency: "USD" },
        costOnFailure: { amount: 2, currency: "USD" }
      }),
      () =>
        Effect.as(
          Effect.addFinalizer(() => Effect.dieMessage("secret")),
          "done"
        )
    )
    return Effect.gen(function* () {
      const { recorded, tools } = yield* job({ allow: ["untidy"] })
      expect(Exit.isFailure(yield* Effect.exit(tools.call("untidy")))).toBe(true)
      expect(kinds(recorded)).toEqual(["tool_call", "tool_result", "metric"])
      expect(recorded.events[1]?.body).toMatchObject({ error: { code: "INTERNAL_ERROR" } })
      expect(recorded.events[2]?.body).toMatchObject({ value: 2 })
    }).pipe(Effect.provide(Tools.layer([untidy])))
  })

  it.effect("runs the tools of a source without the caller's services too", () => {
    class Optional extends Context.Tag("test/Optional")<Optional, string>() {}
    const asks = Tools.handle(Tools.make("asks"), () =>
      Effect.map(Effect.serviceOption(Optional), Option.isSome)
    )
    const source: Tools.Source = { connect: Effect.succeed(() => new Map([["asks", asks]])) }
    return Effect.gen(function* () {
      const { tools } = yield* job({ allow: ["asks"] })
      for (const service of [tools, yield* Tools.Tools])
        expect(yield* Effect.provideService(service.call("asks"), Optional, "agent's")).toBe(false)
    }).pipe(Effect.provide(Tools.layer([source])))
  })
})

describe("what a tool costs", () => {
  it.each(["-1", "a", "1".repeat(65), `0.${"1".repeat(65)}`, 1e70, Number.NaN])("is not %s", (amount) => {
    for (const cost of ["cost", "costOnFailure"])
      expect(() => Tools.make("x", { [cost]: { amount, currency: "USD" } })).toThrow(/at most 64 digits/)
  })

  it.effect("counts as far as it can when it is known only after the call", () =>
    Effect.gen(function* () {
      const tool = Tools.handle(
        Tools.make("third", { cost: () => ({ amount: `0.${"3".repeat(80)}`, currency: "USD" }) }),
        () => Effect.succeed("done")
      )
      const holder = lessee({ allow: ["third"] })
      const tools = (yield* Effect.provide(Tools.Tools, Tools.layer([tool]))).leasedTo(holder)
      expect(yield* tools.call("third")).toBe("done")
      expect(holder.events.at(-1)).toMatchObject({
        kind: "metric",
        body: { name: "cost.third", unit: "USD" }
      })
    }).pipe(Effect.scoped)
  )

  const failing = { amount: "0.5", currency: "USD" }
  const dear = { amount: 1, currency: "USD" }
  it.effect.each<[string, (output: unknown) => unknown, number | undefined, boolean]>([
    [
      "written with more digits than it has",
      () => ({ amount: (0.25).toFixed(80), currency: "USD" }),
      0.25,
      false
    ],
    ["negative", () => ({ amount: -1, currency: "USD" }), 0.5, true],
    ["no number", () => ({ amount: Number.NaN, currency: "USD" }), 0.5, true],
    ["of no currency", () => ({ amount: 1 }), 0.5, true],
    ["a promise", async () => dear, 0.5, true],
    [
      "thrown at",
      (output) => ({ amount: (output as { tokens: number }).tokens.toFixed(), currency: "USD" }),
      0.5,
      true
    ],
    ["nothing", () => undefined, undefined, false]
  ])("that is %s fails no call that has run, and makes none free", ([, cost, counted, isLogged]) =>
    Effect.gen(function* () {
      const logged: Array<unknown> = []
      const logger = Logger.make(({ message }) => void logged.push(message))
      const tool = Tools.handle(
        Tools.make("odd", { cost: (_, output) => cost(output) as Cost, costOnFailure: failing }),
        () => Effect.succeed({ tokens: null })
      )
      const holder = lessee({ allow: ["odd"] })
      const tools = (yield* Effect.provide(Tools.Tools, Tools.layer([tool]))).leasedTo(holder)
      const call = Effect.provide(tools.call("odd"), Logger.replace(Logger.defaultLogger, logger))
      expect(yield* call).toEqual({ tokens: null })
      expect(holder.events.slice(0, 2).map(({ kind }) => kind)).toEqual(["tool_call", "tool_result"])
      const costs = holder.events.slice(2).map(({ body }) => (body as { value: number }).value)
      expect(costs).toEqual(counted === undefined ? [] : [counted])
      expect(logged.length > 0).toBe(isLogged)
    }).pipe(Effect.scoped)
  )

  it.effect("counts without what cannot be said of it", () =>
    Effect.gen(function* () {
      const cost = { amount: 1, currency: "USD", name: "budget.remaining", dimensions: { big: 1n } }
      const tool = Tools.handle(Tools.make("odd", { cost: () => cost }), () => Effect.succeed("done"))
      const holder = lessee({ allow: ["odd"] })
      const spend = (given: Cost) =>
        given.name === "budget.remaining"
          ? new InvalidRequest({ message: "that is the runtime's own metric" })
          : holder.lease.spend(given)
      const lease = { ...holder.lease, spend }
      const tools = (yield* Effect.provide(Tools.Tools, Tools.layer([tool]))).leasedTo({ ...holder, lease })
      expect(yield* tools.call("odd", undefined, { callId: "c1" })).toBe("done")
      expect(holder.events.at(-1)).toMatchObject({
        body: { name: "cost.other", value: 1, unit: "USD", dimensions: { tool: "odd", call_id: "c1" } }
      })
    }).pipe(Effect.scoped)
  )

  it.effect("counts of a call that failed as far as it can be made out, and the call fails as it did", () =>
    Effect.gen(function* () {
      const tool = Tools.handle(
        Tools.make("odd", {
          costOnFailure: () => {
            throw new Error("no")
          }
        }),
        () => new InternalError({ message: "down" })
      )
      const holder = lessee({ allow: ["odd"] })
      const tools = (yield* Effect.provide(Tools.Tools, Tools.layer([tool]))).leasedTo(holder)
      expect(yield* Effect.flip(tools.call("odd"))).toMatchObject({ message: "down" })
    }).pipe(Effect.scoped)
  )
})

describe("a tool that cannot be interrupted", () => {
  const usd = { amount: 1, currency: "USD" }

  /** Gives a call up while the tool cannot be interrupted, and returns what its stream has. */
  const givenUp = (
    cost: NonNullable<Parameters<typeof Tools.make>[1]>["cost"],
    handler: (region: Effect.Effect<number>) => Effect.Effect<unknown>
  ) =>
    Effect.gen(function* () {
      const work = gate()
      const held = Tools.handle(Tools.make("held", { cost }), () =>
        handler(Effect.uninterruptible(Effect.as(work.wait, 1)))
      )
      const { recorded, tools } = yield* Effect.provide(job({ allow: ["held"] }), Tools.layer([held]))
      const calling = yield* Effect.fork(tools.call("held"))
      yield* work.reached
      const interrupting = yield* Effect.fork(Fiber.interrupt(calling))
      yield* Effect.yieldNow()
      yield* work.open
      expect(Exit.isInterrupted(yield* Fiber.join(interrupting))).toBe(true)
      return recorded
    })

  it.effect.each([
    ["a constant", usd],
    ["of its output", (_: unknown, output: unknown) => ({ ...usd, amount: Number(output) })]
  ] as const)("is paid for when it has run, although its call was given up: %s", ([, cost]) =>
    Effect.gen(function* () {
      const recorded = yield* givenUp(cost, (region) => region)
      expect(kinds(recorded)).toEqual(["tool_call", "tool_result", "metric"])
      expect(recorded.events[1]?.body).toMatchObject({ result: 1 })
    })
  )

  it.effect("is interrupted where it can be, after that", () =>
    Effect.gen(function* () {
      const recorded = yield* givenUp(usd, (region) => Effect.zipRight(region, Effect.never))
      expect(kinds(recorded)).toEqual(["tool_call", "tool_result"])
      expect(recorded.events[1]?.body).toMatchObject({ error: { code: "CANCELLED" } })
    })
  )
})
