/** Which requests a session takes, and how it refuses the others (protocol 2, 4.2, 4.7 and 5.7). */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Agent from "../../../src/services/agents/Agent.js"
import { connect, open, runtime } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)
const agents = [echo, forever]

type Opened = Effect.Effect.Success<ReturnType<typeof open>>

const unknownJob = `job_${"0".repeat(26)}`

const submit = (session: Opened, agent: string, more: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent, input: {}, ...more })
    return yield* session.next(
      (frame) =>
        (frame.type === "job.accepted" && frame.payload.request_id === id) ||
        (frame.type === "job.error" && frame.payload.details?.request_id === id)
    )
  })

/** The session is served still: what was asked before has been answered. */
const pong = (session: Opened) =>
  Effect.zipRight(session.request("session.ping", { nonce: "n" }), session.expect("session.pong"))

describe("a request that is refused", () => {
  it.scoped("is named by its error, with its job where it has one, and the session stays open", () =>
    Effect.gen(function* () {
      const session = yield* open()
      for (const [type, payload, job, extra] of [
        ["job.cancel", {}, unknownJob, { job_id: unknownJob }],
        ["job.subscribe", { job_id: unknownJob }, unknownJob, {}],
        ["job.cancel", {}, undefined, {}],
        ["session.ack", { last_processed_seq: 1 }, undefined, {}],
        ["session.list_jobs", { cursor: "x" }, undefined, {}],
        ["session.list_jobs", { limit: 0 }, undefined, {}],
        ["session.hello", {}, undefined, {}],
        ["session.shout", {}, undefined, {}]
      ] as const) {
        const id = yield* session.request(type, payload, extra)
        const error = yield* session.expect("session.error")
        assert.strictEqual(error.payload.details.request_id, id, type)
        assert.strictEqual(error.payload.details.job_id, job, type)
      }
      yield* pong(session)
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("because it names another session is not carried out, for anybody", () =>
    Effect.gen(function* () {
      const other = yield* open()
      const session = yield* open()
      for (const session_id of [other.sessionId, `sess_${"0".repeat(26)}`]) {
        for (const [type, payload] of [
          ["job.submit", { agent: "echo", input: 1 }],
          ["job.submit", { agent: 7 }],
          ["session.ping", { nonce: "n" }],
          ["session.list_jobs", {}]
        ] as const) {
          const id = yield* session.send(type, payload, { session_id })
          const error = yield* session.next((frame) => frame.payload.details?.request_id === id)
          assert.strictEqual(error.type, "session.error", type)
          assert.strictEqual(error.payload.code, "INVALID_REQUEST", type)
        }
      }
      for (const opened of [session, other]) {
        yield* pong(opened)
        yield* opened.request("session.list_jobs", {})
        assert.deepStrictEqual((yield* opened.expect("session.jobs")).payload.jobs, [])
      }
    }).pipe(Effect.provide(runtime(agents)))
  )
})

describe("a feature that was not negotiated", () => {
  const budget = { lease_request: { "cost.budget": ["USD:1"] } }
  const requests = [
    ["ack", "session.ack", { last_processed_seq: 0 }],
    ["list_jobs", "session.list_jobs", {}],
    ["subscribe", "job.subscribe", { job_id: unknownJob }],
    ["subscribe", "job.unsubscribe", { job_id: unknownJob }],
    ["agent_versions", "job.submit", { agent: "echo@1.0.0", input: {} }],
    [
      "lease_expires_at",
      "job.submit",
      { agent: "echo", input: {}, lease_constraints: { expires_at: "2026-01-01T00:00:00Z" } }
    ],
    ["cost.budget", "job.submit", { agent: "echo", input: {}, ...budget }],
    ["model.use", "job.submit", { agent: "echo", input: {}, lease_request: { "model.use": ["*"] } }]
  ] as const

  /** Sends it and gives the refusals that name the feature. */
  const refusals = (session: Opened, feature: string, type: string, payload: unknown) =>
    Effect.gen(function* () {
      const id = yield* session.request(type, payload)
      const from = session.seen.length
      // Submits are decided beside the other requests, one after the other: this one is decided after it.
      yield* submit(session, "echo")
      yield* pong(session)
      return session.seen
        .slice(from)
        .filter(({ payload }) => payload.details?.request_id === id)
        .filter(({ payload }) => payload.message.includes(`the feature ${feature},`))
        .map(({ payload }) => payload.code)
    })

  for (const [feature, type, payload] of requests)
    it.scoped(`${feature}: ${type} is refused without it, and taken with it alone`, () =>
      Effect.gen(function* () {
        const without = yield* open(
          {},
          requests.map(([other]) => other).filter((other) => other !== feature)
        )
        assert.deepStrictEqual(yield* refusals(without, feature, type, payload), ["INVALID_REQUEST"])
        const withIt = yield* open({}, [feature])
        assert.deepStrictEqual(yield* refusals(withIt, feature, type, payload), [])
      }).pipe(Effect.provide(runtime(agents)))
    )
})

describe("session.bye", () => {
  /** What has become of a running job when its session has said bye, or close, and is resumed. */
  const after = (type: "session.bye" | "session.close") =>
    Effect.gen(function* () {
      const session = yield* open()
      const { job_id } = yield* submit(session, "forever")
      yield* session.expect("job.event")
      yield* session.request(type, {})
      if (type === "session.close") yield* session.expect("session.closed")
      assert.strictEqual((yield* session.closed).code, 1000)
      const again = yield* open({
        resume: {
          session_id: session.sessionId,
          resume_token: session.welcome.resume_token,
          last_event_seq: 1
        }
      })
      const watcher = yield* open()
      const id = yield* watcher.request("job.subscribe", { job_id })
      const { payload } = yield* watcher.expect("job.subscribed", (frame) => frame.payload.request_id === id)
      return { again, status: payload.current_status, watcher }
    })

  for (const type of ["session.bye", "session.close"] as const)
    it.scoped(`leaves jobs running and the session to be resumed (${type})`, () =>
      Effect.gen(function* () {
        const { again, status } = yield* after(type)
        assert.strictEqual(status, "running")
        yield* submit(again, "echo")
        assert.notInclude(
          again.seen.map((frame) => frame.type),
          "job.error"
        )
      }).pipe(Effect.provide(runtime(agents)))
    )

  it.scoped("cancels the session's jobs, and no others, when the option says so", () =>
    Effect.gen(function* () {
      const bystander = yield* open()
      const kept = yield* submit(bystander, "forever")
      const { again } = yield* after("session.bye")
      const end = yield* again.expect("job.error")
      assert.strictEqual(end.payload.code, "CANCELLED")
      yield* bystander.request("job.subscribe", { job_id: kept.job_id })
      assert.strictEqual((yield* bystander.expect("job.subscribed")).payload.current_status, "running")
    }).pipe(Effect.provide(runtime(agents, { cancelOnBye: true })))
  )
})

describe("a message before hello", () => {
  it.scoped("is refused, and the connection closes", () =>
    Effect.gen(function* () {
      const wire = yield* connect
      yield* wire.send("session.list_jobs", {})
      assert.strictEqual((yield* wire.expect("session.error")).payload.code, "INVALID_REQUEST")
      assert.strictEqual((yield* wire.closed).code, 1002)
    }).pipe(Effect.provide(runtime(agents)))
  )
})
