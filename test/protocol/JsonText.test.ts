import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as fc from "effect/FastCheck"
import * as Codec from "../../src/protocol/Codec.js"
import * as Event from "../../src/protocol/Event.js"
import { json } from "../../src/protocol/EventText.js"
import { isWellFormed, wellFormed } from "../../src/protocol/Text.js"
import { byteLength } from "../../src/protocol/Utf8.js"

const frame = (input: string, more = "") =>
  `{"arcp":"1.1","id":"m1","type":"job.submit","session_id":"s"${more},"payload":{"agent":"a","input":${input}}}`
const rejection = (text: string): Codec.Rejected | undefined =>
  Either.getOrUndefined(Either.flip(Codec.decodeClient(text)))

describe("an inbound frame", () => {
  it.each([
    ["1e400", "payload.input"],
    ["-1e400", "payload.input"],
    ["1E+400", "payload.input"],
    ["0.1e999", "payload.input"],
    ["9".repeat(310), "payload.input"],
    [`-${"9".repeat(400)}.5`, "payload.input"],
    ['{"a":[0,{"b":1e400}]}', "payload.input.a[1].b"],
    ["[[1e309]]", "payload.input[0][0]"]
  ])("with a number that is too large, %s, is refused, naming its path", (input, path) => {
    expect(rejection(frame(input))).toMatchObject({
      _tag: "Malformed",
      id: "m1",
      type: "job.submit",
      message: `${path}: a number that is not finite is not JSON`
    })
  })

  it.each([
    ['"\\ud800"', "payload.input"],
    ['"a\\uDC00b"', "payload.input"],
    ['"\\ude00\\ud83d"', "payload.input"],
    ['["\\ud83d\\ude00",{"k":"x\\ud83d"}]', "payload.input[1].k"],
    [`"\ud800"`, "payload.input"],
    ['{"a":{"\\ud800":1}}', "payload.input.a"]
  ])("with half a surrogate pair, %s, is refused, naming its path", (input, path) => {
    const problem = rejection(frame(input))
    expect(problem?._tag).toBe("Malformed")
    expect(problem?.message).toMatch(/half a surrogate pair/)
    expect(problem?.message.startsWith(`${path}:`)).toBe(true)
    expect(isWellFormed(problem?.message ?? "")).toBe(true)
  })

  it("is looked at everywhere: envelope, lists, names of members, what nobody reads", () => {
    const ping = (more: string, payload = '{"nonce":"n"}') =>
      `{"arcp":"1.1","id":"m1","type":"session.ping","session_id":"s"${more},"payload":${payload}}`
    expect(Either.isRight(Codec.decodeClient(ping("")))).toBe(true)
    for (const more of [
      ',"x":1e400',
      ',"x":"\\ud800"',
      ',"\\ud800":1',
      ',"extensions":{"x-vendor.a.b":1e400}'
    ])
      expect(rejection(ping(more))?._tag).toBe("Malformed")
    expect(rejection(ping("", '{"nonce":"\\udc00"}'))?.message).toMatch(/^payload\.nonce:/)
    expect(rejection(frame("1", ',"event_seq":1e400'))?.message).toMatch(/^event_seq:/)
    expect(
      rejection('{"arcp":"1.1","id":"\\ud800","type":"session.ping","payload":{"nonce":"n"}}')
    ).toMatchObject({
      _tag: "Malformed",
      id: undefined
    })
    const lease = (lease: string) =>
      `{"arcp":"1.1","id":"m1","type":"job.submit","session_id":"s","payload":{"agent":"a","input":1,"lease_request":${lease}}}`
    expect(rejection(lease('{"fs.read":["/a",1e400]}'))?.message).toMatch(
      /^payload\.lease_request\.fs\.read\[1\]:/
    )
    expect(rejection(lease('{"fs.read":["/\\ud800"]}'))?._tag).toBe("Malformed")
  })

  it.each([
    "1e308",
    "-1.7976931348623157e308",
    "1e-400",
    "0.000001",
    "12345678901234567890",
    `0.${"1".repeat(400)}`,
    '"1e400"',
    '"\\ud83d\\ude00"',
    '"\u{1f600}"',
    '"\\\\ud800"',
    "true",
    "[false,null,1]"
  ])("with %s is taken", (input) => {
    const decoded = Either.getOrThrow(Codec.decodeClient(frame(input)))
    expect((decoded.payload as { readonly input: unknown }).input).toEqual(JSON.parse(input))
  })

  it("of more than 100 000 arrays and objects is refused", () => {
    const items = (count: number) => `[${Array(count).fill("{}").join(",")}]`
    expect(rejection(frame(items(99_990)))).toBeUndefined()
    expect(rejection(frame(items(100_001)))?.message).toMatch(/100000 arrays and objects/)
  })

  it("is refused exactly when what it says is not the same as text again", () => {
    const value = fc.letrec<{ value: unknown }>((tie) => ({
      value: fc.oneof(
        { maxDepth: 3 },
        fc.double({ noNaN: true }),
        fc.string({ unit: fc.constantFrom("a", "\\", '"', "e", "1", "\ud83d", "\ude00", "u", "d8") }),
        fc.array(tie("value"), { maxLength: 3 }),
        fc.dictionary(fc.constantFrom("a", "e1", "\ud800"), tie("value"), { maxKeys: 2 })
      )
    })).value
    const text = (part: unknown): string => {
      if (typeof part === "number")
        return Number.isFinite(part) ? JSON.stringify(part) : `${Math.sign(part)}e999`
      if (typeof part !== "object" || part === null) return JSON.stringify(part)
      if (Array.isArray(part)) return `[${part.map(text).join(",")}]`
      return `{${Object.entries(part)
        .map(([name, member]) => `${JSON.stringify(name)}:${text(member)}`)
        .join(",")}}`
    }
    const isFit = (part: unknown): boolean =>
      typeof part === "number"
        ? Number.isFinite(part)
        : typeof part === "string"
          ? isWellFormed(part)
          : Object.entries(part as object).every(([name, member]) => isWellFormed(name) && isFit(member))
    const seen = { true: 0, false: 0 }
    fc.assert(
      fc.property(value, (input) => {
        seen[`${isFit(input)}`]++
        expect(rejection(frame(text(input))) === undefined).toBe(isFit(input))
      }),
      { numRuns: 1000 }
    )
    expect(Math.min(seen.true, seen.false)).toBeGreaterThan(100)
  })
})

describe("JSON of a value", () => {
  const left = (value: unknown) => Either.getOrThrow(Either.flip(json(value, "body")))

  it("is what JSON.stringify makes", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(json(value, "body")).toEqual(Either.right(JSON.stringify(value)))
      })
    )
    const shared = { a: 1 }
    const own = {
      a: 1,
      toJSON() {
        return this
      }
    }
    for (const value of [
      null,
      {},
      [null],
      own,
      { own, b: Object(1) },
      { a: undefined, b: {} },
      new Date(0),
      [shared, [shared], shared, null],
      new (class {
        readonly a = 1
        get b() {
          return 2
        }
      })()
    ])
      expect(json(value, "body")).toEqual(Either.right(JSON.stringify(value)))
  })

  it("has U+FFFD for half a surrogate pair, in names too", () => {
    const value = { "\ud800": ["x\udc00", "\u{1f600}", "\\ud800", "\\\ud800"] }
    const text = Either.getOrThrow(json(value, "body"))
    expect(isWellFormed(text)).toBe(true)
    expect(JSON.parse(text)).toEqual({ "\ufffd": ["x\ufffd", "\u{1f600}", "\\ud800", "\\\ufffd"] })
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom("\\", "\ud83d", "\ude00", "d8", "00", "u", '"') }),
        (part) => {
          expect(JSON.parse(Either.getOrThrow(json([part], "body")))).toEqual([wellFormed(part)])
        }
      )
    )
  })

  it.each<[string, unknown, string]>([
    ["a Date of no time", { a: [new Date(Number.NaN)] }, "body.a[0]: a Date of no time is not JSON"],
    ["NaN in an object", { a: Object(Number.NaN) }, "body.a: a number that is not finite is not JSON"],
    [
      "a getter that throws",
      {
        a: {
          get b() {
            return expect.fail()
          }
        }
      },
      "body.a: cannot be written as JSON"
    ],
    ["a Map", { a: new Map([[1, 2]]) }, "body.a: a Map, a Set or bytes are not JSON"],
    ["a Set", [[new Set([1])]], "body[0][0]: a Map, a Set or bytes are not JSON"],
    ["a bigint", { a: { b: 1n } }, "body.a.b: a bigint is not JSON"],
    ["NaN", { a: [Number.NaN] }, "body.a[0]: a number that is not finite is not JSON"],
    ["an infinity", Number.NEGATIVE_INFINITY, "body: a number that is not finite is not JSON"],
    ["nothing", undefined, "body: is missing"],
    ["a function", () => 1, "body: a function is not JSON"],
    ["a symbol", Symbol("s3cret"), "body: a symbol is not JSON"],
    ["a function among members", { a: [{ b: () => 1 }] }, "body.a[0].b: a function is not JSON"],
    ["a symbol among members", { a: Symbol("s3cret") }, "body.a: a symbol is not JSON"],
    ["an Error", { a: new TypeError("s3cret") }, "body.a: an Error is not JSON"],
    [
      "an Error with a code",
      Object.assign(new Error("s3cret"), { code: "ENOENT" }),
      "body: an Error is not JSON"
    ],
    ["a stream of results", (async function* () {})(), "body: an AsyncGenerator is not JSON"],
    ["a promise that was not awaited", { a: Promise.resolve(1) }, "body.a: a Promise is not JSON"],
    ["a regular expression", { a: /s3cret/ }, "body.a: a RegExp is not JSON"],
    [
      "what holds no members",
      { a: new URLSearchParams("s3cret=1") },
      "body.a: a URLSearchParams is not JSON"
    ],
    [
      "a function that toJSON gives",
      { a: { toJSON: () => ({ b: () => 1 }) } },
      "body.a.b: a function is not JSON"
    ]
  ])("is refused for %s", (_, value, problem) => {
    expect(left(value)).toBe(problem)
  })

  it("is refused for a cycle, for what throws, and for bytes", () => {
    const cycle: Record<string, unknown> = {}
    cycle["a"] = { b: cycle }
    expect(left(cycle)).toBe("body.a.b: holds itself")
    const throwing = {
      toJSON: () => {
        throw new Error("s3cret")
      }
    }
    expect(left({ a: throwing })).not.toContain("s3cret")
    expect(left({ a: new ArrayBuffer(3) })).toBe("body.a: a Map, a Set or bytes are not JSON")
  })
})

it("an event without a body is refused, also of a vendor", () => {
  expect(Event.problem("x-vendor.a.b", undefined)).toMatch(/body: is missing/)
  expect(Event.problem("status", undefined)).toMatch(/body: is missing/)
  expect(Event.problem("x-vendor.a.b", null)).toBeUndefined()
})

it("counts the UTF-8 bytes of a text", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "binary" }),
      fc.constantFrom("", "\ud800", "\udc00x", "\ud800\u20ac"),
      (text, end) => {
        expect(byteLength(text + end)).toBe(new TextEncoder().encode(text + end).length)
      }
    )
  )
})
