/** What is due and damaged: it is said once, and tried again after a long while; what is due beside it is loaded. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { DamagedRows, damagedRest } from "../../../src/layers/jobs/durable/DamagedRows.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { never } from "../../../src/services/store/dueAt.js"
import { type JobFilter, Op, StoreError } from "../../../src/services/store/Store.js"
import { boot, Disk } from "../../support/Rig.js"
import { aJob, survival } from "../store/fixtures.js"

it("one rests for a while after each try, and is new until it could be loaded", () => {
  const rows = new DamagedRows()
  assert.isTrue(rows.add("job_a", 5))
  assert.strictEqual(rows.restsUntil("job_a", 5), 5 + damagedRest)
  assert.strictEqual(rows.restsUntil("job_a", 4 + damagedRest), 5 + damagedRest)
  assert.isUndefined(rows.restsUntil("job_a", 5 + damagedRest))
  assert.isUndefined(rows.restsUntil("job_a", 4))
  assert.isUndefined(rows.restsUntil("job_b", 5))
  assert.isFalse(rows.add("job_a", 5 + damagedRest))
  assert.strictEqual(rows.restsUntil("job_a", 5 + damagedRest), 5 + 2 * damagedRest)
  rows.delete("job_a")
  assert.isTrue(rows.add("job_a", 5))
})

const isOfParked = ({ damaged, waiting }: JobFilter) => waiting === "parked" && damaged !== "left out"

const settle = Effect.repeatN(eventLoop.next, 60)

it.scoped("one is tried once a minute, and keeps nobody who is due from being loaded", () =>
  Effect.gen(function* () {
    const disk = yield* Disk.make
    const due = { ...survival, waiting: { sleepingUntil: 0, dueAt: 0 } }
    const agent = "quick@1.0.0"
    yield* disk.store.commit({
      ops: ["job_a", "job_b"].flatMap((jobId) => [
        Op.PutJob({ job: aJob(jobId, { agent, survival: due }) }),
        Op.PutInput({ jobId, input: "null" })
      ]),
      owners: []
    })
    let tries = 0
    disk.onRead = (name, [jobId]) => {
      if (name !== "journal" || jobId !== "job_a") return undefined
      tries++
      return new StoreError({ message: "damaged", damaged: { jobId: "job_a" } })
    }
    const quick = Agent.handle(Agent.make("quick", { version: "1.0.0", durable: true }), () => Effect.void)
    yield* boot([quick], { disk })
    const pass = (seconds: number) =>
      Effect.repeatN(Effect.zipRight(TestClock.adjust("1 second"), settle), seconds - 1)
    yield* pass(5)
    assert.strictEqual((yield* disk.store.job("job_b"))?.status, "success")
    const first = tries
    assert.isAtLeast(first, 1)
    yield* pass(40)
    assert.strictEqual(tries, first)
    disk.onRead = undefined
    yield* pass(25)
    assert.strictEqual((yield* disk.store.job("job_a"))?.status, "success")
  })
)

it.scoped("one whose record is damaged keeps nobody parked whose agent is here again", () =>
  Effect.gen(function* () {
    const disk = yield* Disk.make
    const parked = { ...survival, left: true, parked: "agent_not_available", waiting: { dueAt: never } }
    yield* disk.store.commit({
      ops: [
        Op.PutJob({ job: aJob("job_a", { agent: "quick@1.0.0", survival: parked }) }),
        Op.PutInput({ jobId: "job_a", input: "null" })
      ],
      owners: []
    })
    // As a store reads a damaged row beside it, whose query does not leave it out.
    disk.onRead = (name, [query]) =>
      name === "jobs" && isOfParked(query as JobFilter)
        ? new StoreError({ message: "damaged", damaged: { jobId: "job_b" } })
        : undefined
    const quick = Agent.handle(Agent.make("quick", { version: "1.0.0", durable: true }), () => Effect.void)
    yield* boot([quick], { disk })
    yield* Effect.repeatN(Effect.zipRight(TestClock.adjust("1 second"), settle), 5)
    assert.strictEqual((yield* disk.store.job("job_a"))?.status, "success")
  })
)
