import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as Faults from "../../../src/layers/jobs/Faults.js"
import { InternalError } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Credentials } from "../../../src/services/credentials/Credentials.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { StoreError, toInternalError } from "../../../src/services/store/Store.js"
import { open } from "../../support/Wire.js"
import { agents, makeStore, pong, type Session, serve, submit } from "./support.js"

const thrower = Agent.handle(
  Agent.make("thrower", {
    version: "1.0.0",
    input: Schema.transform(Schema.String, Schema.String, {
      strict: true,
      decode: (text) => new URL(text).href,
      encode: (text) => text
    })
  }),
  (url) => Effect.succeed(url)
)
const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
  Effect.flatMap(Job, (job) =>
    Effect.match(job.delegate("thrower", "not a URL"), {
      onFailure: ({ _tag }): string => _tag,
      onSuccess: () => "accepted"
    })
  )
)

/** Whatever is logged, with its cause. */
const logged = () => {
  const lines: Array<string> = []
  const layer = Logger.replace(
    Logger.defaultLogger,
    Logger.make(({ cause, message }) => {
      lines.push(`${String(message)} ${Cause.pretty(cause)}`)
    })
  )
  return { lines, layer }
}

const refused = (session: Session, agent: string, input: unknown = {}) =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent, input })
    const { event_seq, job_id, payload } = yield* session.expect("job.error")
    assert.strictEqual(payload.code, "INTERNAL_ERROR")
    assert.strictEqual(payload.details.request_id, id)
    assert.isTrue(payload.retryable)
    assert.isNumber(event_seq)
    assert.isString(job_id)
    return payload.message as string
  })

describe("what throws or dies while a submit is decided", () => {
  it.scoped("an input schema: INTERNAL_ERROR, logged whole; every later submit works", () =>
    Effect.gen(function* () {
      const { layer, lines } = logged()
      yield* Effect.gen(function* () {
        const session = yield* open()
        const message = yield* refused(session, "thrower", "not a URL")
        assert.notInclude(message, "Invalid URL")
        assert.isTrue(
          lines.some((line) => line.includes("Invalid URL")),
          lines.join("\n")
        )
        yield* submit(session, "thrower", "https://a.example/")
        yield* session.expect("job.result")
        yield* pong(session)
      }).pipe(Effect.provide(serve(yield* makeStore, [thrower])), Effect.provide(layer))
    })
  )

  it.scoped("the same of a delegation: a typed error to the handler", () =>
    Effect.gen(function* () {
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "parent", {}, { lease_request: { "agent.delegate": ["*"] } })
        assert.strictEqual((yield* session.expect("job.result")).payload.result, "InternalError")
      }).pipe(Effect.provide(serve(yield* makeStore, [thrower, parent])))
    })
  )

  it.scoped("a policy that throws, one that dies, and a provisioner that dies", () =>
    Effect.gen(function* () {
      let fault: "" | "throw" | "die" | "mint" = ""
      const policy = Layer.succeed(Policy.Policy, {
        ...(yield* Effect.provide(Policy.Policy, Policy.layer())),
        mayUseAgent: () => {
          if (fault === "throw") throw new Error("policy threw")
          return fault === "die" ? Effect.dieMessage("policy died") : Effect.succeed(true)
        },
        mayCancel: () => Effect.dieMessage("policy died")
      })
      const credentials = Layer.succeed(Credentials, {
        enabled: true,
        mint: () => (fault === "mint" ? Effect.dieMessage("mint died") : Effect.succeed([])),
        held: () => [],
        rotate: () => Effect.dieMessage("no"),
        release: () => Effect.void,
        outstanding: Effect.succeed([]),
        revoke: () => Effect.void
      })
      yield* Effect.gen(function* () {
        const session = yield* open()
        for (const next of ["throw", "die", "mint"] as const) {
          fault = next
          yield* refused(session, "echo", 1)
          fault = ""
          yield* submit(session, "echo", 1)
          yield* session.expect("job.result")
        }
        const { job_id } = yield* submit(session, "forever")
        const other = yield* open()
        yield* other.request("job.cancel", {}, { job_id })
        assert.strictEqual((yield* other.expect("session.error")).payload.code, "INTERNAL_ERROR")
        yield* pong(other)
      }).pipe(
        Effect.provide(serve(yield* makeStore, agents, { maxJobsPerSession: 1 }, { policy, credentials }))
      )
    })
  )
})

describe("the terminal message", () => {
  it.scoped("is tried again until it is stored; meanwhile the owner is told, once", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const sleeper = Agent.handle(Agent.make("sleeper", { version: "1.0.0" }), () =>
        Effect.sleep("1 second")
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "sleeper")
        yield* session.expect("job.event")
        store.failing = true
        yield* TestClock.adjust("30 seconds")
        const told = yield* session.expect("session.error")
        assert.strictEqual(told.payload.details.job_id, job_id)
        yield* pong(session)
        assert.isFalse(session.seen.some(({ type }) => type === "job.result" || type === "job.error"))
        store.failing = false
        yield* TestClock.adjust("10 seconds")
        const result = yield* session.expect("job.result")
        assert.strictEqual(result.event_seq, 2)
        yield* pong(session)
        const ends = session.seen.filter(({ type }) => /job.(result|error)|session.error/.test(type))
        assert.strictEqual(ends.length, 2)
      }).pipe(Effect.provide(serve(store, [sleeper], { heartbeatInterval: "1 hour" })))
    })
  )

  it.scopedLive(
    "that the store never takes does not keep a runtime from shutting down",
    () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        yield* Effect.gen(function* () {
          const session = yield* open()
          yield* submit(session, "forever")
          yield* session.expect("job.event")
          store.failing = true
        }).pipe(Effect.provide(serve(store, agents)))
        const [record] = yield* store.store.jobs({ principals: "everyone", limit: 1 })
        assert.strictEqual(record?.status, "running")
      }),
    60_000
  )
})

describe("a store that could not do something", () => {
  const told = toInternalError("it could not be done")
  const failing = { message: "the database does not answer" }
  it("may do it the next time", () => {
    assert.isTrue(Faults.isAway(told(new StoreError(failing))))
  })
  for (const [what, error] of [
    ["was misused", new StoreError({ ...failing, misuse: true })],
    ["has been replaced by another", new StoreError({ ...failing, fenced: true })],
    ["is damaged", new StoreError({ ...failing, damaged: {} })],
    ["has a defect", new Error("a bug")]
  ] as const)
    it(`will never do it when it ${what}`, () => {
      assert.isFalse(Faults.isAway(told(error)))
    })
  it("is not known by what an error says of itself", () => {
    assert.isFalse(Faults.isAway(new InternalError({ message: "", details: { reason: "storage" } })))
  })
})
