/** What is left of a job's authority when its handler leaves something behind, or is torn out of something. */
import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as CredentialStoreMemory from "../../../src/layers/credentials/CredentialStoreMemory.js"
import * as Credentials from "../../../src/layers/credentials/Credentials.js"
import * as IdGenerator from "../../../src/layers/runtime/IdGenerator.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import { PermissionDenied } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { CredentialProvisioner } from "../../../src/services/credentials/CredentialProvisioner.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Lease, type LeaseError } from "../../../src/services/lease/Lease.js"
import { gate } from "../../support/lessee.js"
import { open } from "../../support/Wire.js"
import { Upstream } from "../credentials/credentials.js"

it.scoped("a fiber that outlives its job may do nothing more", () => {
  const go = Deferred.unsafeMake<void>(FiberId.none)
  const said = Deferred.unsafeMake<Either.Either<string, LeaseError>>(FiberId.none)
  const leaving = Agent.handle(Agent.make("leaving", { version: "1.0.0" }), () =>
    Effect.gen(function* () {
      const lease = yield* Lease
      const ask = Effect.either(lease.authorize("tool.call", "search"))
      assert.isTrue(Either.isRight(yield* ask))
      yield* Effect.forkDaemon(
        Deferred.await(go).pipe(
          Effect.zipRight(ask),
          Effect.flatMap((verdict) => Deferred.succeed(said, verdict))
        )
      )
    })
  )
  return Effect.gen(function* () {
    const session = yield* Effect.orDie(open())
    yield* session.request("job.submit", {
      agent: "leaving",
      input: null,
      lease_request: { "tool.call": ["search"] }
    })
    yield* session.next((frame) => frame.type === "job.result")
    yield* Deferred.succeed(go, undefined)
    const verdict = yield* Deferred.await(said)
    assert.instanceOf(Either.getOrThrow(Either.flip(verdict)), PermissionDenied)
  }).pipe(
    Effect.provide(
      Runtime.serve().pipe(
        Layer.provideMerge(TransportMemory.layer()),
        Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: "0 millis" } })),
        Layer.provide(Registry.layer([leaving])),
        Layer.provide(Auth.layerStatic({ alice: "alice" }))
      )
    )
  )
})

it.scoped("a job delegates nothing when its budget ends while that is decided", () => {
  const asked = gate()
  let isDelegating = false
  const policy = Layer.effect(
    Policy.Policy,
    Effect.map(Policy.Policy, (decides) => ({
      ...decides,
      mayUseAgent: () => Effect.as(isDelegating ? asked.wait : Effect.void, true)
    }))
  ).pipe(Layer.provide(Policy.layer()))
  const child = Agent.handle(Agent.make("child", { version: "1.0.0" }), () => Effect.void)
  const delegating = Agent.handle(Agent.make("delegating", { version: "1.0.0" }), () =>
    Effect.gen(function* () {
      const job = yield* Job
      const lease = yield* Lease
      isDelegating = true
      const delegated = yield* Effect.fork(Effect.either(job.delegate("child", null)))
      yield* asked.reached
      yield* lease.spend({ amount: "1", currency: "USD" })
      yield* asked.open
      return Either.match(yield* Fiber.join(delegated), {
        onLeft: ({ code }) => code,
        onRight: () => "a child"
      })
    })
  )
  return Effect.gen(function* () {
    const session = yield* Effect.orDie(open())
    yield* session.request("job.submit", {
      agent: "delegating",
      input: null,
      lease_request: { "agent.delegate": ["child"], "cost.budget": ["USD:1"] }
    })
    const { payload } = yield* session.next(({ type }) => type === "job.result" || type === "job.error")
    assert.strictEqual(payload.result, "BUDGET_EXHAUSTED")
  }).pipe(
    Effect.provide(
      Runtime.serve().pipe(
        Layer.provideMerge(TransportMemory.layer()),
        Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: "0 millis" }, policy })),
        Layer.provide(Registry.layer([child, delegating])),
        Layer.provide(Auth.layerStatic({ alice: "alice" }))
      )
    )
  )
})

it.scoped("the submitter is told of a rotation whose caller was interrupted when it was done", () => {
  const upstream = new Upstream()
  const seen = Deferred.unsafeMake<void>(FiberId.none)
  let rotating: Fiber.RuntimeFiber<unknown, unknown> | undefined
  const rotate = Agent.handle(Agent.make("rotate", { version: "1.0.0" }), () =>
    Effect.gen(function* () {
      const job = yield* Job
      const [before] = yield* job.credentials
      rotating = yield* Effect.fork(job.rotateCredential(before?.id ?? ""))
      yield* Fiber.await(rotating)
      const [after] = yield* job.credentials
      yield* Deferred.await(seen)
      return { replaced: before !== after }
    })
  )
  const credentials = Credentials.layer({ allowVolatile: true, shutdownGrace: "0 millis" }).pipe(
    Layer.provide(Layer.succeed(CredentialProvisioner, upstream.provisioner)),
    Layer.provide(
      Layer.effect(
        CredentialStoreMemory.CredentialStore,
        Effect.map(CredentialStoreMemory.make, (store) => ({
          ...store,
          // The rotation cannot be undone any more.
          update: (record) =>
            Effect.zipRight(
              store.update(record),
              Effect.sync(() => {
                if (record.state === "active") rotating?.unsafeInterruptAsFork(FiberId.none)
              })
            )
        }))
      )
    ),
    Layer.provide(IdGenerator.layer())
  )
  return Effect.gen(function* () {
    const session = yield* Effect.orDie(open())
    yield* session.request("job.submit", {
      agent: "rotate",
      input: null,
      lease_request: { "model.use": ["gpt-4o"] }
    })
    const told = yield* session.next((frame) => frame.payload.body?.phase === "credential_rotated")
    assert.strictEqual(told.payload.body.value, "sk-value-1")
    yield* Deferred.succeed(seen, undefined)
    const { payload } = yield* session.next((frame) => frame.type === "job.result")
    assert.deepStrictEqual(payload.result, { replaced: true })
  }).pipe(
    Effect.provide(
      Runtime.serve().pipe(
        Layer.provideMerge(TransportMemory.layer()),
        Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: "0 millis" }, credentials })),
        Layer.provide(Registry.layer([rotate])),
        Layer.provide(Auth.layerStatic({ alice: "alice" }))
      )
    )
  )
})
