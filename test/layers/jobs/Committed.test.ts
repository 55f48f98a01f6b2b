/** What consumers of committed events get of whole jobs: from the accept to the end, whoever writes it. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { Credentials } from "../../../src/layers/credentials/Credentials.js"
import * as Committed from "../../../src/layers/log/Committed.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { open } from "../../support/Wire.js"
import { agents, makeStore, pong, restarted, serve, submit } from "./support.js"
import { isEnd, isSleep, until } from "./unloading.js"

type Event = Committed.CommittedEvent

/** A consumer that keeps everything. */
const keeping = () => {
  const seen: Array<Event> = []
  const consumers = [
    Committed.consumer((events) => Stream.runForEach(events, (each) => Effect.sync(() => seen.push(each))))
  ]
  return { seen, consumers }
}

/** What happened to a job, each with its kind, phase or code. */
const story = (seen: ReadonlyArray<Event>, jobId: string | undefined) =>
  seen
    .filter(({ job }) => job.jobId === jobId)
    .map((each) =>
      each.type === "job.event"
        ? `${each.kind} ${each.payload.kind === "status" ? each.payload.body.phase : ""}`.trim()
        : each.type === "job.error"
          ? `job.error ${each.payload.code}`
          : each.type
    )

/** Credentials whose values a test can look for; each is replaced by the next. */
const credentials = () => {
  let made = 0
  const values: Array<string> = []
  const held = new Map<string, ReturnType<typeof make>>()
  const make = () => {
    const value = `top "secret" ${++made}`
    values.push(value)
    return { id: "cred_1", scheme: "bearer" as const, value: Redacted.make(value), endpoint: "https://llm" }
  }
  const layer = Layer.succeed(Credentials, {
    enabled: true,
    mint: ({ jobId }) =>
      Effect.sync(() => {
        const credential = make()
        held.set(jobId, credential)
        return [credential]
      }),
    held: (jobId) => {
      const credential = held.get(jobId)
      return credential === undefined ? [] : [credential]
    },
    rotate: (jobId) =>
      Effect.sync(() => {
        const credential = make()
        held.set(jobId, credential)
        return credential
      }),
    release: (jobId) => Effect.sync(() => held.delete(jobId)),
    outstanding: Effect.succeed([]),
    revoke: () => Effect.void
  })
  return { layer, values }
}

/** Says its credentials wherever it can, and lets a child say them. */
const talkative = Agent.handle(Agent.make("talkative", { version: "1.0.0" }), (input) =>
  Effect.gen(function* () {
    const job = yield* Job
    const values = () => Effect.map(job.credentials, (all) => all.map(({ value }) => Redacted.value(value)))
    const before = yield* values()
    yield* job.rotateCredential("cred_1")
    const said = [...before, ...(yield* values())]
    yield* job.log("info", `I have ${said.join(" and ")}`, { [said[0] as string]: said })
    yield* job.emit("x-vendor.acme.said", { deep: [{ said }] })
    if (input === "delegate") {
      const child = yield* job.delegate("talk", said.join(" "))
      yield* child.await
    }
    return said
  })
)

describe("committed events of jobs", () => {
  it.scoped("begin with the accept and end with the end, also of children and of refused submits", () =>
    Effect.gen(function* () {
      const { consumers, seen } = keeping()
      const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
        Effect.flatMap(Job, (job) => Effect.flatMap(job.delegate("talk", "hello"), (child) => child.await))
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const lease_request = { "agent.delegate": ["talk"] }
        const { job_id } = yield* submit(session, "parent", {}, { lease_request })
        yield* session.expect("job.result", (frame) => frame.job_id === job_id)
        yield* session.request("job.submit", { agent: "nobody", input: {} })
        const refused = yield* session.expect("job.error")
        assert.deepStrictEqual(story(seen, job_id), [
          "job.accepted",
          "status running",
          "delegate",
          "job.result"
        ])
        const accept = seen[0]
        assert.strictEqual(accept?.seq, 0)
        if (accept?.type !== "job.accepted") return assert.fail("the accept is first")
        assert.strictEqual(accept.payload.job_id, job_id)
        assert.deepStrictEqual(accept.payload.lease, lease_request)
        const child = seen.find(({ job }) => job.parentJobId === job_id)
        assert.deepStrictEqual(story(seen, child?.job.jobId), [
          "job.accepted",
          "status running",
          "log",
          "job.result"
        ])
        assert.deepStrictEqual(child?.job, {
          jobId: child?.job.jobId as string,
          principal: "alice",
          agent: "talk@1.0.0",
          traceId: accept.job.traceId,
          sessionId: session.sessionId,
          parentJobId: job_id as string
        })
        assert.deepStrictEqual(story(seen, refused.job_id), ["job.error AGENT_NOT_AVAILABLE"])
      }).pipe(Effect.provide(serve(yield* makeStore, [...agents, parent], {}, { consumers })))
    })
  )

  it.scoped("hold no credential: not in the accept, not in a rotation, not where an agent says it", () =>
    Effect.gen(function* () {
      const { consumers, seen } = keeping()
      const { layer, values } = credentials()
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id, payload } = yield* submit(session, "talkative", "delegate", {
          lease_request: { "agent.delegate": ["talk"] }
        })
        assert.lengthOf(payload.credentials, 1)
        yield* session.expect("job.result", (frame) => frame.job_id === job_id)
        assert.deepStrictEqual(story(seen, job_id), [
          "job.accepted",
          "status running",
          "status credential_rotated",
          "log",
          "x-vendor.acme.said",
          "delegate",
          "job.result"
        ])
        assert.isAtLeast(values.length, 2)
        // What the owner itself gets is whole.
        assert.include(JSON.stringify(session.seen), JSON.stringify(values[1]).slice(1, -1))
        assert.notInclude(JSON.stringify(seen), "top ")
        assert.notInclude(JSON.stringify(seen.map((each) => each.payload)), "top ")
        assert.include(seen.find(({ kind }) => kind === "log")?.text, "I have [secret] and [secret]")
      }).pipe(
        Effect.provide(serve(yield* makeStore, [...agents, talkative], {}, { consumers, credentials: layer }))
      )
    })
  )

  it.scoped("of a job that the last process left: its end, which the start writes", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const job = yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "forever")
        yield* session.expect("job.event")
        return { jobId: job_id, next: restarted(store) }
      }).pipe(Effect.provide(serve(store, agents)))
      const { consumers, seen } = keeping()
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "echo", 1)
        yield* session.expect("job.result", (frame) => frame.job_id === job_id)
      }).pipe(Effect.provide(serve(job.next, agents, {}, { consumers })))
      assert.deepStrictEqual(story(seen, job.jobId), ["job.error INTERNAL_ERROR"])
      const [end] = seen.filter((each) => each.job.jobId === job.jobId)
      assert.strictEqual(end?.job.agent, "forever@1.0.0")
      assert.strictEqual(end?.job.principal, "alice")
    })
  )

  it.scoped("of jobs that run when the runtime shuts down: their ends, before the consumer's own", () =>
    Effect.gen(function* () {
      const { consumers, seen } = keeping()
      const jobId = yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "forever")
        yield* session.expect("job.event")
        return job_id
      }).pipe(Effect.provide(serve(yield* makeStore, agents, {}, { consumers })))
      assert.deepStrictEqual(story(seen, jobId), [
        "job.accepted",
        "status running",
        "log",
        "job.error INTERNAL_ERROR"
      ])
    })
  )

  describe("a consumer that takes nothing any more", () => {
    const stuck = (capacity: number) => [Committed.consumer(() => Effect.never, { capacity })]
    const anyAgent = { lease_request: { "agent.delegate": ["*"] } }

    it.scoped("does not keep a job from ending that waits for it to open a child", () =>
      Effect.gen(function* () {
        const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
          Effect.flatMap(Job, (job) => job.delegate("echo", 1))
        )
        const consumers = stuck(3)
        yield* Effect.gen(function* () {
          const session = yield* open()
          const { job_id } = yield* submit(session, "parent", {}, anyAgent)
          yield* session.expect("job.event", ({ payload }) => payload.kind === "delegate")
          yield* Effect.repeatN(eventLoop.next, 20)
          yield* session.request("job.cancel", {}, { job_id })
          const end = yield* session.expect("job.error", (frame) => frame.job_id === job_id)
          assert.strictEqual(end.payload.code, "CANCELLED")
        }).pipe(Effect.provide(serve(yield* makeStore, [...agents, parent], {}, { consumers })))
      })
    )

    it.scoped("does not keep a job from ending whose result is still open", () =>
      Effect.gen(function* () {
        const unfinished = Agent.handle(Agent.make("unfinished", { version: "1.0.0" }), () =>
          Effect.gen(function* () {
            const result = yield* (yield* Job).openResult()
            yield* result.write("all of it")
          })
        )
        const consumers = stuck(3)
        yield* Effect.gen(function* () {
          const session = yield* open()
          const { job_id } = yield* submit(session, "unfinished")
          const end = yield* session.expect("job.result", (frame) => frame.job_id === job_id)
          assert.strictEqual(end.payload.result_size, 9)
        }).pipe(Effect.provide(serve(yield* makeStore, [...agents, unfinished], {}, { consumers })))
      })
    )

    it.scoped("leaves nothing behind of what a durable job did not wait for", () =>
      Effect.gen(function* () {
        const go = yield* Deferred.make<void>()
        const left = yield* Deferred.make<void>()
        const consumers = [
          Committed.consumer((events) => Effect.zipRight(Deferred.await(go), Stream.runDrain(events)), {
            capacity: 2
          })
        ]
        const asking = Agent.handle(Agent.make("asking", { version: "1.0.0", durable: true }), () =>
          Effect.gen(function* () {
            const job = yield* Job
            const asked = job.input("a", { prompt: "Which?" })
            const slept = job.sleep("nap", "1 hour")
            const tried = [
              yield* Effect.timeoutOption(asked, "1 minute"),
              yield* Effect.timeoutOption(slept, "1 minute"),
              yield* Effect.timeoutOption(job.log("info", "said", {}, { key: "k" }), "1 minute")
            ]
            yield* Deferred.succeed(left, undefined)
            yield* Deferred.await(go)
            yield* job.log("info", "said", {}, { key: "k" })
            yield* slept
            return [tried.map(Option.isSome), yield* asked]
          }).pipe(Effect.orDie)
        )
        yield* Effect.gen(function* () {
          const session = yield* open()
          const { job_id } = yield* submit(session, "asking")
          yield* until(
            Effect.zipRight(TestClock.adjust("1 minute"), Effect.map(Deferred.poll(left), Option.isSome))
          )
          yield* Deferred.succeed(go, undefined)
          yield* session.expect("job.event", ({ payload }) => payload.kind === "log")
          yield* session.next(isSleep)
          yield* TestClock.adjust("1 hour")
          const asked = yield* session.expect(
            "job.event",
            ({ payload }) => payload.kind === Vendor.inputRequest
          )
          const { input_id } = asked.payload.body
          yield* session.request(Vendor.jobInput, { input_id, value: "this" }, { job_id })
          const end = yield* session.next(isEnd)
          assert.deepStrictEqual(end.payload.result, [[false, false, false], "this"])
        }).pipe(
          Effect.provide(
            serve(
              yield* makeStore,
              [...agents, asking],
              { heartbeatInterval: "300 days", unloadAfter: "1 day" },
              { consumers }
            )
          )
        )
      })
    )

    it.scoped("does not keep the places of submits that wait for it, nor the runtime from closing", () =>
      Effect.gen(function* () {
        const consumers = [Committed.consumer(() => Effect.never, { capacity: 2 })]
        const store = yield* makeStore
        const serving = serve(store, agents, { maxJobsPerPrincipal: 2 }, { consumers })
        const logged: Array<string> = []
        const logger = Logger.make(({ message }) => logged.push(String(message)))
        const jobId = yield* Effect.gen(function* () {
          const session = yield* open()
          const { job_id } = yield* submit(session, "forever")
          const keyed = { agent: "echo", input: 1, idempotency_key: "k" }
          yield* session.request("job.submit", keyed)
          yield* Effect.repeatN(eventLoop.next, 20)
          yield* session.connection.close(1000, "")
          yield* Effect.repeatN(eventLoop.next, 20)
          const next = yield* open()
          yield* next.request("job.submit", keyed)
          yield* Effect.repeatN(eventLoop.next, 20)
          yield* pong(next)
          assert.notInclude(
            next.seen.map(({ type }) => type),
            "job.error"
          )
          return job_id as string
        }).pipe(Effect.provide(Layer.provide(serving, Logger.replace(Logger.defaultLogger, logger))))
        // A job that cannot be opened would be waited for, and given up, like one whose end cannot be stored.
        assert.isUndefined(logged.find((line) => line.includes("the store does not take")))
        assert.strictEqual((yield* store.store.job(jobId))?.status, "error")
      })
    )
  })
})
