/** A defect at the session's boundary: answered, logged whole, and nothing else is hurt (style rule 13, protocol 4.1). */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Auth } from "../../../src/services/auth/Auth.js"
import { Policy } from "../../../src/services/auth/Policy.js"
import { boot, Disk, names } from "../../support/Rig.js"
import { connect, hello, open } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
const Link = Schema.transform(Schema.String, Schema.String, {
  strict: true,
  decode: (text) => new URL(text).href,
  encode: (text) => text
})
const throwing = Agent.handle(Agent.make("throwing", { version: "1.0.0", input: Link }), (input) =>
  Effect.succeed(input)
)
const agents = [echo, throwing]

const broken = (): never => {
  throw new Error("the policy is broken")
}
const policy = Layer.succeed(Policy, {
  listable: broken,
  maySubscribe: broken,
  mayCancel: () => Effect.die("the policy is broken"),
  mayAnswer: () => Effect.die("the policy is broken"),
  mayUseAgent: (_identity, agent) => (agent === "secret" ? broken() : Effect.succeed(true))
})

/** What code gives that joins a fiber which somebody else has interrupted. */
const cutOff = Effect.flatMap(Effect.fork(Effect.never), (fiber) =>
  Effect.zipRight(Fiber.interrupt(fiber), Fiber.join(fiber))
)

/** Runs with what is logged at error level kept. */
const logged = () => {
  const causes: Array<string> = []
  const logger = Logger.make(({ logLevel, cause }) => {
    if (logLevel.label === "ERROR") causes.push(String(cause))
  })
  return { causes, layer: Logger.replace(Logger.defaultLogger, logger) }
}

describe("a defect while a request is decided", () => {
  it.scoped("is the request's refusal; the requests after it are served, on the same session", () => {
    const { causes, layer } = logged()
    return Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, policy })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          const submitted = yield* session.request("job.submit", { agent: "throwing", input: "no URL" })
          const refused = yield* session.expect("job.error")
          assert.strictEqual(refused.payload.code, "INTERNAL_ERROR")
          assert.strictEqual(refused.payload.details.request_id, submitted)
          assert.notInclude(JSON.stringify(refused.payload), "Invalid URL")
          // The same frame again has the same answer.
          const withId = yield* session.request("job.submit", { agent: "echo", input: 1 })
          const accepted = yield* session.expect("job.accepted")
          assert.strictEqual(accepted.payload.request_id, withId)
          yield* session.expect("job.result")
          const job_id = accepted.job_id as string
          const other = yield* open()
          for (const [asking, type, payload] of [
            [session, "session.list_jobs", {}],
            [session, "job.subscribe", { job_id }],
            [other, "job.cancel", { job_id }]
          ] as const) {
            const id = yield* asking.request(type, payload)
            const error = yield* asking.expect("session.error")
            assert.strictEqual(error.payload.code, "INTERNAL_ERROR", type)
            assert.strictEqual(error.payload.details.request_id, id, type)
          }
          yield* session.request("session.ping", { nonce: "still here" })
          yield* session.expect("session.pong")
          yield* session.request("job.submit", { agent: "echo", input: 2 })
          assert.strictEqual((yield* session.expect("job.result")).payload.result, 2)
        })
      )
      assert.isAtLeast(causes.length, 4)
      assert.isAtLeast(causes.filter((cause) => cause.includes("the policy is broken")).length, 3)
      assert.isTrue(causes.some((cause) => cause.includes("Invalid URL")))
    }).pipe(Effect.provide(layer))
  })

  it.scoped("at hello it is INTERNAL_ERROR, retryable, and the next hello is heard", () => {
    const { causes, layer } = logged()
    let calls = 0
    const auth = Layer.flatMap(names, (context) =>
      Layer.succeed(Auth, {
        authenticate: (request) =>
          ++calls === 1
            ? Effect.die(new Error("the key set is upside down"))
            : Effect.flatMap(Auth, (known) => known.authenticate(request)).pipe(Effect.provide(context))
      })
    )
    return Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, auth })
      yield* run(
        Effect.gen(function* () {
          const wire = yield* connect
          yield* wire.send("session.hello", hello())
          const { payload } = yield* wire.expect("session.error")
          assert.strictEqual(payload.code, "INTERNAL_ERROR")
          assert.isTrue(payload.retryable)
          assert.strictEqual((yield* wire.closed).code, 1013)
          yield* open()
        })
      )
      assert.isTrue(causes.some((cause) => cause.includes("the key set is upside down")))
    }).pipe(Effect.provide(layer))
  })
})

describe("an interruption that was not meant for whoever decides", () => {
  it.scoped(
    "is the refusal of a submit or a cancel; what is asked after it is decided, to the end of its connection",
    () => {
      const { causes, layer } = logged()
      const cutting = Layer.succeed(Policy, {
        listable: () => Effect.succeed(["alice"]),
        maySubscribe: () => Effect.succeed(true),
        mayCancel: () => cutOff,
        mayAnswer: () => cutOff,
        mayUseAgent: (_identity, agent) => (agent === "echo" || atHello ? Effect.succeed(true) : cutOff)
      })
      let atHello = true
      return Effect.gen(function* () {
        const disk = yield* Disk.make
        const { run } = yield* boot(agents, { disk, policy: cutting })
        yield* run(
          Effect.gen(function* () {
            const session = yield* open()
            const other = yield* open()
            atHello = false
            const submitted = yield* session.request("job.submit", {
              agent: "throwing",
              input: "http://a.example"
            })
            const refused = yield* session.expect("job.error")
            assert.strictEqual(refused.payload.code, "INTERNAL_ERROR")
            assert.strictEqual(refused.payload.details.request_id, submitted)
            yield* session.request("job.submit", { agent: "echo", input: 2 })
            const { job_id } = yield* session.expect("job.accepted")
            assert.strictEqual((yield* session.expect("job.result")).payload.result, 2)
            const id = yield* other.request("job.cancel", { job_id })
            const error = yield* other.expect("session.error")
            assert.strictEqual(error.payload.code, "INTERNAL_ERROR")
            assert.strictEqual(error.payload.details.request_id, id)
            for (const one of [session, other]) {
              yield* one.request("session.close", {})
              assert.strictEqual((yield* one.closed).code, 1000)
            }
          })
        )
        assert.isAtLeast(causes.length, 2)
      }).pipe(Effect.provide(layer))
    }
  )

  it.scoped("at hello it is INTERNAL_ERROR, retryable", () => {
    const { causes, layer } = logged()
    const auth = Layer.succeed(Auth, { authenticate: () => cutOff })
    return Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot(agents, { disk, auth })
      yield* run(
        Effect.gen(function* () {
          const wire = yield* connect
          yield* wire.send("session.hello", hello())
          const { payload } = yield* wire.expect("session.error")
          assert.strictEqual(payload.code, "INTERNAL_ERROR")
          assert.isTrue(payload.retryable)
          assert.strictEqual((yield* wire.closed).code, 1013)
        })
      )
      assert.strictEqual(causes.length, 1)
    }).pipe(Effect.provide(layer))
  })
})
