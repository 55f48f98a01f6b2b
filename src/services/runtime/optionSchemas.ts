/** What options are made of: checked, with a default, durations in whatever form Effect takes them. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** Returns whether a duration is negative, or made of no number: Effect makes zero of it, and here it is a slip. */
const isSlip = (input: unknown): boolean => {
  if (typeof input === "number" || typeof input === "bigint") return !(input >= 0)
  if (Array.isArray(input)) return input.some(isSlip)
  return typeof input === "string" && input.trim().startsWith("-")
}

/** `"30 seconds"`, `Duration.minutes(10)`, or a number of milliseconds. */
const DurationInput = Schema.declare(
  (input: unknown): input is Duration.DurationInput =>
    !isSlip(input) && Option.isSome(Duration.decodeUnknown(input)),
  { identifier: "DurationInput", description: 'a duration of zero or more, as "30 seconds"' }
)

/** A finite duration. */
export const duration = Schema.transform(DurationInput, Schema.DurationFromSelf, {
  strict: true,
  decode: (input) => Duration.decode(input),
  encode: (value) => value
}).pipe(Schema.filter((value) => Duration.isFinite(value), { description: "a finite duration" }))

/** A finite duration greater than zero. */
export const positiveDuration = duration.pipe(
  Schema.filter((value) => Duration.toMillis(value) > 0, { description: "a positive duration" })
)

/** A whole number greater than zero. */
export const count = Schema.Int.pipe(Schema.positive())

/** The same, or 0 for none at all. */
export const countOrNone = Schema.NonNegativeInt

/** Makes an option that may be left out. */
export const withDefault = <A, I>(schema: Schema.Schema<A, I>, value: NoInfer<A>) =>
  Schema.optionalWith(schema, { default: () => value })
