/** What a durable job may do, over the end of its process: its lease, its time, its credentials with what is left of its budget. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as CredentialStoreMemory from "../../../src/layers/credentials/CredentialStoreMemory.js"
import * as Credentials from "../../../src/layers/credentials/Credentials.js"
import * as IdGenerator from "../../../src/layers/runtime/IdGenerator.js"
import * as Budget from "../../../src/protocol/Budget.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import {
  CredentialProvisioner,
  type CredentialProvisionerService,
  type MintRequest
} from "../../../src/services/credentials/CredentialProvisioner.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import * as Check from "../../../src/testing/Check.js"
import * as TestRuntime from "../../../src/testing/TestRuntime.js"

const stepKind = "x-vendor.effect-arcp.step"

const nap = Agent.handle(Agent.make("nap", { version: "1.0.0", durable: true }), () =>
  Effect.flatMap(Job, (job) => Effect.orDie(job.sleep("nap", "1 day")))
)

describe("the time of a durable job", () => {
  for (const { ends, submit } of [
    { ends: "LEASE_EXPIRED", submit: { leaseConstraints: { expires_at: "1970-01-01T01:00:00.000Z" } } },
    { ends: "TIMEOUT", submit: { maxRuntime: "1 hour" } }
  ] as const)
    it.scoped(`is over in ${ends} whether it passes while a process runs, or while none does`, () =>
      Effect.gen(function* () {
        for (const [down, up] of [
          ["2 hours", "0 seconds"],
          ["59 minutes", "1 minute"]
        ] as const) {
          yield* TestClock.setTime(0)
          const runtime = yield* TestRuntime.crashable([nap])
          const job = yield* runtime.client.submit("nap", {}, submit)
          yield* Check.seen(job, { kind: stepKind, body: { key: "nap", state: "started" } })
          const ended = yield* Effect.fork(Effect.flip(job.result))
          yield* runtime.crash
          yield* TestClock.adjust(down)
          yield* runtime.restart
          if (up !== "0 seconds") {
            // It has not begun to wait before it is run again.
            yield* TestClock.adjust("50 seconds")
            assert.strictEqual((yield* Fiber.poll(ended))._tag, "None")
          }
          yield* TestClock.adjust(up)
          assert.strictEqual(((yield* Fiber.join(ended)) as { code?: string }).code, ends)
          Check.endedOnce(yield* runtime.faults.frames, job.jobId)
        }
      })
    )
})

/** Who mints: knows what it has made and not unmade. */
class Upstream {
  readonly minted: Array<Readonly<Record<string, string>>> = []
  readonly alive = new Set<string>()

  private readonly make = ({ id, job }: MintRequest) =>
    Effect.sync(() => {
      this.alive.add(id)
      this.minted.push(
        Object.fromEntries(Array.from(job.budget, ([currency, left]) => [currency, Budget.format(left)]))
      )
      return { value: Redacted.make(`sk-${this.minted.length}`), endpoint: "https://gateway.example" }
    })
  readonly service: CredentialProvisionerService = {
    name: "the test's gateway",
    profiles: () => ["gateway"],
    mint: this.make,
    rotate: this.make,
    revoke: ({ id }) => Effect.sync(() => void this.alive.delete(id))
  }
}

describe("the credentials of a durable job", () => {
  it.scoped("are revoked and minted anew with what is left of its budget, which its submitter is told", () =>
    Effect.gen(function* () {
      const upstream = new Upstream()
      const records = yield* CredentialStoreMemory.make
      const credentials = Credentials.layer({ allowVolatile: true, shutdownGrace: "0 millis" }).pipe(
        Layer.provide(Layer.succeed(CredentialProvisioner, upstream.service)),
        Layer.provide(Layer.succeed(CredentialStoreMemory.CredentialStore, records)),
        Layer.provide(IdGenerator.layer())
      )
      const used: Array<string> = []
      const agent = Agent.handle(Agent.make("spender", { version: "1.0.0", durable: true }), () =>
        Effect.gen(function* () {
          const job = yield* Job
          const lease = yield* Lease
          for (const key of ["a", "b", "c"])
            yield* job.step(
              key,
              Effect.gen(function* () {
                const [credential] = yield* job.credentials
                used.push(`${key} ${credential === undefined ? "none" : Redacted.value(credential.value)}`)
                yield* lease.spend({ amount: "0.30", currency: "USD" })
              })
            )
        }).pipe(Effect.orDie)
      )
      const runtime = yield* TestRuntime.crashable([agent], { credentials })
      // Accepted; a has begun, has paid and has ended; b has begun, and has paid.
      yield* runtime.crashAt({ commit: 6, when: "after" })
      const job = yield* runtime.client.submit(
        "spender",
        {},
        {
          leaseRequest: { "cost.budget": ["USD:1"], "model.use": ["*"] }
        }
      )
      const events = yield* Effect.fork(Check.events(job))
      yield* runtime.crashed
      yield* runtime.restart
      yield* job.result
      assert.deepStrictEqual(upstream.minted, [{ USD: "1" }, { USD: "0.4" }])
      assert.deepStrictEqual(used, ["a sk-1", "b sk-1", "b sk-2", "c sk-2"])
      const told = (yield* Fiber.join(events)).flatMap(({ body, kind }) =>
        kind === "status" ? [body as { phase: string; value?: string }] : []
      )
      assert.deepStrictEqual(
        told.map(({ phase, value }) => [phase, value]),
        [
          ["running", undefined],
          ["credential_rotated", "sk-2"],
          ["recovered", undefined]
        ]
      )
      assert.deepStrictEqual((yield* runtime.store.job(job.jobId))?.budget, { USD: "-0.2" })
      // Of what is stored nobody reads a value.
      assert.notInclude(JSON.stringify(yield* runtime.store.events(job.jobId, 1, 100)), "sk-")
      for (let i = 0; i < 10 && upstream.alive.size > 0; i++) yield* TestClock.adjust("10 seconds")
      assert.strictEqual(upstream.alive.size, 0)
    })
  )
})
