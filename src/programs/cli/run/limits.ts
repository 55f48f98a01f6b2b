/** Options of a runtime, as `--limit NAME=VALUE` gives them. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describe } from "../../../protocol/Problem.js"
import { didYouMean } from "../../../protocol/suggest.js"
import * as RuntimeOptions from "../../../services/runtime/RuntimeOptions.js"
import { durationMs } from "../time.js"
import { UsageError } from "../UsageError.js"

/** `--limit helloTimeoutMs=800` as well as `--limit "helloTimeout=800 millis"`: the option, and the unit in its name. */
const durationIn = (name: string): readonly [option: string, unit: "seconds" | "millis" | undefined] => {
  if (Object.hasOwn(RuntimeOptions.RuntimeOptionsSchema.fields, name)) return [name, undefined]
  const match = /^(\w+?)(Sec|Ms)$/.exec(name === "idempotencySec" ? "idempotencyWindowSec" : name)
  return match?.[1] === undefined ? [name, undefined] : [match[1], match[2] === "Sec" ? "seconds" : "millis"]
}

const defaults: Readonly<Record<string, unknown>> = RuntimeOptions.make()

/** Reads a value: a switch, a number, a text, and for an option that is a duration also `10m`. */
const parsed = (name: string, value: string): unknown => {
  if (value === "true" || value === "false") return value === "true"
  if (!Number.isNaN(Number(value))) return Number(value)
  return Duration.isDuration(defaults[name]) ? (durationMs(value) ?? value) : value
}

/** Reads `NAME=VALUE`; `example` ends the sentence of what is refused. */
export const pair = (
  flag: string,
  value: string,
  example: string
): Effect.Effect<readonly [string, string], UsageError> => {
  // The value follows the last "=": tokens may be padded base64.
  const at = value.lastIndexOf("=")
  return at < 1 || at === value.length - 1
    ? Effect.fail(new UsageError({ message: `--${flag} takes ${example}` }))
    : Effect.succeed([value.slice(0, at), value.slice(at + 1)])
}

/** Returns what `--limit` says, by the names of the options, not checked. */
export const limitsOf = (limits: ReadonlyArray<string>): Effect.Effect<Record<string, unknown>, UsageError> =>
  Effect.gen(function* () {
    const input: Record<string, unknown> = {}
    for (const limit of limits) {
      const [given, value] = yield* pair("limit", limit, "NAME=VALUE, e.g. --limit maxJobsPerSession=500")
      const [name, unit] = durationIn(given)
      if (!Object.hasOwn(RuntimeOptions.RuntimeOptionsSchema.fields, name)) {
        const names = Object.keys(RuntimeOptions.RuntimeOptionsSchema.fields)
        const meant = didYouMean(name, names) || `; there are ${names.join(", ")}`
        return yield* new UsageError({ message: `--limit: there is no option ${given}${meant}` })
      }
      if (Object.hasOwn(input, name))
        return yield* new UsageError({ message: `--limit: ${name} is given twice; choose one` })
      input[name] = unit === undefined ? parsed(name, value) : `${value} ${unit}`
    }
    return input
  })

/** Returns the options of a runtime with what `--limit` says, and defaults for the rest. */
export const optionsFrom = (
  limits: ReadonlyArray<string>
): Effect.Effect<RuntimeOptions.RuntimeOptions["Type"], UsageError> =>
  Effect.flatMap(limitsOf(limits), (input) =>
    Schema.decodeUnknown(RuntimeOptions.RuntimeOptionsSchema)(input).pipe(
      Effect.mapError((error) => new UsageError({ message: `--limit ${describe(error.issue, "").slice(1)}` }))
    )
  )
