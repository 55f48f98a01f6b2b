/** What the client checks by hand is what the schemas say. */
import { describe, expect, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Either from "effect/Either"
import * as fc from "effect/FastCheck"
import * as ParseResult from "effect/ParseResult"
import type * as Schema from "effect/Schema"
import { kinds } from "../../src/protocol/Event.js"
import { runtimeMessages } from "../../src/protocol/Message.js"
import { bodyProblem, decodeRuntime, isKind } from "../../src/protocol/RuntimeFrame.js"

type Any = Schema.Schema<unknown, unknown>

const value = (schema: Any) =>
  Arbitrary.make(schema).map((value) => JSON.parse(JSON.stringify(value ?? null)) as Record<string, unknown>)

/** One field gone, or of another JSON type. */
const broken = (whole: fc.Arbitrary<Record<string, unknown>>) =>
  fc
    .tuple(whole, fc.nat(), fc.constantFrom(undefined, null, 7, -1, 0.5, "", "x", true, [], {}))
    .filter(([value]) => Object.keys(value).length > 0)
    .map(([value, at, other]) => {
      const keys = Object.keys(value)
      const key = keys[at % keys.length] as string
      const { [key]: _, ...rest } = value
      return { key, value: other === undefined ? rest : { ...rest, [key]: other } }
    })

/** Fields that the client takes as they come, and fields whose value it never looks at. */
const lenient = new Set([
  "agent",
  "request_id",
  "kind",
  "ts",
  "lease",
  "lease_request",
  "lease_constraints",
  "sha256",
  "reason",
  "body",
  "input",
  "attributes",
  "dimensions",
  "details",
  "args",
  "final_status",
  "runtime",
  "capabilities",
  "sent_at",
  "received_at",
  "accepted_at",
  "completed_at",
  "input_id",
  "current",
  "total"
])

/** Fields that it fills in where they are missing, or null. */
const filled = new Set([
  "retryable",
  "final_status",
  "lease",
  "subscribed_from",
  "replayed",
  "code",
  "nonce",
  "ping_nonce"
])

/** They only say that the connection closes. */
const closing = new Set(["session.closed", "session.bye"])

/** `problem` may fill in what is missing. */
const agree = (
  schema: Any,
  problem: (value: Record<string, unknown>) => string | undefined,
  isFilled = (key: string) => filled.has(key)
) => {
  const decode = ParseResult.decodeUnknownEither(schema)
  const whole = value(schema)
  fc.assert(
    fc.property(whole, (value) => {
      fc.pre(Either.isRight(decode(value)))
      expect(problem(value)).toBeUndefined()
    }),
    { numRuns: 50 }
  )
  fc.assert(
    fc.property(broken(whole), ({ key, value }) => {
      const { [key]: part, ...rest } = value
      const missing = part === undefined || part === null
      const refused = Either.isLeft(decode(value)) && !(missing && Either.isRight(decode(rest)))
      const said = JSON.stringify(value)
      const mine = problem(value)
      if (!refused || (missing && isFilled(key))) {
        expect(mine, said).toBeUndefined()
        if (!lenient.has(key)) expect(Either.isRight(decode(value)), said).toBe(true)
      } else if (!lenient.has(key)) expect(mine, said).toBeTypeOf("string")
    }),
    { numRuns: 200 }
  )
}

describe("the client's own checks", () => {
  for (const [type, schema] of Object.entries(runtimeMessages).filter(([type]) => !closing.has(type)))
    it(`read ${type} as its schema does`, () =>
      agree(
        schema as unknown as Any,
        (payload) => {
          const read = decodeRuntime(JSON.stringify({ arcp: "1.1", id: "1", type, payload }))
          if (read.problem !== undefined) return read.problem
          for (const key of Object.keys(payload)) delete payload[key]
          Object.assign(payload, read.payload)
          return undefined
        },
        (key) => filled.has(key) || key === "agent" || (key === "message" && type.endsWith(".error"))
      ))
  for (const [kind, schema] of Object.entries(kinds))
    it(`read a ${kind} event as its schema does`, () =>
      agree(schema as unknown as Any, (body) => (isKind(kind) ? bodyProblem(kind, body) : undefined)))
})
