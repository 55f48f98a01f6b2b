/** What a job asks, as a person reads it and answers it in a line. */

import { isRecord } from "../../protocol/Json.js"
import * as JsonSchemaCheck from "../../protocol/JsonSchemaCheck.js"
import type { JsonSchema } from "../../services/agents/JsonSchema.js"
import type { InputRequest } from "../../services/client/ArcpClient.js"
import { inlined } from "./inlined.js"
import { parseInput } from "./parseInput.js"
import { placeholder, quoted } from "./placeholder.js"
import { inLine, safe } from "./text.js"

/** What was written, or what is wrong with it. */
export type ReadAnswer = { readonly value: unknown } | { readonly problem: string }

const textOf = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value))

const schemaOf = ({ schema }: InputRequest): JsonSchema | undefined => (isRecord(schema) ? schema : undefined)

/** The type that a schema names, when it is one. */
const typeOf = (request: InputRequest): string | undefined => {
  const type = schemaOf(request)?.["type"]
  return typeof type === "string" ? type : undefined
}

/** Says how an answer is written. */
const hint = (request: InputRequest): string => {
  if (request.choices !== undefined) return `1 to ${request.choices.length}`
  const type = typeOf(request)
  return type === "boolean"
    ? "yes or no"
    : type === "string"
      ? "a text"
      : type === "integer" || type === "number"
        ? "a number"
        : schemaOf(request) === undefined
          ? "JSON, or a text"
          : "JSON"
}

const maxAbout = 4_000
const maxSchema = 1_000

const cut = (text: string, size: number) => (text.length > size ? `${text.slice(0, size)}…` : text)

/** A schema, without what says which language it is in. */
const shortened = (schema: JsonSchema): string => {
  const { $schema: _, ...rest } = inlined(schema)
  return JSON.stringify(rest)
}

/** A member of the object that is asked for, as a question of its own. */
export interface Member {
  readonly name: string
  readonly isRequired: boolean
  readonly question: InputRequest
}

/** More members than these are written as JSON. */
const maxMembers = 12

const plainTypes = new Set<unknown>(["boolean", "string", "integer", "number"])

/**
 * Returns the members of the object that is asked for, when each of them can be asked for in a line, so that nobody has to
 * write JSON on a terminal; `undefined` for whatever else is asked for.
 */
export const membersOf = (request: InputRequest): ReadonlyArray<Member> | undefined => {
  const given = schemaOf(request)
  if (given === undefined || request.choices !== undefined || typeOf(request) !== "object") return undefined
  const { properties, required } = inlined(given)
  if (!isRecord(properties)) return undefined
  const names = Object.keys(properties)
  if (names.length === 0 || names.length > maxMembers) return undefined
  const members: Array<Member> = []
  for (const name of names) {
    const schema = properties[name]
    if (!isRecord(schema) || !(plainTypes.has(schema["type"]) || Array.isArray(schema["enum"])))
      return undefined
    const choices: unknown = schema["enum"]
    members.push({
      name,
      isRequired: Array.isArray(required) && required.includes(name),
      question: {
        input_id: request.input_id,
        prompt: name,
        schema,
        ...(Array.isArray(choices) ? { choices } : {})
      }
    })
  }
  return members
}

/** What stands before a member. */
export const memberMark = ({ isRequired, name, question }: Member): string => {
  const how = question.choices?.map(textOf).join(" | ") ?? hint(question)
  return `  ${inLine(`${name}: ${cut(how, 200)}${isRequired ? "" : ", or nothing"}`)} > `
}

/** Returns a command line's `--value`, to be changed by whoever copies it. */
export const exampleValue = (request: InputRequest): string =>
  `--value ${quoted(request.choices?.[0] ?? placeholder(inlined(schemaOf(request) ?? {})))}`

/** The lines of a question. */
export const lines = (request: InputRequest): ReadonlyArray<string> => {
  const { about, choices, expires_at, prompt } = request
  const schema = schemaOf(request)
  const needsSchema =
    choices === undefined &&
    schema !== undefined &&
    hint(request) === "JSON" &&
    membersOf(request) === undefined
  return [
    `? ${safe(prompt)}`,
    ...(about === undefined
      ? []
      : cut(safe(JSON.stringify(about.value, null, 2) ?? ""), maxAbout)
          .split("\n")
          .map((line) => `    ${line}`)),
    ...(choices ?? []).map((choice, i) => `  ${i + 1}  ${inLine(textOf(choice))}`),
    ...(needsSchema ? [`  as ${inLine(cut(shortened(schema), maxSchema))}`] : []),
    ...(expires_at === undefined ? [] : [`  until ${inLine(expires_at)}`])
  ]
}

/** What stands before the answer. */
export const mark = (request: InputRequest): string => `  ${hint(request)} > `

const parsed = (text: string): ReadAnswer => {
  try {
    return { value: parseInput(text) }
  } catch {
    return { problem: "that is no JSON; a text is in quotes" }
  }
}

const yes = new Set(["y", "yes", "true"])
const no = new Set(["n", "no", "false"])

const chosen = (choices: ReadonlyArray<unknown>, text: string): ReadAnswer => {
  const same = choices.find((choice) => textOf(choice) === text || JSON.stringify(choice) === text)
  if (same !== undefined) return { value: same }
  const number = /^\d{1,6}$/.test(text) ? Number(text) : 0
  return number >= 1 && number <= choices.length
    ? { value: choices[number - 1] }
    : { problem: `a number from 1 to ${choices.length}, or one of the choices` }
}

const ofType = (request: InputRequest, text: string): ReadAnswer => {
  switch (typeOf(request)) {
    case "boolean": {
      const word = text.toLowerCase()
      return yes.has(word) ? { value: true } : no.has(word) ? { value: false } : { problem: "yes or no" }
    }
    case "string": {
      const json = text.startsWith('"') ? parsed(text) : undefined
      return json !== undefined && "value" in json ? json : { value: text }
    }
    case undefined: {
      const json = parsed(text)
      return schemaOf(request) === undefined && "problem" in json ? { value: text } : json
    }
    default:
      return parsed(text)
  }
}

/** Holds a value to the schema. */
export const checked = (request: InputRequest, value: unknown): ReadAnswer => {
  const schema = schemaOf(request)
  const problem = schema === undefined ? undefined : JsonSchemaCheck.problem(schema, value, "the answer")
  return problem === undefined ? { value } : { problem }
}

/** Reads a line as an answer. */
export const read = (request: InputRequest, line: string): ReadAnswer => {
  const text = line.trim()
  if (text === "" && (typeOf(request) !== "string" || request.choices !== undefined))
    return { problem: hint(request) }
  if (request.choices !== undefined) return chosen(request.choices, text)
  const written = ofType(request, text)
  return "problem" in written ? written : checked(request, written.value)
}
