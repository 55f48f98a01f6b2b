/** Jobs whose agents are not on every node go on where they are. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Op } from "../../../src/services/store/Store.js"
import { asked, endsOf, nothingLeft, recordOf, seconds, settle, statusOf } from "../../support/asking.js"
import { cluster, type Node } from "../../support/Nodes.js"
import type { Disk, RigOptions } from "../../support/Rig.js"
import { open } from "../../support/Wire.js"

/** A durable agent whose jobs wait until `gate` is opened; `ran` are the nodes on which they were begun. */
const gated = Effect.gen(function* () {
  const gate = yield* Deferred.make<void>()
  const ran: Array<string> = []
  const on = (node: string) =>
    Agent.handle(Agent.make("x", { version: "1.0.0", durable: true, concurrency: 1 }), () =>
      Effect.gen(function* () {
        ran.push(node)
        const job = yield* Job
        yield* job.step("wait", Deferred.await(gate))
        return node
      }).pipe(Effect.orDie)
    )
  return { gate, on, ran }
})

const given: RigOptions = { policy: Policy.layer({ cancel: "principal" }) }

const parkedOf = (disk: Disk, jobId: string) =>
  Effect.map(recordOf(disk, jobId), ({ queued, survival }) => survival?.parked ?? queued?.parked)

const begun = Effect.gen(function* () {
  const { disk, start } = yield* cluster
  const { gate, on, ran } = yield* gated
  const a = yield* start("a", [on("a")], given)
  const owner = yield* a.run(open())
  const submit = Effect.gen(function* () {
    yield* owner.request("job.submit", { agent: "x", input: {} })
    return String((yield* owner.expect("job.accepted")).job_id)
  })
  const jobId = yield* submit
  yield* settle
  assert.deepStrictEqual(ran, ["a"])
  return { a, disk, gate, jobId, on, ran, start, submit }
})

describe("a job that is parked", () => {
  it.scoped("goes on when its node comes back with its agent, also when it had been handed over", () =>
    Effect.gen(function* () {
      const { a, disk, gate, jobId, on, ran, start } = yield* begun
      yield* Effect.zipRight(a.stop, a.kill)
      const without = yield* start("a", [])
      yield* seconds(6)
      assert.strictEqual(yield* parkedOf(disk, jobId), "agent_not_available")
      yield* Effect.zipRight(without.stop, without.kill)
      assert.strictEqual((yield* recordOf(disk, jobId)).node, "")
      yield* start("a", [on("a")])
      yield* seconds(3)
      assert.deepStrictEqual(ran, ["a", "a"])
      yield* Deferred.succeed(gate, undefined)
      yield* seconds(2)
      assert.strictEqual(yield* statusOf(disk, jobId), "success")
      assert.strictEqual(yield* endsOf(disk, jobId), 1)
    })
  )

  it.scoped("goes on on a node that comes with its agent while the one that has it stays", () =>
    Effect.gen(function* () {
      const { a, disk, gate, jobId, on, ran, start, submit } = yield* begun
      const waiting = yield* submit
      const b = yield* start("b", [], given)
      yield* Effect.zipRight(a.kill, seconds(25))
      for (const id of [jobId, waiting]) {
        assert.strictEqual(yield* parkedOf(disk, id), "agent_not_available", id)
        assert.strictEqual((yield* recordOf(disk, id)).node, "b")
      }
      const watcher = yield* b.run(open())
      yield* asked(watcher, "job.subscribe", { history: false }, jobId)
      const epochs = [(yield* recordOf(disk, jobId)).epoch, (yield* recordOf(disk, waiting)).epoch]
      yield* seconds(30)
      // Nobody else is there to have it.
      assert.deepStrictEqual(
        [(yield* recordOf(disk, jobId)).epoch, (yield* recordOf(disk, waiting)).epoch],
        epochs
      )
      const c = yield* start("c", [on("c")], given)
      yield* seconds(14)
      assert.deepStrictEqual([...new Set(ran)], ["a", "c"])
      yield* Deferred.succeed(gate, undefined)
      yield* seconds(3)
      for (const id of [jobId, waiting]) {
        assert.deepInclude(yield* recordOf(disk, id), { status: "success", node: "c" })
        assert.strictEqual(yield* endsOf(disk, id), 1)
      }
      yield* watcher.expect("job.result", ({ job_id }) => job_id === jobId)
      yield* nothingLeft(disk)
      yield* c.stop
    })
  )

  it.scoped("goes on on another node that has its agent when its own is started again without", () =>
    Effect.gen(function* () {
      const { a, disk, jobId, on, ran, start } = yield* begun
      yield* start("c", [on("c")], given)
      yield* seconds(2)
      yield* a.kill
      yield* start("a", [], given)
      yield* seconds(14)
      assert.deepStrictEqual([...new Set(ran)], ["a", "c"])
      assert.deepInclude(yield* recordOf(disk, jobId), { status: "running", node: "c" })
    })
  )

  it.scoped("is not offered for ever where nobody has its agent, and can be cancelled meanwhile", () =>
    Effect.gen(function* () {
      const { a, disk, jobId, start } = yield* begun
      const b = yield* start("b", [], given)
      yield* start("c", [], given)
      yield* Effect.zipRight(a.kill, seconds(40))
      const { epoch } = yield* recordOf(disk, jobId)
      yield* seconds(60)
      assert.strictEqual((yield* recordOf(disk, jobId)).epoch, epoch)
      assert.isBelow(epoch ?? 0, 10)
      const owner = yield* b.run(open())
      const cancelling = yield* Effect.fork(asked(owner, "job.cancel", {}, jobId))
      yield* seconds(3)
      assert.strictEqual((yield* cancelling).type, "job.cancelled")
      assert.strictEqual(yield* statusOf(disk, jobId), "cancelled")
    })
  )
})

it.scoped(
  "of many that are parked one is offered to a node that comes, and all others where that went on",
  () =>
    Effect.gen(function* () {
      const { a, disk, gate, jobId, on, start, submit } = yield* begun
      const jobIds = [jobId, ...(yield* Effect.replicateEffect(submit, 20))]
      yield* start("b", [], given)
      yield* Effect.zipRight(a.kill, seconds(8))
      const offers = () => disk.committed.filter((op) => op._tag === "MoveJob" && op.node === "").length
      const nodes = Effect.map(
        Effect.forEach(jobIds, (id) => recordOf(disk, id)),
        (records) => new Set(records.map(({ node }) => node))
      )
      assert.deepStrictEqual(yield* nodes, new Set(["b"]))
      assert.strictEqual(offers(), 0)
      yield* start("d", [], given)
      yield* seconds(24)
      assert.strictEqual(offers(), 1)
      yield* start("c", [on("c")], given)
      yield* seconds(24)
      assert.deepStrictEqual(yield* nodes, new Set(["c"]))
      yield* Deferred.succeed(gate, undefined)
      yield* seconds(3)
      for (const id of jobIds) assert.strictEqual(yield* statusOf(disk, id), "success")
    })
)

it.scoped("a job whose node is gone waits for none of those that no node has", () =>
  Effect.gen(function* () {
    const { a, disk, jobId, on, start } = yield* begun
    yield* start("b", [on("b")], given)
    const job = { ...(yield* recordOf(disk, jobId)), jobId: "job_of_nobody", node: "" }
    yield* disk.store.commit({ ops: [Op.PutJob({ job })], owners: [] })
    disk.onCommit = ({ ops }) =>
      ops.some((op) => op._tag === "MoveJob" && op.jobId === job.jobId) ? Effect.never : Effect.void
    yield* seconds(2)
    yield* Effect.zipRight(a.kill, seconds(3))
    assert.strictEqual((yield* recordOf(disk, jobId)).node, "b")
  })
)

it.scoped("a job whose node is gone is taken by one that has its agent, where there is one", () =>
  Effect.gen(function* () {
    const { a, disk, jobId, on, ran, start } = yield* begun
    yield* start("b", [], given)
    yield* start("c", [on("c")], given)
    yield* start("d", [], given)
    yield* Effect.zipRight(a.kill, seconds(16))
    assert.deepStrictEqual(ran, ["a", "c"])
    const record = yield* recordOf(disk, jobId)
    assert.deepInclude(record, { node: "c", epoch: 2 })
    assert.isUndefined(yield* parkedOf(disk, jobId))
  })
)

/** A durable agent that delegates to one, and waits for it. */
const above = (ran: Array<string>, node: string) =>
  Agent.handle(Agent.make("above", { version: "1.0.0", durable: true }), () =>
    Effect.gen(function* () {
      ran.push(node)
      const below = yield* (yield* Job).delegate("x", {}, { key: "x" })
      return yield* below.await
    }).pipe(Effect.orDie)
  )

const submitAbove = (node: Node) =>
  Effect.gen(function* () {
    const owner = yield* node.run(open())
    const lease_request = { "agent.delegate": ["*"] }
    yield* owner.request("job.submit", { agent: "above", input: {}, lease_request })
    const jobId = String((yield* owner.expect("job.accepted")).job_id)
    yield* settle
    return jobId
  })

const childOf = (disk: Disk, parentJobId: string) =>
  Effect.map(
    Effect.orDie(disk.store.jobs({ principals: "everyone", parentJobId, limit: 1 })),
    ([child]) => child ?? assert.fail("nothing was delegated")
  )

describe("a job of which one is parked that it has delegated to", () => {
  it.scoped("is taken at once by who has its own agent, wherever that of the other is", () =>
    Effect.gen(function* () {
      const { disk, start } = yield* cluster
      const { on } = yield* gated
      const ran: Array<string> = []
      const a = yield* start("a", [above(ran, "a"), on("a")], given)
      const jobId = yield* submitAbove(a)
      yield* a.kill
      // The version of what is below is nowhere any more.
      const again = yield* start("a", [above(ran, "a")], given)
      yield* seconds(3)
      assert.strictEqual((yield* childOf(disk, jobId)).survival?.parked, "agent_not_available")
      yield* start("b", [above(ran, "b")], given)
      yield* start("c", [above(ran, "c")], given)
      yield* seconds(2)
      yield* again.kill
      yield* seconds(2)
      const { node } = yield* recordOf(disk, jobId)
      assert.include(["b", "c"], node)
      yield* seconds(6)
      assert.deepStrictEqual(ran, ["a", "a", node])
      assert.strictEqual((yield* childOf(disk, jobId)).survival?.parked, "agent_not_available")
    })
  )

  it.scoped("goes where its own agent is, where nobody has all that it needs", () =>
    Effect.gen(function* () {
      const { disk, start } = yield* cluster
      const { on } = yield* gated
      const ran: Array<string> = []
      const a = yield* start("a", [above(ran, "a"), on("a")], given)
      const jobId = yield* submitAbove(a)
      for (const name of ["b", "d", "e", "f"]) yield* start(name, [on(name)], given)
      yield* start("c", [above(ran, "c")], given)
      yield* Effect.zipRight(a.kill, seconds(24))
      assert.strictEqual((yield* recordOf(disk, jobId)).node, "c")
      assert.deepStrictEqual(ran, ["a", "c"])
    })
  )
})
