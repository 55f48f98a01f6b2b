import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as ArcpClient from "../../src/layers/ArcpClient.js"
import * as Agent from "../../src/services/Agent.js"
import { Job } from "../../src/services/Job.js"
import * as ScriptedRuntime from "../../src/testing/ScriptedRuntime.js"
import * as TestRuntime from "../../src/testing/TestRuntime.js"

class Greeting extends Context.Tag("test/Greeting")<Greeting, string>() {}
const Greet = Agent.make("greet", { version: "1.0.0", input: Schema.String, output: Schema.String })
const greet = Agent.handle(Greet, (name) => Effect.map(Greeting, (greeting) => `${greeting}, ${name}`))
const Sleeper = Agent.make("sleeper", { version: "1.0.0", input: Schema.Null, output: Schema.Null })
const sleeper = Agent.handle(Sleeper, () => Effect.as(Effect.sleep("1 hour"), null))
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

  it.scoped("its time is the test's: limits, leases, graces", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const limited = yield* client.submit(Sleeper, null, { maxRuntimeSec: 600 })
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual((yield* Effect.flip(limited.result))._tag, "Timeout")
      const whole = yield* client.submit(Sleeper, null)
      yield* TestClock.adjust("1 hour")
      assert.isNull(yield* whole.result)
    }).pipe(Effect.provide(TestRuntime.layer([sleeper])))
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
          runtime: { maxJobsPerSession: 1 }
        })
      )
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
    }).pipe(Effect.provide(ScriptedRuntime.layer))
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
    }).pipe(Effect.provide(ScriptedRuntime.layer))
  )
})
