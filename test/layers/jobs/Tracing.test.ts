/** One trace from whoever asks to whatever is asked in turn (§11). */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Tracer from "effect/Tracer"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { extension } from "../../../src/protocol/Trace.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Store } from "../../../src/services/store/Store.js"
import * as TestRuntime from "../../../src/testing/TestRuntime.js"
import { above, type KeptSpan, keeping } from "../../support/tracer.js"
import { open, runtime } from "../../support/Wire.js"
import { sqlite } from "../log/sqlite.js"
import { alsoInPostgres } from "../store/pg/layers.js"
import { serve, submit } from "./support.js"

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
const spanId = "00f067aa0ba902b7"

const make = (name: string) => Agent.make(name, { version: "1.0.0" })

/** Says in which trace it runs, and what is said of the span above its own. */
const where = Agent.handle(make("where"), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const parent = above(yield* Effect.orDie(Effect.currentSpan))
    return { traceId: job.traceId, parent: parent?.spanId, sampled: parent?.sampled }
  })
)
const talker = Agent.handle(make("talker"), () =>
  Effect.flatMap(Job, (job) => Effect.repeatN(job.log("info", "again"), 99))
)
const failing = Agent.handle(make("failing"), () => Effect.die(new Error("broken")))
/** Delegates to the agent that it is told. */
const delegating = Agent.handle(make("delegating"), (agent) =>
  Effect.flatMap(Job, (job) =>
    Effect.flatMap(job.delegate(String(agent), null), (child) => child.await).pipe(
      Effect.withSpan("thinking")
    )
  )
)

const attributesOf = (span: KeptSpan | undefined) => Object.fromEntries(span?.attributes ?? [])

describe("a trace", () => {
  it.scoped("goes from a request through submit, job and delegation to a job of another runtime", () => {
    const { layer, named } = keeping()
    return Effect.gen(function* () {
      const far = Context.get(yield* Layer.build(TestRuntime.layer([where])), ArcpClient.ArcpClient)
      const relay = Agent.handle(make("relay"), () =>
        far.submit("where", null).pipe(
          Effect.flatMap((job) => job.result),
          Effect.mapError((error) => new Error(error.message)),
          Effect.orDie
        )
      )
      yield* Effect.gen(function* () {
        const client = yield* ArcpClient.ArcpClient
        const request = Tracer.externalSpan({ traceId, spanId, sampled: true })
        const job = yield* client
          .submit("delegating", "relay", { leaseRequest: { "agent.delegate": ["relay"] } })
          .pipe(Effect.withSpan("request", { parent: request }))
        const seen = (yield* job.result) as { readonly traceId: string; readonly parent: string }
        assert.strictEqual(job.traceId, traceId)
        assert.strictEqual(seen.traceId, traceId)
        const jobs = named("arcp.job")
        assert.deepStrictEqual(
          jobs.map((span) => span.attributes.get("arcp.agent")),
          ["delegating@1.0.0", "relay@1.0.0", "where@1.0.0"]
        )
        const [first, child, last] = jobs
        assert.strictEqual(above(first)?.spanId, named("request")[0]?.spanId)
        assert.strictEqual(above(child), named("thinking")[0])
        assert.strictEqual(above(above(child)), first)
        assert.strictEqual(above(last)?.spanId, child?.spanId)
        assert.strictEqual(seen.parent, child?.spanId)
        for (const span of jobs) assert.strictEqual(span.traceId, traceId)
      }).pipe(Effect.provide(TestRuntime.layer([delegating, relay])))
    }).pipe(Effect.provide(layer))
  })

  it.scoped("keeps who asked not to be sampled, and the state of its tracing systems", () => {
    const told: Array<unknown> = []
    return Effect.gen(function* () {
      const far = Context.get(yield* Layer.build(TestRuntime.layer([where])), ArcpClient.ArcpClient)
      const relay = Agent.handle(make("relay"), () =>
        far.submit("where", null).pipe(
          Effect.tap((job) => Effect.sync(() => told.push(job.traceId))),
          Effect.flatMap((job) => job.result),
          Effect.orDie,
          Effect.withSpan("inside")
        )
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        for (const flags of ["00", "01"]) {
          const id = yield* session.request(
            "job.submit",
            { agent: "relay", input: null },
            { extensions: { [extension]: { traceparent: `00-${traceId}-${spanId}-${flags}` } } }
          )
          yield* session.expect("job.accepted", ({ payload }) => payload.request_id === id)
          // Without a tracer too: Effect's own spans say that they are sampled.
          const { payload } = yield* session.expect("job.result")
          assert.strictEqual(payload.result.sampled, flags === "01")
        }
        assert.deepStrictEqual(told, [traceId, traceId])
      }).pipe(Effect.provide(runtime([relay])))
    })
  })

  it.scoped("begins with the client when it is in none; a trace id that is given wins", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit("where", null)
      assert.match(job.traceId ?? "", /^[0-9a-f]{32}$/)
      assert.strictEqual(((yield* job.result) as { readonly traceId: string }).traceId, job.traceId)
      const another = yield* client.submit("where", null)
      assert.notStrictEqual(another.traceId, job.traceId)
      const given = yield* client.submit("where", null, { traceId }).pipe(Effect.withSpan("other"))
      assert.strictEqual(given.traceId, traceId)
      // Where tracing is off there is no span to name, and nothing is refused.
      const off = yield* client
        .submit("where", null)
        .pipe(Effect.withSpan("noop"), Effect.withTracerEnabled(false))
      assert.match(off.traceId ?? "", /^[0-9a-f]{32}$/)
    }).pipe(Effect.provide(TestRuntime.layer([where])))
  )
})

describe("the wire's trace context", () => {
  const ask = (extensions: unknown, more: Record<string, unknown> = {}, agent = "where") =>
    Effect.gen(function* () {
      const session = yield* open()
      const id = yield* session.request(
        "job.submit",
        { agent, input: "where", lease_request: { "agent.delegate": ["where"] } },
        { ...(extensions === undefined ? {} : { extensions }), ...more }
      )
      const accepted = yield* session.expect("job.accepted", ({ payload }) => payload.request_id === id)
      const { payload } = yield* session.expect("job.result", ({ job_id }) => job_id === accepted.job_id)
      return { session, accepted, result: payload.result }
    })
  const tracecontext = (traceparent: unknown, tracestate?: string) => ({
    [extension]: { traceparent, ...(tracestate === undefined ? {} : { tracestate }) }
  })

  it.scoped("is the parent of the job's span; the accept names that span, to whom knows it", () => {
    const { layer, named } = keeping()
    return Effect.gen(function* () {
      const context = tracecontext(`00-${traceId}-${spanId}-01`, "vendor=1")
      const { accepted, result, session } = yield* ask(context, { trace_id: traceId })
      assert.deepStrictEqual(result, { traceId, parent: spanId, sampled: true })
      const [job] = named("arcp.job")
      assert.deepStrictEqual(accepted.extensions, tracecontext(`00-${traceId}-${job?.spanId}-01`, "vendor=1"))
      // Also the accept of what it delegates to, before the child's first event.
      yield* ask(context, {}, "delegating")
      const [, parent, child] = named("arcp.job")
      assert.strictEqual(above(child)?.traceId, traceId)
      assert.strictEqual(above(above(child)), parent)
      assert.strictEqual((yield* ask(undefined)).accepted.extensions, undefined)
      assert.strictEqual(session.seen.filter(({ extensions }) => extensions !== undefined).length, 1)
    }).pipe(Effect.provide(runtime([where, delegating]).pipe(Layer.provideMerge(layer))))
  })

  it.scoped("is taken from a traceparent that stands as trace_id", () =>
    Effect.gen(function* () {
      const { accepted, result } = yield* ask(undefined, { trace_id: `00-${traceId}-${spanId}-00` })
      assert.strictEqual(accepted.trace_id, traceId)
      assert.deepStrictEqual(result, { traceId, parent: spanId, sampled: false })
    }).pipe(Effect.provide(runtime([where])))
  )

  it.scoped("gives the trace id where there is no other", () =>
    Effect.gen(function* () {
      const { accepted } = yield* ask(tracecontext(`00-${traceId}-${spanId}-01`))
      assert.strictEqual(accepted.trace_id, traceId)
    }).pipe(Effect.provide(runtime([where])))
  )

  it.scoped("is as if it had not been there when it is malformed, or of another trace", () =>
    Effect.gen(function* () {
      for (const extensions of [
        tracecontext("nonsense"),
        tracecontext(5),
        { [extension]: null },
        { [extension]: "text" },
        tracecontext(`00-${traceId.replace("4", "5")}-${spanId}-01`)
      ]) {
        const { accepted, result } = yield* ask(extensions, { trace_id: traceId })
        assert.strictEqual(accepted.trace_id, traceId)
        assert.notStrictEqual(result.parent, spanId)
        assert.strictEqual(accepted.extensions, undefined)
      }
    }).pipe(Effect.provide(runtime([where])))
  )
})

const stores = {
  memory: () => StoreMemory.layer(),
  SQLite: sqlite,
  ...Object.fromEntries(alsoInPostgres().map(({ layer }) => ["Postgres", layer]))
}

describe("spans", () => {
  for (const [name, store] of Object.entries(stores))
    it.scopedLive(`are one of the session and one of the job, however much it emits, over ${name}`, () => {
      const { layer, named, spans } = keeping()
      return Effect.gen(function* () {
        const store_ = Context.get(yield* Layer.build(store()), Store)
        yield* Effect.gen(function* () {
          const before = spans.length
          const session = yield* open()
          const { job_id } = yield* submit(session, "talker", null, {
            lease_request: { "tool.call": ["a"], "cost.budget": ["USD:1.00"] },
            lease_constraints: { expires_at: "2999-01-01T00:00:00Z" }
          })
          yield* session.expect("job.result")
          assert.deepStrictEqual(
            spans.slice(before).map((span) => span.name),
            ["arcp.session", "arcp.job"]
          )
          const [job] = named("arcp.job")
          assert.deepStrictEqual(attributesOf(job), {
            "arcp.session_id": session.sessionId,
            "arcp.job_id": job_id,
            "arcp.agent": "talker@1.0.0",
            "arcp.lease.capabilities": "tool.call cost.budget",
            "arcp.lease.expires_at": "2999-01-01T00:00:00Z",
            "arcp.budget.remaining": "USD:1"
          })
          const [connected] = named("arcp.session")
          assert.isUndefined(above(connected))
          assert.strictEqual(attributesOf(connected)["arcp.session_id"], session.sessionId)
        }).pipe(Effect.provide(serve({ store: store_ }, [talker])))
      }).pipe(Effect.provide(layer))
    })

  it.scoped("of a job end as it does", () => {
    const { layer, named } = keeping()
    return Effect.gen(function* () {
      const session = yield* open()
      for (const agent of ["where", "failing"]) yield* submit(session, agent)
      yield* session.expect("job.error")
      yield* session.request("session.close", {})
      yield* session.expect("session.closed")
      const ends = named("arcp.job").map(({ status }) =>
        status._tag === "Ended" ? Exit.isSuccess(status.exit) : undefined
      )
      assert.deepStrictEqual(ends, [true, false])
    }).pipe(Effect.provide(runtime([where, failing]).pipe(Layer.provideMerge(layer))))
  })
})

it.scoped("what a handler logs says of which job it is, whose, and in which trace", () => {
  const lines: Array<Record<string, unknown>> = []
  const logger = Logger.make(({ annotations, message }) => {
    lines.push({ message: String(message), ...Object.fromEntries(HashMap.entries(annotations)) })
  })
  const logging = Agent.handle(make("logging"), () => Effect.log("here"))
  const both = Agent.handle(make("both"), () =>
    Effect.gen(function* () {
      yield* Effect.log("above")
      const delegated = (yield* Job).delegate("logging", null)
      return yield* (yield* Effect.annotateLogs(delegated, "asked", "from above")).await
    })
  )
  return Effect.gen(function* () {
    const session = yield* open()
    const { job_id, trace_id } = yield* submit(session, "both", null, {
      lease_request: { "agent.delegate": ["logging"] }
    })
    yield* session.expect("job.result", (frame) => frame.job_id === job_id)
    const about = { principal: "alice", session: session.sessionId, trace_id }
    assert.deepInclude(
      lines.find(({ message }) => message === "above"),
      { ...about, job: job_id, agent: "both@1.0.0" }
    )
    const child = lines.find(({ message }) => message === "here")
    assert.deepInclude(child, { ...about, agent: "logging@1.0.0", asked: "from above" })
    assert.notStrictEqual(child?.["job"], job_id)
    lines.length = 0
    const own = yield* submit(session, "logging", null)
    yield* session.expect("job.result", (frame) => frame.job_id === own.job_id)
    const said = lines.find(({ message }) => message === "here")
    assert.deepInclude(said, { ...about, trace_id: own.trace_id, job: own.job_id, agent: "logging@1.0.0" })
    assert.notProperty(said, "asked")
  }).pipe(
    Effect.provide(
      runtime([logging, both]).pipe(Layer.provideMerge(Logger.replace(Logger.defaultLogger, logger)))
    )
  )
})

describe("a tracer that throws at the end of a job's span", () => {
  it.scoped("ends neither the process nor what comes after the job", () => {
    const { layer, spans } = keeping()
    const breaking = Agent.handle(make("breaking"), () =>
      Effect.sync(() => {
        for (const span of spans)
          if (span.name === "arcp.job")
            span.end = () => {
              throw new Error("the tracer is broken")
            }
      })
    )
    return Effect.gen(function* () {
      const client = Context.get(yield* Layer.build(TestRuntime.layer([breaking])), ArcpClient.ArcpClient)
      for (let i = 0; i < 2; i++) yield* (yield* client.submit("breaking", null)).result
    }).pipe(Effect.provide(layer), Effect.provide(Logger.remove(Logger.defaultLogger)))
  })
})
