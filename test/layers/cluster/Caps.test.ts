/** Caps of a principal hold for all nodes together. */
import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { StoreError } from "../../../src/services/store/Store.js"
import { cluster, type Node } from "../../support/Nodes.js"
import { type Frame, open } from "../../support/Wire.js"
import { aJob, put } from "../store/fixtures.js"

const settle = Effect.repeatN(eventLoop.next, 60)

const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)
const short = Agent.handle(Agent.make("short", { version: "1.0.0" }), () => Effect.succeed("done"))
const alone = Agent.handle(Agent.make("alone", { version: "1.0.0", concurrency: 1 }), () => Effect.never)
const agents = [forever, short, alone]

const pair = (options: { maxJobsPerPrincipal?: number; maxPendingJobsPerPrincipal?: number }) =>
  Effect.gen(function* () {
    const { disk, start } = yield* cluster
    const a: Node = yield* start("a", agents, { options })
    const b: Node = yield* start("b", agents, { options })
    return { a, b, disk, onA: yield* a.run(open()), onB: yield* b.run(open()) }
  })

type Opened = Effect.Effect.Success<ReturnType<typeof open>>

const answerTo = (session: Opened, id: string) =>
  session.next(({ payload }: Frame) => payload.request_id === id || payload.details?.request_id === id)

/** The answer to a submit: the id of the job, or the name of the limit, or the reason why it was refused. */
const submitted = (session: Opened, agent: string) =>
  Effect.gen(function* () {
    const { job_id, payload, type } = yield* answerTo(
      session,
      yield* session.request("job.submit", { agent, input: {} })
    )
    return type === "job.accepted" ? String(job_id) : (payload.details?.limit ?? payload.details?.reason)
  })

const isJob = (told: unknown): boolean => typeof told === "string" && told.startsWith("job_")

it.scoped("what runs on other nodes counts, until it has ended", () =>
  Effect.gen(function* () {
    const { disk, onA, onB } = yield* pair({ maxJobsPerPrincipal: 4 })
    const first = yield* submitted(onA, "forever")
    for (const session of [onA, onA, onB]) assert.isTrue(isJob(yield* submitted(session, "forever")))
    for (const session of [onA, onB])
      assert.strictEqual(yield* submitted(session, "forever"), "jobs_per_principal")
    // Of somebody else, of nobody's node, and of what only waits.
    yield* disk.store.commit({
      ops: [put({ ...aJob("job_bobs"), principal: "bob" }), put({ ...aJob("job_rejected"), rejected: true })],
      owners: []
    })
    yield* onA.request("job.cancel", {}, { job_id: first })
    yield* settle
    assert.isTrue(isJob(yield* submitted(onB, "forever")))
    assert.strictEqual(yield* submitted(onA, "forever"), "jobs_per_principal")
  })
)

it.scoped("what waits to begin on other nodes counts", () =>
  Effect.gen(function* () {
    const { onA, onB } = yield* pair({ maxPendingJobsPerPrincipal: 2 })
    // The first of each node runs.
    for (const session of [onA, onB, onA, onB]) assert.isTrue(isJob(yield* submitted(session, "alone")))
    for (const session of [onA, onB])
      assert.strictEqual(yield* submitted(session, "alone"), "pending_jobs_per_principal")
  })
)

it.scoped("two that wait for what others have at once do not begin in one place", () =>
  Effect.gen(function* () {
    const { a, disk, onA } = yield* pair({ maxJobsPerPrincipal: 4 })
    const sessions = [onA, yield* a.run(open())]
    const gate = yield* Deferred.make<void>()
    disk.onRead = (name) => (name === "openOn" ? Deferred.await(gate) : undefined)
    const asked = yield* Effect.forEach(sessions, (session) =>
      Effect.map(session.request("job.submit", { agent: "alone", input: {} }), (id) => [session, id] as const)
    )
    yield* settle
    yield* Deferred.succeed(gate, undefined)
    for (const [session, id] of asked) assert.strictEqual((yield* answerTo(session, id)).type, "job.accepted")
    const stored = yield* disk.store.jobs({ principals: "everyone", limit: 9 })
    assert.sameMembers(
      stored.map(({ status }) => status),
      ["running", "pending"]
    )
  })
)

it.scoped("of what comes at once on two nodes hardly more is taken than the cap", () =>
  Effect.gen(function* () {
    const max = 64
    const { disk, onA, onB } = yield* pair({ maxJobsPerPrincipal: max })
    const burst = (session: Opened) =>
      Effect.gen(function* () {
        const ids: Array<string> = []
        for (let i = 0; i < max; i++)
          ids.push(yield* session.request("job.submit", { agent: "forever", input: {} }))
        const answers: Array<string> = []
        for (const id of ids) answers.push((yield* answerTo(session, id)).type)
        return answers.filter((type) => type === "job.accepted").length
      })
    const taken = yield* Effect.all([burst(onA), burst(onB)], { concurrency: 2 })
    const all = taken[0] + taken[1]
    assert.isAtLeast(all, max)
    assert.isAtMost(all, max + max / 4)
    assert.strictEqual(
      (yield* disk.store.jobs({ principals: "everyone", status: ["running"], limit: 999 })).length,
      all
    )
  })
)

it.scoped("small jobs cost no read each", () =>
  Effect.gen(function* () {
    const { disk, onA } = yield* pair({ maxJobsPerPrincipal: 16 })
    for (let i = 0; i < 40; i++) {
      assert.isTrue(isJob(yield* submitted(onA, "short")))
      yield* onA.next(({ type }) => type === "job.result")
    }
    yield* settle
    assert.isAtMost(disk.reads.get("openOn") ?? 0, 2)
    assert.isAtLeast(disk.reads.get("openOn") ?? 0, 1)
  })
)

it.scoped("while they cannot be counted, what depends on it is refused, and may be tried again", () =>
  Effect.gen(function* () {
    const { disk, onA, onB } = yield* pair({ maxJobsPerPrincipal: 2 })
    yield* submitted(onA, "forever")
    yield* submitted(onA, "forever")
    yield* submitted(onB, "forever")
    disk.onRead = (name) => (name === "openOn" ? new StoreError({ message: "it is away" }) : undefined)
    const refused = yield* submitted(onB, "forever")
    assert.isFalse(isJob(refused))
    assert.notStrictEqual(refused, "jobs_per_principal")
    disk.onRead = undefined
    yield* TestClock.adjust("1 second")
    yield* settle
    assert.strictEqual(yield* submitted(onB, "forever"), "jobs_per_principal")
  })
)

it.scoped("and what a durable job delegates waits until they can", () =>
  Effect.gen(function* () {
    const goes = yield* Deferred.make<void>()
    const parent = Agent.handle(Agent.make("parent", { version: "1.0.0", durable: true }), () =>
      Effect.gen(function* () {
        yield* Deferred.await(goes)
        return yield* (yield* (yield* Job).delegate("short", {}, { key: "short" })).await
      }).pipe(Effect.orDie)
    )
    const { disk, start } = yield* cluster
    const options = { maxJobsPerPrincipal: 3, heartbeatInterval: "1 hour" } as const
    const a = yield* start("a", agents, { options })
    const b = yield* start("b", [...agents, parent], { options })
    const [onA, onB] = [yield* a.run(open()), yield* b.run(open())]
    const elsewhere = yield* submitted(onA, "forever")
    yield* submitted(onB, "forever")
    const lease_request = { "agent.delegate": ["*"] }
    const id = yield* onB.request("job.submit", { agent: "parent", input: {}, lease_request })
    const { job_id } = yield* answerTo(onB, id)
    yield* onA.request("job.cancel", {}, { job_id: elsewhere })
    yield* onA.next(({ type }) => type === "job.error")
    let failed = 0
    disk.onRead = (name) => {
      if (name !== "openOn") return undefined
      failed++
      return new StoreError({ message: "it is away" })
    }
    yield* Deferred.succeed(goes, undefined)
    yield* settle
    assert.isAbove(failed, 0)
    disk.onRead = undefined
    yield* TestClock.adjust("1 second")
    const end = yield* onB.next(
      (frame) => frame.job_id === job_id && (frame.type === "job.result" || frame.type === "job.error")
    )
    assert.strictEqual(end.payload.result, "done", JSON.stringify(end.payload))
  })
)

it.scoped("what has waited for its time begins when there is room for it with what runs on other nodes", () =>
  Effect.gen(function* () {
    const { b, disk, onA, onB } = yield* pair({ maxJobsPerPrincipal: 3 })
    const extensions = { "x-vendor.effect-arcp.schedule": { delay_sec: 10 } }
    const ids: Array<string> = []
    for (let i = 0; i < 2; i++)
      ids.push(yield* onB.request("job.submit", { agent: "forever", input: i }, { extensions }))
    for (const id of ids) assert.strictEqual((yield* answerTo(onB, id)).type, "job.accepted")
    const first = yield* submitted(onA, "forever")
    for (const session of [onA, onA]) assert.isTrue(isJob(yield* submitted(session, "forever")))
    const running = Effect.map(
      disk.store.jobs({ principals: "everyone", status: ["running"], node: "b", limit: 9 }),
      (found) => found.length
    )
    const seconds = (n: number) => Effect.repeatN(Effect.zipRight(TestClock.adjust("1 second"), settle), n)
    yield* seconds(20)
    assert.strictEqual(yield* running, 0)
    const reads = disk.reads.get("openOn") ?? 0
    // One look a second for all that wait.
    assert.isAtMost(reads, 40)
    yield* onA.request("job.cancel", {}, { job_id: first })
    yield* seconds(3)
    assert.strictEqual(yield* running, 1)
    // Whoever comes free here makes room here at once, and somebody else's jobs are begun meanwhile.
    const [begun] = yield* disk.store.jobs({
      principals: "everyone",
      status: ["running"],
      node: "b",
      limit: 9
    })
    yield* onB.request("job.cancel", {}, { job_id: begun?.jobId })
    yield* settle
    yield* settle
    assert.strictEqual(yield* running, 1)
    yield* b.kill
  })
)
