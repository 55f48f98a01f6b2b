import * as AiError from "@effect/ai/AiError"
import * as LanguageModel from "@effect/ai/LanguageModel"
import type * as Response from "@effect/ai/Response"
import * as Tool from "@effect/ai/Tool"
import * as Toolkit from "@effect/ai/Toolkit"
import { describe, expect, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Tools from "../../../src/layers/agents/Tools.js"
import * as ToolsToolkit from "../../../src/layers/agents/ToolsToolkit.js"
import * as LeasedLanguageModel from "../../../src/layers/lease/LeasedLanguageModel.js"
import { Meter } from "../../../src/layers/lease/TokenMeter.js"
import { BudgetExhausted, InternalError, PermissionDenied } from "../../../src/protocol/Errors.js"
import { leaseErrorOf } from "../../../src/services/lease/Lease.js"
import type { Lessee } from "../../../src/services/lease/Leased.js"
import { lessee, type RecordingLessee } from "../../support/lessee.js"

const name = "acme/large"
const prices = {
  [name]: {
    currency: "USD",
    inputPerMillion: "2.50",
    outputPerMillion: "10.00",
    cachedInputPerMillion: "0.25"
  }
}

const finish = (
  usage: Partial<Response.FinishPartEncoded["usage"]> = { inputTokens: 1000, outputTokens: 10 }
) =>
  ({
    type: "finish",
    reason: "stop",
    usage: { inputTokens: undefined, outputTokens: undefined, totalTokens: undefined, ...usage }
  }) as const
const text = (text: string) => ({ type: "text", text }) as const
const delta = (delta: string) => ({ type: "text-delta", id: "1", delta }) as const

type Reply = Effect.Effect<ReadonlyArray<object>, AiError.AiError>

/** A model that replies with these parts, and keeps what it was asked. */
const fake = (
  reply: Reply,
  stream: Stream.Stream<object, AiError.AiError> = Stream.unwrap(Effect.map(reply, Stream.fromIterable))
) => {
  const asked: Array<LanguageModel.ProviderOptions> = []
  const service = LanguageModel.make({
    generateText: (options) => {
      asked.push(options)
      return Effect.map(reply, (parts) => [...parts] as Array<Response.PartEncoded>)
    },
    streamText: (options) => {
      asked.push(options)
      return stream as Stream.Stream<Response.StreamPartEncoded, AiError.AiError>
    }
  })
  return { asked, service }
}

const leased = (
  model: { readonly service: Effect.Effect<LanguageModel.Service> },
  job: Lessee,
  options: Partial<LeasedLanguageModel.Options> = {}
) =>
  Effect.map(
    model.service,
    (open) =>
      LeasedLanguageModel.leased({ name, prices, ...options }).lease(open, job) as LanguageModel.Service
  )

const costs = (job: RecordingLessee) =>
  job.events.filter((event) => event.kind === "metric").map((event) => event.body)
const exact = { input_tokens: 1000, output_tokens: 10, model: name }

const Weather = Tool.make("weather", {
  parameters: { day: Schema.NumberFromString },
  success: Schema.Struct({ sunny: Schema.Boolean }),
  failure: Schema.String
})
const weatherCall = { type: "tool-call", id: "t1", name: "weather", params: { day: "1" } }

describe("generateText", () => {
  it.effect("authorises the model, and spends its tokens exactly and once", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const model = yield* leased(fake(Effect.succeed([text("hi"), finish()])), job)
      const response = yield* model.generateText({ prompt: "hello" })
      expect(response.text).toBe("hi")
      expect(response.usage.inputTokens).toBe(1000)
      expect(job.asked).toEqual([`model.use ${name}`])
      // 1000 × 2.50 / 10⁶ + 10 × 10 / 10⁶
      expect(costs(job)).toEqual([{ name: "cost.model", value: 0.0026, unit: "USD", dimensions: exact }])
    })
  )

  it.effect("keeps every digit of the amount", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const amounts: Array<string> = []
      const spending: Lessee = {
        job: job.job,
        lease: {
          ...job.lease,
          spend: ({ amount }) =>
            Effect.sync(() => amounts.push(BigDecimal.format(amount as BigDecimal.BigDecimal)))
        }
      }
      const usage = { inputTokens: 1_000_003, outputTokens: 7, cachedInputTokens: 3 }
      const model = yield* leased(fake(Effect.succeed([finish(usage)])), spending, {
        prices: {
          [name]: {
            currency: "USD",
            inputPerMillion: "0.123456789012",
            outputPerMillion: "1",
            cachedInputPerMillion: "0.000000000001"
          }
        }
      })
      yield* model.generateText({ prompt: "hello" })
      // 10⁶ × 0.123456789012 + 3 × 10⁻¹² + 7 × 1, all over 10⁶
      expect(amounts).toEqual(["1.23463789012000003e-1"])
    })
  )

  it.effect("refuses without asking the model, with the lease error as cause", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: ["acme/small"] })
      const open = fake(Effect.succeed([text("hi"), finish()]))
      const model = yield* leased(open, job)
      const calls = [
        model.generateText({ prompt: "hello" }),
        model.generateObject({ prompt: "hello", schema: Schema.Struct({ a: Schema.String }) }),
        Stream.runDrain(model.streamText({ prompt: "hello" }))
      ]
      for (const call of calls) {
        const error = yield* Effect.flip(call as Effect.Effect<unknown, AiError.AiError>)
        expect(AiError.isAiError(error)).toBe(true)
        expect(leaseErrorOf(error)).toBeInstanceOf(PermissionDenied)
      }
      expect(open.asked).toEqual([])
      expect(job.events).toEqual([])
    })
  )

  it.effect("asks again before every request", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const model = yield* leased(fake(Effect.succeed([finish()])), job)
      yield* model.generateText({ prompt: "hello" })
      job.refuse = new BudgetExhausted({ message: "spent" })
      expect(leaseErrorOf(yield* Effect.flip(model.generateText({ prompt: "hello" })))).toBeInstanceOf(
        BudgetExhausted
      )
      expect(costs(job)).toHaveLength(1)
    })
  )

  it.effect("runs the handlers of a toolkit and gives their results", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const open = fake(Effect.succeed([weatherCall, finish()]))
      const model = yield* leased(open, job)
      const response = yield* model
        .generateText({ prompt: "hello", toolkit: Toolkit.make(Weather) })
        .pipe(
          Effect.provide(
            Toolkit.make(Weather).toLayer({ weather: ({ day }) => Effect.succeed({ sunny: day === 1 }) })
          )
        )
      expect(response.toolCalls[0]?.params).toEqual({ day: 1 })
      expect(response.toolResults[0]?.result).toEqual({ sunny: true })
      expect(costs(job)).toHaveLength(1)
      // The model is told the same of the tool as without a lease.
      const described = open.asked[0]?.tools.map((tool) => tool.parametersSchema.ast) ?? []
      expect(described.map(Tool.getJsonSchemaFromSchemaAst)).toEqual([
        Tool.getJsonSchemaFromSchemaAst(Weather.parametersSchema.ast)
      ])
    })
  )

  it.effect("is paid for although a handler of the toolkit fails", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const model = yield* leased(fake(Effect.succeed([weatherCall, finish()])), job)
      const error = yield* model
        .generateText({ prompt: "hello", toolkit: Toolkit.make(Weather) })
        .pipe(
          Effect.provide(Toolkit.make(Weather).toLayer({ weather: () => Effect.fail("got it for free?") })),
          Effect.flip
        )
      expect(error).toBe("got it for free?")
      expect(costs(job)).toEqual([{ name: "cost.model", value: 0.0026, unit: "USD", dimensions: exact }])
    })
  )

  it.effect("is paid for although the call or the result of a tool does not decode", () =>
    Effect.gen(function* () {
      const result = {
        type: "tool-result",
        id: "t1",
        name: "weather",
        isFailure: false,
        providerExecuted: true
      }
      for (const part of [
        { ...weatherCall, params: { day: "soon" } },
        { ...result, result: { sunny: "yes" } }
      ]) {
        const job = lessee({ allow: [name] })
        const model = yield* leased(fake(Effect.succeed([part, finish()])), job)
        const toolkit = Effect.provide(
          Toolkit.make(Weather),
          Toolkit.make(Weather).toLayer({ weather: () => Effect.succeed({ sunny: true }) })
        )
        const error = yield* Effect.flip(model.generateText({ prompt: "hello", toolkit }))
        expect(error).toBeInstanceOf(AiError.MalformedOutput)
        expect(costs(job)).toEqual([{ name: "cost.model", value: 0.0026, unit: "USD", dimensions: exact }])
      }
    })
  )

  it.effect("asks the open model without the services that the handler provides", () =>
    Effect.gen(function* () {
      class Config extends Context.Tag("test/Config")<Config, string>() {}
      const job = lessee({ allow: [name] })
      const config = Effect.map(
        Effect.serviceOption(Config),
        Option.getOrElse(() => "none")
      )
      const reply = Effect.map(config, (config) => [text(config), finish()])
      const stream = Stream.fromEffect(Effect.map(config, delta))
      const model = yield* leased(fake(reply, stream), job)
      const mine = Effect.provideService(Config, "another model")
      expect((yield* mine(model.generateText({ prompt: "hello" }))).text).toBe("none")
      const parts = yield* mine(Stream.runCollect(model.streamText({ prompt: "hello" })))
      expect([...parts]).toMatchObject([{ delta: "none" }])
    })
  )

  it.effect("costs nothing when the provider refuses, and an estimate when its answer is unreadable", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const refused = yield* leased(fake(http(500, "down")), job)
      expect(yield* Effect.flip(refused.generateText({ prompt: "hello" }))).toMatchObject({
        _tag: "HttpResponseError"
      })
      expect(costs(job)).toEqual([])
      const broken = yield* leased(fake(Effect.succeed([{ type: "nonsense" }])), job)
      expect(yield* Effect.flip(broken.generateText({ prompt: "x".repeat(400) }))).toBeInstanceOf(
        AiError.MalformedOutput
      )
      const [cost] = costs(job)
      expect(cost).toMatchObject({ dimensions: { estimated: true, output_tokens: 0 } })
      const inputTokens = Number(Object(cost?.["dimensions"]).input_tokens)
      expect(inputTokens).toBeGreaterThanOrEqual(100)
    })
  )

  it.effect("estimates what an interrupted request cost", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const started = yield* Deferred.make<void>()
      const model = yield* leased(
        fake(Effect.zipRight(Deferred.succeed(started, undefined), Effect.never)),
        job
      )
      const fiber = yield* Effect.fork(model.generateText({ prompt: "hello" }))
      yield* Deferred.await(started)
      expect(Exit.isInterrupted(yield* Fiber.interrupt(fiber))).toBe(true)
      expect(costs(job)).toMatchObject([{ dimensions: { estimated: true } }])
    })
  )

  it.effect("is paid for however deep its parts go", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      let deep: unknown = "abcd"
      for (let i = 0; i < 20_000; i++) deep = [deep]
      const params = { day: "1", deep }
      const reply = [{ ...weatherCall, params }, finish({ inputTokens: 1000 })]
      const model = yield* leased(fake(Effect.succeed(reply)), job)
      yield* model
        .generateText({ prompt: "hello", toolkit: Toolkit.make(Weather), disableToolCallResolution: true })
        .pipe(
          Effect.provide(Toolkit.make(Weather).toLayer({ weather: () => Effect.succeed({ sunny: true }) })),
          Effect.exit
        )
      expect(costs(job)).toMatchObject([{ dimensions: { estimated: true, output_tokens: 2 } }])
      const cyclic: Record<string, unknown> = { text: "abcd" }
      cyclic["self"] = cyclic
      const meter = new Meter(cyclic)
      expect(meter.tokens().input).toBe(1)
    })
  )

  it.effect("says that a cost was not recorded", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const full = new InternalError({ message: "the log is full" })
      const model = yield* leased(fake(Effect.succeed([finish()])), {
        job: job.job,
        lease: { ...job.lease, spend: () => full }
      })
      const { cause } = yield* Effect.flip(model.generateText({ prompt: "hello" }))
      expect(cause).toMatchObject({ code: "INTERNAL_ERROR", message: "the log is full" })
    })
  )
})

describe("generateObject", () => {
  const schema = Schema.Struct({ day: Schema.NumberFromString })

  it.effect("decodes the object, and describes its schema to the provider", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const open = fake(Effect.succeed([text('{"day":"1"}'), finish()]))
      const model = yield* leased(open, job)
      expect((yield* model.generateObject({ prompt: "hello", schema, objectName: "day" })).value).toEqual({
        day: 1
      })
      expect(costs(job)).toHaveLength(1)
      const format = open.asked[0]?.responseFormat
      if (format?.type !== "json") throw new Error("not asked for JSON")
      expect(format.objectName).toBe("day")
      expect(Tool.getJsonSchemaFromSchemaAst(format.schema.ast)).toEqual(
        Tool.getJsonSchemaFromSchemaAst(schema.ast)
      )
    })
  )

  it.effect("is paid for although what came is no such object, no JSON, or no text", () =>
    Effect.gen(function* () {
      for (const parts of [[text('{"day":"soon"}'), finish()], [text("no"), finish()], [finish()]]) {
        const job = lessee({ allow: [name] })
        const model = yield* leased(fake(Effect.succeed(parts)), job)
        const error = yield* Effect.flip(model.generateObject({ prompt: "hello", schema }))
        expect(error).toBeInstanceOf(AiError.MalformedOutput)
        expect(costs(job)).toEqual([{ name: "cost.model", value: 0.0026, unit: "USD", dimensions: exact }])
      }
    })
  )
})

describe("streamText", () => {
  const parts = [
    { type: "text-start", id: "1" },
    delta("a".repeat(40)),
    delta("b"),
    { type: "text-end", id: "1" },
    finish()
  ]

  it.effect("spends on the finish part, before it is given on", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const model = yield* leased(fake(Effect.succeed(parts)), job)
      const types: Array<string> = []
      yield* Stream.runForEach(model.streamText({ prompt: "hello" }), (part) =>
        Effect.sync(() => {
          if (part.type === "finish") expect(costs(job)).toHaveLength(1)
          types.push(part.type)
        })
      )
      expect(types).toEqual(["text-start", "text-delta", "text-delta", "text-end", "finish"])
      expect(costs(job)).toEqual([{ name: "cost.model", value: 0.0026, unit: "USD", dimensions: exact }])
    })
  )

  it.effect("estimates what was received when its reader stops early", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const oneByOne = Stream.rechunk(Stream.fromIterable(parts), 1)
      const model = yield* leased(fake(Effect.succeed(parts), oneByOne), job)
      yield* Stream.runDrain(Stream.take(model.streamText({ prompt: "hello" }), 2))
      expect(costs(job)).toMatchObject([{ dimensions: { estimated: true, output_tokens: 10 } }])
    })
  )

  it.effect("spends once when its reader stops at the finish part", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const model = yield* leased(
        fake(Effect.succeed(parts), Stream.rechunk(Stream.fromIterable(parts), 1)),
        job
      )
      yield* Stream.runDrain(Stream.take(model.streamText({ prompt: "hello" }), 5))
      expect(costs(job)).toEqual([{ name: "cost.model", value: 0.0026, unit: "USD", dimensions: exact }])
    })
  )

  it.effect("estimates what was received when its reader is interrupted, or the connection breaks", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const received = yield* Deferred.make<void>()
      const hanging = yield* leased(
        fake(Effect.succeed([]), Stream.concat(Stream.make(...parts.slice(0, 3)), Stream.never)),
        job
      )
      const fiber = yield* hanging.streamText({ prompt: "hello" }).pipe(
        Stream.runForEach((part) =>
          part.type === "text-delta" && part.delta === "b"
            ? Deferred.succeed(received, undefined)
            : Effect.void
        ),
        Effect.fork
      )
      yield* Deferred.await(received)
      yield* Fiber.interrupt(fiber)
      expect(costs(job)).toMatchObject([{ dimensions: { estimated: true, output_tokens: 11 } }])
      const breaking = yield* leased(
        fake(
          Effect.succeed([]),
          Stream.concat(Stream.make(...parts.slice(0, 2)), Stream.fromEffect(http(500, "x")))
        ),
        job
      )
      yield* Effect.flip(Stream.runDrain(breaking.streamText({ prompt: "hello" })))
      expect(costs(job)).toHaveLength(2)
      const refused = yield* leased(fake(http(500, "x")), job)
      yield* Effect.flip(Stream.runDrain(refused.streamText({ prompt: "hello" })))
      expect(costs(job)).toHaveLength(2)
    })
  )

  it.effect("runs the handlers of a toolkit", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const model = yield* leased(fake(Effect.succeed([weatherCall, finish()])), job)
      const received = yield* model
        .streamText({ prompt: "hello", toolkit: Toolkit.make(Weather) })
        .pipe(
          Stream.runCollect,
          Effect.provide(Toolkit.make(Weather).toLayer({ weather: () => Effect.succeed({ sunny: true }) }))
        )
      expect([...received].map((part) => part.type).sort()).toEqual(["finish", "tool-call", "tool-result"])
      expect(costs(job)).toHaveLength(1)
    })
  )
})

describe("prices", () => {
  const cost = (usage: object, options: Partial<LeasedLanguageModel.Options> = {}) =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const model = yield* leased(fake(Effect.succeed([finish(usage)])), job, options)
      yield* model.generateText({ prompt: "" })
      return costs(job)[0]?.value
    })
  const million = 1_000_000

  it.effect("counts cached input within the input, or beside it", () =>
    Effect.gen(function* () {
      const usage = { inputTokens: million, outputTokens: 0, cachedInputTokens: million / 2 }
      expect(yield* cost(usage)).toBe(1.25 + 0.125)
      const beside = { [name]: { ...prices[name], cachedInputSeparate: true } } as typeof prices
      expect(yield* cost(usage, { prices: beside })).toBe(2.5 + 0.125)
      // More cached than there was input can only be beside it.
      expect(yield* cost({ ...usage, cachedInputTokens: 2 * million })).toBe(2.5 + 0.5)
    })
  )

  it.effect("counts reasoning within the output, or beside it when the total says so", () =>
    Effect.gen(function* () {
      const reasoning = { [name]: { ...prices[name], reasoningPerMillion: "4" } } as typeof prices
      const usage = { inputTokens: 0, outputTokens: million, reasoningTokens: million / 2 }
      expect(yield* cost({ ...usage, totalTokens: million }, { prices: reasoning })).toBe(5 + 2)
      expect(yield* cost({ ...usage, totalTokens: 1.5 * million }, { prices: reasoning })).toBe(10 + 2)
      expect(yield* cost({ ...usage, totalTokens: 1.5 * million })).toBe(10 + 5)
    })
  )

  it.effect("has a fallback, and without prices costs nothing", () =>
    Effect.gen(function* () {
      const usage = { inputTokens: million, outputTokens: 0 }
      const fallbackPrice = { currency: "credits", inputPerMillion: "3", outputPerMillion: "0" }
      expect(yield* cost(usage, { prices: {}, fallbackPrice })).toBe(3)
      expect(yield* cost(usage, { prices: undefined })).toBe(undefined)
    })
  )

  it("throws for a model without a price, and for prices that are none", () => {
    expect(() => LeasedLanguageModel.leased({ name: "other", prices })).toThrow("model other has no price")
    for (const price of ["-1", "1e3", "", "0x1", "NaN"])
      expect(() =>
        LeasedLanguageModel.leased({
          name,
          prices: { [name]: { currency: "USD", inputPerMillion: price, outputPerMillion: "1" } }
        })
      ).toThrow("inputPerMillion must be a decimal")
  })
})

const http = (status: number, body: string) =>
  new AiError.HttpResponseError(
    {
      module: "Fake",
      method: "generateText",
      reason: "StatusCode",
      request: { method: "POST", url: "https://x/", urlParams: [], hash: Option.none(), headers: {} },
      response: { status, headers: {} },
      body
    },
    { disableValidation: true }
  )

describe("upstreamSpendCap", () => {
  const { upstreamSpendCap } = LeasedLanguageModel
  const json = (error: object) => JSON.stringify({ error })
  const caps: ReadonlyArray<readonly [string, unknown]> = [
    ["402, whatever it says", http(402, "")],
    [
      "LiteLLM",
      http(
        400,
        json({ message: "Budget has been exceeded! Current cost: 2, Max budget: 1", type: "budget_exceeded" })
      )
    ],
    [
      "LiteLLM, older",
      http(429, json({ message: "ExceededBudget: User sk-1234 has exceeded their budget" }))
    ],
    ["OpenAI", http(429, json({ code: "insufficient_quota", message: "You exceeded your current quota" }))],
    ["Anthropic", http(400, json({ message: "Your credit balance is too low to access the API" }))],
    ["plain", { status: 403, body: { detail: "Budget exceeded" } }],
    ["as a cause", new Error("failed", { cause: { response: { status: 429 }, body: "budget_exceeded" } })]
  ]
  for (const [what, error] of caps)
    it(`knows ${what}`, () => {
      const exhausted = upstreamSpendCap(error)
      expect(exhausted).toBeInstanceOf(BudgetExhausted)
      expect(exhausted?.message).not.toContain("sk-1234")
    })
  const others: ReadonlyArray<readonly [string, unknown]> = [
    [
      "a rate limit",
      http(429, json({ code: "rate_limit_exceeded", message: "Rate limit reached for requests" }))
    ],
    ["a fault", http(500, json({ message: "budget exceeded" }))],
    [
      "a prompt that speaks of budgets",
      http(400, JSON.stringify({ error: { message: "bad" }, prompt: "budget exceeded" }))
    ],
    ["an error without a status", new Error("budget exceeded")],
    ["nothing", undefined]
  ]
  for (const [what, error] of others)
    it(`lets ${what} be`, () => expect(upstreamSpendCap(error)).toBeUndefined())

  it.effect("is what the model fails with", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name] })
      const model = yield* leased(fake(http(402, "")), job)
      expect(leaseErrorOf(yield* Effect.flip(model.generateText({ prompt: "" })))).toBeInstanceOf(
        BudgetExhausted
      )
      expect(
        leaseErrorOf(yield* Effect.flip(Stream.runDrain(model.streamText({ prompt: "" }))))
      ).toBeInstanceOf(BudgetExhausted)
      expect(costs(job)).toEqual([])
    })
  )
})

describe("ToolsToolkit", () => {
  const Add = Tools.make("math/add", {
    description: "Adds",
    input: Schema.Struct({ a: Schema.Number, b: Schema.Number }),
    output: Schema.Number,
    cost: { amount: 1, currency: "credits" }
  })
  const add = Tools.handle(Add, ({ a, b }) => Effect.succeed(a + b))
  const other = Tools.handle(Tools.make("math_add"), () => Effect.succeed("other"))

  it.effect("puts the tool calls of a model under tool.call", () =>
    Effect.gen(function* () {
      const job = lessee({ allow: [name, "math/add", "math_add"] })
      const tools = (yield* Tools.Tools).leasedTo(job)
      const open = fake(
        Effect.succeed([
          { type: "tool-call", id: "1", name: "math_add", params: { a: 1, b: 2 } },
          { type: "tool-call", id: "2", name: "math_add", params: { a: 1 } },
          { type: "tool-call", id: "3", name: "math_add_2", params: {} },
          finish()
        ])
      )
      const model = yield* leased(open, job)
      const response = yield* model.generateText({ prompt: "1 + 2", toolkit: ToolsToolkit.make(tools) })
      expect(response.toolResults.map(({ isFailure, result }) => ({ isFailure, result }))).toMatchObject([
        { isFailure: false, result: 3 },
        { isFailure: true, result: { code: "INVALID_REQUEST" } },
        { isFailure: false, result: "other" }
      ])
      expect(job.events.map((event) => event.kind)).toEqual([
        ...["metric", "tool_call", "tool_result", "metric"],
        ...["tool_call", "tool_result", "tool_call", "tool_result"]
      ])
      expect(open.asked[0]?.tools.map((tool) => [tool.name, tool.description])).toEqual([
        ["math_add", "Adds"],
        ["math_add_2", undefined]
      ])
      const [parameters] = open.asked[0]?.tools.map((tool) => tool.parametersSchema.ast) ?? []
      if (parameters === undefined) throw new Error("no tool was described")
      expect(Tool.getJsonSchemaFromSchemaAst(parameters)).toMatchObject({
        type: "object",
        required: ["a", "b"]
      })
    }).pipe(Effect.provide(Tools.layer([add, other])))
  )

  it.effect("offers what the lease allows, and nothing else", () =>
    Effect.gen(function* () {
      const tools = (yield* Tools.Tools).leasedTo(lessee({ allow: ["math/add"] }))
      expect(Object.keys((yield* ToolsToolkit.make(tools)).tools)).toEqual(["math_add"])
    }).pipe(Effect.provide(Tools.layer([add, other]).pipe(Layer.provideMerge(Layer.empty))))
  )

  it.effect("names each tool as models take it, however many names are alike", () =>
    Effect.gen(function* () {
      const alike = "x".repeat(80)
      const names = ["__proto__", "a.b", "a_b", "a/b", ...Array.from({ length: 1200 }, (_, n) => alike + n)]
      const called: Array<string> = []
      const tools = {
        list: Effect.succeed(names.map((name) => ({ name, description: undefined, inputSchema: {} }))),
        call: (name: string) => Effect.sync(() => called.push(name))
      } as unknown as Tools.ToolsService
      const toolkit = yield* ToolsToolkit.make(tools)
      const offered = Object.keys(toolkit.tools)
      expect(offered).toHaveLength(names.length)
      expect(offered.slice(0, 4)).toEqual(["__proto__", "a_b", "a_b_2", "a_b_3"])
      expect(offered.every((name) => /^[A-Za-z0-9_-]{1,64}$/.test(name))).toBe(true)
      for (const name of offered) yield* toolkit.handle(name, {} as never)
      expect(called).toEqual(names)
    })
  )
})
