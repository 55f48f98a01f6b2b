/** A session takes over a job of one that is gone, while other things happen to that job. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import * as Features from "../../../src/protocol/Features.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Policy } from "../../../src/services/auth/Policy.js"
import { type Credential, Credentials } from "../../../src/services/credentials/Credentials.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { type Batch, StoreError } from "../../../src/services/store/Store.js"
import { open } from "../../support/Wire.js"
import { gated } from "./scheduling/waiting.js"
import { makeStore, pong, restarted, resume, type Session, submit, type TestStore } from "./support.js"
import { durable, isEnd, isSleep, sleeper, start, unloaded, until } from "./unloading.js"

const adopting = (jobId: string) => ({ extensions: { "x-vendor.effect-arcp.adopt": jobId } })

/** Asks for a job of a session that is gone; the accept comes before the session owns it. */
const adopt = (session: Session, jobId: string, agent: string) =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent, input: {} }, adopting(jobId))
    yield* session.expect("job.accepted", ({ payload }) => payload.request_id === id)
  })

/** Holds up what an adoption by a session reads before its commit; `begun` waits until one does. */
const holdUp = ({ store }: TestStore, { sessionId }: Session) =>
  Effect.gen(function* () {
    const gate = yield* Effect.makeLatch(false)
    // Whatever fails, nothing waits for it when the process is stopped.
    yield* Effect.addFinalizer(() => gate.open)
    const { numbering } = store
    let waiting = 0
    Object.assign(store, {
      numbering: (...[of, ...rest]: Parameters<typeof numbering>) => {
        const read = numbering(of, ...rest)
        if (of !== sessionId) return read
        waiting++
        return Effect.zipRight(gate.await, read)
      }
    })
    return { begun: until(Effect.sync(() => waiting > 0)), letGo: gate.open }
  })

const turns = Effect.repeatN(eventLoop.next, 200)

const options = { resumeWindow: "2 minutes", unloadAfter: "10 minutes" } as const

/** A session goes, and does not exist any more. */
const gone = (session: Session) =>
  Effect.zipRight(session.connection.close(1000, ""), TestClock.adjust("4 minutes"))

describe("an adoption", () => {
  it.scoped("does not undo an unloading: the job is loaded when it is due", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const process = yield* start(store, [sleeper([])], options)
      yield* Effect.addFinalizer(() => process.stop)
      const first = yield* process.run(open())
      const jobId = (yield* submit(first, "sleeper")).job_id as string
      yield* first.next(isSleep)
      yield* gone(first)
      const heir = yield* process.run(open())
      const held = yield* holdUp(store, heir)
      yield* adopt(heir, jobId, "sleeper")
      yield* held.begun
      yield* TestClock.adjust("11 minutes")
      yield* turns
      yield* held.letGo
      yield* turns
      yield* TestClock.adjust("11 minutes")
      const record = yield* unloaded(store.store, jobId)
      assert.strictEqual(record.sessionId, heir.sessionId)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* heir.next(isEnd)).payload.result, "rested")
      const { survival } = (yield* store.store.job(jobId)) ?? {}
      assert.deepStrictEqual([survival?.attempt, survival?.deaths], [1, 0])
    })
  )

  it.scoped("of a job that waits does not undo that it began: no other process begins it again", () =>
    Effect.gen(function* () {
      const { agent, began, begun, letGo } = gated("work", { concurrency: 1 })
      const store = yield* makeStore
      const process = yield* start(store, [agent], options)
      const first = yield* process.run(open())
      const runs = (yield* submit(first, "work", "runs")).job_id as string
      const jobId = (yield* submit(first, "work", "waits")).job_id as string
      yield* gone(first)
      const heir = yield* process.run(open())
      const held = yield* holdUp(store, heir)
      yield* adopt(heir, jobId, "work")
      yield* held.begun
      yield* letGo(runs)
      yield* turns
      yield* held.letGo
      yield* began(2)
      yield* pong(heir)
      yield* turns
      const record = yield* store.store.job(jobId)
      assert.deepStrictEqual(
        [record?.status, record?.queued, record?.sessionId],
        ["running", undefined, heir.sessionId]
      )
      yield* process.kill
      const second = yield* start(restarted(store), [agent], options)
      yield* Effect.addFinalizer(() => second.stop)
      const again = yield* second.run(open(resume(heir, 0)))
      const end = yield* again.next((frame) => isEnd(frame) && frame.job_id === jobId)
      assert.deepStrictEqual(end.payload.details, { reason: "runtime_restart" })
      assert.deepStrictEqual(begun, ["runs", "waits"])
    })
  )

  it.scoped("does not undo what the job has come to wait for", () =>
    Effect.gen(function* () {
      const asks = yield* Deferred.make<void>()
      const agent = durable("asks", (job) =>
        Effect.zipRight(Deferred.await(asks), job.input("yes", { prompt: "?" }))
      )
      const store = yield* makeStore
      const process = yield* start(store, [agent], options)
      yield* Effect.addFinalizer(() => process.stop)
      const first = yield* process.run(open())
      const jobId = (yield* submit(first, "asks")).job_id as string
      yield* gone(first)
      const heir = yield* process.run(open())
      const held = yield* holdUp(store, heir)
      yield* adopt(heir, jobId, "asks")
      yield* held.begun
      yield* Deferred.succeed(asks, undefined)
      const { payload } = yield* heir.next(({ payload }) => payload.kind === Vendor.inputRequest)
      yield* held.letGo
      const record = yield* until(
        Effect.map(store.store.job(jobId), (job) => job?.sessionId === heir.sessionId && job)
      )
      yield* turns
      assert.deepStrictEqual(record.waitingFor, [payload.body.input_id])
      assert.deepStrictEqual((yield* store.store.job(jobId))?.waitingFor, [payload.body.input_id])
    })
  )

  it.scoped("that the store does not take has changed nothing: the next one takes the job over", () =>
    Effect.gen(function* () {
      const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)
      const store = yield* makeStore
      const process = yield* start(store, [forever], options)
      yield* Effect.addFinalizer(() => process.stop)
      const first = yield* process.run(open())
      const jobId = (yield* submit(first, "forever")).job_id as string
      yield* gone(first)
      const heir = yield* process.run(open())
      const held = yield* holdUp(store, heir)
      yield* adopt(heir, jobId, "forever")
      yield* held.begun
      store.failing = true
      yield* held.letGo
      yield* until(Effect.sync(() => store.failed > 0))
      yield* turns
      store.failing = false
      yield* pong(heir)
      yield* adopt(heir, jobId, "forever")
      yield* until(Effect.map(store.store.job(jobId), (job) => job?.sessionId === heir.sessionId))
    })
  )
})

describe("a session that takes over", () => {
  /** Undoes what it has done, for ever. */
  const undoing = durable("undoing", (job) =>
    Effect.zipRight(
      job.step("act", Effect.void, { compensate: () => Effect.never }),
      job.sleep("nap", "1 hour")
    )
  )
  /** Lets go of what it holds only when it has to. */
  const clings = durable("clings", (job) =>
    Effect.zipRight(
      Effect.addFinalizer(() => Effect.never),
      job.sleep("nap", "1 hour")
    )
  )
  const mayCancel = Layer.effect(
    Policy,
    Effect.map(Policy, (base) => ({ ...base, mayCancel: () => Effect.succeed(true as const) }))
  ).pipe(Layer.provide(PolicyLayer.layerSamePrincipal))

  it.scoped("has at once what undoes what it has done, however long that takes", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const agents = [undoing]
      const process = yield* start(
        store,
        agents,
        { ...options, cancelGrace: "20 minutes" },
        { policy: mayCancel }
      )
      yield* Effect.addFinalizer(() => process.stop)
      const first = yield* process.run(open())
      const jobId = (yield* submit(first, "undoing")).job_id as string
      yield* first.next(isSleep)
      yield* TestClock.adjust("11 minutes")
      yield* unloaded(store.store, jobId)
      yield* gone(first)
      const other = yield* process.run(open())
      yield* other.request("job.cancel", {}, { job_id: jobId })
      yield* other.expect("job.cancelled")
      yield* turns
      const heir = yield* process.run(open())
      yield* adopt(heir, jobId, "undoing")
      yield* submit(heir, "undoing")
      assert.strictEqual((yield* store.store.job(jobId))?.sessionId, heir.sessionId)
      assert.isUndefined((yield* store.store.job(jobId))?.endedAt)
    })
  )

  it.scoped("goes on while the job is unloaded, and has it then", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const process = yield* start(store, [clings], { ...options, cancelGrace: "5 minutes" })
      yield* Effect.addFinalizer(() => process.stop)
      const first = yield* process.run(open())
      const jobId = (yield* submit(first, "clings")).job_id as string
      yield* first.next(isSleep)
      yield* gone(first)
      yield* TestClock.adjust("7 minutes")
      yield* turns
      const heir = yield* process.run(open())
      yield* adopt(heir, jobId, "clings")
      yield* submit(heir, "clings")
      assert.strictEqual((yield* store.store.job(jobId))?.sessionId, first.sessionId)
      yield* TestClock.adjust("6 minutes")
      const record = yield* unloaded(store.store, jobId)
      yield* until(Effect.map(store.store.job(jobId), (job) => job?.sessionId === heir.sessionId))
      assert.isDefined(record.survival?.waiting)
      assert.isDefined((yield* store.store.job(jobId))?.survival?.waiting)
    })
  )
})

describe("a child that is being opened while its parent is taken over", () => {
  it.scoped("belongs to whom the parent belongs to, as soon as the store has it", () =>
    Effect.gen(function* () {
      const child = Agent.handle(Agent.make("child", { version: "1.0.0" }), () => Effect.never)
      const parent = durable("parent", (job) =>
        Effect.flatMap(job.delegate("child", {}, { key: "child" }), (one) => one.await)
      )
      const store = yield* makeStore
      const { commit } = store.store
      let isAway = true
      let tries = 0
      let childId = ""
      Object.assign(store.store, {
        commit: (batch: Batch) => {
          const opened = batch.ops.flatMap((op) =>
            op._tag === "PutJob" && op.job.parentJobId ? [op.job] : []
          )
          childId = opened[0]?.jobId ?? childId
          if (opened.length === 0 || !isAway) return commit(batch)
          tries++
          return new StoreError({ message: "the disk is full" })
        }
      })
      const process = yield* start(store, [parent, child], options)
      yield* Effect.addFinalizer(() => process.stop)
      const first = yield* process.run(open())
      const lease = { "agent.delegate": ["child"] }
      const jobId = (yield* submit(first, "parent", {}, { lease_request: lease })).job_id as string
      yield* until(Effect.sync(() => tries > 0))
      yield* gone(first)
      const heir = yield* process.run(open())
      yield* adopt(heir, jobId, "parent")
      yield* until(Effect.map(store.store.job(jobId), (job) => job?.sessionId === heir.sessionId))
      isAway = false
      yield* TestClock.adjust("2 minutes")
      yield* until(Effect.map(store.store.job(childId), (job) => job?.sessionId === heir.sessionId))
      yield* heir.expect("job.accepted", (frame) => frame.payload.job_id === childId)
    })
  )
})

/** Credentials that are made up. */
const minting = Layer.sync(Credentials, () => {
  const held = new Map<string, Credential>()
  return {
    enabled: true,
    mint: ({ jobId }) =>
      Effect.sync(() => {
        const value = Redacted.make(`secret of ${jobId}`)
        const credential = { id: "cred", scheme: "bearer" as const, value, endpoint: "https://llm" }
        held.set(jobId, credential)
        return [credential]
      }),
    held: (jobId) => [held.get(jobId)].flatMap((credential) => credential ?? []),
    rotate: () => Effect.die("not used here"),
    release: (jobId) => Effect.sync(() => held.delete(jobId)),
    outstanding: Effect.succeed([]),
    revoke: () => Effect.void
  }
})

describe("a job that a session takes over which takes less", () => {
  const less = Features.all.filter((one) => one !== "provisioned_credentials" && one !== "result_chunk")
  const small = { ...options, maxOutboundFrameBytes: 16_384 }
  const text = "x".repeat(20_000)

  /** What a handler has that begins, or goes on, by then. */
  const held = Effect.flatMap(Job, ({ credentials }) => Effect.map(credentials, (all) => all.length))

  for (const [what, concurrency] of [
    ["that is loaded", undefined],
    ["that begins after it has waited", 1]
  ] as const)
    it.scoped(
      `${what} has the form with which it was submitted: its credentials, and its result in chunks`,
      () =>
        Effect.gen(function* () {
          const had: Array<number> = []
          const first = yield* Deferred.make<void>()
          const contract = Agent.make("form", {
            version: "1.0.0",
            ...(concurrency === undefined ? { durable: true } : { concurrency })
          })
          const agent = Agent.handle(contract, (input) =>
            Effect.gen(function* () {
              if (input === "first") return yield* Deferred.await(first)
              if (concurrency === undefined) yield* (yield* Job).sleep("nap", "1 hour")
              had.push(yield* held)
              return text
            }).pipe(Effect.orDie)
          )
          const store = yield* makeStore
          const process = yield* start(store, [agent], small, { credentials: minting })
          yield* Effect.addFinalizer(() => process.stop)
          const session = yield* process.run(open())
          if (concurrency !== undefined) yield* submit(session, "form", "first")
          const jobId = (yield* submit(session, "form", "second")).job_id as string
          if (concurrency === undefined) {
            yield* session.next(isSleep)
            yield* TestClock.adjust("11 minutes")
            yield* unloaded(store.store, jobId)
          }
          yield* gone(session)
          const heir = yield* process.run(open({}, less))
          yield* adopt(heir, jobId, "form")
          yield* until(Effect.map(store.store.job(jobId), (job) => job?.sessionId === heir.sessionId))
          yield* Deferred.succeed(first, undefined)
          if (concurrency === undefined) yield* TestClock.adjust("1 hour")
          const { payload } = yield* heir.next((frame) => isEnd(frame) && frame.job_id === jobId)
          assert.deepStrictEqual(had, [1])
          assert.strictEqual(payload.result_size, text.length)
        })
    )

  it.scoped(
    "delegates with the features with which it was submitted, also once its session was resumed with others",
    () =>
      Effect.gen(function* () {
        const had: Array<number> = []
        const goes = yield* Deferred.make<void>()
        const child = Agent.handle(Agent.make("child", { version: "1.0.0" }), () =>
          Effect.map(held, (count) => {
            had.push(count)
            return text
          })
        )
        const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
          Effect.gen(function* () {
            yield* Deferred.await(goes)
            const job = yield* Job
            yield* Effect.flatMap(job.delegate("child", {}), (one) => one.await)
          }).pipe(Effect.orDie)
        )
        const store = yield* makeStore
        const process = yield* start(store, [parent, child], small, { credentials: minting })
        yield* Effect.addFinalizer(() => process.stop)
        const session = yield* process.run(open())
        const lease = { "agent.delegate": ["child"] }
        const jobId = (yield* submit(session, "parent", {}, { lease_request: lease })).job_id as string
        yield* session.connection.close(1000, "")
        const again = yield* process.run(open(resume(session, session.seen.at(-1)?.event_seq ?? 0), less))
        yield* Deferred.succeed(goes, undefined)
        yield* again.next((frame) => isEnd(frame) && frame.job_id === jobId)
        assert.deepStrictEqual(had, [1])
      })
  )
})
