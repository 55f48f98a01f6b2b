/** What agents may be declared with, told to those who have no types. */
import * as Schema from "effect/Schema"
import * as AgentRef from "../../protocol/AgentRef.js"
import * as Argument from "../../protocol/Argument.js"
import { cut } from "../../protocol/Text.js"
import type { AgentOptions } from "./Agent.js"

const { boolean, callable, check, fields, listOf, maybe, object, oneOf, positive, that } = Argument

const schema = maybe(that("an Effect Schema", Schema.isSchema))
const flag = maybe(boolean)

const written = (is: string, holds: (text: string) => boolean): Argument.Rule =>
  that(is, (value) => typeof value === "string" && holds(value))

const options = Argument.options<AgentOptions<never, never, never, never, never, never, never>>({
  version: written(
    'a version of letters, digits, ".", "+", "_", "-", such as "1.0.0"',
    AgentRef.isAgentVersion
  ),
  default: flag,
  requiresStreaming: flag,
  awaitEmits: flag,
  durable: flag,
  restart: maybe(oneOf("rerun")),
  compensateWithin: maybe(Argument.finiteDuration),
  concurrency: maybe(positive),
  description: maybe(Argument.string),
  examples: maybe(listOf(() => undefined)),
  input: schema,
  output: schema,
  error: schema,
  events: maybe(listOf(fields({ kind: Argument.text, decode: callable })))
})

/** A name is no secret, and says best what is wrong with it. */
const nameRule: Argument.Rule = (value, name) => {
  const is = 'a name of lower-case letters, digits, ".", "_", "-", such as "my-agent"'
  const isText = typeof value === "string" && value !== ""
  const problem = written(is, AgentRef.isName)(value, name)
  return problem !== undefined && isText
    ? `${name} has to be ${is}, and is ${JSON.stringify(cut(value, 64))}`
    : problem
}

/** Throws when no agent can be declared with these, by the name of what is not as it has to be. */
export const checkDeclared = (name: unknown, given: unknown): void => {
  check("Agent.make", ["name", nameRule, name])
  check(`Agent.make ${name}`, ["options", options, given])
}

const tag = that(
  "a tag",
  (value) =>
    (typeof value === "object" || typeof value === "function") &&
    value !== null &&
    "key" in value &&
    typeof value.key === "string"
)

const contractRule = fields({
  name: Argument.text,
  version: Argument.text,
  input: that("a contract's", Schema.isSchema)
})

/** Throws when these do not make an agent. */
export const checkHandled = (contract: unknown, handler: unknown, needs: unknown): void =>
  check(
    "Agent.handle",
    ["contract", contractRule, contract],
    ["handler", callable, handler],
    ["needs", fields({ requires: maybe(listOf(tag)) }), needs]
  )

/** Throws when an agent cannot be made of these: a name, options and a function, or a contract and a function. */
export const checkRun = (given: ReadonlyArray<unknown>): void => {
  const [first, second, third] = given
  const of = `Agent.fromPromise ${typeof first === "string" ? first : ""}`.trim()
  if (typeof first === "object") check(of, ["contract", contractRule, first], ["run", callable, second])
  else check(of, ["options", object, second], ["run", callable, third])
}

/** What `Agent.handle` returns, as far as it can be told by looking. */
export const registered: Argument.Rule = fields({
  name: Argument.text,
  version: Argument.text,
  prepare: that("of Agent.handle or Agent.fromPromise", (value) => typeof value === "function")
})
