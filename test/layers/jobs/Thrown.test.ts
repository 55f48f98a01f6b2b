/** Whatever an agent throws, its job ends, once, and the log has what can be read of it (§5.3). */
import { runInNewContext } from "node:vm"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { InternalError, PermissionDenied } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { readable, readableCause, readableExit, whole } from "../../../src/services/agents/Thrown.js"
import { ends } from "./ending.js"

const throwing = (name: string) => (error: Error) =>
  Object.defineProperty(error, name, {
    get: () => {
      throw new Error("a look at it throws")
    }
  })
/** An error of the protocol as JavaScript can make it. */
const denied = (fields: unknown) => new PermissionDenied(fields as { readonly message: string })
const agent = (how: () => unknown) =>
  Agent.fromPromise("bad", { version: "1.0.0" }, async () => {
    throw how()
  })

/** What is thrown, and the code and message with which the job ends. */
const protocolErrors: ReadonlyArray<readonly [string, () => unknown, string, object?]> = [
  ["a number as message", () => denied({ message: 42 }), "42"],
  ["an error as message", () => denied({ message: new Error("inner") }), "Error: inner"],
  ["null as message", () => denied({ message: null }), "null"],
  [
    "a message that throws",
    () => throwing("message")(denied({ message: "x" })),
    "its message cannot be read"
  ],
  [
    "details that throw",
    () => throwing("details")(denied({ message: "x" })),
    "x",
    { omitted: "details: cannot be read" }
  ],
  [
    "details with a member that throws",
    () => denied({ message: "x", details: throwing("a")({} as Error) }),
    "x"
  ],
  [
    "a text as details",
    () => denied({ message: "x", details: "no" }),
    "x",
    { omitted: "details: String, not an object" }
  ],
  [
    "a Map as details",
    () => denied({ message: "x", details: new Map([[1, 2]]) }),
    "x",
    { omitted: "details: Map, not an object" }
  ],
  [
    "an error of another realm",
    () =>
      runInNewContext(
        `Object.assign(new Error("from afar"), { code: "PERMISSION_DENIED", _tag: "PermissionDenied" })`
      ),
    "from afar"
  ]
]

const others: ReadonlyArray<readonly [string, () => unknown, RegExp]> = [
  ["a proxy that throws at every look", () => new Proxy(new Error("x"), { get: () => assert.fail() }), /./],
  ["a code that throws", () => throwing("code")(new Error("x")), /Error: x/],
  ["a message that throws", () => throwing("message")(new Error("x")), /its message cannot be read/],
  ["a stack that throws", () => throwing("stack")(new Error("x")), /Error: x/],
  ["a cause that throws", () => throwing("cause")(new Error("x")), /Error: x/],
  [
    "a name that is no text",
    () => Object.assign(new Error("x"), { name: Symbol("q") }),
    /Symbol\(q\): x|: x/
  ],
  [
    "a message that is no text",
    () => Object.assign(new Error("x"), { message: { a: 1 } }),
    /\[object Object\]/
  ],
  [
    "a cause that is its own",
    () => {
      const error = new Error("round")
      error.cause = error
      return error
    },
    /round/
  ],
  ["a bigint in an object", () => ({ n: 1n }), /no error: \[object Object\]/],
  ["undefined", () => undefined, /no error: undefined/],
  ["a symbol", () => Symbol("s"), /no error: Symbol\(s\)/],
  ["an object without prototype", () => Object.create(null), /./],
  [
    "an error of another realm",
    () => runInNewContext(`new TypeError("from afar")`),
    /TypeError: from afar\n +at /
  ],
  [
    "an error whose cause is of another realm",
    () => new Error("near", { cause: runInNewContext(`new TypeError("from afar")`) }),
    /near.*TypeError: from afar\n +at /s
  ],
  [
    "many errors in one",
    () => new AggregateError([new Error("first of them"), new Error("second of them")], "all failed"),
    /all failed.*first of them.*second of them/s
  ],
  [
    "many errors in a cause",
    () => new Error("outer", { cause: new AggregateError([new Error("refused on ::1")]) }),
    /outer.*refused on ::1/s
  ]
]

describe("an error of the protocol that could not be written ends its job all the same", () => {
  for (const [name, how, message, details] of protocolErrors)
    it.scoped(name, () =>
      Effect.gen(function* () {
        const { end, seen } = yield* ends(agent(how))
        assert.deepStrictEqual([end.payload.code, end.payload.message], ["PERMISSION_DENIED", message])
        if (details !== undefined) assert.deepStrictEqual(end.payload.details, details)
        assert.lengthOf(
          seen.filter(({ type }) => type === "job.error"),
          1
        )
      })
    )
})

describe("whatever else is thrown ends its job, and is in the log", () => {
  for (const [name, how, logged] of others) {
    it.scoped(`${name}: by a promise`, () =>
      Effect.gen(function* () {
        const { end, entries } = yield* ends(agent(how))
        assert.strictEqual(end.payload.code, "INTERNAL_ERROR")
        assert.lengthOf(entries, 1)
        assert.match(entries[0]?.text ?? "", logged)
      })
    )

    it.scoped(`${name}: by a handler before its first effect`, () =>
      Effect.gen(function* () {
        const plain = Agent.handle(Agent.make("bad", { version: "1.0.0" }), (): Effect.Effect<unknown> => {
          throw how()
        })
        const { end, entries } = yield* ends(plain)
        assert.strictEqual(end.payload.message, "the agent failed; the runtime's log says why")
        assert.lengthOf(entries, 1)
        assert.match(entries[0]?.text ?? "", logged)
      })
    )
  }

  it.scoped("a handler that throws before its first effect fails in its job, which was accepted", () =>
    Effect.gen(function* () {
      const plain = Agent.handle(Agent.make("bad", { version: "1.0.0" }), (): Effect.Effect<unknown> => {
        throw denied({ message: "thrown, not failed with" })
      })
      const { end } = yield* ends(plain)
      assert.strictEqual(end.payload.code, "PERMISSION_DENIED")
    })
  )
})

describe("what can be read stays the very same", () => {
  const error = new PermissionDenied({ message: "x", details: { a: 1 } })
  const failure = new InternalError({ message: "y" })
  it.each([error, failure, new Error("z"), "text", 7, null, { a: 1 }])("%s", (value) => {
    assert.strictEqual(readable(value), value)
  })

  it("also in causes, whose failures are whoever's declares them", () => {
    const cause = Cause.sequential(
      Cause.parallel(Cause.fail({ n: 1n }), Cause.die(error)),
      Cause.fail(undefined)
    )
    assert.deepStrictEqual(readableCause(cause), cause)
    assert.deepStrictEqual(whole(cause), cause)
    const exit = Exit.succeed(1)
    assert.strictEqual(readableExit(exit), exit)
  })

  it("an error that is made of itself is told once", () => {
    const error = new AggregateError([], "itself")
    error.errors.push(error)
    assert.include(Cause.pretty(whole(Cause.die(error))), "itself")
  })
})

describe("what is too much for a log is told in few characters, and at once", () => {
  const chain = () =>
    Array.from({ length: 3_000 }).reduce<Error>(
      (cause) => new Error("of many", { cause }),
      new Error("first")
    )
  const large: ReadonlyArray<readonly [string, () => unknown, RegExp]> = [
    ["a message", () => new Error("m".repeat(3_000_000)), /Error: m{8192}… \(3000000 characters\)/],
    [
      "a stack",
      () => Object.assign(new Error("x"), { stack: `Error: x\n    at ${"s".repeat(3_000_000)}` }),
      /Error: x\n +at s{8000}/
    ],
    ["a buffer", () => Buffer.alloc(5_000_000), /much, of the kind \[object Uint8Array\]/],
    ["a text", () => "t".repeat(3_000_000), /no error: t{8192}… \(3000000 characters\)/],
    [
      "an object of many members",
      () => Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`k${i}`, i])),
      /much, of the kind \[object Object\]/
    ],
    ["an array of large texts", () => Array.from({ length: 1_000 }, () => "a".repeat(1_000)), /much/],
    ["thousands of causes", chain, /of many/]
  ]
  it.each(large)("%s", (_, how, logged) => {
    const text = Cause.pretty(whole(Cause.die(readable(how()))), { renderErrorCause: true })
    assert.match(text, logged)
    assert.isBelow(text.length, 150_000)
  })
})
