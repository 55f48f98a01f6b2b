/** What only the node of a job can do with it, wanted on another. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as Features from "../../../src/protocol/Features.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Jobs } from "../../../src/services/jobs/Jobs.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { type JobRecord, Op, StoreError } from "../../../src/services/store/Store.js"
import { cluster, type Node } from "../../support/Nodes.js"
import type { Disk, RigOptions } from "../../support/Rig.js"
import { type Frame, open } from "../../support/Wire.js"
import { aJob } from "../store/fixtures.js"

type Opened = Effect.Effect.Success<ReturnType<typeof open>>

const settle = Effect.repeatN(eventLoop.next, 60)
/** Lets wakes arrive, or looks come round. */
const seconds = (n: number) =>
  n > 3
    ? Effect.repeatN(Effect.zipRight(TestClock.adjust("1 second"), settle), n)
    : Effect.repeatN(Effect.zipRight(TestClock.adjust("200 millis"), settle), 5 * n)

const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)
/** Delegates to one that never ends. */
const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
  Effect.flatMap(Job, (job) => Effect.zipRight(job.delegate("forever", {}), Effect.never))
)
const asks = Agent.handle(Agent.make("asks", { version: "1.0.0", durable: true }), () =>
  Effect.flatMap(Job, (job) =>
    Effect.orDie(job.input("color", { prompt: "which?", choices: ["red", "blue"] }))
  )
)
const alone = Agent.handle(Agent.make("alone", { version: "1.0.0", concurrency: 1 }), () => Effect.never)
const agents = [forever, parent, asks, alone]

const given: RigOptions = {
  policy: Policy.layer({ operators: ["carol"], cancel: "principal" })
}

const pairOf = (options: RigOptions["options"] = {}) =>
  Effect.gen(function* () {
    const { disk, start, wakes } = yield* cluster
    const a: Node = yield* start("a", agents, { ...given, options })
    const b: Node = yield* start("b", agents, { ...given, options })
    return { a, b, disk, start, wakes }
  })
const pair = pairOf()

const submit = (session: Opened, agent: string, more: object = {}, extra: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const id = yield* session.request(
      "job.submit",
      { agent, input: {}, lease_request: { "agent.delegate": ["**"] }, ...more },
      extra
    )
    const accepted = yield* session.expect("job.accepted", (frame) => frame.payload.request_id === id)
    yield* settle
    return String(accepted.job_id)
  })

/** Asks for something, and gives what it is answered with. */
const asked = (session: Opened, type: string, payload: object, jobId: string) =>
  Effect.gen(function* () {
    const id = yield* session.request(type, payload, { job_id: jobId })
    return yield* session.next(
      ({ payload }: Frame) => payload.request_id === id || payload.details?.request_id === id
    )
  })

/** Does the same while time goes on. */
const answered = (session: Opened, type: string, payload: object, jobId: string, n = 2) =>
  Effect.gen(function* () {
    const asking = yield* Effect.fork(asked(session, type, payload, jobId))
    yield* seconds(n)
    return yield* Fiber.join(asking)
  })

const recordOf = (disk: Disk, jobId: string): Effect.Effect<JobRecord> =>
  Effect.flatMap(Effect.orDie(disk.store.job(jobId)), (record) =>
    record === undefined ? Effect.dieMessage(`${jobId} is gone`) : Effect.succeed(record)
  )
const statusOf = (disk: Disk, jobId: string) => Effect.map(recordOf(disk, jobId), ({ status }) => status)

/** Nothing is left of what nodes have wanted. */
const nothingLeft = (disk: Disk) =>
  Effect.map(disk.store.wishes(undefined, 99), (wishes) => assert.deepStrictEqual(wishes, []))

/** A job of a node, and of a session that is not there. */
const putFar = (jobId: string, node: string) => Op.PutJob({ job: { ...aJob(jobId), node } })

const from = (session: Opened) => ({
  resume: { session_id: session.sessionId, resume_token: session.welcome.resume_token, last_event_seq: 0 }
})

describe("a cancel on another node", () => {
  for (const lost of [false, true])
    it.scoped(
      `ends the job, and is acknowledged when that is stored${lost ? ", also without wakes" : ""}`,
      () =>
        Effect.gen(function* () {
          const { a, b, disk, wakes } = yield* pair
          wakes.lost = lost
          const owner = yield* a.run(open())
          const other = yield* b.run(open())
          const jobId = yield* submit(owner, "parent")
          const waiting = yield* Effect.fork(asked(other, "job.cancel", { reason: "enough" }, jobId))
          yield* lost ? seconds(2) : settle
          const answer = yield* Fiber.join(waiting)
          assert.strictEqual(answer.type, "job.cancelled")
          assert.deepInclude(answer.payload, { reason: "enough" })
          assert.deepInclude((yield* recordOf(disk, jobId)).cancelRequested, { reason: "enough" })
          yield* settle
          const { payload } = yield* owner.next(
            ({ job_id, type }) => type === "job.error" && job_id === jobId
          )
          assert.deepInclude(payload, { code: "CANCELLED", message: "the job was cancelled: enough" })
          assert.deepStrictEqual(
            (yield* disk.store.jobs({ principals: "everyone", limit: 9 })).map(({ status }) => status),
            ["cancelled", "cancelled"]
          )
          yield* nothingLeft(disk)
        })
    )

  it.scoped(
    "ends what has not begun, and what has moved to another session's node; again changes nothing",
    () =>
      Effect.gen(function* () {
        const { a, b, disk } = yield* pair
        const owner = yield* a.run(open())
        const first = yield* submit(owner, "alone")
        const queued = yield* submit(owner, "alone")
        assert.strictEqual(yield* statusOf(disk, queued), "pending")
        const moved = yield* b.run(open(from(owner)))
        for (const jobId of [queued, first, queued])
          assert.strictEqual((yield* answered(moved, "job.cancel", {}, jobId)).type, "job.cancelled")
        assert.strictEqual(yield* statusOf(disk, queued), "cancelled")
        assert.strictEqual(yield* statusOf(disk, first), "cancelled")
        yield* nothingLeft(disk)
      })
  )

  it.scoped("is refused as it would be there", () =>
    Effect.gen(function* () {
      const { a, b, disk } = yield* pair
      const owner = yield* a.run(open())
      const jobId = yield* submit(owner, "forever")
      const stranger = yield* b.run(open({ auth: { scheme: "bearer", token: "bob" } }))
      assert.strictEqual((yield* answered(stranger, "job.cancel", {}, jobId)).payload.code, "JOB_NOT_FOUND")
      assert.strictEqual(yield* statusOf(disk, jobId), "running")
      yield* nothingLeft(disk)
    })
  )

  it.scoped("that its node does not live to see is done by whoever takes the job", () =>
    Effect.gen(function* () {
      const { a, b, disk } = yield* pair
      const owner = yield* a.run(open())
      const other = yield* b.run(open())
      const jobId = yield* submit(owner, "forever")
      const waiting = yield* submit(owner, "asks")
      yield* settle
      yield* a.kill
      const both = [jobId, waiting].map((id) => asked(other, "job.cancel", {}, id))
      const asking = yield* Effect.fork(Effect.all(both))
      yield* seconds(1)
      assert.strictEqual((yield* disk.store.wishes(undefined, 9)).length, 1)
      yield* seconds(10)
      for (const { type } of yield* Fiber.join(asking)) assert.strictEqual(type, "job.cancelled")
      // It is not durable, and would have ended otherwise.
      assert.strictEqual(yield* statusOf(disk, jobId), "cancelled")
      assert.strictEqual(yield* statusOf(disk, waiting), "cancelled")
      yield* nothingLeft(disk)
    })
  )

  it.scoped("that nobody does is given up, with an error that says so, and leaves nothing", () =>
    Effect.gen(function* () {
      const { disk, idle, start } = yield* cluster
      yield* idle("hung")
      const b = yield* start("b", agents, given)
      const session = yield* b.run(open())
      yield* disk.store.commit({ ops: [putFar("job_far", "hung")], owners: [] })
      const asking = yield* Effect.fork(asked(session, "job.cancel", {}, "job_far"))
      yield* seconds(1)
      const [wish] = yield* disk.store.wishes(undefined, 9)
      assert.deepInclude(wish, { jobId: "job_far", kind: "cancel", from: "b", body: "{}" })
      yield* seconds(30)
      const { payload } = yield* Fiber.join(asking)
      assert.deepInclude(payload, { code: "INTERNAL_ERROR", retryable: true })
      assert.deepInclude(payload.details, { reason: "timeout" })
      yield* nothingLeft(disk)
    })
  )

  it.scoped("that cannot be stored is refused, and one too many too", () =>
    Effect.gen(function* () {
      const { disk, idle, start } = yield* cluster
      yield* idle("hung")
      const b = yield* start("b", agents, given)
      const session = yield* b.run(open())
      yield* disk.store.commit({ ops: [putFar("job_far", "hung")], owners: [] })
      disk.mode = "fails"
      const { payload } = yield* asked(session, "job.cancel", {}, "job_far")
      assert.deepInclude(payload.details, { reason: "storage" })
      disk.mode = "works"
      for (let i = 0; i < 64; i++) yield* session.request("job.cancel", {}, { job_id: "job_far" })
      const { payload: full } = yield* asked(session, "job.cancel", {}, "job_far")
      assert.deepInclude(full.details, { limit: "wishes_per_job" })
      yield* settle
      assert.lengthOf(yield* disk.store.wishes(undefined, 99), 64)
      yield* seconds(31)
      yield* nothingLeft(disk)
    })
  )

  it.scoped("follows its job to another node", () =>
    Effect.gen(function* () {
      const { a, b, disk } = yield* pair
      const session = yield* b.run(open())
      const owner = yield* a.run(open())
      const jobId = yield* submit(owner, "asks")
      // As if "c" had it when it was asked, and "a" took it then.
      const record = yield* recordOf(disk, jobId)
      yield* disk.store.commit({ ops: [Op.PutJob({ job: { ...record, node: "c" } })], owners: [] })
      const asking = yield* Effect.fork(asked(session, "job.cancel", {}, jobId))
      yield* settle
      assert.lengthOf(yield* disk.store.wishes("c", 9), 1)
      yield* disk.store.commit({ ops: [Op.PutJob({ job: record })], owners: [] })
      yield* seconds(2)
      assert.strictEqual((yield* Fiber.join(asking)).type, "job.cancelled")
      assert.strictEqual(yield* statusOf(disk, jobId), "cancelled")
      yield* nothingLeft(disk)
    })
  )

  it.scoped("whose node cannot store what came of it is done again, and answered once", () =>
    Effect.gen(function* () {
      const { a, b, disk } = yield* pair
      const owner = yield* a.run(open())
      const other = yield* b.run(open())
      const jobId = yield* submit(owner, "asks")
      const request = yield* owner.next(
        ({ payload, type }) => type === "job.event" && payload.kind === Vendor.inputRequest
      )
      let failing = 2
      disk.onCommit = ({ ops }) =>
        ops.some(({ _tag }) => _tag === "AnswerWish") && failing-- > 0
          ? Effect.fail(new StoreError({ message: "the disk is full" }))
          : Effect.void
      const give = { input_id: request.payload.body.input_id, value: "green" }
      const { payload } = yield* answered(other, Vendor.jobInput, give, jobId, 4)
      assert.deepInclude(payload.details, { reason: "value" })
      assert.isBelow(failing, 0)
      // What has ended by then is as done.
      failing = 2
      assert.strictEqual((yield* answered(other, "job.cancel", {}, jobId, 4)).type, "job.cancelled")
      yield* seconds(1)
      assert.strictEqual(yield* statusOf(disk, jobId), "cancelled")
      assert.lengthOf(
        other.seen.filter(({ type }) => type === "job.cancelled"),
        1
      )
      yield* nothingLeft(disk)
    })
  )

  it.scoped("of a session that ends with its jobs ends those, too", () =>
    Effect.gen(function* () {
      const { a, b, disk } = yield* pairOf({ cancelOnBye: true })
      const owner = yield* a.run(open())
      const stays = yield* a.run(open())
      const jobId = yield* submit(owner, "forever")
      const waiting = yield* submit(owner, "asks")
      const other = yield* submit(stays, "asks")
      const moved = yield* b.run(open(from(owner)))
      yield* moved.request("session.bye", {})
      yield* seconds(2)
      assert.strictEqual(yield* statusOf(disk, jobId), "cancelled")
      assert.strictEqual(yield* statusOf(disk, waiting), "cancelled")
      assert.strictEqual(yield* statusOf(disk, other), "running")
    })
  )
})

describe("many jobs of a session that ends with its jobs", () => {
  const bye = (more: (disk: Disk) => void = () => {}) =>
    Effect.gen(function* () {
      const { a, b, disk } = yield* pairOf({ cancelOnBye: true, maxJobsPerSession: 400 })
      const owner = yield* a.run(open())
      for (let n = 0; n < 300; n++) yield* owner.request("job.submit", { agent: "forever", input: {} })
      for (let n = 0; n < 300; n++) yield* owner.expect("job.accepted")
      const moved = yield* b.run(open(from(owner)))
      more(disk)
      yield* moved.request("session.bye", {})
      return { disk, sessionId: owner.sessionId }
    })
  const unended = (disk: Disk) =>
    Effect.map(
      disk.store.jobs({ principals: "everyone", status: ["pending", "running"], limit: 999 }),
      (jobs) => jobs.length
    )

  it.scoped("are all cancelled on other nodes: more than may be wished for at once", () =>
    Effect.gen(function* () {
      const { disk } = yield* bye()
      yield* seconds(20)
      assert.strictEqual(yield* unended(disk), 0)
      yield* nothingLeft(disk)
    })
  )

  it.scoped("are so when the store fails meanwhile, without what it submits when it is back", () =>
    Effect.gen(function* () {
      let failing = true
      const { disk, sessionId } = yield* bye((disk) => {
        disk.onRead = (name) =>
          failing && name === "jobs" ? Effect.fail(new StoreError({ message: "not now" })) : undefined
        disk.onCommit = ({ ops }) =>
          failing && ops.some(({ _tag }) => _tag === "PutWish")
            ? Effect.fail(new StoreError({ message: "not now" }))
            : Effect.void
      })
      yield* seconds(4)
      assert.strictEqual(yield* unended(disk), 300)
      const later = { ...aJob("job_later"), node: "a", sessionId, createdAt: 60_000 }
      yield* disk.store.commit({ ops: [Op.PutJob({ job: later })], owners: [] })
      failing = false
      yield* seconds(20)
      assert.strictEqual(yield* unended(disk), 1)
    })
  )
})

describe("wishes of a node that is gone", () => {
  it.scoped("are granted, and dropped: by itself when it is back, else by the oldest node", () =>
    Effect.gen(function* () {
      const { a, disk, start } = yield* pair
      const owner = yield* a.run(open())
      const jobId = yield* submit(owner, "forever")
      const wish = { jobId, kind: "cancel", body: "{}", at: 0 }
      yield* disk.store.commit({
        ops: [
          Op.PutWish({ wish: { ...wish, id: "wish_1", from: "gone" } }),
          Op.PutWish({ wish: { ...wish, id: "wish_2", from: "back" } }),
          Op.PutWish({ wish: { ...wish, id: "wish_3", from: "gone", jobId: "job_none" } }),
          Op.PutWish({ wish: { ...wish, id: "wish_4", from: "gone", kind: "unheard of" } })
        ],
        owners: []
      })
      yield* seconds(2)
      assert.strictEqual(yield* statusOf(disk, jobId), "cancelled")
      const left = Effect.map(disk.store.wishes(undefined, 9), (wishes) => wishes.map(({ id }) => id).sort())
      assert.deepStrictEqual(yield* left, ["wish_1", "wish_2", "wish_3", "wish_4"])
      yield* start("back", agents, given)
      yield* seconds(2)
      assert.deepStrictEqual(yield* left, ["wish_1", "wish_3", "wish_4"])
      yield* seconds(30)
      assert.deepStrictEqual(yield* left, [])
    })
  )
})

describe("an answer on another node", () => {
  it.scoped("is taken, and what it says is checked, by the node of the job", () =>
    Effect.gen(function* () {
      const { a, b, disk } = yield* pair
      const owner = yield* a.run(open())
      const other = yield* b.run(open())
      const jobId = yield* submit(owner, "asks")
      const request = yield* owner.next(
        ({ payload, type }) => type === "job.event" && payload.kind === Vendor.inputRequest
      )
      const input_id = String(request.payload.body.input_id)
      const give = (value: unknown, id = input_id) =>
        answered(other, Vendor.jobInput, { input_id: id, value }, jobId)
      assert.deepInclude((yield* give("green")).payload.details, { reason: "value" })
      assert.deepInclude((yield* give("red", "inp_none")).payload.details, { reason: "unknown_input" })
      // Two at once: one counts.
      const blue = yield* Effect.fork(asked(other, Vendor.jobInput, { input_id, value: "blue" }, jobId))
      yield* seconds(2)
      assert.strictEqual((yield* Fiber.join(blue)).type, Vendor.jobInputAccepted)
      assert.strictEqual((yield* give("blue")).type, Vendor.jobInputAccepted)
      assert.deepInclude((yield* give("red")).payload.details, { reason: "already_answered" })
      assert.strictEqual((yield* owner.expect("job.result")).payload.result, "blue")
      yield* nothingLeft(disk)
    })
  )

  it.scoped("goes to whoever takes the job when its node is gone", () =>
    Effect.gen(function* () {
      const { a, b, disk } = yield* pair
      const owner = yield* a.run(open())
      const other = yield* b.run(open())
      const jobId = yield* submit(owner, "asks")
      const request = yield* owner.next(
        ({ payload, type }) => type === "job.event" && payload.kind === Vendor.inputRequest
      )
      yield* a.kill
      const give = { input_id: request.payload.body.input_id, value: "red" }
      assert.strictEqual(
        (yield* answered(other, Vendor.jobInput, give, jobId, 10)).type,
        Vendor.jobInputAccepted
      )
      yield* seconds(1)
      assert.strictEqual(yield* statusOf(disk, jobId), "success")
      yield* nothingLeft(disk)
    })
  )
})

describe("a deletion on another node", () => {
  it.scoped("ends its jobs first, wherever they are", () =>
    Effect.gen(function* () {
      const { a, b, disk } = yield* pair
      const [first, second] = [yield* a.run(open()), yield* b.run(open())]
      const jobs = [
        yield* submit(first, "parent"),
        yield* submit(first, "asks"),
        yield* submit(second, "asks")
      ]
      const deleting = yield* Effect.fork(
        Context.get(b.context, Jobs).delete({ principal: "carol" }, { principal: "alice", cancel: true })
      )
      yield* seconds(5)
      const gone = yield* Fiber.join(deleting)
      for (const jobId of jobs) {
        assert.include(gone, jobId)
        assert.isUndefined(yield* disk.store.job(jobId))
      }
      yield* nothingLeft(disk)
    })
  )
})

describe("a job whose session is gone", () => {
  const adopting = (jobId: string) => ({ extensions: { "x-vendor.effect-arcp.adopt": jobId } })

  /** Ends a session for good. */
  const end = (disk: Disk, session: Opened) =>
    Effect.gen(function* () {
      yield* session.connection.close(1000, "")
      yield* settle
      yield* seconds(6)
      assert.isUndefined(yield* disk.store.session(session.sessionId))
    })

  it.scoped("is taken over by one on another node, with what it has delegated to", () =>
    Effect.gen(function* () {
      const { a, b, disk } = yield* pairOf({ resumeWindow: "3 seconds" })
      const owner = yield* a.run(open())
      const jobId = yield* submit(owner, "parent")
      yield* end(disk, owner)
      const heir = yield* b.run(open())
      yield* submit(heir, "parent", {}, adopting(jobId))
      yield* seconds(2)
      const [, child] = (yield* disk.store.jobs({ principals: "everyone", limit: 9 })).map((record) => {
        assert.strictEqual(record.sessionId, heir.sessionId)
        assert.strictEqual(record.node, "a")
        return record.jobId
      })
      yield* heir.expect("job.accepted", ({ job_id }) => job_id === child)
      yield* nothingLeft(disk)
      // It is its owner's now, by whatever policy.
      assert.strictEqual((yield* answered(heir, "job.cancel", {}, jobId)).type, "job.cancelled")
      yield* seconds(2)
      for (const id of [child, jobId])
        yield* heir.expect(
          "job.error",
          ({ job_id, payload }) => job_id === id && payload.code === "CANCELLED"
        )
    })
  )

  it.scoped("is that of one of two that want it", () =>
    Effect.gen(function* () {
      const { a, b, disk } = yield* pairOf({ resumeWindow: "3 seconds" })
      const owner = yield* a.run(open())
      const jobId = yield* submit(owner, "asks")
      yield* end(disk, owner)
      const heirs = [yield* b.run(open()), yield* b.run(open())]
      for (const heir of heirs) yield* submit(heir, "asks", {}, adopting(jobId))
      yield* seconds(2)
      const { sessionId } = yield* recordOf(disk, jobId)
      assert.include(
        heirs.map((heir) => heir.sessionId),
        sessionId
      )
      yield* nothingLeft(disk)
    })
  )
  it.scoped("is that of one of two on different nodes, and the other is not told of what it delegated", () =>
    Effect.gen(function* () {
      const { a, b, disk, start, wakes } = yield* pairOf({ resumeWindow: "3 seconds" })
      const c = yield* start("c", agents, given)
      const owner = yield* a.run(open())
      const jobId = yield* submit(owner, "parent")
      yield* end(disk, owner)
      const heirs = [yield* b.run(open()), yield* c.run(open())]
      // Both are found by one look.
      wakes.lost = true
      for (const heir of heirs) yield* submit(heir, "parent", {}, adopting(jobId))
      // Each finds that nobody has it, before the other has it.
      disk.onRead = (name) => (name === "session" ? Effect.repeatN(eventLoop.next, 5) : undefined)
      yield* seconds(3)
      const { sessionId } = yield* recordOf(disk, jobId)
      for (const heir of heirs) {
        const reading = yield* Effect.fork(Effect.forever(heir.next(() => false)))
        yield* settle
        yield* Fiber.interrupt(reading)
        const told = heir.seen.filter(
          ({ payload, type }) => type === "job.accepted" && payload.parent_job_id === jobId
        )
        assert.lengthOf(told, heir.sessionId === sessionId ? 1 : 0)
      }
      yield* nothingLeft(disk)
    })
  )
})

describe("a job of a session that never resumes, and is there", () => {
  const features = [...Features.all, Features.transient]

  it.scoped("is cancelled by any of its principal that covers it, on any node", () =>
    Effect.gen(function* () {
      const { disk, start } = yield* cluster
      const [a, b] = [yield* start("a", agents), yield* start("b", agents)]
      const owner = yield* a.run(open({}, features))
      const mine = [yield* submit(owner, "forever"), yield* submit(owner, "forever")] as const
      const kept = yield* a.run(open())
      const its = yield* submit(kept, "forever")
      for (const [node, jobId] of [
        [a, mine[0]],
        [b, mine[1]]
      ] as const) {
        const other = yield* node.run(open({}, features))
        assert.strictEqual((yield* answered(other, "job.cancel", {}, jobId)).type, "job.cancelled")
        assert.strictEqual(yield* statusOf(disk, jobId), "cancelled")
        // One that may be resumed has its jobs for itself.
        const refused = yield* answered(other, "job.cancel", {}, its)
        assert.strictEqual(refused.payload.code, "PERMISSION_DENIED")
        const bobs = yield* node.run(open({ auth: { scheme: "bearer", token: "bob" } }))
        const { payload } = yield* answered(bobs, "job.cancel", {}, jobId)
        assert.strictEqual(payload.code, "JOB_NOT_FOUND")
      }
    })
  )
})
