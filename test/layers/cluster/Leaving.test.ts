/** What is wanted of jobs while their node lets go of them: nothing that is acknowledged is lost. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as Readiness from "../../../src/layers/telemetry/Readiness.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { nobody } from "../../../src/services/cluster/Cluster.js"
import { Op, StoreError } from "../../../src/services/store/Store.js"
import { asked, type Opened, recordOf, seconds, settle } from "../../support/asking.js"
import { cluster, type Node } from "../../support/Nodes.js"
import type { RigOptions } from "../../support/Rig.js"
import { open } from "../../support/Wire.js"
import { aJob, someEvents } from "../store/fixtures.js"

/** A node that is told to stop, and is kept at letting go of one of its jobs until `gate` is opened. */
const leaving = Effect.gen(function* () {
  const { disk, start } = yield* cluster
  const gate = yield* Deferred.make<void>()
  const given: RigOptions = {
    options: { shutdownGrace: "10 seconds" },
    policy: Policy.layer({ cancel: "principal" })
  }
  const durable = (name: string) => Agent.make(name, { version: "1.0.0", durable: true })
  const agents = [
    Agent.handle(durable("quick"), () => Effect.never),
    Agent.handle(durable("slow"), () => Effect.onInterrupt(Effect.never, () => Deferred.await(gate))),
    // Has its grace, which keeps the node and its sessions there.
    Agent.handle(Agent.make("lasting", { version: "1.0.0", concurrency: 1 }), () => Deferred.await(gate))
  ]
  const a: Node = yield* start("a", agents, given)
  const b: Node = yield* start("b", agents, given)
  const owner = yield* a.run(open())
  const submit = (agent: string) =>
    Effect.gen(function* () {
      yield* owner.request("job.submit", { agent, input: {} })
      return String((yield* owner.expect("job.accepted")).job_id)
    })
  const begin = Effect.zipLeft(Effect.fork(a.stop), settle)
  const over = (stopping: Fiber.RuntimeFiber<void>) =>
    Deferred.succeed(gate, undefined).pipe(
      Effect.zipRight(Fiber.join(stopping)),
      Effect.zipRight(a.kill),
      Effect.zipRight(seconds(3))
    )
  const statusOf = (jobId: string) => Effect.map(disk.store.job(jobId), (record) => record?.status)
  return { a, b, begin, disk, over, owner, statusOf, submit }
})

it.scoped(
  "a node that leaves is not ready from then on, while its jobs have their grace; the others are",
  () =>
    Effect.gen(function* () {
      const { a, b, begin, over, submit } = yield* leaving
      yield* submit("lasting")
      const [here, there] = [yield* a.run(Readiness.make), yield* b.run(Readiness.make)]
      assert.deepStrictEqual([yield* here, yield* there], [undefined, undefined])
      const stopping = yield* begin
      assert.deepStrictEqual([yield* here, yield* there], ["shutting down", undefined])
      yield* over(stopping)
      assert.strictEqual(yield* here, "shutting down")
    })
)

describe("a cancel that comes when the job has been let go of", () => {
  it.scoped("is not acknowledged by the node that leaves", () =>
    Effect.gen(function* () {
      const { begin, over, owner, statusOf, submit } = yield* leaving
      const jobId = yield* submit("quick")
      yield* submit("slow")
      const stopping = yield* begin
      const { payload } = yield* asked(owner, "job.cancel", {}, jobId)
      assert.deepInclude(payload, { code: "INTERNAL_ERROR", retryable: true })
      assert.deepInclude(payload.details, { reason: "shutdown" })
      yield* over(stopping)
      assert.strictEqual(yield* statusOf(jobId), "running")
    })
  )

  it.scoped("on another node is granted by whoever goes on with the job", () =>
    Effect.gen(function* () {
      const { b, begin, over, statusOf, submit } = yield* leaving
      const jobId = yield* submit("quick")
      yield* submit("slow")
      const other = yield* b.run(open())
      const stopping = yield* begin
      const asking = yield* Effect.fork(asked(other, "job.cancel", {}, jobId))
      yield* settle
      assert.isFalse(other.seen.some(({ type }) => type === "job.cancelled"))
      yield* over(stopping)
      assert.strictEqual((yield* Fiber.join(asking)).type, "job.cancelled")
      assert.strictEqual(yield* statusOf(jobId), "cancelled")
    })
  )

  it.scoped("is done where it waits by then, of one that has not begun", () =>
    Effect.gen(function* () {
      const { begin, disk, over, owner, statusOf, submit } = yield* leaving
      yield* submit("lasting")
      const jobId = yield* submit("lasting")
      const isHere = Effect.map(disk.store.job(jobId), (record) => record?.node === "a")
      const stopping = yield* begin
      yield* Effect.repeat(Effect.zipLeft(isHere, seconds(1)), { while: (stays) => stays, times: 30 })
      const asking = yield* Effect.fork(asked(owner, "job.cancel", {}, jobId))
      yield* seconds(2)
      assert.strictEqual((yield* Fiber.join(asking)).type, "job.cancelled")
      assert.strictEqual(yield* statusOf(jobId), "cancelled")
      yield* over(stopping)
    })
  )
})

it.scoped("a job that a node leaves when it stops is seen from there for as long as that has sessions", () =>
  Effect.gen(function* () {
    const { disk, start } = yield* cluster
    const gate = yield* Deferred.make<void>()
    const agentsOf = (node: string) => [
      Agent.handle(Agent.make("x", { version: "1.0.0", durable: true }), () =>
        node === "a" ? Effect.never : Effect.succeed("over")
      ),
      Agent.handle(Agent.make("lasting", { version: "1.0.0" }), () => Deferred.await(gate))
    ]
    const given: RigOptions = { options: { shutdownGrace: "30 seconds" } }
    const a = yield* start("a", agentsOf("a"), given)
    yield* start("b", agentsOf("b"), given)
    const owner = yield* a.run(open())
    const submit = (agent: string) =>
      Effect.gen(function* () {
        yield* owner.request("job.submit", { agent, input: {} })
        return String((yield* owner.expect("job.accepted")).job_id)
      })
    yield* submit("lasting")
    const jobId = yield* submit("x")
    yield* settle
    const stopping = yield* Effect.fork(a.stop)
    yield* seconds(6)
    assert.deepInclude(yield* recordOf(disk, jobId), { node: "b", status: "success" })
    assert.isTrue((yield* seen(owner)).includes("job.result"))
    yield* Deferred.succeed(gate, undefined)
    yield* seconds(3)
    yield* Fiber.join(stopping)
    yield* a.kill
  })
)

describe("jobs that a node is about to run again when it is told to stop", () => {
  it.scoped("are for whoever takes them then, and begin nowhere else", () =>
    Effect.gen(function* () {
      const { disk, start } = yield* cluster
      const begun: Array<string> = []
      const agentOf = (node: string) =>
        Agent.handle(Agent.make("x", { version: "1.0.0", durable: true }), () =>
          Effect.zipRight(
            Effect.sync(() => begun.push(node)),
            Effect.never
          )
        )
      const given: RigOptions = { options: { shutdownGrace: "10 seconds" } }
      const first = yield* start("a", [agentOf("a")], given)
      const owner = yield* first.run(open())
      const jobIds: Array<string> = []
      // More than are loaded at once: of the rest it reads what is so by then.
      for (let i = 0; i < 34; i++) {
        yield* owner.request("job.submit", { agent: "x", input: {} })
        jobIds.push(String((yield* owner.expect("job.accepted")).job_id))
      }
      yield* settle
      yield* first.kill
      // It comes back, and is kept at the first of them.
      const gate = yield* Deferred.make<void>()
      let isHeld = false
      disk.onRead = (name) => {
        if (name !== "journal" || isHeld) return undefined
        isHeld = true
        return Deferred.await(gate)
      }
      const a = yield* start("a", [agentOf("a again")], given)
      yield* settle
      assert.isTrue(isHeld)
      yield* start("b", [agentOf("b")], given)
      const stopping = yield* Effect.fork(a.stop)
      yield* settle
      yield* seconds(4)
      const there = yield* Effect.forEach(jobIds, (jobId) => recordOf(disk, jobId))
      assert.isTrue(there.every(({ node }) => node === "b"))
      yield* Deferred.succeed(gate, undefined)
      yield* seconds(4)
      assert.deepStrictEqual(yield* Effect.forEach(jobIds, (jobId) => recordOf(disk, jobId)), there)
      assert.deepStrictEqual(begun, [...jobIds.map(() => "a"), ...jobIds.map(() => "b")])
      yield* seconds(10)
      yield* Fiber.join(stopping)
      yield* a.kill
    })
  )
})

/** A job that its node has left and nobody has taken, as "b" sees it; "c" is there, and takes it when it is told to. */
const leftJob = Effect.gen(function* () {
  const { disk, idle, start } = yield* cluster
  yield* idle("c")
  const b: Node = yield* start("b", [])
  const isTaking = (op: Op) => op._tag === "MoveJob" && op.node === "b"
  disk.onCommit = ({ ops }) =>
    ops.some(isTaking) ? Effect.fail(new StoreError({ message: "others are to have it" })) : Effect.void
  const watcher = yield* b.run(open())
  const put = (node: string | undefined, epoch: number, ended?: number) =>
    Op.PutJob({
      job: {
        ...aJob("job_left"),
        ...{ sessionId: watcher.sessionId, node, epoch, endedAt: ended },
        status: ended === undefined ? "running" : "success"
      }
    })
  const events = (from: number, to: number) => Op.Append({ jobId: "job_left", events: someEvents(from, to) })
  const end = Op.Append({
    jobId: "job_left",
    events: someEvents(4, 4, { type: "job.result", kind: "", payload: `{"final_status":"success"}` })
  })
  const commit = (...ops: ReadonlyArray<Op>) => disk.store.commit({ ops, owners: [] })
  return { b, commit, disk, end, events, put, watcher }
})

const seen = (session: Opened) =>
  Effect.map(
    Effect.raceFirst(Effect.exit(Effect.forever(session.next(() => false))), Effect.zipRight(settle, settle)),
    () => session.seen.flatMap(({ event_seq, type }) => (event_seq === undefined ? [] : [type]))
  )

describe("a job that its node has left, and nobody has taken", () => {
  it.scoped("is watched by whoever subscribes to it then, whoever takes it", () =>
    Effect.gen(function* () {
      const { commit, end, events, put, watcher } = yield* leftJob
      yield* commit(put(nobody, 2), events(1, 1))
      const { type } = yield* asked(watcher, "job.subscribe", { history: true }, "job_left")
      assert.strictEqual(type, "job.subscribed")
      yield* commit(put("c", 3), events(2, 3))
      yield* seconds(2)
      yield* commit(put("c", 3, 9), end)
      yield* seconds(2)
      assert.deepStrictEqual(yield* seen(watcher), ["job.event", "job.event", "job.event", "job.result"])
    })
  )

  it.scoped("goes on being watched by whoever watched it before", () =>
    Effect.gen(function* () {
      const { commit, end, events, put, watcher } = yield* leftJob
      yield* commit(put("c", 1), events(1, 1))
      yield* asked(watcher, "job.subscribe", { history: true }, "job_left")
      yield* seconds(2)
      yield* commit(put(nobody, 2))
      yield* seconds(2)
      yield* commit(put("c", 3), events(2, 3))
      yield* seconds(2)
      yield* commit(put("c", 3, 9), end)
      yield* seconds(2)
      assert.deepStrictEqual(yield* seen(watcher), ["job.event", "job.event", "job.event", "job.result"])
    })
  )

  it.scoped("is gone on with by a session that is resumed then", () =>
    Effect.gen(function* () {
      const { commit, end, events, put, watcher, b } = yield* leftJob
      const { sessionId, welcome } = watcher
      yield* commit(put("c", 1), Op.Observe({ sessionId, jobId: "job_left", cursor: 0 }), events(1, 1))
      yield* commit(put(nobody, 2))
      // As if it had been on "c".
      yield* watcher.connection.close(1000, "")
      yield* settle
      yield* commit(Op.TakeSession({ sessionId, node: "c", epoch: 2 }))
      const resume = { session_id: sessionId, resume_token: welcome.resume_token, last_event_seq: 0 }
      const again = yield* b.run(open({ resume }))
      yield* seconds(2)
      yield* commit(put("c", 3), events(2, 3))
      yield* seconds(2)
      yield* commit(put("c", 3, 9), end)
      yield* seconds(2)
      assert.deepStrictEqual(yield* seen(again), ["job.event", "job.event", "job.event", "job.result"])
    })
  )
})
