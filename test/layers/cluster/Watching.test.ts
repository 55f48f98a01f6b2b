/** Jobs that are watched from another node than the one that runs them. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { EventLog } from "../../../src/services/log/EventLog.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { cluster, type Node } from "../../support/Nodes.js"
import { open } from "../../support/Wire.js"

type Opened = Effect.Effect.Success<ReturnType<typeof open>>

const settle = Effect.repeatN(eventLoop.next, 60)
/** Lets wakes arrive, or looks come round. */
const seconds = (n: number) => Effect.repeatN(Effect.zipRight(TestClock.adjust("200 millis"), settle), 5 * n)

/** An agent that says the numbers it is given, and returns at 0; at a negative one it delegates to `echo` first. */
const speaker = Effect.gen(function* () {
  const words = yield* Queue.unbounded<number>()
  const speak = Agent.handle(
    Agent.make("speak", { version: "1.0.0", output: Schema.String }),
    Effect.fn(function* () {
      const job = yield* Job
      for (;;) {
        const n = yield* Queue.take(words)
        if (n === 0) return "over"
        if (n < 0) yield* job.delegate("echo", { n })
        yield* job.emit("x-vendor.test.n", { n })
      }
    })
  )
  const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
  return { agents: [speak, echo], say: (...numbers: ReadonlyArray<number>) => Queue.offerAll(words, numbers) }
})

const begin = (session: Opened) =>
  Effect.gen(function* () {
    yield* session.request("job.submit", {
      agent: "speak",
      input: {},
      lease_request: { "agent.delegate": ["echo"] }
    })
    return String((yield* session.expect("job.accepted")).job_id)
  })

const from = (session: Opened, last_event_seq = 0) => ({
  resume: { session_id: session.sessionId, resume_token: session.welcome.resume_token, last_event_seq }
})

/** The numbers that a session was told of a job, and "end"; its numbering is looked at too. */
const told = (session: Opened, jobId: string, first = 1): ReadonlyArray<number | string> => {
  const events = session.seen.filter(({ event_seq }) => event_seq !== undefined)
  events.forEach(({ event_seq }, i) => assert.strictEqual(event_seq, first + i))
  return events
    .filter(({ job_id }) => job_id === jobId)
    .flatMap(
      ({ payload, type }): ReadonlyArray<number | string> =>
        type !== "job.event" ? ["end"] : payload.kind === "x-vendor.test.n" ? [payload.body.n as number] : []
    )
}
/** Takes whatever has come; the transport may be closed, since the session has moved. */
const drain = (session: Opened) =>
  Effect.raceFirst(Effect.exit(Effect.forever(session.next(() => false))), Effect.zipRight(settle, settle))

const subscribe = (session: Opened, jobId: string, more: object = {}) =>
  Effect.gen(function* () {
    yield* session.request("job.subscribe", { ...more }, { job_id: jobId })
    return yield* session.next(({ type }) => type === "job.subscribed" || type === "session.error")
  })

const pair = Effect.gen(function* () {
  const { disk, start, wakes } = yield* cluster
  const { agents, say } = yield* speaker
  const a: Node = yield* start("a", agents)
  const b: Node = yield* start("b", agents)
  return { a, b, disk, say, wakes }
})

describe("a job that is watched from another node", () => {
  for (const lost of [false, true])
    it.scoped(
      `is seen whole and in order, ${lost ? "also when wakes are lost" : "as soon as it says something"}`,
      () =>
        Effect.gen(function* () {
          const { a, b, disk, say, wakes } = yield* pair
          wakes.lost = lost
          const owner = yield* a.run(open())
          const jobId = yield* begin(owner)
          yield* say(1, 2, 3)
          yield* settle
          const watcher = yield* b.run(open())
          const late = yield* b.run(open())
          const none = yield* b.run(open({}, ["subscribe"]))
          assert.strictEqual((yield* subscribe(watcher, jobId, { history: true })).type, "job.subscribed")
          yield* subscribe(none, jobId)
          yield* say(4, 5)
          yield* lost ? seconds(2) : Effect.zipRight(TestClock.adjust("300 millis"), settle)
          assert.deepStrictEqual(
            yield* Effect.map(drain(watcher), () => told(watcher, jobId)),
            [1, 2, 3, 4, 5]
          )
          yield* subscribe(late, jobId, { history: true })
          yield* say(6, 0)
          yield* lost ? seconds(2) : Effect.zipRight(TestClock.adjust("300 millis"), settle)
          for (const session of [watcher, late, none]) yield* drain(session)
          for (const session of [watcher, late])
            assert.deepStrictEqual(told(session, jobId), [1, 2, 3, 4, 5, 6, "end"])
          assert.deepStrictEqual(told(none, jobId), [4, 5, 6, "end"])
          // Nothing is left of it once its end is numbered.
          assert.deepStrictEqual([...(yield* disk.store.observersOf([jobId])).keys()], [])
          // It has ended: the last of it is there for whoever comes.
          const after = yield* b.run(open())
          yield* subscribe(after, jobId, { history: true })
          yield* drain(after)
          assert.deepStrictEqual(told(after, jobId), [1, 2, 3, 4, 5, 6, "end"])
        })
    )

  it.scoped("costs one read and one commit for each wake, however many watch", () =>
    Effect.gen(function* () {
      const { a, b, disk, say } = yield* pair
      const owner = yield* a.run(open())
      const jobs = [yield* begin(owner), yield* begin(owner)]
      const watchers = yield* Effect.all(Array.from({ length: 3 }, () => b.run(open())))
      for (const watcher of watchers) for (const jobId of jobs) yield* subscribe(watcher, jobId)
      yield* say(1)
      yield* Effect.zipRight(TestClock.adjust("300 millis"), settle)
      for (const watcher of watchers) yield* drain(watcher)
      const before = disk.commits
      disk.reads.clear()
      for (const n of [2, 3, 4]) yield* Effect.zipRight(say(n), settle)
      for (const watcher of watchers) {
        yield* drain(watcher)
        assert.deepStrictEqual(jobs.flatMap((jobId) => told(watcher, jobId)).sort(), [1, 2, 3, 4])
      }
      assert.deepStrictEqual([...disk.reads], [["news", 3]])
      // Each event, and its three numbers.
      assert.strictEqual(disk.commits - before, 2 * 3)
    })
  )

  it.scoped("is looked at for a third of the time by a node that has much to see", () =>
    Effect.gen(function* () {
      const { a, b, disk, say } = yield* pair
      const jobId = yield* begin(yield* a.run(open()))
      const watcher = yield* b.run(open())
      yield* subscribe(watcher, jobId)
      yield* Effect.zipRight(TestClock.adjust("300 millis"), settle)
      disk.reads.clear()
      disk.onRead = (name) => (name === "news" ? Effect.sleep("10 millis") : Effect.void)
      const numbers = Array.from({ length: 100 }, (_, i) => i + 1)
      // An event each 4 ms: without a rest each look would be followed by the next.
      for (const n of numbers) {
        yield* say(n)
        yield* Effect.repeatN(eventLoop.next, 12)
        yield* TestClock.adjust("4 millis")
      }
      const looks = disk.reads.get("news") ?? 0
      assert.isAtLeast(looks, 4)
      assert.isAtMost(looks, 16)
      yield* seconds(1)
      yield* drain(watcher)
      assert.deepStrictEqual(told(watcher, jobId), numbers)
    })
  )

  it.scoped("goes on for its owner, who has moved, with what it delegates to, and for who moves again", () =>
    Effect.gen(function* () {
      const { a, b, say } = yield* pair
      const first = yield* a.run(open())
      const jobId = yield* begin(first)
      yield* say(1, 2)
      yield* settle
      yield* drain(first)
      assert.deepStrictEqual(told(first, jobId), [1, 2])
      const moved = yield* b.run(open(from(first)))
      yield* say(3, -4, 5)
      yield* seconds(2)
      yield* drain(moved)
      assert.deepStrictEqual(told(moved, jobId), [1, 2, 3, -4, 5])
      const child = moved.seen.find(
        ({ job_id, event_seq }) => event_seq !== undefined && job_id !== jobId
      )?.job_id
      assert.isDefined(child)
      assert.deepStrictEqual(told(moved, String(child)), ["end"])
      // Back to where its job is.
      const back = yield* a.run(open(from(moved)))
      yield* say(6)
      yield* seconds(1)
      const again = yield* b.run(open(from(back)))
      yield* say(7, 0)
      yield* seconds(2)
      for (const session of [back, again]) yield* drain(session)
      assert.deepStrictEqual(told(back, jobId).slice(0, 6), [1, 2, 3, -4, 5, 6])
      assert.deepStrictEqual(told(again, jobId), [1, 2, 3, -4, 5, 6, 7, "end"])
    })
  )

  it.scoped("is no longer seen by a session that has unsubscribed", () =>
    Effect.gen(function* () {
      const { a, b, disk, say } = yield* pair
      const owner = yield* a.run(open())
      const jobId = yield* begin(owner)
      yield* say(1)
      yield* settle
      const watcher = yield* b.run(open())
      yield* subscribe(watcher, jobId, { history: true })
      yield* watcher.request("job.unsubscribe", {}, { job_id: jobId })
      yield* settle
      yield* say(2, 0)
      yield* seconds(2)
      yield* drain(watcher)
      assert.deepStrictEqual(told(watcher, jobId), [1])
      assert.deepStrictEqual([...(yield* disk.store.observersOf([jobId])).keys()], [])
    })
  )

  it.scoped("can be followed by its own numbers", () =>
    Effect.gen(function* () {
      const { a, b, disk, say } = yield* pair
      const owner = yield* a.run(open())
      const jobId = yield* begin(owner)
      yield* say(1)
      yield* settle
      const record = yield* disk.store.job(jobId)
      if (record === undefined) return assert.fail("no job")
      const job = yield* Context.get(b.context, EventLog).follow(record)
      const events: Array<string> = []
      const reading = yield* Effect.fork(
        Effect.gen(function* () {
          for (let after = 0; ; ) {
            const page = yield* job.read(after)
            for (const event of page.events) events.push(event.kind)
            after = page.through
            if (page.ended) return
          }
        })
      )
      yield* seconds(1)
      const before = events.length
      assert.isAbove(before, 0)
      yield* say(2, 0)
      yield* seconds(2)
      yield* reading.await
      assert.isAtLeast(events.length, before + 2)
      assert.isTrue((yield* job.bounds).ended)
    })
  )

  for (const goes of ["has moved", "is gone"])
    it.scoped(`is let go of by a session that watches it and ${goes}, and can be deleted there`, () =>
      Effect.gen(function* () {
        const { disk, start } = yield* cluster
        const { agents, say } = yield* speaker
        const a = yield* start("a", agents)
        const b = yield* start("b", agents, { options: { resumeWindow: "1 second" } })
        const owner = yield* a.run(open())
        const jobId = yield* begin(owner)
        yield* say(1)
        yield* settle
        const watcher = yield* b.run(open())
        yield* subscribe(watcher, jobId, { history: true })
        yield* seconds(1)
        if (goes === "has moved") yield* a.run(open(from(watcher)))
        else yield* Effect.zipRight(watcher.connection.close(1000, ""), seconds(5))
        yield* say(0)
        yield* seconds(2)
        const record = yield* disk.store.job(jobId)
        if (record === undefined) return assert.fail("no job")
        assert.strictEqual(record.status, "success")
        const forgetting = yield* Effect.fork(Context.get(b.context, EventLog).forget([record]))
        yield* seconds(1)
        assert.isTrue(Option.isSome(yield* Fiber.poll(forgetting)))
        assert.isUndefined(yield* disk.store.job(jobId))
      })
    )
})
