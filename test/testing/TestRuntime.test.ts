import { pbkdf2 } from "node:crypto"
import { promisify } from "node:util"
import * as FileSystem from "@effect/platform/FileSystem"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as ArcpClient from "../../src/layers/client/ArcpClient.js"
import * as Agent from "../../src/services/agents/Agent.js"
import { Policy } from "../../src/services/auth/Policy.js"
import { Job } from "../../src/services/jobs/Job.js"
import * as Leased from "../../src/services/lease/Leased.js"
import * as Check from "../../src/testing/Check.js"
import * as Faults from "../../src/testing/Faults.js"
import * as ScriptedRuntime from "../../src/testing/ScriptedRuntime.js"
import * as TestRuntime from "../../src/testing/TestRuntime.js"

/** Work for a thread of Node's. */
const deriveKey = promisify(pbkdf2)

class Greeting extends Context.Tag("test/Greeting")<Greeting, string>() {}
const Greet = Agent.make("greet", { version: "1.0.0", input: Schema.String, output: Schema.String })
const greet = Agent.handle(Greet, (name) => Effect.map(Greeting, (greeting) => `${greeting}, ${name}`))
const Lines = Agent.make("lines", { version: "1.0.0", input: Schema.String, output: Schema.Number })
const lines = Agent.handle(Lines, (file) =>
  Effect.gen(function* () {
    const files = yield* FileSystem.FileSystem
    return (yield* files.readFileString(file)).split("\n").length - 1
  }).pipe(Effect.orDie)
)
const Sleeper = Agent.make("sleeper", {
  version: "1.0.0",
  input: Schema.NullOr(Schema.Literal("9 hours")),
  output: Schema.Null
})
const sleeper = Agent.handle(Sleeper, (time) => Effect.as(Effect.sleep(time ?? "1 hour"), null))
const stuck = Agent.handle(Agent.make("stuck", { version: "1.0.0" }), () =>
  Effect.onInterrupt(Effect.never, () => Effect.sleep("1 hour"))
)
const Stubborn = Agent.make("stubborn", { version: "1.0.0", input: Schema.Null, output: Schema.Null })
const stubborn = Agent.handle(Stubborn, () => Effect.uninterruptible(Effect.never))
const Whose = Agent.make("whose", { version: "1.0.0", input: Schema.Null, output: Schema.String })
const whose = Agent.handle(Whose, () => Effect.map(Job, ({ principal }) => principal))

describe("TestRuntime", () => {
  it.scoped("runs agents, with the services that they need", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit(Greet, "world")
      assert.strictEqual(yield* job.result, "Hello, world")
    }).pipe(Effect.provide(TestRuntime.layer([greet]).pipe(Layer.provide(Layer.succeed(Greeting, "Hello")))))
  )

  it.scoped("leases a real file system to an agent, in a folder of the test", () =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const folder = yield* Effect.flatMap(files.makeTempDirectoryScoped(), files.realPath)
      yield* files.writeFileString(`${folder}/a.txt`, "one\ntwo\n")
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit(Lines, `${folder}/a.txt`, {
        leaseRequest: { "fs.read": [`${folder}/**`] }
      })
      assert.strictEqual(yield* job.result, 2)
    }).pipe(Effect.provide(Layer.provideMerge(TestRuntime.layer([lines]), NodeFileSystem.layer)))
  )

  it.scoped("tells a test why an agent has failed, unless it is to be told what clients are", () =>
    Effect.gen(function* () {
      const broken = Agent.handle(Agent.make("broken", { version: "1.0.0" }), () =>
        Effect.die(new Error("the till is empty"))
      )
      const failure = Effect.gen(function* () {
        const job = yield* (yield* ArcpClient.ArcpClient).submit("broken", null)
        return String(yield* Effect.flip(job.result))
      })
      const told = yield* Effect.provide(failure, TestRuntime.layer([broken]))
      assert.include(told, "the till is empty")
      const hidden = TestRuntime.layer([broken], { options: { revealFailures: false } })
      assert.notInclude(yield* Effect.provide(failure, hidden), "the till is empty")
    })
  )

  it.scoped("does not let the clock go on while other threads are busy", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const faults = yield* Faults.Faults
      yield* faults.add({ to: "client", type: "job.event", fault: "drop" })
      const busy = Array.from({ length: 16 }, () => deriveKey("password", "salt", 100_000, 64, "sha512"))
      const job = yield* client.submit(Sleeper, null)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* job.result, null)
      assert.strictEqual(yield* faults.connections, 2)
      yield* Effect.promise(() => Promise.all(busy))
    }).pipe(Effect.provide(TestRuntime.layer([sleeper], { client: { reconnect: Schedule.recurs(10) } })))
  )

  it.scoped("closes though a cancelled job does not stop, and its grace does not pass", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit(Stubborn, null)
      yield* job.cancel()
    }).pipe(Effect.provide(TestRuntime.layer([stubborn])))
  )

  it.scoped("anybody is who the token names; others do not see the job", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      assert.strictEqual(yield* (yield* client.submit(Whose, null)).result, "test")
      const bob = yield* TestRuntime.connect("bob")
      const job = yield* bob.submit(Whose, null)
      assert.strictEqual(yield* job.result, "bob")
      assert.strictEqual((yield* Effect.flip(client.subscribe(job.jobId)))._tag, "JobNotFound")
    }).pipe(Effect.provide(TestRuntime.layer([whose])))
  )

  it.scoped("a policy, and services to be leased, can be given", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const refused = yield* Effect.flip(client.submit(Whose, null))
      assert.strictEqual(refused._tag, "AgentNotAvailable")
      const job = yield* client.submit(Greet, "world")
      assert.strictEqual(yield* job.result, "Leased hello, world")
    }).pipe(
      Effect.provide(
        TestRuntime.layer([greet, whose], {
          leased: [Leased.make(Greeting, (open) => `Leased ${open}`)],
          policy: Layer.succeed(Policy, {
            listable: ({ principal }) => Effect.succeed([principal]),
            maySubscribe: () => Effect.succeed(true),
            mayCancel: () => Effect.succeed(true),
            mayAnswer: () => Effect.succeed(true),
            mayUseAgent: (_, agent) => Effect.succeed(agent === "greet")
          })
        }).pipe(Layer.provide(Layer.succeed(Greeting, "hello")))
      )
    )
  )

  it.scoped("identities and options can be given", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      yield* client.submit(Sleeper, null)
      assert.strictEqual((yield* Effect.flip(client.submit(Sleeper, null)))._tag, "InternalError")
      assert.strictEqual((yield* Effect.flip(TestRuntime.connect("nobody")))._tag, "Unauthenticated")
    }).pipe(
      Effect.provide(
        TestRuntime.layer([sleeper], {
          identities: { test: "me" },
          options: { maxJobsPerSession: 1 }
        })
      )
    )
  )
})

describe("the clock of the test", () => {
  const runtime = TestRuntime.layer([sleeper, stuck], {
    // Fewer wake-ups on the way to the hour.
    options: { cancelGrace: "20000 millis", heartbeatInterval: "3600 seconds", resumeWindow: "60 seconds" },
    client: { reconnect: Schedule.spaced("50 seconds") }
  })
  /** How it ends, when the clock has moved so far and not before. */
  const after = <A, E, R>(seconds: number, effect: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const running = yield* Effect.fork(effect)
      yield* TestClock.adjust(seconds * 1000 - 1)
      assert.strictEqual((yield* Fiber.poll(running))._tag, "None")
      yield* TestClock.adjust(1)
      return yield* Fiber.join(running)
    })
  const running = (agent: string, more?: ArcpClient.SubmitOptions) =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit(agent, null, more)
      yield* Check.seen(job, "status")
      // A client with something unread looks every second whether it may acknowledge it.
      yield* Effect.fork(Check.events(job))
      return job
    })

  it.scoped("moves the agent on", () =>
    Effect.gen(function* () {
      const job = yield* running("sleeper")
      assert.isNull(yield* after(3600, job.result))
    }).pipe(Effect.provide(runtime))
  )

  it.scoped("ends a job at its limit", () =>
    Effect.gen(function* () {
      const job = yield* running("sleeper", { maxRuntime: "10 minutes" })
      assert.strictEqual((yield* after(600, Effect.flip(job.result)))._tag, "Timeout")
    }).pipe(Effect.provide(runtime))
  )

  it.scoped("ends a lease", () =>
    Effect.gen(function* () {
      const job = yield* running("sleeper", { leaseConstraints: { expires_at: "1970-01-01T00:05:00Z" } })
      assert.strictEqual((yield* after(300, Effect.flip(job.result)))._tag, "LeaseExpired")
    }).pipe(Effect.provide(runtime))
  )

  it.scoped("ends the grace of a cancelled job", () =>
    Effect.gen(function* () {
      const job = yield* running("stuck")
      yield* job.cancel()
      assert.strictEqual((yield* after(20, Effect.flip(job.result)))._tag, "Cancelled")
    }).pipe(Effect.provide(runtime))
  )

  it.scoped("ends the resume window", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const faults = yield* Faults.Faults
      const before = (yield* client.resumeState).sessionId
      yield* faults.refuse(1)
      yield* faults.drop
      // Refused at 50 s, back at 100 s: too late.
      const pinging = yield* Effect.fork(client.ping)
      yield* TestClock.adjust("100 seconds")
      yield* Fiber.join(pinging)
      assert.notStrictEqual((yield* client.resumeState).sessionId, before)
    }).pipe(Effect.provide(runtime))
  )

  it.scoped("need not move for a runtime to end, whatever still runs", () =>
    Effect.scoped(
      Effect.gen(function* () {
        yield* running("sleeper")
        yield* running("stuck")
      }).pipe(Effect.provide(runtime))
    )
  )
})

describe("ScriptedRuntime", () => {
  it.scoped("fails a job as its error says", () =>
    Effect.gen(function* () {
      const runtime = yield* ScriptedRuntime.ScriptedRuntime
      const connecting = yield* Effect.fork(TestRuntime.connect("x"))
      const server = yield* runtime.welcomed()
      const client = yield* Fiber.join(connecting)
      const submitting = yield* Effect.fork(client.submit("x", 1))
      yield* server.accept()
      yield* server.send(ScriptedRuntime.jobError(1, "TIMEOUT"))
      assert.strictEqual((yield* Effect.flip((yield* Fiber.join(submitting)).result))._tag, "Timeout")
    }).pipe(Effect.provide(ScriptedRuntime.layer()))
  )

  it.scoped("names what came instead of what was expected", () =>
    Effect.gen(function* () {
      const runtime = yield* ScriptedRuntime.ScriptedRuntime
      yield* Effect.fork(TestRuntime.connect("x"))
      const server = yield* runtime.connection
      yield* server.received
      yield* server.drop
      const cause = yield* Effect.sandbox(server.expect("job.submit")).pipe(Effect.flip)
      assert.include(
        Cause.pretty(cause),
        "expected job.submit; the connection ended (1001 dropped by the script)"
      )
    }).pipe(Effect.provide(ScriptedRuntime.layer()))
  )
})

/** The clock of the test, which counts how often somebody sleeps. */
const counting = (base: Clock.Clock) => {
  const counted = { sleeps: 0 }
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => base.unsafeCurrentTimeMillis(),
    unsafeCurrentTimeNanos: () => base.unsafeCurrentTimeNanos(),
    currentTimeMillis: base.currentTimeMillis,
    currentTimeNanos: base.currentTimeNanos,
    sleep: (duration) => {
      counted.sleeps++
      return base.sleep(duration)
    }
  }
  return { clock, counted }
}

describe("hours of a TestClock", () => {
  it.scoped(
    "cost what happens in them: nobody wakes for an idle session, a running job, one that ended",
    () =>
      Effect.flatMap(Effect.clock, (base) => {
        const { clock, counted } = counting(base)
        const hours = (n: number) =>
          Effect.gen(function* () {
            const before = counted.sleeps
            yield* Effect.withClock(TestClock.adjust(`${n} hours`), base)
            return counted.sleeps - before
          })
        return Effect.withClock(
          Effect.gen(function* () {
            const client = yield* ArcpClient.ArcpClient
            assert.isAtMost(yield* hours(8), 4)
            const short = yield* client.submit(Sleeper, null)
            const long = yield* client.submit(Sleeper, "9 hours")
            assert.isAtMost(yield* hours(1), 8)
            yield* short.result
            // A client that is gone is forgotten in time, for which somebody wakes once.
            yield* Effect.scoped(TestRuntime.connect("bob"))
            assert.isAtMost(yield* hours(7), 8)
            yield* hours(1)
            yield* long.result
            // Retention passes.
            assert.isAtMost(yield* hours(100), 20)
            assert.strictEqual((yield* Effect.flip(client.subscribe(short.jobId)))._tag, "JobNotFound")
          }).pipe(Effect.provide(TestRuntime.layer([sleeper]))),
          clock
        )
      })
  )

  it.scoped("have heartbeats when a test may have cut a way", () =>
    Effect.flatMap(Effect.clock, (base) => {
      const { clock, counted } = counting(base)
      return Effect.withClock(
        Effect.gen(function* () {
          const client = yield* ArcpClient.ArcpClient
          yield* (yield* Faults.Faults).add({ to: "client", type: "none", fault: "silence" })
          yield* Effect.withClock(TestClock.adjust("5 minutes"), base)
          assert.isAtLeast(counted.sleeps, 20)
          yield* client.ping
        }).pipe(Effect.provide(TestRuntime.layer([]))),
        clock
      )
    })
  )
})
