/** The credentials of a job that another node goes on with. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as AuthLayer from "../../../src/layers/auth/Auth.js"
import * as CredentialStoreMemory from "../../../src/layers/credentials/CredentialStoreMemory.js"
import * as Credentials from "../../../src/layers/credentials/Credentials.js"
import * as IdGenerator from "../../../src/layers/runtime/IdGenerator.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import type { Identity } from "../../../src/services/auth/Auth.js"
import { CredentialProvisioner } from "../../../src/services/credentials/CredentialProvisioner.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { cluster } from "../../support/Nodes.js"
import { open } from "../../support/Wire.js"
import { Upstream } from "../credentials/credentials.js"

const settle = Effect.repeatN(eventLoop.next, 60)
const seconds = (n: number) => Effect.repeatN(Effect.zipRight(TestClock.adjust("1 second"), settle), n)

/** Credentials of nodes, which share what is recorded of them. */
const shared = Effect.gen(function* () {
  const upstream = new Upstream()
  const records = yield* CredentialStoreMemory.make
  const credentials = Credentials.layer({ allowVolatile: true, shutdownGrace: "0 millis" }).pipe(
    Layer.provide(Layer.succeed(CredentialProvisioner, upstream.provisioner)),
    Layer.provide(Layer.succeed(CredentialStoreMemory.CredentialStore, records)),
    Layer.provide(IdGenerator.layer()),
    Layer.orDie
  )
  return { credentials, records, upstream }
})

it.scoped("are revoked by the others when its node is gone, and minted anew where it goes on", () =>
  Effect.gen(function* () {
    const { credentials, records, upstream } = yield* shared
    const used: Array<string> = []
    const holds = (durable: boolean) =>
      Agent.handle(Agent.make(durable ? "durable" : "plain", { version: "1.0.0", durable }), () =>
        Effect.gen(function* () {
          for (const { value } of yield* (yield* Job).credentials) used.push(Redacted.value(value))
          yield* Effect.never
        })
      )
    const agents = [holds(true), holds(false)]
    const { start } = yield* cluster
    const a = yield* start("a", agents, { credentials })
    const b = yield* start("b", agents, { credentials })
    const session = yield* a.run(open())
    for (const agent of ["durable", "plain"])
      yield* session.request("job.submit", { agent, input: {}, lease_request: { "model.use": ["gpt-4o"] } })
    yield* session.expect("job.accepted")
    yield* session.expect("job.accepted")
    yield* settle
    const held = Effect.map(records.list, (all) => all.map(({ epoch, node, state }) => [node, epoch, state]))
    assert.deepStrictEqual(yield* held, [
      ["a", 1, "active"],
      ["a", 1, "active"]
    ])
    const before = [...upstream.live.keys()]
    yield* a.kill
    yield* seconds(12)
    // The one of the job that goes on, with the epoch of whoever took it.
    assert.deepStrictEqual(yield* held, [["b", 2, "active"]])
    assert.deepStrictEqual(used, ["sk-value-0", "sk-value-1", "sk-value-2"])
    assert.deepStrictEqual([...upstream.live.values()], ["sk-value-2"])
    assert.lengthOf(
      upstream.calls.filter((call) => call === "revoke"),
      before.length
    )
    yield* b.kill
  })
)

it.scoped(
  "of a job that begins on another node are told as the token has it that its session came back with",
  () =>
    Effect.gen(function* () {
      const { credentials } = yield* shared
      const rotates = Agent.handle(Agent.make("rotates", { version: "1.0.0", concurrency: 1 }), (input) =>
        Effect.gen(function* () {
          const job = yield* Job
          const [held] = yield* job.credentials
          if (input === "rotates" && held !== undefined) yield* job.rotateCredential(held.id)
          yield* Effect.never
        })
      )
      const narrow: Identity = { principal: "alice", leaseCeiling: { "model.use": ["other"] } }
      const given = { credentials, auth: AuthLayer.layerStatic({ alice: "alice", narrow }) }
      const { start } = yield* cluster
      const a = yield* start("a", [rotates], given)
      const b = yield* start("b", [rotates], given)
      const session = yield* a.run(open())
      for (const input of ["waits", "rotates"])
        yield* session.request("job.submit", {
          ...{ agent: "rotates", input },
          lease_request: { "model.use": ["gpt-4o"] }
        })
      yield* session.expect("job.accepted")
      yield* session.expect("job.accepted")
      yield* settle
      yield* a.kill
      const { resume_token } = session.welcome
      const resume = { session_id: session.sessionId, resume_token, last_event_seq: 0 }
      const moved = yield* b.run(open({ resume, auth: { scheme: "bearer", token: "narrow" } }))
      yield* seconds(12)
      const told = yield* moved.expect(
        "job.event",
        ({ payload }) => payload.body.phase === "credential_rotated"
      )
      assert.isUndefined(told.payload.body.value)
    })
)
