/** What one of the nodes does for all: the one that has been there for longest. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { keeperOf } from "../../../src/layers/cluster/keeper.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import type { SeenNode } from "../../../src/services/cluster/Nodes.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import type { Batch } from "../../../src/services/store/Store.js"
import { cluster } from "../../support/Nodes.js"
import { open } from "../../support/Wire.js"

const settle = Effect.repeatN(eventLoop.next, 40)
const seconds = (n: number) => Effect.repeatN(Effect.zipRight(TestClock.adjust("1 second"), settle), n)

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))

it("the oldest node that is alive is the keeper; of two as old the first by name", () => {
  const node = (name: string, startedAt: number, isAlive = true): SeenNode => ({
    ...{ name, startedAt, isAlive, address: undefined, version: "" },
    silentFor: 0
  })
  assert.isUndefined(keeperOf([node("a", 1, false)]))
  assert.strictEqual(keeperOf([node("c", 2), node("b", 2), node("a", 3), node("d", 1, false)]), "b")
})

it.scoped("what has ended is dropped and freed by the keeper only, stating whose it was", () =>
  Effect.gen(function* () {
    const { disk, idle, start } = yield* cluster
    const batches: Array<Batch> = []
    disk.onCommit = (batch) => {
      if (batch.ops.some(({ _tag }) => _tag === "DropJob")) batches.push(batch)
      return Effect.void
    }
    const keeper = yield* Scope.make()
    yield* idle("first").pipe(Scope.extend(keeper))
    yield* TestClock.adjust("1 second")
    const options = { jobRetention: "2 seconds", resumeWindow: "2 seconds", maxRetainedJobs: 2 } as const
    const a = yield* start("a", [echo], { options })
    const b = yield* start("b", [echo], { options })
    const session = yield* b.run(open())
    for (let i = 0; i < 4; i++) {
      yield* session.request("job.submit", { agent: "echo", input: i })
      yield* session.expect("job.result")
    }
    yield* session.connection.close(1000, "")
    yield* seconds(8)
    // It is over its time and its cap, nobody needs it, and there is somebody whose business it is.
    const stored = disk.store.jobs({ principals: "everyone", limit: 9 })
    assert.lengthOf(yield* stored, 4)
    assert.strictEqual(disk.vacuums, 0)
    yield* Scope.close(keeper, Exit.void)
    yield* seconds(4)
    assert.lengthOf(yield* stored, 0)
    assert.isAbove(disk.vacuums, 0)
    for (const { ops, owners } of batches)
      for (const op of ops) if (op._tag === "DropJob") assert.deepInclude(owners, { job: op.jobId, epoch: 1 })
    yield* a.kill
  })
)

it.scoped(
  "what a session of another node has acknowledged is dropped by the keeper, while that session stays",
  () =>
    Effect.gen(function* () {
      const { disk, start } = yield* cluster
      const options = { jobRetention: "2 seconds" } as const
      yield* start("a", [echo], { options })
      yield* TestClock.adjust("1 second")
      const b = yield* start("b", [echo], { options })
      const session = yield* b.run(open())
      let last = 0
      for (let i = 0; i < 3; i++) {
        yield* session.request("job.submit", { agent: "echo", input: i })
        last = (yield* session.expect("job.result")).event_seq ?? 0
      }
      const stored = disk.store.jobs({ principals: "everyone", limit: 9 })
      yield* seconds(8)
      assert.lengthOf(yield* stored, 3)
      yield* session.request("session.ack", { last_processed_seq: last })
      yield* seconds(8)
      assert.lengthOf(yield* stored, 0)
    })
)
