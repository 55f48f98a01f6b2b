/** What an agent throws, is refused, or returns and JSON cannot say: how its job ends, and what the log has of it (§5.3). */
import { assert, describe, it } from "@effect/vitest"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { InternalError, InvalidRequest, isArcpError } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { ends } from "./ending.js"

class Undeclared extends Data.TaggedError("Undeclared")<{ readonly message: string }> {}

const broken = () => new Error("s3cret at /srv/db", { cause: new Error("the deeper reason") })

const throwing: ReadonlyArray<readonly [string, Agent.Registered]> = [
  ["a promise that rejects", Agent.fromPromise("bad", { version: "1.0.0" }, () => Promise.reject(broken()))],
  [
    "a plain function that throws",
    Agent.fromPromise("bad", { version: "1.0.0" }, () => {
      throw broken()
    })
  ],
  ["an effect that dies", Agent.handle(Agent.make("bad", { version: "1.0.0" }), () => Effect.die(broken()))],
  [
    "an effect that fails with what it has not declared",
    Agent.handle(
      Agent.make("bad", { version: "1.0.0" }),
      () => Effect.fail(broken()) as unknown as Effect.Effect<never>
    )
  ]
]

describe("an undeclared failure", () => {
  for (const [name, agent] of throwing) {
    it.scoped(`${name}: the log has all of it, and the client next to nothing`, () =>
      Effect.gen(function* () {
        const { end, entries, jobId } = yield* ends(agent)
        assert.strictEqual(end.payload.code, "INTERNAL_ERROR")
        assert.notInclude(JSON.stringify(end), "s3cret")
        assert.strictEqual(entries.length, 1)
        const [entry] = entries
        assert.deepStrictEqual([entry?.job, entry?.agent], [jobId, "bad@1.0.0"])
        for (const part of ["s3cret at /srv/db", "Failures.test.ts", "the deeper reason"])
          assert.include(entry?.text, part)
      })
    )

    it.scoped(`${name}: with revealFailures the client has its message, and never a stack`, () =>
      Effect.gen(function* () {
        const { end } = yield* ends(agent, { revealFailures: true })
        assert.strictEqual(end.payload.message, "s3cret at /srv/db")
      })
    )
  }

  it.scoped("what is no Error is logged too", () =>
    Effect.gen(function* () {
      const agent = Agent.fromPromise("bad", { version: "1.0.0" }, () => Promise.reject("s3cret text"))
      const { end, entries } = yield* ends(agent)
      assert.notInclude(JSON.stringify(end), "s3cret")
      assert.include(entries[0]?.text, "s3cret text")
      const tagged = Agent.fromPromise("bad", { version: "1.0.0" }, () =>
        Promise.reject(new Undeclared({ message: "s3cret tag" }))
      )
      const other = yield* ends(tagged)
      assert.notInclude(JSON.stringify(other.end), "s3cret")
      assert.include(other.entries[0]?.text, "s3cret tag")
    })
  )
})

const caught: Array<unknown> = []

/** Each is refused by the job or its lease: the code, and what asks for it. */
const refused: ReadonlyArray<readonly [string, (job: Agent.PromiseJob) => Promise<unknown>]> = [
  ["PERMISSION_DENIED", (job) => job.authorize("fs.read", "/etc/passwd")],
  ["PERMISSION_DENIED", (job) => job.delegate("bad", {})],
  ["INVALID_REQUEST", (job) => job.emit("x-vendor.a.b", undefined)],
  ["INVALID_REQUEST", (job) => job.emit("x-vendor.a.b", { a: new Map() })],
  ["INVALID_REQUEST", (job) => job.metric({ name: "m", value: Number.NaN })],
  ["INVALID_REQUEST", (job) => job.spend({ amount: "-1", currency: "USD" })],
  ["INVALID_REQUEST", (job) => job.spend({ amount: "1", currency: "USD", dimensions: { a: new Set() } })]
]

describe("what a promise agent is refused", () => {
  for (const [code, ask] of refused)
    it.scoped(`${ask}: rejects with the error itself, which ends the job when it is not caught`, () =>
      Effect.gen(function* () {
        caught.length = 0
        const catching = Agent.fromPromise("bad", { version: "1.0.0" }, async (_, job) => {
          await ask(job).catch((error: unknown) => caught.push(error))
          return "went on"
        })
        const went = yield* ends(catching)
        assert.strictEqual(went.end.payload.result, "went on")
        const [error] = caught
        assert(isArcpError(error))
        assert.deepStrictEqual([error.code, error.retryable], [code, false])
        const passing = Agent.fromPromise("bad", { version: "1.0.0" }, (_, job) => ask(job))
        const { end, entries } = yield* ends(passing)
        assert.strictEqual(end.payload.code, code)
        assert.strictEqual(end.payload.message, error.message)
        assert.deepStrictEqual(entries, [])
      })
    )

  it.scoped("a child's failure keeps its code and details", () =>
    Effect.gen(function* () {
      const details = { limit: "x" }
      const agent = Agent.fromPromise<{ child?: boolean }>(
        "bad",
        { version: "1.0.0" },
        async (input, job) => {
          if (input.child === true) throw new InternalError({ message: "no more", details })
          const child = await job.delegate("bad", { child: true })
          return await child.result()
        }
      )
      const { end } = yield* ends(agent, {}, { lease_request: { "agent.delegate": ["bad"] } })
      assert.deepInclude(end.payload, { code: "INTERNAL_ERROR", message: "no more", details })
    })
  )

  it.scoped("a plain function is an agent", () =>
    Effect.gen(function* () {
      const agent = Agent.fromPromise("bad", { version: "1.0.0" }, () => 42)
      assert.strictEqual((yield* ends(agent)).end.payload.result, 42)
    })
  )
})

class TooLate extends Schema.TaggedError<TooLate>()("TooLate", { since: Schema.Date }) {}

describe("what a promise agent declares", () => {
  const since = new Date("2026-01-31T00:00:00Z")
  const declared = (run: () => unknown) =>
    ends(
      Agent.fromPromise(
        "bad",
        { version: "1.0.0", output: Schema.Struct({ since: Schema.Date }), error: TooLate },
        run as () => { since: Date }
      )
    )

  it.scoped("its output goes over the wire as the schema says", () =>
    Effect.gen(function* () {
      const { end } = yield* declared(async () => ({ since }))
      assert.deepStrictEqual(end.payload.result, { since: "2026-01-31T00:00:00.000Z" })
    })
  )

  it.scoped("an output that is none of the schema's ends the job, with the path that is wrong", () =>
    Effect.gen(function* () {
      const { end } = yield* declared(async () => ({ since: "today" }))
      assert.strictEqual(end.payload.code, "INTERNAL_ERROR")
      assert.include(end.payload.message, "the agent's output is not what its contract says: output.since")
    })
  )

  for (const [how, run] of [
    ["rejects", () => Promise.reject(new TooLate({ since }))],
    [
      "throws",
      () => {
        throw new TooLate({ since })
      }
    ]
  ] as const)
    it.scoped(`a declared failure reaches the client as one: it ${how}`, () =>
      Effect.gen(function* () {
        const { end, entries } = yield* declared(run)
        assert.strictEqual(end.payload.code, "INTERNAL_ERROR")
        assert.deepStrictEqual(end.payload.details, {
          error: { _tag: "TooLate", since: "2026-01-31T00:00:00.000Z" }
        })
        assert.deepStrictEqual(entries, [])
      })
    )

  it.scoped("of a contract that clients share, the same", () =>
    Effect.gen(function* () {
      const Bad = Agent.make("bad", {
        version: "1.0.0",
        output: Schema.Struct({ since: Schema.Date }),
        error: TooLate
      })
      const good = yield* ends(Agent.fromPromise(Bad, async () => ({ since })))
      assert.deepStrictEqual(good.end.payload.result, { since: "2026-01-31T00:00:00.000Z" })
      const late = yield* ends(Agent.fromPromise(Bad, () => Promise.reject(new TooLate({ since }))))
      assert.deepInclude(late.end.payload.details, { error: { _tag: "TooLate", since: since.toISOString() } })
    })
  )

  it.scoped("any other stays what it is: logged, and not shown", () =>
    Effect.gen(function* () {
      const { end, entries } = yield* declared(() => Promise.reject(broken()))
      assert.notInclude(JSON.stringify(end), "s3cret")
      assert.include(entries[0]?.text, "s3cret at /srv/db")
    })
  )
})

const durableOnly: ReadonlyArray<readonly [string, Agent.Registered]> = [
  [
    "job.input",
    Agent.fromPromise("bad", { version: "1.0.0" }, async (_, job) => job.input("go", { prompt: "Go on?" }))
  ],
  [
    "job.step",
    Agent.fromPromise("bad", { version: "1.0.0" }, async (_, job) => {
      await job.log("info", "begun")
      return await job.step("one", () => 1)
    })
  ],
  ["job.sleep", Agent.fromPromise("bad", { version: "1.0.0" }, (_, job) => job.sleep("a while", 1))],
  [
    "job.input",
    Agent.handle(Agent.make("bad", { version: "1.0.0" }), () =>
      Effect.gen(function* () {
        const job = yield* Job
        return yield* Effect.orDie(job.input("go", { prompt: "Go on?" }))
      })
    )
  ]
]

describe("what is for durable agents only", () => {
  for (const [method, agent] of durableOnly)
    it.scoped(`${method} says so elsewhere, by its name and the agent's line, and how one is declared`, () =>
      Effect.gen(function* () {
        const { end, entries } = yield* ends(agent, { revealFailures: true })
        assert.strictEqual(
          end.payload.message,
          `${method} is for durable agents only: declare the agent with durable: true, among the options of Agent.make or Agent.fromPromise`
        )
        assert.include(entries[0]?.text, "Failures.test.ts")
      })
    )
})

const unsayable: ReadonlyArray<readonly [string, () => unknown]> = [
  ["result.a: a Map, a Set or bytes are not JSON", () => ({ a: new Map([[1, 2]]) })],
  ["result: a Map, a Set or bytes are not JSON", () => new Set([1])],
  ["result.n[0]: a number that is not finite is not JSON", () => ({ n: [Number.NaN] })],
  ["result: a bigint is not JSON", () => 1n],
  ["result.f: a function is not JSON", () => ({ f: () => 1 })],
  [
    "result.me: holds itself",
    () => {
      const cycle: Record<string, unknown> = {}
      cycle["me"] = cycle
      return cycle
    }
  ]
]

describe("what JSON cannot say", () => {
  for (const [problem, output] of unsayable) {
    it.scoped(`is refused by name in what an agent returns: ${problem}`, () =>
      Effect.gen(function* () {
        const agent = Agent.fromPromise("bad", { version: "1.0.0" }, output)
        const { end } = yield* ends(agent)
        assert.strictEqual(end.type, "job.error")
        assert.strictEqual(end.payload.message, `the agent's output cannot be written as JSON: ${problem}`)
      })
    )

    it.scoped(`does not keep an error from ending its job: ${problem}`, () =>
      Effect.gen(function* () {
        const agent = Agent.handle(Agent.make("bad", { version: "1.0.0" }), () =>
          Effect.suspend(() => new InvalidRequest({ message: "as it says", details: { result: output() } }))
        )
        const { end } = yield* ends(agent)
        assert.strictEqual(end.payload.code, "INVALID_REQUEST")
        assert.deepStrictEqual(end.payload.details, { omitted: `details.${problem}` })
      })
    )

    it.scoped(`is refused by name in what an agent delegates: ${problem}`, () =>
      Effect.gen(function* () {
        const agent = Agent.handle(Agent.make("bad", { version: "1.0.0" }), () =>
          Effect.flatMap(Job, (job) => job.delegate("bad", { result: output() }))
        )
        const { end } = yield* ends(agent, {}, { lease_request: { "agent.delegate": ["bad"] } })
        assert.strictEqual(end.payload.message, `input.${problem}`)
      })
    )
  }

  it.scoped("a lease that JSON cannot say is refused where it is delegated", () =>
    Effect.gen(function* () {
      const agent = Agent.fromPromise("bad", { version: "1.0.0" }, (_, job) =>
        job.delegate("bad", {}, { lease: new Map([["fs.read", ["/a"]]]) as never })
      )
      const { end } = yield* ends(agent, {}, { lease_request: { "agent.delegate": ["bad"] } })
      assert.strictEqual(end.payload.message, "lease: a Map, a Set or bytes are not JSON")
    })
  )

  it.scoped("half a surrogate pair becomes U+FFFD in results, chunks and errors", () =>
    Effect.gen(function* () {
      const returning = Agent.fromPromise("bad", { version: "1.0.0" }, () => ({ "\ud800": "x\udc00" }))
      assert.deepStrictEqual((yield* ends(returning)).end.payload.result, { "\ufffd": "x\ufffd" })
      const failing = Agent.handle(Agent.make("bad", { version: "1.0.0" }), () =>
        Effect.fail(new InvalidRequest({ message: "x\ud800", details: { "\ud800": "\udc00" } }))
      )
      const { payload } = (yield* ends(failing)).end
      assert.deepStrictEqual([payload.message, payload.details], ["x\ufffd", { "\ufffd": "\ufffd" }])
      const streaming = Agent.fromPromise("bad", { version: "1.0.0" }, async (_, job) => {
        const stream = await job.openResult()
        for (const piece of ["a\ud83d", "\ude00b", "\udc00", "\ud800"]) await stream.write(piece)
      })
      const { end, seen } = yield* ends(streaming)
      const text = seen
        .filter(({ payload }) => payload.kind === "result_chunk")
        .map(({ payload }) => payload.body.data)
        .join("")
      assert.strictEqual(text, "a\u{1f600}b\ufffd\ufffd")
      assert.strictEqual(end.payload.result_size, new TextEncoder().encode(text).length)
    })
  )
})
