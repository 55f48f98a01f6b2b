/** A node that is back under its name while others take what it has left. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { seconds, settle } from "../../support/asking.js"
import { cluster } from "../../support/Nodes.js"
import { open } from "../../support/Wire.js"

/** A durable agent that never ends, and the jobs for which it was begun. */
const counted = () => {
  const began = new Set<string>()
  const agent = Agent.handle(Agent.make("durable", { version: "1.0.0", durable: true }), () =>
    Effect.flatMap(Job, (job) =>
      Effect.zipRight(
        Effect.sync(() => began.add(job.jobId)),
        Effect.never
      )
    )
  )
  return { agent, began }
}

it.scoped("goes on with what was not taken until then, and nobody takes that", () =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const { disk, start } = yield* cluster
    const [first, other, again] = [counted(), counted(), counted()]
    const options = { maxJobsPerPrincipal: 100 }
    const a = yield* start("a", [first.agent], { options })
    yield* start("b", [other.agent], { options })
    const owner = yield* a.run(open())
    // More than one commit takes.
    for (let i = 0; i < 40; i++) {
      yield* owner.request("job.submit", { agent: "durable", input: i })
      yield* owner.expect("job.accepted")
    }
    yield* settle
    let moves = 0
    disk.onCommit = ({ ops }) =>
      ops.some(({ _tag }) => _tag === "MoveJob") && ++moves === 2
        ? Effect.asVoid(Effect.orDie(Scope.extend(start("a", [again.agent], { options }), scope)))
        : Effect.void
    yield* a.kill
    yield* seconds(10)
    const ofNode = (node: string) =>
      Effect.map(
        disk.store.jobs({ principals: "everyone", node, limit: 99 }),
        (jobs) => new Set(jobs.map(({ jobId }) => jobId))
      )
    const [left, taken] = [yield* ofNode("a"), yield* ofNode("b")]
    assert.deepStrictEqual([left.size, taken.size], [8, 32])
    assert.deepStrictEqual(again.began, left)
    assert.deepStrictEqual(other.began, taken)
  })
)
