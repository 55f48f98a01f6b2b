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
  "args"
])

const agree = (schema: Any, problem: (value: unknown) => string | undefined) => {
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
      const refused = Either.isLeft(decode(value))
      const mine = problem(value)
      if (!refused) expect(mine).toBeUndefined()
      else if (!lenient.has(key)) expect(mine, JSON.stringify(value)).toBeTypeOf("string")
    }),
    { numRuns: 200 }
  )
}

describe("the client's own checks", () => {
  for (const [type, schema] of Object.entries(runtimeMessages))
    it(`read ${type} as its schema does`, () =>
      agree(schema as unknown as Any, (payload) => {
        const read = decodeRuntime(JSON.stringify({ arcp: "1.1", id: "1", type, payload }))
        return Either.isLeft(read) ? read.left.message : undefined
      }))
  for (const [kind, schema] of Object.entries(kinds))
    it(`read a ${kind} event as its schema does`, () =>
      agree(schema as unknown as Any, (body) => (isKind(kind) ? bodyProblem(kind, body) : undefined)))
})
