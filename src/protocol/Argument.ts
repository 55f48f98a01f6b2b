/**
 * What public functions take, told to callers who have no types: each argument by its name, with what it has to be and what was
 * given. Nothing of a value is said but its kind, since it may be a secret, and a value that cannot be looked at is refused.
 */
import * as Duration from "effect/Duration"
import { InvalidRequest } from "./Errors.js"
import { didYouMean } from "./suggest.js"

/** Returns what is wrong with a value that goes by `name`, as a sentence, or nothing. */
export type Rule = (value: unknown, name: string) => string | undefined

/** Returns what a value is, in words. */
const kindOf = (value: unknown): string =>
  value == null || typeof value === "number"
    ? String(value)
    : value === ""
      ? "empty"
      : `of type ${Array.isArray(value) ? "list" : typeof value}`

/** Returns a rule for values that `holds` holds for. */
export const that =
  (is: string, holds: (value: unknown) => boolean): Rule =>
  (value, name) =>
    holds(value) ? undefined : `${name} has to be ${is}, and is ${kindOf(value)}`

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The milliseconds of a duration; `NaN` of what is none. Effect takes what is negative, or no number, for nothing. */
const millis = (value: unknown): number => {
  if (typeof value === "number") return value
  try {
    return /^-|NaN/.test(String(value)) ? Number.NaN : Duration.toMillis(value as Duration.DurationInput)
  } catch {
    return Number.NaN
  }
}

const durations = `a duration: milliseconds, or a text such as "5 seconds"`

export const text: Rule = /* @__PURE__ */ that(
  "a text that is not empty",
  (value) => typeof value === "string" && value !== ""
)
export const string: Rule = /* @__PURE__ */ that("a text", (value) => typeof value === "string")
export const object: Rule = /* @__PURE__ */ that("an object", isObject)
export const callable: Rule = /* @__PURE__ */ that("a function", (value) => typeof value === "function")
export const count: Rule = /* @__PURE__ */ that(
  "a whole number, 0 or more",
  (value) => Number.isSafeInteger(value) && Number(value) >= 0
)
export const positive: Rule = /* @__PURE__ */ that(
  "a whole number, 1 or more",
  (value) => Number.isSafeInteger(value) && Number(value) > 0
)
export const duration: Rule = /* @__PURE__ */ that(durations, (value) => millis(value) >= 0)
/** One that comes to an end. */
export const finiteDuration: Rule = /* @__PURE__ */ that(
  `${durations}, which ends`,
  (value) => millis(value) >= 0 && millis(value) < Infinity
)
export const positiveDuration: Rule = /* @__PURE__ */ that(
  `${durations}, more than 0, which ends`,
  (value) => millis(value) > 0 && millis(value) < Infinity
)
export const boolean: Rule = /* @__PURE__ */ that("true or false", (value) => typeof value === "boolean")
export const port: Rule = /* @__PURE__ */ that(
  "a port: 1 to 65535, or 0 for any free one",
  (value) => Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 65_535
)
export const signal: Rule = /* @__PURE__ */ that(
  "an AbortSignal",
  (value) => isObject(value) && typeof value["throwIfAborted"] === "function"
)

const list: Rule = /* @__PURE__ */ that("a list", Array.isArray)

/** One of these texts. */
export const oneOf = (...texts: ReadonlyArray<string>): Rule =>
  that(texts.map((text) => JSON.stringify(text)).join(" or "), (value) =>
    texts.some((text) => text === value)
  )

/** Whatever one of these rules says yes to; otherwise what the first of them says. */
export const either =
  (first: Rule, ...others: ReadonlyArray<Rule>): Rule =>
  (value, name) =>
    others.some((rule) => rule(value, name) === undefined) ? undefined : first(value, name)

/** A list, each of whose items is as the rule says. */
export const listOf =
  (rule: Rule): Rule =>
  (value, name) => {
    let problem = list(value, name)
    if (problem === undefined)
      for (const [i, item] of (value as ReadonlyArray<unknown>).entries())
        problem ??= rule(item, `${name}[${i}]`)
    return problem
  }

/** May be left out. */
export const maybe =
  (rule: Rule): Rule =>
  (value, name) =>
    value === undefined ? undefined : rule(value, name)

/** An object with these members; it may have others. */
export const fields =
  (members: Readonly<Record<string, Rule>>): Rule =>
  (value, name) => {
    let problem = object(value, name)
    for (const [member, rule] of Object.entries(members))
      problem ??= rule((value as Readonly<Record<string, unknown>>)[member], `${name}.${member}`)
    return problem
  }

/** An object with these members and no others: what nobody reads was meant for something. `O`: the type of it, which has all of them. */
export const options =
  <O>(members: Readonly<Record<keyof O, Rule>>): Rule =>
  (value, name) => {
    const names = Object.keys(members)
    const unknown = isObject(value)
      ? Object.keys(value).find((key) => !names.includes(key) && value[key] !== undefined)
      : undefined
    return unknown === undefined
      ? fields(members)(value, name)
      : `${name} has no ${unknown}${meant(unknown, names)}`
  }

/** What was probably meant by a name that is none of these, or all of them. */
const meant = (given: string, names: ReadonlyArray<string>): string =>
  didYouMean(given, names) || `; it may have ${names.join(", ")}`

/** An argument: its name, what it has to be, and what was given. */
export type Argument = readonly [name: string, rule: Rule, value: unknown]

/** Returns why a call cannot be made with these arguments; nothing, when it can. */
export const refusal = (call: string, ...args: ReadonlyArray<Argument>): InvalidRequest | undefined => {
  for (const [name, rule, value] of args) {
    let problem: string | undefined
    try {
      problem = rule(value, name)
    } catch {
      problem = `${name} cannot be read`
    }
    if (problem !== undefined) return new InvalidRequest({ message: `${call}: ${problem}` })
  }
  return undefined
}

/** Throws why a call cannot be made with these arguments, when it cannot: for what is called once, where a program is put together. */
export const check = (call: string, ...args: ReadonlyArray<Argument>): void => {
  const refused = refusal(call, ...args)
  if (refused !== undefined) throw refused
}
