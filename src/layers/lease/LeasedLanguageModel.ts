/**
 * `LanguageModel` of `@effect/ai`, held to the `model.use` patterns of a job's lease (§9) and paid for: before
 * every request the model's name is authorised, and after every response its tokens are spent as `cost.model`.
 *
 * The leased service is an `@effect/ai` model whose provider is the open service. So a response is paid for before
 * anything of the handler sees it: its tools, its schemas and what it does with a stream come later, and cannot
 * make a response that was generated look like one that was not. And the open service runs without the services
 * that the handler provides: they could name another model than the one that was authorised, or another `fetch`.
 *
 * A refusal is an `AiError` whose `cause` is the lease error; `leaseErrorOf` finds it.
 *
 * The handlers of a `Toolkit` are the agent's code, or the operator's layers; they are not under `tool.call`.
 * `toolkit` in ToolsToolkit.ts offers a model the registered `Tools`, which are.
 */
import * as AiError from "@effect/ai/AiError"
import * as LanguageModel from "@effect/ai/LanguageModel"
import * as Response from "@effect/ai/Response"
import * as Telemetry from "@effect/ai/Telemetry"
import * as Tool from "@effect/ai/Tool"
import type * as Toolkit from "@effect/ai/Toolkit"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Argument from "../../protocol/Argument.js"
import * as Budget from "../../protocol/Budget.js"
import type { EmitError } from "../../services/jobs/Job.js"
import type { LeaseError } from "../../services/lease/Lease.js"
import * as Leased from "../../services/lease/Leased.js"
import { onlySpan } from "./onlySpan.js"
import * as Meter from "./TokenMeter.js"
import { upstreamSpendCap } from "./upstreamSpendCap.js"

/** Which model is leased, and what it costs. */
export interface Options {
  /** The model that the operator's layer is: the target of `model.use`, such as `openai/gpt-4o`. */
  readonly name: string
  /** Prices by the name of the model. Without it models cost nothing here. */
  readonly prices?: Readonly<Record<string, Meter.Price>> | undefined
  /** The price of a model that `prices` does not name. */
  readonly fallbackPrice?: Meter.Price | undefined
}

/** A name that is not known here may be that of prices, and then the model would be free. */
const optionsRule = Argument.options<Options>({
  name: Argument.text,
  prices: Argument.maybe(Argument.object),
  fallbackPrice: Argument.maybe(Argument.object)
})

/** Returns a tool that a provider describes as it is, and whose calls and results pass whatever they hold. */
const passing = (tool: Tool.Any): Tool.Any =>
  Object.assign(Object.create(Object.getPrototypeOf(tool)) as Tool.Any, tool, {
    parametersSchema: anything(tool.parametersSchema.ast),
    successSchema: Schema.Unknown,
    failureSchema: Schema.Unknown
  })

/** Returns a schema that takes any JSON, and is described as the one that it stands for. */
const anything = (ast: SchemaAST.AST) => {
  const description = Tool.getDescriptionFromSchemaAst(ast)
  return Schema.Unknown.annotations({
    jsonSchema: Tool.getJsonSchemaFromSchemaAst(ast),
    ...(description === undefined ? {} : { description })
  })
}

type ToolsByName = Record<string, Tool.Any>

/** Returns the tools of a request for the open service, which describes them to the model and runs none. */
const describing = (tools: ReadonlyArray<Tool.Any>): Toolkit.WithHandler<ToolsByName> => ({
  tools: Object.fromEntries(tools.map((tool) => [tool.name, passing(tool)])),
  handle: () => Effect.dieMessage("tool calls are not resolved here")
})

const failure = (method: string) => (error: LeaseError | EmitError) =>
  new AiError.UnknownError({
    module: "LeasedLanguageModel",
    method,
    description: error.message,
    cause: error
  })

/** Returns what an error of the provider is for the job: its spending limit is an exhausted budget. */
const upstream = (method: string) => (error: AiError.AiError) => {
  const exhausted = upstreamSpendCap(error)
  return exhausted === undefined ? error : failure(method)(exhausted)
}

/**
 * Applies `onlySpan` to a stream. `Stream.mapInputContext` would not do: it can add services, but not take them away.
 */
const isolated = <A, E>(stream: Stream.Stream<A, E>): Stream.Stream<A, E> =>
  Stream.unwrapScoped(
    Effect.flatMap(Effect.scope, (scope) =>
      Effect.map(
        Effect.mapInputContext(Stream.toPull(stream), (context: Context.Context<never>) =>
          Context.add(onlySpan(context), Scope.Scope, scope)
        ),
        (pull) => Stream.repeatEffectChunkOption(Effect.mapInputContext(pull, onlySpan))
      )
    )
  )

/** Returns whether something may have been generated, although it is not known what. */
const mayHaveGenerated = <A>(exit: Exit.Exit<A, AiError.AiError>): boolean => {
  if (Exit.isSuccess(exit) || Exit.isInterrupted(exit)) return true
  const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
  return (
    error?._tag === "MalformedOutput" ||
    (error?._tag === "HttpResponseError" && error.reason !== "StatusCode")
  )
}

/** What requests of a job to a model go through. */
interface Leasing {
  readonly open: LanguageModel.Service
  /** Fails unless the job's lease allows the model. */
  readonly authorize: (method: string) => Effect.Effect<void, AiError.AiError>
  /** Counts tokens against the job's budget, where the model has a price. */
  readonly spend: (method: string, tokens: Meter.Tokens) => Effect.Effect<void, AiError.AiError>
}

const leasing = (
  open: LanguageModel.Service,
  { lease }: Leased.Lessee,
  name: string,
  price: Meter.Tariff | undefined
): Leasing => ({
  open,
  authorize: (method) => Effect.mapError(lease.authorize("model.use", name), failure(method)),
  spend: (method, tokens) =>
    price === undefined
      ? Effect.void
      : Effect.mapError(
          lease.spend({
            name: "model",
            // A provider may tell of more tokens than there can be, and the response is there already.
            amount: Budget.countable(Meter.priceOf(price, tokens)) ?? 0,
            currency: price.currency,
            dimensions: {
              model: name,
              input_tokens: tokens.input,
              output_tokens: tokens.output,
              ...(tokens.cached > 0 ? { cached_input_tokens: tokens.cached } : {}),
              ...(tokens.reasoning > 0 ? { reasoning_tokens: tokens.reasoning } : {}),
              ...(tokens.estimated ? { estimated: true } : {})
            }
          }),
          failure(method)
        )
})

/** Returns what the open service is asked for in place of what the job has asked for, with tools that nobody runs. */
const request = ({ prompt, toolChoice, tools }: LanguageModel.ProviderOptions) => {
  const toolkit = describing(tools)
  return tools.length === 0
    ? { toolkit, options: { prompt } }
    : { toolkit, options: { prompt, toolkit, toolChoice, disableToolCallResolution: true as const } }
}

const malformed = (method: string) => (error: ParseResult.ParseError) =>
  AiError.MalformedOutput.fromParseError({ module: "LeasedLanguageModel", method, error })

type ModelContent = ReadonlyArray<Response.Part<ToolsByName>>

/** Asks the open service for a text or an object; `seen` is called with what the model has answered, if it has. */
const ask = (
  open: LanguageModel.Service,
  { responseFormat }: LanguageModel.ProviderOptions,
  sent: ReturnType<typeof request>["options"],
  seen: (content: ModelContent) => void
): Effect.Effect<unknown, AiError.AiError> =>
  responseFormat.type === "text"
    ? Effect.map(open.generateText(sent), (response) => seen(response.content))
    : // The response is seen before it is read as JSON, so that one that is none is paid for too.
      open
        .generateObject({
          ...sent,
          objectName: responseFormat.objectName,
          schema: anything(responseFormat.schema.ast) as unknown as Schema.Schema<
            unknown,
            Record<string, unknown>
          >
        })
        .pipe(
          Effect.provideService(Telemetry.CurrentSpanTransformer, ({ response }) =>
            seen(response as ModelContent)
          )
        )

/** Generates a text or an object at once: allowed before, and paid for after, whatever became of it. */
const generate = ({ authorize, open, spend }: Leasing, options: LanguageModel.ProviderOptions) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const method = options.responseFormat.type === "text" ? "generateText" : "generateObject"
      yield* restore(authorize(method))
      const { options: sent, toolkit } = request(options)
      let content: ModelContent | undefined
      const asked = ask(open, options, sent, (answered) => {
        content = answered
      })
      const exit = yield* Effect.exit(Effect.mapInputContext(restore(asked), onlySpan))
      if (content !== undefined || mayHaveGenerated(exit)) {
        const meter = new Meter.Meter(options.prompt)
        for (const part of content ?? []) meter.see(part)
        const finish = content?.find((part) => part.type === "finish")
        yield* spend(method, meter.tokens(finish?.usage))
      }
      if (content === undefined) {
        yield* Effect.mapError(exit, upstream(method))
        return []
      }
      const encode = Schema.encode(Schema.mutable(Schema.Array(Response.Part(toolkit))))
      return yield* Effect.mapError(encode([...content]), malformed(method))
    })
  )

/** Streams a text: paid for when its `finish` part comes, or by what was seen when it ends without one. */
const stream = ({ authorize, open, spend }: Leasing, options: LanguageModel.ProviderOptions) =>
  Stream.unwrap(
    Effect.map(authorize("streamText"), () => {
      const { options: sent, toolkit } = request(options)
      const encode = Schema.encode(Schema.ChunkFromSelf(Response.StreamPart(toolkit)))
      const meter = new Meter.Meter(options.prompt)
      let seen = false
      let settled = false
      const settle = (usage?: Response.Usage) =>
        Effect.suspend(() => {
          if (settled) return Effect.void
          settled = true
          return spend("streamText", meter.tokens(usage))
        })
      return isolated(open.streamText(sent)).pipe(
        Stream.mapError(upstream("streamText")),
        Stream.mapChunksEffect((chunk) =>
          Effect.uninterruptible(
            Effect.suspend(() => {
              seen = true
              for (const part of chunk) meter.see(part)
              const finish = Chunk.findFirst(chunk, (part) => part.type === "finish")
              return Option.isSome(finish) ? settle(finish.value.usage) : Effect.void
            })
          ).pipe(
            Effect.zipRight(encode(chunk)),
            Effect.catchTag("ParseError", (error) => Effect.fail(malformed("streamText")(error)))
          )
        ),
        Stream.ensuringWith((exit) =>
          seen || mayHaveGenerated(exit)
            ? Effect.catchAll(settle(), (error) =>
                Effect.logError(`the cost of a model was not recorded: ${error.message}`)
              )
            : Effect.void
        )
      )
    })
  )

/** Returns the service as a job sees it. */
const leasedModel = (parts: Leasing): LanguageModel.Service => {
  // Made per call, so that it sees the id generator and the span transformer of its caller.
  const model = LanguageModel.make({
    generateText: (options) => generate(parts, options),
    streamText: (options) => stream(parts, options)
  })
  return {
    generateText: (options) => Effect.flatMap(model, (made) => made.generateText(options)),
    generateObject: (options) => Effect.flatMap(model, (made) => made.generateObject(options)),
    streamText: (options) => Stream.unwrap(Effect.map(model, (made) => made.streamText(options)))
  } as LanguageModel.Service
}

/**
 * Leases the `LanguageModel` of the operator's layer. Throws when `prices` is given and has no price for the
 * model, or one that is no decimal, and on an option that is none of these: better at start than a model that is free by
 * mistake.
 *
 * Tokens are those of the response's `finish` part. Where it has none (a stream that its reader leaves, an
 * interrupt, an unreadable response) they are estimated from the prompt and what was received, at 4 characters a
 * token, and the metric says `estimated`. A request that the provider refused costs nothing.
 *
 * @example
 * LeasedLanguageModel.leased({
 *   name: "openai/gpt-4o",
 *   prices: { "openai/gpt-4o": { currency: "USD", inputPerMillion: "2.50", outputPerMillion: "10.00" } }
 * })
 */
export const leased = (options: Options): Leased.Leased => {
  Argument.check("LeasedLanguageModel.leased", ["options", optionsRule, options])
  const { fallbackPrice, name, prices } = options
  const price = prices !== undefined && Object.hasOwn(prices, name) ? prices[name] : fallbackPrice
  if (price === undefined && prices !== undefined)
    throw new Error(`model ${name} has no price: add it to prices, give a fallbackPrice, or leave prices out`)
  const tariff = price === undefined ? undefined : Meter.tariff(name, price)
  return Leased.make(LanguageModel.LanguageModel, (open, lessee) =>
    leasedModel(leasing(open, lessee, name, tariff))
  )
}

export type { Price } from "./TokenMeter.js"
export { upstreamSpendCap } from "./upstreamSpendCap.js"
