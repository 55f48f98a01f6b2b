/** What is wanted of a job by several at once, while its node dies, or while another takes it. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as Metrics from "../../../src/layers/telemetry/Metrics.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Jobs } from "../../../src/services/jobs/Jobs.js"
import { families } from "../../../src/services/runtime/Metrics.js"
import { Op, StoreError } from "../../../src/services/store/Store.js"
import {
  asked,
  endsOf,
  nothingLeft,
  type Opened,
  recordOf,
  seconds,
  settle,
  statusOf
} from "../../support/asking.js"
import { measured } from "../../support/measured.js"
import { cluster, type Node } from "../../support/Nodes.js"
import type { Disk, RigOptions } from "../../support/Rig.js"
import { open } from "../../support/Wire.js"

const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)
const durable = Agent.handle(Agent.make("durable", { version: "1.0.0", durable: true }), () => Effect.never)
const asks = Agent.handle(Agent.make("asks", { version: "1.0.0", durable: true }), () =>
  Effect.flatMap(Job, (job) => Effect.orDie(job.input("color", { prompt: "which?" })))
)
/** Says something every second. */
const talks = Agent.handle(Agent.make("talks", { version: "1.0.0" }), () =>
  Effect.flatMap(Job, (job) =>
    Effect.forever(Effect.zipRight(Effect.orDie(job.log("info", "word")), Effect.sleep("1 second")))
  )
)

const alone = Agent.handle(Agent.make("alone", { version: "1.0.0", concurrency: 1 }), () => Effect.never)

const given: RigOptions = { policy: Policy.layer({ operators: ["carol"], cancel: "principal" }) }

/** Three nodes; jobs are submitted on "a". */
const three = Effect.gen(function* () {
  const { disk, idle, start } = yield* cluster
  const begin = (name: string) => start(name, [forever, durable, asks, talks, alone], given)
  const a: Node = yield* begin("a")
  const b: Node = yield* begin("b")
  const c: Node = yield* begin("c")
  const owner = yield* a.run(open())
  const submit = (agent: string) =>
    Effect.gen(function* () {
      yield* owner.request("job.submit", { agent, input: {} })
      const { job_id } = yield* owner.expect("job.accepted")
      yield* settle
      return String(job_id)
    })
  return { a, b, c, disk, idle, owner, submit }
})

/** Keeps commits with such an operation from going on until the gate is opened. */
const hold = (disk: Disk, isMeant: (op: Op) => boolean) =>
  Effect.map(Deferred.make<void>(), (gate) => {
    disk.onCommit = ({ ops }) => (ops.some(isMeant) ? Deferred.await(gate) : Effect.void)
    return Deferred.succeed(gate, undefined)
  })

/** Lets no node say that it has done what another wants. */
const mute = (disk: Disk) => {
  disk.onCommit = ({ ops }) =>
    ops.some(({ _tag }) => _tag === "AnswerWish")
      ? Effect.fail(new StoreError({ message: "not now" }))
      : Effect.void
}

const cancel = (session: Opened, jobId: string) =>
  Effect.fork(Effect.map(asked(session, "job.cancel", {}, jobId), ({ type }) => type))

describe("a node that dies when it has done what another wants, and has not said so", () => {
  it.scoped("has cancelled: whoever asked is told so", () =>
    Effect.gen(function* () {
      const { a, b, disk, submit } = yield* three
      const jobs = [yield* submit("forever"), yield* submit("durable")]
      const session = yield* b.run(open())
      mute(disk)
      for (const jobId of jobs) {
        const asking = yield* cancel(session, jobId)
        yield* settle
        assert.isDefined((yield* recordOf(disk, jobId)).cancelRequested)
        if (jobId === jobs[1]) yield* a.kill
        yield* seconds(10)
        assert.strictEqual(yield* Fiber.join(asking), "job.cancelled")
        assert.strictEqual(yield* statusOf(disk, jobId), "cancelled")
        assert.strictEqual(yield* endsOf(disk, jobId), 1)
      }
      yield* nothingLeft(disk)
    })
  )

  it.scoped("has taken an answer: it counts once, and whoever gave it is told so", () =>
    Effect.gen(function* () {
      const { a, b, disk, owner, submit } = yield* three
      const jobId = yield* submit("asks")
      const request = yield* owner.next(
        ({ payload, type }) => type === "job.event" && payload.kind === Vendor.inputRequest
      )
      const session = yield* b.run(open())
      mute(disk)
      const give = { input_id: request.payload.body.input_id, value: "red" }
      const giving = yield* Effect.fork(asked(session, Vendor.jobInput, give, jobId))
      yield* settle
      yield* a.kill
      yield* seconds(10)
      assert.strictEqual((yield* Fiber.join(giving)).type, Vendor.jobInputAccepted)
      assert.strictEqual(yield* statusOf(disk, jobId), "success")
      assert.strictEqual(yield* endsOf(disk, jobId), 1)
      yield* nothingLeft(disk)
    })
  )
})

describe("cancels of one job", () => {
  it.scoped("from three nodes at once end it once, and all are told", () =>
    Effect.gen(function* () {
      const { b, c, disk, owner, submit } = yield* three
      for (const agent of ["forever", "asks"]) {
        const jobId = yield* submit(agent)
        const sessions = [owner, yield* b.run(open()), yield* c.run(open())]
        const asking = yield* Effect.forEach(sessions, (session) => cancel(session, jobId))
        yield* seconds(2)
        for (const each of asking) assert.strictEqual(yield* Fiber.join(each), "job.cancelled")
        assert.strictEqual(yield* statusOf(disk, jobId), "cancelled")
        assert.strictEqual(yield* endsOf(disk, jobId), 1)
      }
      yield* nothingLeft(disk)
    })
  )

  it.scoped("that come while it is taken over are done by whoever has taken it", () =>
    Effect.gen(function* () {
      const { a, b, c, disk, submit } = yield* three
      const jobs = [yield* submit("forever"), yield* submit("durable"), yield* submit("asks")]
      const isTaken = (op: Op) => op._tag === "MoveJob"
      const release = yield* hold(disk, isTaken)
      const wanted = jobs.flatMap((jobId) => [b, c].map((node) => ({ jobId, node })))
      const sessions = yield* Effect.forEach(wanted, ({ jobId, node }) =>
        Effect.map(node.run(open()), (session) => ({ jobId, session }))
      )
      yield* a.kill
      // Whoever is first has read what is wanted, and nobody wants anything yet.
      yield* seconds(8)
      const asking = yield* Effect.forEach(sessions, ({ jobId, session }) => cancel(session, jobId))
      yield* seconds(2)
      yield* release
      yield* seconds(3)
      for (const each of asking) assert.strictEqual(yield* Fiber.join(each), "job.cancelled")
      const [lost, ...others] = jobs
      // It had ended with its node, whatever was wanted of it since.
      assert.include(["cancelled", "error"], yield* statusOf(disk, String(lost)))
      for (const jobId of others) assert.strictEqual(yield* statusOf(disk, jobId), "cancelled")
      for (const jobId of jobs) assert.strictEqual(yield* endsOf(disk, jobId), 1)
      yield* nothingLeft(disk)
    })
  )

  it.scoped("by the thousand are answered one by one, and what is too much is refused", () =>
    Effect.gen(function* () {
      const { b, disk, submit } = yield* three
      const jobId = yield* submit("forever")
      const session = yield* b.run(open())
      const ids = new Set<string>()
      for (let i = 0; i < 1_000; i++) ids.add(yield* session.request("job.cancel", {}, { job_id: jobId }))
      const answers = { cancelled: 0, refused: 0 }
      const answering = yield* Effect.fork(
        Effect.gen(function* () {
          while (ids.size > 0) {
            const { payload, type } = yield* session.next(({ payload }) =>
              ids.delete(String(payload.request_id ?? payload.details?.request_id))
            )
            if (type === "job.cancelled") answers.cancelled++
            else {
              assert.include(["wishes_per_job", "cancels_waiting"], payload.details.limit)
              answers.refused++
            }
          }
        })
      )
      yield* seconds(3)
      yield* Fiber.join(answering)
      assert.isAtLeast(answers.cancelled, 64)
      assert.strictEqual(answers.cancelled + answers.refused, 1_000)
      assert.strictEqual(yield* endsOf(disk, jobId), 1)
      yield* nothingLeft(disk)
    })
  )
})

describe("who has asked, and leaves", () => {
  it.scoped("has asked all the same: a session that ends, and a node that dies", () =>
    Effect.gen(function* () {
      const { b, c, disk, submit } = yield* three
      const jobs = [yield* submit("forever"), yield* submit("forever")] as const
      mute(disk)
      const gone = yield* b.run(open())
      yield* cancel(gone, jobs[0])
      yield* settle
      yield* gone.connection.close(1000, "")
      disk.onCommit = () => Effect.void
      yield* seconds(2)
      assert.strictEqual(yield* statusOf(disk, jobs[0]), "cancelled")
      yield* nothingLeft(disk)
      mute(disk)
      yield* cancel(yield* c.run(open()), jobs[1])
      yield* settle
      yield* c.kill
      disk.onCommit = () => Effect.void
      yield* seconds(2)
      assert.strictEqual(yield* statusOf(disk, jobs[1]), "cancelled")
      yield* seconds(40)
      yield* nothingLeft(disk)
    })
  )
})

it.scoped(
  "a job that is deleted on another node while an event of it is written is gone, and its node goes on",
  () =>
    Effect.gen(function* () {
      const { b, disk, owner, submit } = yield* three
      const jobId = yield* submit("talks")
      yield* seconds(2)
      const release = yield* hold(disk, (op) => op._tag === "Append" && op.jobId === jobId)
      const deleting = yield* Effect.fork(
        Context.get(b.context, Jobs).delete({ principal: "carol" }, { jobId, cancel: true })
      )
      yield* seconds(3)
      yield* release
      yield* seconds(3)
      assert.deepStrictEqual(yield* Fiber.join(deleting), [jobId])
      assert.isUndefined(yield* disk.store.job(jobId))
      assert.deepStrictEqual(yield* disk.store.events(jobId, 1, 9), [])
      yield* nothingLeft(disk)
      // Its owner is told how it ended, or that it has lost something; whatever comes then is served.
      yield* owner.request("job.submit", { agent: "talks", input: {} })
      assert.strictEqual((yield* owner.expect("job.accepted")).type, "job.accepted")
    })
)

describe("a job that another node has taken, which its own has not found out about", () => {
  /** As a node does that took this one for gone. */
  const taken = (disk: Disk, jobId: string) =>
    disk.store.commit({
      ops: [Op.MoveJob({ jobId, node: "z", epoch: 2, cancelRequested: undefined })],
      owners: [{ job: jobId, epoch: 1 }]
    })
  const ended = (agent: string) => measured(families.jobsEnded, agent, "cancelled")

  it.scoped("is not said to be cancelled while it waits, nor counted as ended", () =>
    Effect.gen(function* () {
      const { disk, idle, owner, submit } = yield* three
      yield* idle("z")
      yield* submit("alone")
      const jobId = yield* submit("alone")
      const before = ended("alone")
      yield* taken(disk, jobId)
      const { payload, type } = yield* asked(owner, "job.cancel", {}, jobId)
      assert.deepInclude(payload, { code: "INTERNAL_ERROR", retryable: true }, type)
      assert.deepInclude(payload.details, { reason: "shutdown" })
      assert.deepInclude(yield* recordOf(disk, jobId), { status: "pending", node: "z" })
      assert.strictEqual(ended("alone"), before)
    }).pipe(Effect.provide(Metrics.layer()))
  )

  it.scoped("is not said to be cancelled while it runs: all who ask are told to ask again", () =>
    Effect.gen(function* () {
      const { a, disk, idle, owner, submit } = yield* three
      yield* idle("z")
      const sessions = [owner, yield* a.run(open())]
      for (const agent of ["forever", "durable", "asks"]) {
        const jobId = yield* submit(agent)
        const before = ended(agent)
        yield* taken(disk, jobId)
        const asking = yield* Effect.forEach(sessions, (session) =>
          Effect.fork(asked(session, "job.cancel", {}, jobId))
        )
        yield* seconds(2)
        for (const each of asking) {
          assert.isNotNull(each.unsafePoll(), agent)
          const { payload } = yield* Fiber.join(each)
          assert.deepInclude(payload.details, { reason: "shutdown" }, agent)
        }
        assert.deepInclude(yield* recordOf(disk, jobId), { status: "running", node: "z" })
        assert.strictEqual(ended(agent), before)
      }
    }).pipe(Effect.provide(Metrics.layer()))
  )

  it.scoped("counts as ended once, when its end is stored at last", () =>
    Effect.gen(function* () {
      const { disk, owner, submit } = yield* three
      const jobId = yield* submit("forever")
      const before = ended("forever")
      let refusals = 0
      disk.onCommit = ({ ops }) =>
        ops.some((op) => op._tag === "Append" && op.events.some(({ type }) => type === "job.error")) &&
        ++refusals < 4
          ? Effect.fail(new StoreError({ message: "the disk is full" }))
          : Effect.void
      const asking = yield* cancel(owner, jobId)
      yield* settle
      assert.strictEqual(yield* Fiber.join(asking), "job.cancelled")
      assert.strictEqual(ended("forever"), before)
      yield* seconds(20)
      assert.strictEqual(refusals, 4)
      assert.strictEqual(yield* statusOf(disk, jobId), "cancelled")
      assert.strictEqual(ended("forever"), before + 1)
    }).pipe(Effect.provide(Metrics.layer()))
  )
})
