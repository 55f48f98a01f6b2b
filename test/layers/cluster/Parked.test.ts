/** Jobs whose agents are not on every node go on where they are. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { asked, endsOf, nothingLeft, recordOf, seconds, settle, statusOf } from "../../support/asking.js"
import { cluster } from "../../support/Nodes.js"
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
