/** Who looks, on the node that offers a parked job, at what becomes of it on the one that takes it. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Policy } from "../../../src/services/auth/Policy.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { EventLog } from "../../../src/services/log/EventLog.js"
import { type JobRecord, StoreError } from "../../../src/services/store/Store.js"
import { asked, type Opened, recordOf, seconds, settle } from "../../support/asking.js"
import { cluster, type Node } from "../../support/Nodes.js"
import { open } from "../../support/Wire.js"

/** What holds something up until it is let go, the first time only. */
const once = Effect.map(Deferred.make<void>(), (gate) => {
  let isFirst = true
  return {
    isReached: () => !isFirst,
    wait: Effect.suspend(() => {
      if (!isFirst) return Effect.void
      isFirst = false
      return Deferred.await(gate)
    }),
    open: Deferred.succeed(gate, undefined)
  }
})

/** A job that is parked on "a", which has not its agent any more, and a node that comes with it. */
const parked = (policy = PolicyLayer.layer()) =>
  Effect.gen(function* () {
    const { disk, idle, start } = yield* cluster
    const gate = yield* Deferred.make<void>()
    const agent = Agent.handle(Agent.make("x", { version: "1.0.0", durable: true }), () =>
      Effect.gen(function* () {
        const job = yield* Job
        yield* job.emit("x-vendor.test.n", { n: 1 })
        yield* job.step("wait", Deferred.await(gate))
        yield* job.emit("x-vendor.test.n", { n: 2 })
        return "over"
      }).pipe(Effect.orDie)
    )
    const first = yield* start("a", [agent])
    const owner = yield* first.run(open())
    yield* owner.request("job.submit", { agent: "x", input: {} })
    const jobId = String((yield* owner.expect("job.accepted")).job_id)
    yield* settle
    yield* first.kill
    const startAgain = Effect.zipLeft(start("a", [], { policy }), seconds(6))
    const a = yield* startAgain
    assert.strictEqual((yield* recordOf(disk, jobId)).survival?.parked, "agent_not_available")
    /** Another node comes, takes the job, and ends it. */
    const comes = Effect.gen(function* () {
      yield* start("c", [agent])
      yield* seconds(10)
      assert.strictEqual((yield* recordOf(disk, jobId)).node, "c")
    })
    /** Another node comes that cannot have it, either. */
    const comesInVain = Effect.gen(function* () {
      yield* idle("b")
      yield* seconds(10)
      assert.deepInclude(yield* recordOf(disk, jobId), { node: "a", epoch: 3 })
    })
    const ends = Effect.zipRight(Deferred.succeed(gate, undefined), seconds(3))
    const resume = {
      session_id: owner.sessionId,
      resume_token: owner.welcome.resume_token,
      last_event_seq: 0
    }
    return { a, comes, comesInVain, disk, ends, jobId, resume, startAgain }
  })

/** What a session was told of a job: the numbers that it said, and its end. */
const told = (session: Opened, jobId: string) =>
  Effect.map(
    Effect.raceFirst(Effect.exit(Effect.forever(session.next(() => false))), Effect.zipRight(settle, settle)),
    () =>
      session.seen
        .filter(({ event_seq, job_id }) => event_seq !== undefined && job_id === jobId)
        .flatMap(({ payload, type }): ReadonlyArray<number | string> => {
          if (type !== "job.event") return ["end"]
          return payload.kind === "x-vendor.test.n" ? [payload.body.n as number] : []
        })
  )

/** Reads a job by its own numbers to its end. */
const followed = (node: Node, record: JobRecord) =>
  Effect.gen(function* () {
    const job = yield* Context.get(node.context, EventLog).follow(record)
    const said: Array<number | string> = []
    for (let after = 0; ; ) {
      const { ended, events, through } = yield* job.read(after)
      for (const { kind, payload, type } of events) {
        if (type !== "job.event") said.push("end")
        else if (kind === "x-vendor.test.n") said.push(JSON.parse(payload).body.n)
      }
      after = through
      if (ended) return said
    }
  })

describe("a job that is offered is seen to its end", () => {
  for (const isTaken of [true, false])
    it.scoped(
      `by who observes or follows it, when it ${isTaken ? "is taken" : "comes back"} and the store fails right after it was left`,
      () =>
        Effect.gen(function* () {
          const { a, comes, comesInVain, disk, ends, jobId, resume } = yield* parked()
          const owner = yield* a.run(open({ resume }))
          const watcher = yield* a.run(open())
          yield* asked(watcher, "job.subscribe", { history: true }, jobId)
          const following = yield* Effect.fork(followed(a, yield* recordOf(disk, jobId)))
          yield* settle
          let fails = 0
          disk.onCommit = ({ ops }) => {
            if (ops.some((op) => op._tag === "MoveJob" && op.node === "")) fails = 1
            else if (fails-- > 0) return new StoreError({ message: "the connection is lost" })
            return Effect.void
          }
          yield* isTaken ? comes : comesInVain
          const late = yield* a.run(open())
          yield* asked(late, "job.subscribe", { history: true }, jobId)
          yield* isTaken ? ends : Effect.zipRight(asked(owner, "job.cancel", {}, jobId), seconds(3))
          const all = isTaken ? [1, 2, "end"] : [1, "end"]
          for (const session of [owner, watcher, late])
            assert.deepStrictEqual(yield* told(session, jobId), all)
          assert.deepStrictEqual(yield* Fiber.join(following), all)
        })
    )

  it.scoped("by a session that catches up with it meanwhile", () =>
    Effect.gen(function* () {
      const { a, comes, disk, ends, jobId, resume } = yield* parked()
      const held = yield* once
      disk.onRead = (name) => (name === "backlog" ? held.wait : undefined)
      const owner = yield* a.run(open({ resume }))
      yield* settle
      assert.isTrue(held.isReached())
      yield* comes
      yield* held.open
      yield* ends
      assert.deepStrictEqual(yield* told(owner, jobId), [1, 2, "end"])
    })
  )

  it.scoped("by a session that had come to its end before the node was started again", () =>
    Effect.gen(function* () {
      const { a, comes, ends, jobId, resume, startAgain } = yield* parked()
      const before = yield* a.run(open({ resume }))
      assert.deepStrictEqual(yield* told(before, jobId), [1])
      yield* a.kill
      const again = yield* startAgain
      const { resume_token } = before.welcome
      const owner = yield* again.run(open({ resume: { ...resume, resume_token, last_event_seq: 0 } }))
      yield* comes
      yield* ends
      assert.deepStrictEqual(yield* told(owner, jobId), [1, 2, "end"])
    })
  )

  for (const by of ["a policy", "its history"])
    it.scoped(`by who subscribes to it meanwhile, held up by ${by}`, () =>
      Effect.gen(function* () {
        const held = yield* once
        const slow = Layer.effect(
          Policy,
          Effect.map(Policy, (policy) => ({
            ...policy,
            maySubscribe: (...asked: Parameters<typeof policy.maySubscribe>) =>
              Effect.zipRight(held.wait, policy.maySubscribe(...asked))
          }))
        ).pipe(Layer.provide(PolicyLayer.layer()))
        const { a, comes, disk, ends, jobId } = yield* parked(by === "a policy" ? slow : undefined)
        if (by === "its history") disk.onRead = (name) => (name === "backlog" ? held.wait : undefined)
        const watcher = yield* a.run(open())
        const subscribing = yield* Effect.fork(asked(watcher, "job.subscribe", { history: true }, jobId))
        yield* settle
        assert.isTrue(held.isReached())
        yield* comes
        yield* held.open
        assert.strictEqual((yield* Fiber.join(subscribing)).type, "job.subscribed")
        yield* ends
        assert.deepStrictEqual(yield* told(watcher, jobId), [1, 2, "end"])
        // Nobody who comes later finds what was here before, either.
        const late = yield* a.run(open())
        yield* asked(late, "job.subscribe", { history: true }, jobId)
        assert.deepStrictEqual(yield* told(late, jobId), [1, 2, "end"])
      })
    )
})
