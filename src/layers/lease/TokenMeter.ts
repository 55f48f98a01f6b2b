/** What tokens cost, in exact decimals; and how many there were when a provider does not say. */
import type * as Response from "@effect/ai/Response"
import * as BigDecimal from "effect/BigDecimal"
import * as Option from "effect/Option"
import * as Argument from "../../protocol/Argument.js"

/** Prices are decimals as text, per million tokens: `"2.50"`. */
export interface Price {
  /** `USD`, `credits`, … */
  readonly currency: string
  readonly inputPerMillion: string
  readonly outputPerMillion: string
  /** Input that the provider had in its cache. Default: as other input. */
  readonly cachedInputPerMillion?: string | undefined
  /** Default: as other output. */
  readonly reasoningPerMillion?: string | undefined
  /** The provider counts cached input beside its input (Anthropic), not within it (OpenAI, Google). Default false. */
  readonly cachedInputSeparate?: boolean | undefined
}

export interface Tariff {
  readonly currency: string
  readonly input: BigDecimal.BigDecimal
  readonly cached: BigDecimal.BigDecimal
  readonly output: BigDecimal.BigDecimal
  readonly reasoning: BigDecimal.BigDecimal
  readonly cachedSeparate: boolean
}

const priceRule = Argument.options<Price>({
  currency: Argument.string,
  inputPerMillion: Argument.string,
  outputPerMillion: Argument.string,
  cachedInputPerMillion: Argument.maybe(Argument.string),
  reasoningPerMillion: Argument.maybe(Argument.string),
  cachedInputSeparate: Argument.maybe(Argument.boolean)
})

/** A price as it is reckoned with. Throws when it has no currency or something else than a decimal. */
export const tariff = (model: string, price: Price): Tariff => {
  Argument.check("LeasedLanguageModel.leased", [`the price of model ${model}`, priceRule, price])
  const decimal = (field: string, text: string): BigDecimal.BigDecimal => {
    const value = /^\d{1,18}(?:\.\d{1,18})?$/.test(text) ? BigDecimal.fromString(text) : Option.none()
    if (Option.isNone(value))
      throw new Error(`price of model ${model}: ${field} must be a decimal as text, such as "2.50"`)
    return value.value
  }
  if (!/^[A-Za-z][A-Za-z0-9_-]{0,31}$/.test(price.currency))
    throw new Error(`price of model ${model}: currency must be a name such as "USD"`)
  const input = decimal("inputPerMillion", price.inputPerMillion)
  const output = decimal("outputPerMillion", price.outputPerMillion)
  return {
    currency: price.currency,
    input,
    output,
    cached:
      price.cachedInputPerMillion === undefined
        ? input
        : decimal("cachedInputPerMillion", price.cachedInputPerMillion),
    reasoning:
      price.reasoningPerMillion === undefined
        ? output
        : decimal("reasoningPerMillion", price.reasoningPerMillion),
    cachedSeparate: price.cachedInputSeparate ?? false
  }
}

/** Tokens of one response, as the provider counts them. */
export interface Tokens {
  readonly input: number
  readonly cached: number
  readonly output: number
  readonly reasoning: number
  /** Reasoning is not within `output`. */
  readonly reasoningSeparate: boolean
  /** At least one of input and output is a guess. */
  readonly estimated: boolean
}

/** Exactly what these tokens cost. */
export const priceOf = (price: Tariff, tokens: Tokens): BigDecimal.BigDecimal => {
  // More cached than altogether: it can only have been counted beside it.
  const beside = price.cachedSeparate || tokens.cached > tokens.input
  const input = beside ? tokens.input : tokens.input - tokens.cached
  const within = tokens.reasoningSeparate ? 0 : Math.min(tokens.reasoning, tokens.output)
  const part = (count: number, perMillion: BigDecimal.BigDecimal) =>
    BigDecimal.multiply(BigDecimal.make(BigInt(count), 6), perMillion)
  return BigDecimal.sumAll([
    part(input, price.input),
    part(tokens.cached, price.cached),
    part(tokens.output - within, price.output),
    part(tokens.reasoningSeparate ? tokens.reasoning : within, price.reasoning)
  ])
}

const count = (tokens: number | undefined): number | undefined =>
  tokens !== undefined && Number.isFinite(tokens) && tokens >= 0 ? Math.ceil(tokens) : undefined

/** A token is about 4 characters; near enough when nothing better is known. */
const perToken = 4

/**
 * Characters of all texts in a value, however deep it is: a model decides on it. Binary data is left out: its size
 * says nothing of its tokens.
 */
const characters = (value: unknown): number => {
  let sum = 0
  const left = [value]
  const seen = new Set<object>()
  while (left.length > 0) {
    const next = left.pop()
    if (typeof next === "string") sum += next.length
    if (typeof next !== "object" || next === null || ArrayBuffer.isView(next) || seen.has(next)) continue
    seen.add(next)
    for (const part of Object.values(next)) left.push(part)
  }
  return sum
}

/** Keeps count of what is seen of one response, for the case that its usage is never told. */
export class Meter {
  readonly #prompt: unknown
  #output = 0
  #toolParams = 0
  #toolCalls = 0

  constructor(prompt: unknown) {
    this.#prompt = prompt
  }

  /** Takes a part of the response, of a stream or whole; its encoded form or not. */
  see(part: { readonly type: string }): void {
    const { delta, params, text } = part as { delta?: unknown; params?: unknown; text?: unknown }
    if (part.type === "tool-params-delta") this.#toolParams += characters(delta)
    else if (part.type === "tool-call") this.#toolCalls += characters(params)
    else this.#output += characters(delta) + characters(text)
  }

  /** The usage as far as it is told; the rest from what was seen. */
  tokens(usage?: Response.Usage): Tokens {
    const input = count(usage?.inputTokens)
    const output = count(usage?.outputTokens)
    const reasoning = count(usage?.reasoningTokens) ?? 0
    const total = count(usage?.totalTokens)
    // The parameters of a call are streamed in parts and then given whole.
    const seen = this.#output + Math.max(this.#toolParams, this.#toolCalls)
    return {
      input: input ?? Math.ceil(characters(this.#prompt) / perToken),
      output: output ?? Math.ceil(seen / perToken),
      cached: count(usage?.cachedInputTokens) ?? 0,
      reasoning,
      reasoningSeparate:
        input !== undefined &&
        output !== undefined &&
        total !== undefined &&
        total >= input + output + reasoning,
      estimated: input === undefined || output === undefined
    }
  }
}
