/** What a ceiling, and the jobs above a delegated one, bound that its own lease does not name (protocol 5.1, 7 and 12.2). */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import * as Budget from "../../../src/protocol/Budget.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { type CredentialJob, Credentials } from "../../../src/services/credentials/Credentials.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import type { Sessions } from "../../../src/services/session/Sessions.js"
import type { Dialer } from "../../../src/services/transport/Transport.js"
import { open } from "../../support/Wire.js"
import { as, echo, forever, type Session, submit } from "../jobs/support.js"

const text = Schema.String
const terms = Schema.Record({ key: Schema.String, value: Schema.Array(Schema.String) })

/** Delegates to an agent, with a lease, and waits for it. */
const boss = Agent.handle(
  Agent.make("boss", {
    version: "1.0.0",
    input: Schema.Struct({ to: text, input: Schema.Unknown, lease: Schema.optional(terms) })
  }),
  ({ input, lease, to }) =>
    Effect.gen(function* () {
      const job = yield* Job
      const child = yield* Effect.either(job.delegate(to, input, lease === undefined ? {} : { lease }))
      return Either.isLeft(child) ? child.left.message : yield* child.right.await
    })
)
/** Tells which of these models it may use. */
const models = Agent.handle(Agent.make("models", { version: "1.0.0" }), () =>
  Effect.map(Lease, (lease) =>
    ["cheap/a", "dear/a"].filter((model) => Either.isRight(lease.check("model.use", model)))
  )
)
/** Tells whether it names the host that clouds tell their secrets at, and may ask it. */
const hosts = Agent.handle(Agent.make("hosts", { version: "1.0.0" }), () =>
  Effect.map(Lease, (lease) => {
    const url = "http://169.254.169.254/latest"
    return [Either.isRight(lease.check("net.fetch", url)), lease.namesHost(url)]
  })
)

/** Spends, and has its credential replaced. */
const rotating = Agent.handle(Agent.make("rotating", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const [job, lease] = [yield* Job, yield* Lease]
    yield* lease.spend({ amount: "1.5", currency: "USD" })
    yield* lease.spend({ amount: "0.25", currency: "EUR" })
    yield* job.rotateCredential("cred_1")
    return "ran"
  })
)

/** Tries to give itself what it was not given. */
const grabby = Agent.handle(Agent.make("grabby", { version: "1.0.0" }), () =>
  Effect.flatMap(Lease, (lease) => {
    const mine = lease.terms as Record<string, ReadonlyArray<string>>
    const grab = Effect.try(() => {
      mine["net.fetch"] = ["**"]
    })
    return Effect.as(
      Effect.ignore(grab),
      Effect.sync(() => Either.isRight(lease.check("net.fetch", "https://evil.example/")))
    )
  }).pipe(Effect.flatten)
)

const delegates = { "agent.delegate": ["*"] }

const on = <A, E>(
  test: Effect.Effect<A, E, Dialer | Scope.Scope | Sessions>,
  { credentials, ...options }: RuntimeOptions.Input & { readonly credentials?: Layer.Layer<Credentials> } = {}
) =>
  Effect.provide(
    test,
    Runtime.serve().pipe(
      Layer.provideMerge(TransportMemory.layer()),
      Layer.provideMerge(
        Runtime.layerMemory({
          options: { shutdownGrace: "0 millis", ...options },
          policy: Policy.layer({ cancel: "principal" }),
          ...(credentials === undefined ? {} : { credentials })
        })
      ),
      Layer.provide(Registry.layer([boss, echo, forever, grabby, hosts, models, rotating])),
      Layer.provide(
        Auth.layerStatic({
          wide: "alice",
          capped: {
            principal: "alice",
            leaseCeiling: { ...delegates, "tool.call": ["*"], "cost.budget": ["USD:5"] }
          },
          cheap: { principal: "alice", leaseCeiling: { ...delegates, "model.use": ["cheap/*"] } }
        })
      )
    )
  )

const resultOf = (session: Session, input: unknown, more: Record<string, unknown> = {}, agent = "boss") =>
  Effect.gen(function* () {
    const { job_id } = yield* submit(session, agent, input, more)
    const end = yield* session.expect("job.result", (frame) => frame.job_id === job_id)
    return end.payload.result
  })

/** Whether a session may cancel a job that is another one's. */
const cancels = (session: Session, job_id: string | undefined) =>
  Effect.gen(function* () {
    yield* session.request("job.cancel", {}, { job_id })
    const { type } = yield* session.next(({ type }) =>
      ["job.cancelled", "session.error", "job.error"].includes(type)
    )
    return type === "job.cancelled"
  })

const childOf = (session: Session, parent: string | undefined) =>
  session.expect("job.accepted", ({ payload }) => payload.parent_job_id === parent)

describe("the budget of a ceiling", () => {
  for (const lease_request of [undefined, {}, { "tool.call": ["search"] }])
    it.scoped(
      `is that of a job that asks for ${JSON.stringify(lease_request)}, which its submitter covers`,
      () =>
        on(
          Effect.gen(function* () {
            const first = yield* open(as("capped"))
            const second = yield* open(as("capped"))
            const accepted = yield* submit(first, "forever", {}, { lease_request })
            assert.deepStrictEqual(accepted.payload.budget, { USD: 5 })
            assert.deepStrictEqual(accepted.payload.lease["cost.budget"], ["USD:5"])
            assert.isTrue(yield* cancels(second, accepted.job_id))
          })
        )
    )

  it.scoped("covers what a job delegates without a budget of its own: that spends what the job has", () =>
    on(
      Effect.gen(function* () {
        const first = yield* open(as("capped"))
        const second = yield* open(as("capped"))
        const wide = yield* open(as("wide"))
        const input = { to: "forever", input: null, lease: {} }
        const root = yield* submit(first, "boss", input, { lease_request: delegates })
        assert.isTrue(yield* cancels(second, (yield* childOf(first, root.job_id)).job_id))
        // Of a job without a budget nothing bounds a child, and of one with a larger one not enough does.
        for (const budget of [{}, { "cost.budget": ["USD:6"] }]) {
          const other = yield* submit(wide, "boss", input, { lease_request: { ...delegates, ...budget } })
          assert.isFalse(yield* cancels(second, (yield* childOf(wide, other.job_id)).job_id))
        }
      })
    )
  )
})

describe("the models of a lease, where jobs without model.use may use any", () => {
  const any = { allowModelsWithoutLease: true }

  it.scoped("are those of the ceiling when it leaves them out", () =>
    on(
      Effect.gen(function* () {
        const cheap = yield* open(as("cheap"))
        const wide = yield* open(as("wide"))
        assert.deepStrictEqual(yield* resultOf(wide, null, {}, "models"), ["cheap/a", "dear/a"])
        for (const more of [{}, { lease_request: {} }, { lease_request: delegates }])
          assert.deepStrictEqual(yield* resultOf(cheap, null, more, "models"), ["cheap/a"])
        // Nobody under the ceiling could have been given it.
        const { job_id } = yield* submit(wide, "forever")
        assert.isFalse(yield* cancels(cheap, job_id))
        const own = yield* submit(cheap, "forever")
        assert.isTrue(yield* cancels(yield* open(as("cheap")), own.job_id))
      }),
      any
    )
  )

  it.scoped("are those of the delegating job when a delegated one leaves them out", () =>
    on(
      Effect.gen(function* () {
        const wide = yield* open(as("wide"))
        const once = { to: "models", input: null, lease: {} }
        const twice = { to: "boss", input: once, lease: delegates }
        for (const input of [once, twice]) {
          assert.deepStrictEqual(
            yield* resultOf(wide, input, { lease_request: { ...delegates, "model.use": ["cheap/*"] } }),
            ["cheap/a"]
          )
          assert.deepStrictEqual(yield* resultOf(wide, input, { lease_request: delegates }), [
            "cheap/a",
            "dear/a"
          ])
        }
      }),
      any
    )
  )

  it.scoped("are those of the job that another goes on from when that leaves them out", () =>
    on(
      Effect.gen(function* () {
        const wide = yield* open(as("wide"))
        const { job_id } = yield* submit(wide, "models", null, {
          lease_request: { "model.use": ["cheap/*"] }
        })
        yield* wide.expect("job.result")
        const extensions = { "x-vendor.effect-arcp.fork": { job_id } }
        yield* wide.request("job.submit", { agent: "models", lease_request: {} }, { extensions })
        assert.deepStrictEqual((yield* wide.expect("job.result")).payload.result, ["cheap/a"])
      }),
      any
    )
  )

  it.scoped("are none elsewhere, whatever the ceiling has: what is asked for is not expanded", () =>
    on(
      Effect.gen(function* () {
        const cheap = yield* open(as("cheap"))
        const accepted = yield* submit(cheap, "models")
        assert.deepStrictEqual(accepted.payload.lease, {})
        assert.deepStrictEqual(yield* resultOf(cheap, null, {}, "models"), [])
      })
    )
  )
})

describe("a delegated job", () => {
  it.scoped("cannot change its lease, also when it was given none", () =>
    on(
      Effect.gen(function* () {
        const wide = yield* open(as("wide"))
        for (const lease of [undefined, {}]) {
          const input = { to: "grabby", input: null, ...(lease === undefined ? {} : { lease }) }
          assert.isFalse(yield* resultOf(wide, input, { lease_request: delegates }))
        }
      })
    )
  )

  it.scoped("names a host only where each job above it does", () =>
    on(
      Effect.gen(function* () {
        const wide = yield* open(as("wide"))
        const metadata = "http://169.254.169.254/**"
        const once = { to: "hosts", input: null, lease: { "net.fetch": [metadata] } }
        const twice = { to: "boss", input: once, lease: { ...delegates, "net.fetch": [metadata] } }
        for (const input of [once, twice])
          for (const [pattern, named] of [
            ["http://**", false],
            [metadata, true]
          ] as const)
            assert.deepStrictEqual(
              yield* resultOf(wide, input, { lease_request: { ...delegates, "net.fetch": [pattern] } }),
              [true, named]
            )
      })
    )
  )

  it.scoped("has no larger a budget than any job above it has left, through one that has none", () =>
    on(
      Effect.gen(function* () {
        const wide = yield* open(as("wide"))
        const through = (budget: string) => ({
          to: "boss",
          input: { to: "echo", input: "ran", lease: { "cost.budget": [budget] } },
          lease: delegates
        })
        const lease_request = { ...delegates, "cost.budget": ["USD:5"] }
        assert.strictEqual(yield* resultOf(wide, through("USD:5"), { lease_request }), "ran")
        assert.match(
          yield* resultOf(wide, through("USD:6"), { lease_request }),
          /6 USD is more than the 5 that/
        )
        assert.match(yield* resultOf(wide, through("EUR:1"), { lease_request }), /no EUR/)
        assert.strictEqual(yield* resultOf(wide, through("EUR:1"), { lease_request: delegates }), "ran")
      })
    )
  )

  it.scoped(
    "is minted credentials, and others in their place, for no more than any job above it has left",
    () =>
      Effect.gen(function* () {
        const minted: Array<readonly [agent: string, budget: ReadonlyArray<string>]> = []
        const credential = {
          id: "cred_1",
          scheme: "bearer" as const,
          value: Redacted.make("secret"),
          endpoint: "https://gateway.example"
        }
        const credentials = Layer.succeed(Credentials, {
          enabled: true,
          mint: ({ agent, budget }: CredentialJob) =>
            Effect.sync(() => {
              minted.push([agent.split("@")[0] ?? "", Budget.entries(budget)])
              return [credential]
            }),
          held: () => [],
          rotate: (_, id, budget) =>
            Effect.sync(() => {
              minted.push([id, Budget.entries(budget ?? new Map())])
              return credential
            }),
          release: () => Effect.void,
          outstanding: Effect.succeed([]),
          revoke: () => Effect.void
        })
        const test = Effect.gen(function* () {
          const wide = yield* open(as("wide"))
          const to = (agent: string, input: unknown, lease: Record<string, Array<string>>) => ({
            to: agent,
            input,
            lease: { ...delegates, ...lease }
          })
          const input = to("boss", to("rotating", null, { "cost.budget": ["USD:4"] }), {})
          const lease_request = { ...delegates, "cost.budget": ["USD:5", "EUR:1"] }
          assert.strictEqual(yield* resultOf(wide, input, { lease_request }), "ran")
          assert.deepStrictEqual(minted, [
            ["boss", ["USD:5", "EUR:1"]],
            ["boss", ["USD:5", "EUR:1"]],
            ["rotating", ["USD:4", "EUR:1"]],
            // What it has left itself, and what a job above it has.
            ["cred_1", ["USD:2.5", "EUR:0.75"]]
          ])
        })
        yield* on(test, { credentials })
      })
  )
})
