/** A job and what it has delegated to, over the end of their process: what is below ends first, and each ends once. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Op } from "../../../src/services/store/Store.js"
import { type Frame, open } from "../../support/Wire.js"
import { makeStore, pong, restarted, resume, submit, type TestStore } from "./support.js"
import { durable, isEnd, start, unloaded, until } from "./unloading.js"

const mayDelegate = { lease_request: { "agent.delegate": ["*"], "cost.budget": ["USD:10"] } }

/** Books, waits at `wait`, and cancels what it has booked at `undo`, which costs. */
const books = (name: string, wait: Effect.Effect<unknown, unknown, Job>, undo: Effect.Effect<void>) =>
  durable(name, (job) =>
    Effect.gen(function* () {
      const lease = yield* Lease
      yield* job.step("book", Effect.void, {
        compensate: () => Effect.zipRight(undo, lease.spend({ amount: "1", currency: "USD" }))
      })
      return yield* wait
    })
  )

/** Delegates by a key, and waits for what comes of it. */
const delegatesTo = (name: string) =>
  Effect.flatMap(Job, (job) =>
    Effect.flatMap(
      job.delegate(name, {}, { key: name, lease: { "agent.delegate": ["*"] } }),
      (below) => below.await
    )
  )

/** Turns of the event loop in which what is not held up comes about. */
const someTurns = Effect.repeatN(eventLoop.next, 200)

/** The agents of the jobs that have told of their end, in order. */
const endsOf = (store: TestStore, frames: ReadonlyArray<Frame>) =>
  Effect.forEach(frames.filter(isEnd), ({ job_id }) =>
    Effect.map(store.store.job(job_id ?? ""), (record) => record?.agent.split("@")[0])
  )

const openJobs = ({ store }: TestStore) =>
  Effect.map(store.jobs({ principals: "everyone", limit: 10 }), (jobs) =>
    jobs.filter(({ endedAt }) => endedAt === undefined).map(({ agent }) => agent)
  )

describe("a family whose process dies while it is undone", () => {
  for (const between of [false, true])
    it.scoped(`is undone from below${between ? ", over a job that has nothing to undo" : ""}`, () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        const held = yield* Effect.makeLatch(false)
        const undone: Array<string> = []
        const undo = (name: string, held: Effect.Effect<unknown>) =>
          Effect.zipRight(
            Effect.sync(() => void undone.push(name)),
            Effect.asVoid(held)
          )
        const agents = [
          books("parent", delegatesTo(between ? "middle" : "child"), undo("parent", Effect.void)),
          Agent.handle(Agent.make("middle", { version: "1.0.0" }), () =>
            Effect.orDie(
              Effect.flatMap(Job, (job) => Effect.flatMap(job.delegate("child", {}), (below) => below.await))
            )
          ),
          books("child", Effect.never, undo("child", held.await))
        ]
        const first = yield* start(store, agents)
        const before = yield* first.run(open())
        const { job_id } = yield* submit(before, "parent", {}, mayDelegate)
        yield* before.next(({ job_id: id, payload }) => id !== job_id && payload.body?.state === "ended")
        yield* before.request("job.cancel", {}, { job_id })
        yield* before.next(
          ({ job_id: id, payload }) => id !== job_id && payload.body?.key === "compensate:book"
        )
        yield* pong(before)
        yield* first.kill
        const next = restarted(store)
        const second = yield* start(next, agents)
        const after = yield* second.run(open(resume(before, 0)))
        yield* until(Effect.sync(() => undone.length >= 2))
        yield* someTurns
        yield* held.open
        yield* after.next((frame) => isEnd(frame) && frame.job_id === job_id)
        yield* someTurns
        assert.deepStrictEqual(undone, ["child", "child", "parent"])
        const ends = between ? ["child", "middle", "parent"] : ["child", "parent"]
        assert.deepStrictEqual(yield* endsOf(next, after.seen), ends)
        assert.deepStrictEqual(yield* openJobs(next), [])
        assert.deepStrictEqual((yield* next.store.job(job_id ?? ""))?.budget, { USD: "8" })
        yield* second.stop
      })
    )
})

/** The same store, of which the journal of one agent's jobs can be read only when the latch is open. */
const slowToRead = (store: TestStore, agent: string, read: Effect.Latch): TestStore => ({
  ...store,
  store: {
    ...store.store,
    journal: (jobId, after, limit) =>
      Effect.flatMap(store.store.job(jobId), (record) =>
        Effect.zipRight(
          record?.agent.startsWith(agent) === true ? read.await : Effect.void,
          store.store.journal(jobId, after, limit)
        )
      )
  }
})

/** Does nothing, for ever, and spends when it is interrupted. */
const spends = (name: string) =>
  durable(name, () =>
    Effect.flatMap(Lease, (lease) =>
      Effect.onInterrupt(Effect.never, () => Effect.ignore(lease.spend({ amount: "1", currency: "USD" })))
    )
  )

/** A parent and its child run, and their process dies. */
const killed = (agents: ReadonlyArray<Agent.Registered>) =>
  Effect.gen(function* () {
    const store = yield* makeStore
    const first = yield* start(store, agents)
    const before = yield* first.run(open())
    const { job_id: parent = "" } = yield* submit(before, "parent", {}, mayDelegate)
    const accept = yield* before.expect("job.accepted", ({ job_id }) => job_id !== parent)
    yield* pong(before)
    yield* first.kill
    return { before, child: accept.job_id ?? "", next: restarted(store), parent }
  })

describe("a parent that is run again, and ends before its child is", () => {
  const agents = [durable("parent", () => delegatesTo("child")), spends("child")]
  const ways = {
    "as its process has died too often": { options: { maxAttempts: 1 }, code: "INTERNAL_ERROR" },
    "as it is cancelled": { options: {}, code: "CANCELLED" }
  }
  for (const [why, { code, options }] of Object.entries(ways))
    it.scoped(`${why}, ends after it`, () =>
      Effect.gen(function* () {
        const { before, next, parent } = yield* killed(agents)
        const read = yield* Effect.makeLatch(false)
        const second = yield* start(slowToRead(next, "child", read), agents, options)
        const after = yield* second.run(open(resume(before, 0)))
        yield* pong(after)
        if (code === "CANCELLED") yield* after.request("job.cancel", {}, { job_id: parent })
        yield* someTurns
        yield* read.open
        const end = yield* after.next((frame) => isEnd(frame) && frame.job_id === parent)
        yield* someTurns
        assert.strictEqual(end.payload.code, code)
        assert.deepStrictEqual(yield* endsOf(next, after.seen), ["child", "parent"])
        assert.deepStrictEqual(yield* openJobs(next), [])
        yield* second.stop
      })
    )
})

describe("a family of which a part is another session's", () => {
  it.scoped("is run again from above", () =>
    Effect.gen(function* () {
      const go = yield* Effect.makeLatch(false)
      const agents = [
        durable("parent", () => delegatesTo("child")),
        durable("child", () => Effect.as(go.await, "grown"))
      ]
      const { before, child, next, parent } = yield* killed(agents)
      const record = yield* next.store.job(child)
      assert.isDefined(record)
      // An adoption got to its parent, and not to it.
      yield* next.store.commit({
        ops: [Op.PutJob({ job: { ...record, sessionId: `sess_${"Z".repeat(26)}` } })],
        owners: []
      })
      const second = yield* start(next, agents)
      const after = yield* second.run(open(resume(before, 0)))
      yield* go.open
      const end = yield* after.next((frame) => isEnd(frame) && frame.job_id === parent)
      assert.strictEqual(end.payload.result, "grown")
      yield* second.stop
    })
  )
})

describe("a child that has ended", () => {
  it.scoped("is kept for as long as its parent may find it again, and no longer", () =>
    Effect.gen(function* () {
      const agents = [
        durable("parent", (job) =>
          Effect.gen(function* () {
            const below = yield* job.delegate("child", {}, { key: "child" })
            const result = yield* below.await
            yield* job.sleep("long", "30 minutes")
            return result
          })
        ),
        durable("child", () => Effect.succeed("grown"))
      ]
      const store = yield* makeStore
      const process = yield* start(store, agents, { jobRetention: "5 minutes" })
      const session = yield* process.run(open())
      const { job_id: parent = "" } = yield* submit(session, "parent", {}, mayDelegate)
      const { job_id: child = "" } = yield* session.next((frame) => isEnd(frame) && frame.job_id !== parent)
      yield* session.next(({ payload }) => payload.body?.key === "long")
      // No session needs anything of it.
      const last = Math.max(...session.seen.map(({ event_seq = 0 }) => event_seq))
      yield* session.request("session.ack", { last_processed_seq: last })
      yield* pong(session)
      yield* TestClock.adjust("1 minute")
      yield* unloaded(store.store, parent)
      for (let minutes = 1; minutes < 29; minutes++) yield* TestClock.adjust("1 minute")
      assert.isDefined(yield* store.store.job(child))
      yield* TestClock.adjust("1 minute")
      const end = yield* session.next((frame) => isEnd(frame) && frame.job_id === parent)
      assert.strictEqual(end.payload.result, "grown")
      yield* session.request("session.ack", { last_processed_seq: end.event_seq })
      yield* pong(session)
      for (let minutes = 0; minutes < 12; minutes++) yield* TestClock.adjust("1 minute")
      yield* until(Effect.map(store.store.job(child), (record) => record === undefined))
      yield* process.stop
    })
  )
})

describe("a parent that was lost, and whose child is being undone", () => {
  it.scoped("is left with it when the runtime stops", () =>
    Effect.gen(function* () {
      const held = yield* Effect.makeLatch(false)
      const undone: Array<string> = []
      const agents = [
        Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
          Effect.orDie(
            Effect.flatMap(Job, (job) => Effect.flatMap(job.delegate("child", {}), (below) => below.await))
          )
        ),
        books(
          "child",
          Effect.never,
          Effect.zipRight(
            Effect.sync(() => void undone.push("child")),
            held.await
          )
        )
      ]
      const store = yield* makeStore
      const first = yield* start(store, agents)
      const before = yield* first.run(open())
      const { job_id: parent } = yield* submit(before, "parent", {}, mayDelegate)
      yield* before.next(({ job_id, payload }) => job_id !== parent && payload.body?.state === "ended")
      yield* pong(before)
      yield* first.kill
      const between = restarted(store)
      const second = yield* start(between, agents)
      yield* until(Effect.sync(() => undone.length > 0))
      yield* second.stop
      assert.strictEqual((yield* openJobs(between)).length, 2)
      yield* held.open
      const next = restarted(between)
      const third = yield* start(next, agents)
      const after = yield* third.run(open(resume(before, 0)))
      yield* after.next((frame) => isEnd(frame) && frame.job_id === parent)
      yield* someTurns
      assert.deepStrictEqual(yield* endsOf(next, after.seen), ["child", "parent"])
      assert.deepStrictEqual(yield* openJobs(next), [])
      yield* third.stop
    })
  )
})
