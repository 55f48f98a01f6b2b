/** Which jobs may begin, who is told why not, and what is left of one that may not. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import * as Admission from "../../../src/layers/jobs/Admission.js"
import { PermissionDenied } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Policy, refuse } from "../../../src/services/auth/Policy.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { open } from "../../support/Wire.js"
import { agents, as, makeStore, pong, type Session, serve, submit } from "./support.js"

/** Lets in what the function says, and keeps what it was asked. */
const asking = (check: (submit: Admission.Submit) => Effect.Effect<void, PermissionDenied>) => {
  const asked: Array<readonly [string, Admission.Submit]> = []
  const admission = Admission.layer(({ principal }, submit) => {
    asked.push([principal, submit])
    return check(submit)
  })
  return { asked, admission }
}

/** Submits, and gives the refusal. */
const refused = (session: Session, agent: string, more: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent, input: {}, ...more })
    return yield* session.expect("job.error", (frame) => frame.payload.details?.request_id === id)
  })

const delegating = Agent.handle(Agent.make("delegating", { version: "1.0.0" }), () =>
  Effect.flatMap(Job, (job) =>
    job.delegate("echo", 1).pipe(
      Effect.flatMap((child) => child.await),
      Effect.catchAll((error) => Effect.succeed(error.message))
    )
  )
)

describe("admission", () => {
  it.scoped("is asked once for each job, with what it will be; not about what is answered already", () =>
    Effect.gen(function* () {
      const { admission, asked } = asking(() => Effect.void)
      yield* Effect.gen(function* () {
        const session = yield* open()
        const terms = {
          lease_request: { "tool.call": ["search.*"] },
          max_runtime_sec: 60,
          idempotency_key: "k"
        }
        const { job_id, trace_id } = yield* submit(session, "echo", { a: 1 }, terms)
        assert.deepStrictEqual(asked, [
          [
            "alice",
            {
              agent: "echo@1.0.0",
              input: { a: 1 },
              lease: { "tool.call": ["search.*"] },
              leaseConstraints: {},
              maxRuntimeSec: 60,
              idempotencyKey: "k",
              sessionId: session.sessionId,
              traceId: trace_id as string,
              parentJobId: undefined
            }
          ]
        ])
        const again = yield* submit(session, "echo", { a: 1 }, terms)
        assert.strictEqual(again.job_id, job_id)
        // What other checks refuse is not asked about.
        yield* refused(session, "nobody")
        yield* refused(session, "talk", { input: 1 })
        assert.lengthOf(asked, 1)
      }).pipe(Effect.provide(serve(yield* makeStore, agents, {}, { admission })))
    })
  )

  it.scoped("a refusal reaches the client, uses no place and no key, and its frame gets it again", () =>
    Effect.gen(function* () {
      let admits = false
      const { admission, asked } = asking(() =>
        admits ? Effect.void : new PermissionDenied({ message: "suspended", details: { account: 7 } })
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const payload = { agent: "forever", input: {}, idempotency_key: "k" }
        const frame = (id: string) =>
          session.sendText(
            JSON.stringify({ arcp: "1.1", id, type: "job.submit", session_id: session.sessionId, payload })
          )
        yield* frame("A")
        const first = yield* session.expect("job.error")
        assert.strictEqual(first.payload.code, "PERMISSION_DENIED")
        assert.strictEqual(first.payload.message, "suspended")
        assert.deepStrictEqual(first.payload.details, { account: 7, request_id: "A" })
        admits = true
        yield* frame("A")
        const again = yield* session.expect("job.error")
        assert.strictEqual(again.job_id, first.job_id)
        assert.lengthOf(asked, 1)
        yield* frame("B")
        yield* session.expect("job.accepted")
        assert.lengthOf(asked, 2)
      }).pipe(Effect.provide(serve(yield* makeStore, agents, { maxJobsPerSession: 1 }, { admission })))
    })
  )

  it.scoped("one that dies is an INTERNAL_ERROR without its cause, and the next submit is decided", () =>
    Effect.gen(function* () {
      let calls = 0
      const admission = Admission.layer(() => {
        if (++calls === 1) throw new Error("the quota database says: secret")
        return calls === 2 ? Effect.die("secret") : Effect.void
      })
      yield* Effect.gen(function* () {
        const session = yield* open()
        for (let i = 0; i < 2; i++) {
          const { payload } = yield* refused(session, "echo")
          assert.strictEqual(payload.code, "INTERNAL_ERROR")
          assert.notInclude(JSON.stringify(payload), "secret")
        }
        yield* submit(session, "echo")
      }).pipe(Effect.provide(serve(yield* makeStore, agents, {}, { admission })))
    })
  )

  it.scoped("one that is still asking when the runtime shuts down leaves nothing, and holds nobody", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const reached = yield* Deferred.make<void>()
      const admission = Admission.layer(() =>
        Effect.zipRight(Deferred.succeed(reached, undefined), Effect.never)
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* session.request("job.submit", { agent: "echo", input: {} })
        yield* Deferred.await(reached)
        // Its other requests are answered.
        yield* pong(session)
      }).pipe(Effect.provide(serve(store, agents, {}, { admission })))
      assert.isFalse(store.batches.flat().some(({ _tag }) => _tag === "PutJob"))
    })
  )

  it.scoped("is asked about delegated jobs too, which a refusal tells their parent", () =>
    Effect.gen(function* () {
      const { admission, asked } = asking(({ parentJobId }) =>
        parentJobId === undefined ? Effect.void : new PermissionDenied({ message: "no children today" })
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const lease_request = { "agent.delegate": ["echo"] }
        const { job_id } = yield* submit(session, "delegating", {}, { lease_request })
        const { payload } = yield* session.expect("job.result")
        assert.strictEqual(payload.result, "no children today")
        assert.deepStrictEqual(
          asked.map(([principal, { agent, parentJobId }]) => [principal, agent, parentJobId]),
          [
            ["alice", "delegating@1.0.0", undefined],
            ["alice", "echo@1.0.0", job_id]
          ]
        )
        const told = session.seen.find(({ payload }) => payload.kind === "tool_result")
        assert.strictEqual(told?.payload.body.error.code, "PERMISSION_DENIED")
      }).pipe(Effect.provide(serve(yield* makeStore, [...agents, delegating], {}, { admission })))
    })
  )
})

describe("the rate limit", () => {
  it.scoped(
    "lets so many in per time and principal, says when the next may come, and counts no children",
    () =>
      Effect.gen(function* () {
        const admission = Admission.layerRateLimit({ submits: 2, per: "10 seconds" })
        yield* Effect.gen(function* () {
          const [alice, bob] = yield* Effect.all([open(), open(as("bob"))])
          const lease_request = { "agent.delegate": ["echo"] }
          yield* submit(alice, "delegating", {}, { lease_request })
          const { payload } = yield* alice.expect("job.result")
          assert.strictEqual(payload.result, 1)
          const keyed = { idempotency_key: "k" }
          yield* submit(alice, "echo", {}, keyed)
          const no = yield* refused(alice, "echo")
          assert.strictEqual(no.payload.code, "INTERNAL_ERROR")
          assert.strictEqual(no.payload.retryable, true)
          assert.strictEqual(no.payload.details.limit, "submits_per_principal")
          assert.strictEqual(no.payload.details.retry_after, 5)
          // Neither what is answered already nor somebody else is refused.
          yield* submit(alice, "echo", {}, keyed)
          yield* submit(bob, "echo")
          yield* TestClock.adjust("4999 millis")
          assert.strictEqual((yield* refused(alice, "echo")).payload.details.retry_after, 0.001)
          yield* TestClock.adjust("1 millis")
          yield* submit(alice, "echo")
          assert.strictEqual((yield* refused(alice, "echo")).payload.details.retry_after, 5)
          yield* TestClock.adjust("20 seconds")
          for (let i = 0; i < 2; i++) yield* submit(alice, "echo")
          yield* refused(alice, "echo")
        }).pipe(Effect.provide(serve(yield* makeStore, [...agents, delegating], {}, { admission })))
      })
  )

  it.effect("remembers so many principals, and forgets those who have submitted least", () =>
    Effect.gen(function* () {
      const { check } = yield* Admission.Admission
      const submits = (principal: string) =>
        Effect.isSuccess(check({ principal }, { parentJobId: undefined } as Admission.Submit))
      for (let i = 0; i < 3; i++) assert.isTrue(yield* submits("much"))
      assert.isFalse(yield* submits("much"))
      for (let i = 0; i < 100; i++) assert.isTrue(yield* submits(`little ${i}`))
      assert.isFalse(yield* submits("much"))
    }).pipe(Effect.provide(Admission.layerRateLimit({ submits: 3, per: "1 minute", maxPrincipals: 10 })))
  )

  it("takes no options that are none", () => {
    for (const options of [
      { submits: 0, per: "1 minute" as const },
      { submits: 1.5, per: "1 minute" as const },
      { submits: 1, per: 0 },
      { submits: 1, per: "1 minute" as const, maxPrincipals: 0 }
    ])
      assert.throws(
        () => Admission.layerRateLimit(options),
        /options\.\w+ has to be .*(1 or more|more than 0)/
      )
  })
})

describe("a policy that says why", () => {
  it.scoped("is quoted where the client may know of what it asks for, and nowhere else", () =>
    Effect.gen(function* () {
      let listable: ReadonlyArray<string> | "everyone" = "everyone"
      const policy = Layer.effect(
        Policy,
        Effect.map(Policy, (base) => ({
          ...base,
          listable: () => Effect.succeed(listable),
          maySubscribe: () => Effect.succeed(refuse("not after hours")),
          mayCancel: () => Effect.succeed(refuse("ask an operator")),
          mayUseAgent: (_, agent) =>
            Effect.succeed(agent === "echo" ? refuse("your plan has no echo") : agent === "forever")
        }))
      ).pipe(Layer.provide(PolicyLayer.layerSamePrincipal))
      yield* Effect.gen(function* () {
        const [alice, bob] = yield* Effect.all([open(), open(as("bob"))])
        assert.notInclude(JSON.stringify(alice.welcome.capabilities.agents), "echo")
        const { job_id } = yield* submit(alice, "forever")
        const quoted = yield* refused(alice, "echo")
        assert.deepStrictEqual(
          [quoted.payload.code, quoted.payload.message],
          ["PERMISSION_DENIED", "your plan has no echo"]
        )
        const silent = yield* refused(alice, "talk")
        assert.strictEqual(silent.payload.code, "AGENT_NOT_AVAILABLE")
        const ask = (type: string) =>
          Effect.gen(function* () {
            const id = yield* bob.request(type, { job_id }, { job_id })
            const { payload } = yield* bob.expect(
              "session.error",
              (frame) => frame.payload.details?.request_id === id
            )
            return [payload.code, payload.message]
          })
        assert.deepStrictEqual(yield* ask("job.subscribe"), ["PERMISSION_DENIED", "not after hours"])
        assert.deepStrictEqual(yield* ask("job.cancel"), ["PERMISSION_DENIED", "ask an operator"])
        listable = []
        for (const type of ["job.subscribe", "job.cancel"])
          assert.deepStrictEqual(yield* ask(type), ["JOB_NOT_FOUND", "no such job"])
      }).pipe(Effect.provide(serve(yield* makeStore, agents, {}, { policy })))
    })
  )
})
