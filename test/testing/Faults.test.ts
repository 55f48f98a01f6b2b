import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as ArcpClient from "../../src/layers/client/ArcpClient.js"
import * as TransportMemory from "../../src/layers/transport/TransportMemory.js"
import * as Agent from "../../src/services/agents/Agent.js"
import { Job } from "../../src/services/jobs/Job.js"
import { eventLoop } from "../../src/services/runtime/Turn.js"
import { Dialer, TransportServer } from "../../src/services/transport/Transport.js"
import * as Check from "../../src/testing/Check.js"
import * as Faults from "../../src/testing/Faults.js"
import * as TestRuntime from "../../src/testing/TestRuntime.js"

const Count = Agent.make("count", { version: "1.0.0", input: Schema.Int, output: Schema.Int })
const count = Agent.handle(Count, (to) =>
  Effect.gen(function* () {
    const job = yield* Job
    for (let i = 1; i <= to; i++) yield* job.log("info", String(i))
    return to
  })
)

/** At once: the clock does not move by itself. */
const options = { client: { reconnect: Schedule.recurs(100), ack: { events: 1 } } }
/** A job that everything happens to: every event once, in order, one end. */
const counted = (to = 30) =>
  Effect.gen(function* () {
    const client = yield* ArcpClient.ArcpClient
    const faults = yield* Faults.Faults
    const job = yield* client.submit(Count, to)
    const events = yield* Check.events(job)
    assert.strictEqual(yield* job.result, to)
    Check.numbered(events, { from: 1 })
    assert.deepStrictEqual(
      events.flatMap((event) => (event.kind === "log" ? [event.body.message] : [])),
      Array.from({ length: to }, (_, i) => String(i + 1))
    )
    Check.endedOnce(yield* faults.frames, job.jobId)
    return { connections: yield* faults.connections, pending: yield* faults.pending }
  })

const event = { to: "client", type: "job.event" } as const
const cases: ReadonlyArray<readonly [name: string, connections: number, rules: ReadonlyArray<Faults.Rule>]> =
  [
    ["no fault", 1, []],
    ["an event dropped with its connection", 2, [{ ...event, fault: "drop" }]],
    ["dropped behind an event", 2, [{ ...event, fault: "drop", delivered: true }]],
    ["dropped at three events", 4, [{ ...event, fault: "drop", times: 3 }]],
    ["the submit lost", 2, [{ to: "runtime", type: "job.submit", fault: "drop" }]],
    ["the accept lost", 2, [{ to: "client", type: "job.accepted", fault: "drop" }]],
    ["the end lost", 2, [{ to: "client", type: "job.result", fault: "drop" }]],
    [
      "a welcome lost when resuming",
      3,
      [
        { ...event, fault: "drop" },
        { to: "client", type: "session.welcome", connection: 2, fault: "drop" }
      ]
    ],
    ["resumed while the first connection is still there", 2, [{ ...event, fault: "abandon" }]],
    ["an event that comes twice", 1, [{ ...event, fault: "repeat", times: 5 }]],
    ["a submit that comes twice", 1, [{ to: "runtime", type: "job.submit", fault: "repeat" }]]
  ]

/** Until the rules have been applied: what is to pass by the clock must have begun. */
const applied = Effect.gen(function* () {
  const faults = yield* Faults.Faults
  while ((yield* faults.pending).length > 0) yield* eventLoop.next
})

describe("Faults", () => {
  for (const [name, connections, rules] of cases)
    it.scoped(`${name}: exactly once all the same`, () =>
      Effect.gen(function* () {
        const faults = yield* Faults.Faults
        yield* faults.add(...rules)
        const seen = yield* counted()
        assert.deepStrictEqual(seen, { connections, pending: [] })
      }).pipe(Effect.provide(TestRuntime.layer([count], options)))
    )

  for (const seed of [1, 2, 3])
    it.scoped(`seed ${seed}: twenty broken connections, exactly once all the same`, () =>
      Effect.gen(function* () {
        const faults = yield* Faults.Faults
        // The first connection stands already.
        for (const rule of Faults.seeded(seed, { breaks: 20, within: 4 }))
          yield* faults.add({ ...rule, connection: (rule.connection ?? 0) + 1 })
        yield* faults.drop
        const { connections } = yield* counted(200)
        assert.isAbove(connections, 10)
      }).pipe(Effect.provide(TestRuntime.layer([count], options)))
    )

  it("seeded rules are the same for the same seed", () => {
    const rules = Faults.seeded(7, { breaks: 50, within: 9 })
    assert.deepStrictEqual(new Set(rules.map(({ to }) => to)), new Set(["client"]))
    const both = Faults.seeded(7, { breaks: 50, within: 9, both: true })
    assert.deepStrictEqual(new Set(both.map(({ to }) => to)), new Set(["client", "runtime"]))
    assert.deepStrictEqual(Faults.seeded(7, { breaks: 50, within: 9 }), rules)
    assert.notDeepEqual(Faults.seeded(8, { breaks: 50, within: 9 }), rules)
    assert.deepStrictEqual(new Set(rules.map(({ fault }) => fault)), new Set(["drop", "abandon"]))
    for (const [i, { connection, frame = 0 }] of rules.entries()) {
      assert.strictEqual(connection, i + 1)
      assert.isTrue(frame >= 1 && frame <= 9)
    }
  })

  it.scoped("a truncated event is asked for again by the client", () =>
    Effect.gen(function* () {
      const faults = yield* Faults.Faults
      const client = yield* ArcpClient.ArcpClient
      yield* faults.add({ ...event, fault: "truncate", length: 20 })
      const job = yield* client.submit(Count, 30)
      assert.strictEqual(yield* job.result, 30)
      assert.isTrue((yield* faults.frames).some(({ connection }) => connection > 1))
    }).pipe(Effect.provide(TestRuntime.layer([count], options)))
  )

  it.scoped("a truncated frame is refused by the runtime", () =>
    Effect.gen(function* () {
      const faults = yield* Faults.Faults
      const client = yield* ArcpClient.ArcpClient
      yield* faults.add({ to: "runtime", type: "session.ping", fault: "truncate", length: 20 })
      yield* Effect.fork(client.ping)
      const said = () =>
        Effect.map(faults.frames, (frames) => frames.some(({ text }) => text.includes("INVALID_REQUEST")))
      while (!(yield* said())) yield* Effect.yieldNow()
    }).pipe(Effect.provide(TestRuntime.layer([count], options)))
  )

  it.scoped("a delayed frame comes when it is time, in its place", () =>
    Effect.gen(function* () {
      const faults = yield* Faults.Faults
      yield* faults.add({ ...event, frame: 4, fault: "delay", by: "10 seconds" })
      const counting = yield* Effect.fork(counted())
      yield* applied
      yield* TestClock.adjust("9 seconds")
      assert.isTrue((yield* Fiber.poll(counting))._tag === "None")
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(counting)).connections, 1)
    }).pipe(Effect.provide(TestRuntime.layer([count], options)))
  )

  it.scoped("a connection that falls silent is given up after two heartbeats", () =>
    Effect.gen(function* () {
      const faults = yield* Faults.Faults
      yield* faults.add({ ...event, frame: 4, fault: "silence" })
      const counting = yield* Effect.fork(counted())
      yield* applied
      yield* TestClock.adjust("30 seconds")
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* Fiber.join(counting)).connections, 2)
    }).pipe(Effect.provide(TestRuntime.layer([count], options)))
  )

  it.scoped("frames are held until they are released, and a drop frees who waits", () =>
    Effect.gen(function* () {
      const faults = yield* Faults.Faults
      yield* faults.hold("client")
      const counting = yield* Effect.fork(counted())
      yield* TestClock.adjust("1 second")
      assert.isTrue((yield* Fiber.poll(counting))._tag === "None")
      yield* faults.drop
      yield* faults.release("client")
      assert.strictEqual((yield* Fiber.join(counting)).connections, 2)
    }).pipe(Effect.provide(TestRuntime.layer([count], options)))
  )

  it.scoped("a runtime that cannot be reached is given up as one that does not answer", () =>
    Effect.gen(function* () {
      const faults = yield* Faults.Faults
      const client = yield* ArcpClient.ArcpClient
      yield* faults.hold("runtime")
      yield* faults.drop
      const pinging = yield* Effect.fork(client.ping)
      while ((yield* faults.connections) < 2) yield* Effect.yieldNow()
      // It may not have begun to wait yet.
      while ((yield* faults.connections) < 3) yield* TestClock.adjust("10 seconds")
      yield* faults.release("runtime")
      yield* Fiber.join(pinging)
    }).pipe(Effect.provide(TestRuntime.layer([count], options)))
  )

  it.scoped("a job that two sessions see has one end", () =>
    Effect.gen(function* () {
      const faults = yield* Faults.Faults
      const client = yield* ArcpClient.ArcpClient
      const other = yield* TestRuntime.connect("test")
      yield* (yield* other.submit(Count, 1)).result
      const job = yield* client.submit(Count, 3)
      const seen = yield* other.subscribe(job.jobId, { history: true })
      assert.strictEqual(yield* job.result, 3)
      assert.strictEqual(yield* seen.result, 3)
      Check.endedOnce(yield* faults.frames, job.jobId)
    }).pipe(Effect.provide(TestRuntime.layer([count], options)))
  )

  it.scoped("connections are refused as often as asked", () =>
    Effect.gen(function* () {
      const faults = yield* Faults.Faults
      yield* faults.refuse(3)
      yield* faults.drop
      const client = yield* ArcpClient.ArcpClient
      yield* client.ping
      assert.strictEqual(yield* faults.connections, 2)
    }).pipe(Effect.provide(TestRuntime.layer([count], options)))
  )

  it.scoped("rules can be given with the layer, around any dialer", () =>
    Effect.gen(function* () {
      const dialer = yield* Dialer
      const connection = yield* dialer.connect
      const server = yield* TransportServer
      assert.strictEqual(server.address, "memory:")
      yield* connection.send(["lost"])
      assert.strictEqual((yield* Effect.flip(connection.take)).code, 1006)
      yield* connection.send(["dropped quietly, as on every connection that is gone"])
    }).pipe(
      Effect.provide(
        Faults.layer([{ to: "runtime", fault: "drop" }]).pipe(Layer.provideMerge(TransportMemory.layer()))
      )
    )
  )
})
