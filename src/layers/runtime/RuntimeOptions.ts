/** Runtime options from code or from the environment. */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { ParseError, Type } from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { describe } from "../../protocol/Problem.js"
import { didYouMean } from "../../protocol/suggest.js"
import {
  type Input,
  make,
  RuntimeOptions,
  RuntimeOptionsSchema
} from "../../services/runtime/RuntimeOptions.js"

const decodeKnown = Schema.decodeUnknown(RuntimeOptionsSchema)
const decodeStrictly = Schema.decodeUnknown(RuntimeOptionsSchema, { onExcessProperty: "error" })

const names = Object.keys(RuntimeOptionsSchema.fields)

/** What is wrong, in a sentence: a schema's tree of it names every option that there is. */
const told = (input: unknown) => (error: ParseError) => {
  const unknown = Object.keys(Object(input)).find((name) => !names.includes(name))
  const message =
    unknown === undefined
      ? describe(error.issue, "options")
      : `options has no ${unknown}${didYouMean(unknown, names)}`
  return new ParseError({ issue: new Type(RuntimeOptionsSchema.ast, input, message) })
}

/** A name that is none is a slip, which types find where there are some. To say which takes longer than to see that one is. */
const decode = (input: unknown) =>
  (Object.keys(Object(input)).every((name) => names.includes(name)) ? decodeKnown : decodeStrictly)(input)

/** The given options, and the defaults for the rest. Fails with `ParseError` on a value out of range. */
export const layer = (input: Input = {}): Layer.Layer<RuntimeOptions, ParseError> =>
  Layer.effect(RuntimeOptions, Effect.mapError(decode(input), told(input)))

/** `resumeWindow` → `ARCP_RESUME_WINDOW` */
const variable = (option: string): string =>
  `ARCP_${option.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`

/** An option's variable is read as what its default is: a number, a boolean, a duration (`10 minutes`) or text. */
const config = (option: string, example: unknown): Config.Config<Option.Option<unknown>> => {
  const name = variable(option)
  switch (typeof example) {
    case "number":
      return Config.option(Config.number(name))
    case "boolean":
      return Config.option(Config.boolean(name))
    case "string":
      return Config.option(Config.string(name))
    default:
      return Config.option(Config.duration(name))
  }
}

const fromEnvironment = () =>
  Config.all(
    Object.fromEntries(Object.entries(make()).map(([option, example]) => [option, config(option, example)]))
  )

/**
 * Every option from its variable, `ARCP_` and its name in upper snake case (`ARCP_RESUME_WINDOW`,
 * `ARCP_CANCEL_GRACE`, …), through `Config`. `overrides` win over the environment.
 */
export const layerConfig = (overrides: Input = {}): Layer.Layer<RuntimeOptions, ConfigError.ConfigError> =>
  Layer.effect(
    RuntimeOptions,
    Effect.gen(function* () {
      const input: Record<string, unknown> = {}
      for (const [option, value] of Object.entries(yield* fromEnvironment()))
        if (Option.isSome(value)) input[option] = value.value
      for (const [option, value] of Object.entries(overrides)) if (value !== undefined) input[option] = value
      return yield* Effect.mapError(decode(input), (error) => {
        const problem = describe(error.issue, "option")
        const option = /^option\.(\w+)/.exec(problem)?.[1]
        return ConfigError.InvalidData(option === undefined ? [] : [variable(option)], problem)
      })
    })
  )

export * from "../../services/runtime/RuntimeOptions.js"
