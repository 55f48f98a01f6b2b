/** Deleting jobs in every state that they can be in, through a runtime: what has not ended is refused, or cancelled first. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Policy from "../../../src/layers/auth/Policy.js"
import { find } from "../../../src/layers/log/retention/finding.js"
import { forget } from "../../../src/layers/runtime/atRest/forget.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Jobs } from "../../../src/services/jobs/Jobs.js"
import { never } from "../../../src/services/store/dueAt.js"
import { Store } from "../../../src/services/store/Store.js"
import { open } from "../../support/Wire.js"
import { forever, makeStore, type Session, submit, type TestStore } from "./support.js"
import { durable, isSleep, sleeper, unloaded, until } from "./unloading.js"

const alone = Agent.handle(Agent.make("alone", { version: "1.0.0", concurrency: 1 }), () => Effect.never)
const asks = durable("asks", (job) => job.input("approve", { prompt: "?" }))
const parent = durable("parent", (job) =>
  Effect.flatMap(job.delegate("sleeper", {}, { key: "child" }), (below) => below.await)
)

const start = (store: TestStore, did: Array<string>) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const context = yield* Layer.buildWithScope(
      Runtime.serve().pipe(
        Layer.provideMerge(TransportMemory.layer()),
        Layer.provideMerge(
          Runtime.layer({
            options: { shutdownGrace: 0, heartbeatInterval: "300 days", resumeWindow: "300 days" },
            policy: Policy.layer({ operators: ["ops"] })
          })
        ),
        Layer.provide(Layer.succeed(Store, store.store)),
        Layer.provide(Registry.layer([alone, asks, parent, forever, sleeper(did)])),
        Layer.provide(Auth.layerStatic({ alice: "alice", ops: "ops" }))
      ),
      scope
    )
    return {
      run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, context),
      stop: Scope.close(scope, Exit.void)
    }
  })

const lease = { lease_request: { "agent.delegate": ["**"] } }

const idOf = (session: Session, agent: string) =>
  Effect.map(submit(session, agent, {}, lease), (frame) => frame.job_id as string)

/** A job in each state, and a session that watches all of them. */
const states = (store: TestStore, did: Array<string>) =>
  Effect.gen(function* () {
    const { run, stop } = yield* start(store, did)
    const session = yield* run(open())
    const slept = (jobId: string) =>
      session.next((frame) => isSleep(frame) && (jobId === "" || frame.job_id === jobId))
    const asleep = yield* idOf(session, "sleeper")
    yield* slept(asleep)
    const asking = yield* idOf(session, "asks")
    yield* session.next(({ job_id, payload }) => job_id === asking && payload.kind === Vendor.inputRequest)
    yield* TestClock.adjust("31 seconds")
    for (const jobId of [asleep, asking]) yield* unloaded(store.store, jobId)
    // What comes now stays in memory: it has just begun to wait.
    const napping = yield* idOf(session, "sleeper")
    yield* slept(napping)
    const waiting = yield* idOf(session, "asks")
    yield* session.next(({ job_id, payload }) => job_id === waiting && payload.kind === Vendor.inputRequest)
    const tree = yield* idOf(session, "parent")
    yield* slept("")
    const running = yield* idOf(session, "alone")
    const queued = yield* idOf(session, "alone")
    const watcher = yield* run(open())
    const jobs = { asleep, asking, napping, waiting, tree, running, queued }
    for (const job_id of Object.values(jobs)) {
      yield* watcher.request("job.subscribe", { history: true }, { job_id })
      yield* watcher.expect("job.subscribed")
    }
    return { run, stop, session, watcher, jobs }
  })

const ops = { principal: "ops" }

describe("deleting jobs that have not ended", () => {
  it.scoped("is refused in every state, and takes each of them when they are cancelled first", () =>
    Effect.gen(function* () {
      const did: Array<string> = []
      const test = yield* makeStore
      const { store } = test
      const { jobs, run, session, watcher } = yield* states(test, did)
      const { delete: remove } = yield* run(Jobs)
      const [child] = yield* store.jobs({ principals: "everyone", parentJobId: jobs.tree, limit: 9 })
      const loads = did.length
      for (const [state, jobId] of Object.entries(jobs)) {
        const before = yield* store.job(jobId)
        const refused = yield* Effect.flip(remove(ops, { jobId, cancel: false }))
        assert.deepInclude(refused.details, { reason: "not_ended" }, state)
        assert.match(refused.message, /has not ended|have not ended/)
        assert.deepStrictEqual(yield* store.job(jobId), before, state)
      }
      // A part of something that goes on is not taken from it.
      const part = yield* Effect.flip(remove(ops, { jobId: child?.jobId ?? "", cancel: true }))
      assert.match(part.message, /is part of .*, which has not ended/)
      for (const [state, jobId] of Object.entries(jobs)) {
        const gone = yield* remove(ops, { jobId, cancel: true })
        assert.sameMembers([...gone], state === "tree" ? [jobId, child?.jobId ?? ""] : [jobId], state)
        for (const one of gone) assert.isUndefined(yield* store.job(one), state)
        // Whoever follows it is told that there is nothing to do about it.
        const last = yield* watcher.next(({ job_id, type }) => job_id === jobId && type === "job.error")
        assert.deepInclude(last.payload, { code: "CANCELLED", details: { reason: "deleted" } }, state)
        assert.isUndefined(yield* store.input(jobId), state)
        assert.deepStrictEqual(yield* store.journal(jobId, { kind: "", key: "" }, 9), [], state)
        if (state !== "running") continue
        // Its place is free: the next one begins.
        yield* until(Effect.map(store.job(jobs.queued), (job) => job?.status === "running"))
      }
      yield* TestClock.adjust("2 hours")
      yield* session.request("session.ping", { nonce: "1" })
      yield* session.expect("session.pong")
      // Nothing of them is loaded, and nothing waits.
      assert.deepStrictEqual(yield* store.due({ by: never, limit: 9 }), [])
      assert.strictEqual(did.slice(loads).filter((what) => what === "load").length, 0)
      assert.deepStrictEqual(yield* store.jobs({ principals: "everyone", limit: 9 }), [])
      // The sessions go on: the one that had them, and the one that watched.
      for (const one of [session, watcher]) {
        const jobId = yield* idOf(one, "alone")
        assert.sameMembers([...(yield* remove(ops, { jobId, cancel: true }))], [jobId])
      }
    })
  )

  it.scoped("ends what waits also when whoever asked has gone before that is stored", () =>
    Effect.gen(function* () {
      const test = yield* makeStore
      const { run } = yield* start(test, [])
      const session = yield* run(open())
      yield* idOf(session, "alone")
      const jobId = yield* idOf(session, "alone")
      const { delete: remove } = yield* run(Jobs)
      yield* test.gate.close
      const asking = yield* Effect.fork(remove(ops, { jobId, cancel: true }))
      yield* until(Effect.sync(() => test.waiting > 0))
      yield* Fiber.interruptFork(asking)
      for (let i = 0; i < 20; i++) yield* Effect.yieldNow()
      // The store fails once, and takes it when it is tried again.
      test.failing = true
      yield* test.gate.open
      yield* until(Effect.sync(() => test.failed > 0))
      test.failing = false
      yield* TestClock.adjust("1 minute")
      yield* until(Effect.map(test.store.job(jobId), (job) => job?.status === "cancelled"))
    })
  )

  it.scoped("takes all of a principal at once, whatever they are doing", () =>
    Effect.gen(function* () {
      const test = yield* makeStore
      const { jobs, run } = yield* states(test, [])
      const { delete: remove } = yield* run(Jobs)
      const gone = yield* remove(ops, { principal: "alice", cancel: true })
      assert.includeMembers([...gone], Object.values(jobs))
      assert.strictEqual(gone.length, Object.values(jobs).length + 1)
      assert.deepStrictEqual(yield* test.store.jobs({ principals: "everyone", limit: 9 }), [])
      assert.deepStrictEqual(yield* test.store.waitingCounts(undefined), new Map())
    })
  )

  it.scoped("takes them from a store at rest too: the next runtime knows nothing of them", () =>
    Effect.gen(function* () {
      const did: Array<string> = []
      const test = yield* makeStore
      const { store } = test
      const { jobs, stop } = yield* states(test, did)
      const [child] = yield* store.jobs({ principals: "everyone", parentJobId: jobs.tree, limit: 9 })
      yield* stop
      const part = yield* Effect.flip(find(store, { jobIds: [child?.jobId ?? ""] }))
      assert.match(part.message, /is part of .*, which has not ended/)
      for (const [state, jobId] of Object.entries(jobs)) {
        const found = yield* find(store, { jobIds: [jobId] })
        // What is not durable has ended with its process, but for what has not begun.
        assert.strictEqual(found.unfinished.length, { running: 0, tree: 2 }[state] ?? 1, state)
        yield* forget(store, { jobIds: found.jobs.map((job) => job.jobId), sessionIds: [] }, "drop")
        assert.isUndefined(yield* store.job(jobId), state)
        assert.deepStrictEqual(yield* store.journal(jobId, { kind: "", key: "" }, 9), [], state)
      }
      assert.deepStrictEqual(yield* store.jobs({ principals: "everyone", limit: 9 }), [])
      assert.deepStrictEqual(yield* store.due({ by: never, limit: 9 }), [])
      const loads = did.length
      const { run } = yield* start(test, did)
      const session = yield* run(open())
      yield* TestClock.adjust("2 hours")
      const jobId = yield* idOf(session, "sleeper")
      yield* session.next(isSleep)
      assert.isDefined(yield* store.job(jobId))
      assert.strictEqual(did.slice(loads).filter((what) => what === "load").length, 1)
    })
  )
})
