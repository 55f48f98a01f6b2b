/** Sessions that come back on another node than the one that has them. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { commitUnowned } from "../../../src/layers/store/unowned.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Op, StoreError } from "../../../src/services/store/Store.js"
import { cluster } from "../../support/Nodes.js"
import { boot, Disk } from "../../support/Rig.js"
import { connect, hello, open } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
const agents = [echo]

type Opened = Effect.Effect.Success<ReturnType<typeof open>>

const from = (session: Opened, last_event_seq = 0, resume_token = session.welcome.resume_token) => ({
  resume: { session_id: session.sessionId, resume_token, last_event_seq }
})
/** How a hello is answered: "session.welcome", or the code of its refusal. */
const answer = (more: Record<string, unknown>) =>
  Effect.gen(function* () {
    const wire = yield* connect
    yield* wire.send("session.hello", hello(more))
    const { payload, type } = yield* wire.next(() => true)
    return type === "session.error" ? (payload.code as string) : type
  })
const settle = Effect.repeatN(eventLoop.next, 100)
const submit = (session: Opened) =>
  Effect.gen(function* () {
    yield* session.request("job.submit", { agent: "echo", input: 1 })
    return yield* session.expect("job.result")
  })
const pong = (session: Opened) =>
  Effect.zipRight(session.request("session.ping", { nonce: "alive" }), session.expect("session.pong"))

describe("a session that another process has taken, and that is alone", () => {
  it.scoped("cannot be resumed here any more, and its transport is closed as superseded", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk })
      const session = yield* run(open())
      const record = yield* disk.store.session(session.sessionId)
      if (record !== undefined)
        yield* commitUnowned(disk.store, [Op.PutSession({ session: { ...record, epoch: 2 } })])
      assert.strictEqual(yield* run(answer(from(session))), "RESUME_WINDOW_EXPIRED")
      assert.strictEqual((yield* session.closed).code, 4001)
      assert.strictEqual(yield* run(answer(from(session))), "RESUME_WINDOW_EXPIRED")
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.strictEqual((yield* disk.store.session(session.sessionId))?.epoch, 2)
      yield* run(Effect.flatMap(open(), submit))
    })
  )
})

describe("a session that comes back on another node", () => {
  it.scoped("waits for no more than six answers of the store, however many jobs it observes", () =>
    Effect.gen(function* () {
      const { disk, start } = yield* cluster
      const waits = Agent.handle(Agent.make("waits", { version: "1.0.0" }), () => Effect.never)
      const [a, b] = [yield* start("a", [waits]), yield* start("b", [waits])]
      const session = yield* a.run(open())
      for (let n = 0; n < 8; n++) {
        yield* session.request("job.submit", { agent: "waits", input: n })
        yield* session.expect("job.accepted")
      }
      yield* settle
      disk.latency = "100 millis"
      const moved = yield* Effect.fork(b.run(open(from(session))))
      let answers = 0
      for (; (yield* Fiber.poll(moved))._tag === "None" && answers < 50; answers++)
        yield* Effect.zipRight(TestClock.adjust("100 millis"), Effect.repeatN(eventLoop.next, 20))
      assert.isAtMost(answers, 6)
      disk.latency = 0
      // What has been asked for still takes its time.
      yield* Effect.zipRight(TestClock.adjust("100 millis"), settle)
      const { expect, sessionId } = yield* Fiber.join(moved)
      assert.strictEqual(sessionId, session.sessionId)
      for (let n = 0; n < 8; n++) yield* expect("job.accepted")
    })
  )

  it.scoped("goes on there at once with its numbers, and its old transport is closed as superseded", () =>
    Effect.gen(function* () {
      const { disk, start } = yield* cluster
      const [a, b] = [yield* start("a", agents), yield* start("b", agents)]
      const session = yield* a.run(open({}, []))
      const { event_seq } = yield* submit(session)
      assert.isAbove(event_seq ?? 0, 0)
      const moved = yield* b.run(open(from(session), []))
      assert.strictEqual(moved.sessionId, session.sessionId)
      const replayed = yield* moved.expect("job.result")
      assert.strictEqual(replayed.event_seq, event_seq)
      assert.strictEqual((yield* session.closed).code, 4001)
      assert.deepInclude(yield* disk.store.session(session.sessionId), {
        node: "b",
        epoch: 2,
        attached: true
      })
      assert.isAbove((yield* submit(moved)).event_seq ?? 0, event_seq ?? 0)
      // And back, where it had been.
      const again = yield* a.run(open(from(moved), []))
      assert.strictEqual((yield* moved.closed).code, 4001)
      const seqs: Array<number> = []
      while (seqs.length < 2) seqs.push((yield* again.expect("job.result")).event_seq ?? 0)
      yield* submit(again)
      assert.deepInclude(yield* disk.store.session(session.sessionId), { node: "a", epoch: 3 })
      yield* TestClock.adjust("40 seconds")
      yield* settle
      yield* pong(again)
      assert.strictEqual((yield* disk.store.session(session.sessionId))?.epoch, 3)
    })
  )

  it.scoped("is found out about by what its old node writes, when the wake is lost", () =>
    Effect.gen(function* () {
      const { start, wakes } = yield* cluster
      const [a, b] = [yield* start("a", agents), yield* start("b", agents)]
      const session = yield* a.run(open())
      wakes.lost = true
      const moved = yield* b.run(open(from(session)))
      yield* session.request("job.submit", { agent: "echo", input: 1 })
      assert.strictEqual((yield* session.closed).code, 4001)
      assert.isFalse(session.seen.some(({ type }) => type === "job.accepted" || type === "job.result"))
      yield* pong(moved)
    })
  )

  it.scoped("comes back on several at once: all are welcome or refused, and one is left that writes", () =>
    Effect.gen(function* () {
      const { disk, start } = yield* cluster
      const nodes = [yield* start("a", agents), yield* start("b", agents), yield* start("c", agents)]
      const [a] = nodes
      const session = yield* (a as (typeof nodes)[number]).run(open())
      let token = session.welcome.resume_token
      for (let round = 0; round < 5; round++) {
        const tries = yield* Effect.forEach(
          [...nodes, ...nodes],
          (node) =>
            node.run(
              Effect.flatMap(connect, (wire) =>
                Effect.gen(function* () {
                  yield* wire.send("session.hello", hello(from(session, 0, token)))
                  const { payload, type } = yield* wire.next(() => true)
                  return { wire, payload, type: type === "session.error" ? (payload.code as string) : type }
                })
              )
            ),
          { concurrency: "unbounded" }
        )
        for (const { type } of tries) assert.include(["session.welcome", "INTERNAL_ERROR"], type)
        assert.isTrue(tries.some(({ type }) => type === "session.welcome"))
        yield* TestClock.adjust("3 seconds")
        yield* settle
        let alive = 0
        for (const { payload, wire } of tries) {
          yield* Effect.ignore(
            wire.connection.send([
              JSON.stringify({
                arcp: "1.1",
                id: `ping-${round}-${alive}`,
                type: "session.ping",
                session_id: session.sessionId,
                payload: { nonce: "x" }
              })
            ])
          )
          const said = yield* Effect.raceFirst(
            Effect.map(Effect.exit(wire.expect("session.pong")), Exit.isSuccess),
            Effect.as(settle, false)
          )
          if (!said) continue
          alive++
          token = payload.resume_token
        }
        assert.strictEqual(alive, 1)
        assert.isDefined(yield* disk.store.session(session.sessionId))
      }
    })
  )

  it.scoped(
    "comes back on one twice at once, as a client that has not waited: it is welcome both times",
    () =>
      Effect.gen(function* () {
        const { start } = yield* cluster
        const [a, b] = [yield* start("a", agents), yield* start("b", agents)]
        const session = yield* a.run(open())
        for (let turns = 0; turns < 20; turns++) {
          const at = turns % 2 === 0 ? b : a
          const late = Effect.zipRight(Effect.repeatN(eventLoop.next, turns), at.run(answer(from(session))))
          const answers = yield* Effect.all([at.run(answer(from(session))), late], {
            concurrency: "unbounded"
          })
          assert.deepStrictEqual(answers, ["session.welcome", "session.welcome"], `after ${turns} turns`)
        }
      })
  )

  it.scoped("is taken with the token that its old node issued while it was being taken", () =>
    Effect.gen(function* () {
      const { disk, start } = yield* cluster
      const [a, b] = [yield* start("a", agents), yield* start("b", agents)]
      const session = yield* a.run(open())
      disk.mode = "hangs"
      // It has read the session, and what it writes does not come through yet.
      const slow = yield* Effect.fork(b.run(answer(from(session))))
      while (disk.hanging === 0) yield* eventLoop.next
      disk.mode = "works"
      const moved = yield* a.run(open(from(session)))
      yield* disk.release()
      assert.strictEqual(yield* Fiber.join(slow), "session.welcome")
      assert.strictEqual(yield* b.run(answer(from(moved))), "session.welcome")
    })
  )

  /** Has the store fail to read sessions from when one is taken until it is told otherwise. */
  const unreadWhenTaken = ({ disk }: Effect.Effect.Success<typeof cluster>) => {
    const control = { fails: true, taken: false }
    disk.onCommit = ({ ops }) =>
      Effect.sync(() => {
        if (ops.some(({ _tag }) => _tag === "TakeSession")) control.taken = true
      })
    disk.onRead = (name) =>
      control.taken && control.fails && name === "session"
        ? new StoreError({ message: "restarts" })
        : undefined
    return control
  }

  it.scoped("can come back there again when what was taken could not be read", () =>
    Effect.gen(function* () {
      const nodes = yield* cluster
      const [a, b] = [yield* nodes.start("a", agents), yield* nodes.start("b", agents)]
      const session = yield* a.run(open())
      const control = unreadWhenTaken(nodes)
      for (let n = 0; n < 2; n++) assert.strictEqual(yield* b.run(answer(from(session))), "INTERNAL_ERROR")
      control.fails = false
      const moved = yield* b.run(open(from(session)))
      assert.strictEqual((yield* session.closed).code, 4001)
      yield* submit(moved)
      assert.deepInclude(yield* nodes.disk.store.session(session.sessionId), { node: "b", epoch: 2 })
    })
  )

  it.scoped("is dropped by whoever took and could not read it, when nobody comes back", () =>
    Effect.gen(function* () {
      const nodes = yield* cluster
      const given = { options: { resumeWindow: "20 seconds" } } as const
      const [a, b] = [yield* nodes.start("a", agents, given), yield* nodes.start("b", agents, given)]
      const session = yield* a.run(open())
      const control = unreadWhenTaken(nodes)
      assert.strictEqual(yield* b.run(answer(from(session))), "INTERNAL_ERROR")
      yield* Effect.zipRight(TestClock.adjust("10 seconds"), settle)
      control.fails = false
      for (let n = 0; n < 40; n++) yield* Effect.zipRight(TestClock.adjust("1 second"), settle)
      assert.isUndefined(yield* nodes.disk.store.session(session.sessionId))
    })
  )

  it.scoped("is refused with another token, to another principal, and after its window", () =>
    Effect.gen(function* () {
      const { disk, start } = yield* cluster
      const given = { options: { resumeWindow: "20 seconds" } } as const
      const [a, b] = [yield* start("a", agents, given), yield* start("b", agents, given)]
      const session = yield* a.run(open())
      assert.strictEqual(yield* b.run(answer(from(session, 0, "other"))), "RESUME_WINDOW_EXPIRED")
      const bobs = { ...from(session), auth: { scheme: "bearer", token: "bob" } }
      assert.strictEqual(yield* b.run(answer(bobs)), "RESUME_WINDOW_EXPIRED")
      assert.strictEqual(yield* b.run(answer(from(session, 1))), "INVALID_REQUEST")
      assert.deepInclude(yield* disk.store.session(session.sessionId), { node: "a" })
      yield* pong(session)
      yield* a.kill
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(yield* b.run(answer(from(session))), "RESUME_WINDOW_EXPIRED")
    })
  )

  it.scoped("of a node that has died goes on with what that had committed", () =>
    Effect.gen(function* () {
      const { start } = yield* cluster
      const [a, b] = [yield* start("a", agents), yield* start("b", agents)]
      const session = yield* a.run(open())
      yield* submit(session)
      yield* a.kill
      yield* TestClock.adjust("5 seconds")
      const moved = yield* b.run(open(from(session)))
      yield* moved.expect("job.result")
      yield* submit(moved)
    })
  )
  it.scoped("of a node that has left without storing how its sessions were, long after their hello", () =>
    Effect.gen(function* () {
      const { disk, start } = yield* cluster
      const given = { options: { resumeWindow: "20 seconds" } } as const
      const [a, b] = [yield* start("a", agents, given), yield* start("b", agents, given)]
      const session = yield* a.run(open())
      yield* TestClock.adjust("1 minute")
      yield* settle
      // Its name is not among those that are there any more.
      yield* a.kill
      assert.deepInclude(yield* disk.store.session(session.sessionId), { node: "a", attached: true })
      yield* submit(yield* b.run(open(from(session))))
    })
  )
})
