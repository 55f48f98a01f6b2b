/** Compensations: what the steps of a job have done is undone when it does not succeed, also over the end of its process. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job, type JobService, Step } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import { Store } from "../../../src/services/store/Store.js"
import * as Check from "../../../src/testing/Check.js"
import * as TestRuntime from "../../../src/testing/TestRuntime.js"

const stepKind = "x-vendor.effect-arcp.step"

/** What has been done in the world, in order; idempotent by key as a good world is. */
class World {
  readonly done: Array<string> = []
  private readonly keys = new Set<string>()

  readonly act = (what: string): Effect.Effect<void, never, Step> =>
    Effect.map(Step, ({ idempotencyKey }) => {
      if (!this.keys.has(idempotencyKey)) this.done.push(what)
      this.keys.add(idempotencyKey)
    })
  reset(): void {
    this.done.length = 0
    this.keys.clear()
  }
}

const agentOf = (
  handler: (job: JobService) => Effect.Effect<unknown, unknown, Job | Lease>,
  more: { readonly compensateWithin?: string } = {}
) =>
  Agent.handle(
    Agent.make("durable", {
      version: "1.0.0",
      durable: true,
      ...(more.compensateWithin === undefined
        ? {}
        : { compensateWithin: more.compensateWithin as "1 second" })
    }),
    () => Effect.orDie(Effect.flatMap(Job, handler))
  )

/** Books three things; what comes then is the test's. */
const books =
  (world: World, then: (job: JobService) => Effect.Effect<unknown, unknown, Job | Lease>) =>
  (job: JobService) =>
    Effect.gen(function* () {
      for (const what of ["flight", "hotel", "car"])
        yield* job.step(what, Effect.as(world.act(`book ${what}`), { booked: what }), {
          compensate: ({ booked }) =>
            Effect.zipRight(job.log("info", `cancelling ${booked}`), world.act(`cancel ${booked}`))
        })
      return yield* then(job)
    })

const booked = ["book flight", "book hotel", "book car"]
const undone = [...booked, "cancel car", "cancel hotel", "cancel flight"]

const failing = () => Effect.fail(new Error("no seats"))

describe("compensations", () => {
  it.scoped("run in reverse order when the job fails, as steps, before its end", () =>
    Effect.gen(function* () {
      const world = new World()
      const runtime = yield* TestRuntime.crashable([agentOf(books(world, failing))])
      const job = yield* runtime.client.submit("durable", {})
      const events = yield* Check.events(job)
      assert.strictEqual((yield* Effect.exit(job.result))._tag, "Failure")
      assert.deepStrictEqual(world.done, undone)
      const said = events.flatMap(({ body, kind }) =>
        kind === stepKind
          ? [`${(body as { key: string }).key} ${(body as { state: string }).state}`]
          : kind === "log"
            ? [(body as { message: string }).message]
            : []
      )
      assert.deepStrictEqual(said.slice(6), [
        "compensate:car started",
        "cancelling car",
        "compensate:car ended",
        "compensate:hotel started",
        "cancelling hotel",
        "compensate:hotel ended",
        "compensate:flight started",
        "cancelling flight",
        "compensate:flight ended"
      ])
    })
  )

  it.scoped("do not run when the job succeeds", () =>
    Effect.gen(function* () {
      const world = new World()
      const runtime = yield* TestRuntime.crashable([agentOf(books(world, () => Effect.succeed(1)))])
      const job = yield* runtime.client.submit("durable", {})
      assert.strictEqual(yield* job.result, 1)
      assert.deepStrictEqual(world.done, booked)
    })
  )

  for (const [how, expected] of [
    ["cancel", "cancelled"],
    ["timeout", "timed_out"],
    ["expiry", "error"]
  ] as const)
    it.scoped(`run when the job ends by ${how}, before or after a crash`, () =>
      Effect.gen(function* () {
        for (const when of ["alive", "dead", "killed while undoing"] as const) {
          const world = new World()
          const runtime = yield* TestRuntime.crashable([agentOf(books(world, () => Effect.never))])
          const expiresAt = new Date((yield* Effect.clockWith((c) => c.currentTimeMillis)) + 60_000)
          const job = yield* runtime.client.submit(
            "durable",
            {},
            {
              ...(how === "timeout" ? { maxRuntime: "1 minute" } : {}),
              ...(how === "expiry" ? { leaseConstraints: { expires_at: expiresAt.toISOString() } } : {})
            }
          )
          const ended = yield* Effect.fork(Effect.exit(job.result))
          yield* Check.seen(job, { kind: stepKind, body: { key: "car", state: "ended" } })
          if (when === "dead") {
            yield* runtime.crash
            if (how !== "cancel") yield* TestClock.adjust("2 minutes")
            yield* runtime.restart
          }
          if (when === "killed while undoing")
            yield* runtime.crashAt({ commit: (yield* runtime.commits) + 4, when: "after" })
          if (how === "cancel") yield* Effect.fork(job.cancel())
          else if (when !== "dead") yield* TestClock.adjust("1 minute")
          if (when === "killed while undoing") {
            yield* runtime.crashed
            yield* runtime.restart
          }
          yield* Fiber.join(ended)
          assert.deepStrictEqual(world.done, undone, when)
          const record = yield* runtime.store.job(job.jobId)
          assert.strictEqual(record?.status, expected)
          Check.endedOnce(yield* runtime.faults.frames, job.jobId)
        }
      })
    )

  it.effect("are the same at whichever commit the process dies", () =>
    Effect.gen(function* () {
      const world = new World()
      const report = yield* TestRuntime.everyCrash(
        agentOf(books(world, failing)),
        {},
        {
          mayFail: true,
          each: () =>
            Effect.sync(() => {
              assert.deepStrictEqual(world.done, undone)
              world.reset()
            })
        }
      )
      assert.isAtLeast(report.commits, 18)
    })
  )

  it.effect("of an async function too", () =>
    Effect.gen(function* () {
      const done: Array<string> = []
      const keys = new Set<string>()
      const act = (what: string, key: string) => {
        if (!keys.has(key)) done.push(what)
        keys.add(key)
      }
      const agent = Agent.fromPromise("async", { version: "1.0.0", durable: true }, async (_, job) => {
        for (const what of ["a", "b"])
          await job.step(
            what,
            ({ idempotencyKey }) => {
              act(`do ${what}`, idempotencyKey)
              return { what }
            },
            {
              compensate: async (output, { idempotencyKey }) => {
                await job.log("info", `undo ${output.what}`)
                act(`undo ${output.what}`, idempotencyKey)
              }
            }
          )
        throw new Error("no")
      })
      yield* TestRuntime.everyCrash(
        agent,
        {},
        {
          mayFail: true,
          each: () =>
            Effect.sync(() => {
              assert.deepStrictEqual(done.splice(0), ["do a", "do b", "undo b", "undo a"])
              keys.clear()
            })
        }
      )
    })
  )

  it.scoped(
    "that fail, hang or die do not keep the others; the job's end names them and its key is kept",
    () =>
      Effect.gen(function* () {
        const ran: Array<string> = []
        const agent = agentOf(
          (job) =>
            Effect.gen(function* () {
              const step = (key: string, compensate: () => Effect.Effect<unknown, unknown>) =>
                job.step(key, Effect.void, {
                  compensate: () =>
                    Effect.zipRight(
                      Effect.sync(() => ran.push(key)),
                      Effect.suspend(compensate)
                    )
                })
              yield* step("late", () => Effect.void)
              yield* step("hangs", () => Effect.never)
              yield* step("well", () => Effect.void)
              yield* step("dies", () => Effect.die("dead"))
              yield* step("fails", () => Effect.fail(new Error("no")))
              return yield* failing()
            }),
          { compensateWithin: "10 seconds" }
        )
        const runtime = yield* TestRuntime.crashable([agent])
        const job = yield* runtime.client.submit("durable", {}, { idempotencyKey: "key" })
        const ended = yield* Effect.fork(Effect.exit(job.result))
        yield* Check.seen(job, { kind: stepKind, body: { key: "compensate:hangs", state: "started" } })
        yield* TestClock.adjust("9 seconds")
        assert.strictEqual((yield* Fiber.poll(ended))._tag, "None")
        yield* TestClock.adjust("1 seconds")
        const exit = yield* Fiber.join(ended)
        assert.isTrue(Exit.isFailure(exit))
        assert.deepStrictEqual(ran, ["fails", "dies", "well", "hangs"])
        const error = yield* Effect.flip(job.result)
        assert.deepStrictEqual((error as { details?: Record<string, unknown> }).details?.["not_undone"], [
          "fails",
          "dies",
          "hangs",
          "late"
        ])
        assert.strictEqual((yield* runtime.store.jobByKey("test", "key"))?.jobId, job.jobId)
      })
  )

  it.scoped("that end by an interruption from within do not keep the others, and are named", () =>
    Effect.gen(function* () {
      const ran: Array<string> = []
      const agent = agentOf((job) =>
        Effect.gen(function* () {
          const step = (key: string, compensate: Effect.Effect<unknown, unknown>) =>
            job.step(key, Effect.void, {
              compensate: () =>
                Effect.zipRight(
                  Effect.sync(() => ran.push(key)),
                  compensate
                )
            })
          yield* step("well", Effect.void)
          yield* step(
            "joins",
            Effect.flatMap(Effect.fork(Effect.never), (fiber) =>
              Effect.zipRight(Fiber.interrupt(fiber), Fiber.join(fiber))
            )
          )
          yield* step("asks", job.input("late", { prompt: "Is it undone?" }))
          return yield* failing()
        })
      )
      const runtime = yield* TestRuntime.crashable([agent])
      const job = yield* runtime.client.submit("durable", {})
      const error = (yield* Effect.flip(job.result)) as { details?: Record<string, unknown> }
      assert.deepStrictEqual(ran, ["asks", "joins", "well"])
      assert.deepStrictEqual(error.details?.["not_undone"], ["asks", "joins"])
      const asked = yield* runtime.store.journalValue(job.jobId, "step", "compensate:asks")
      assert.match(asked ?? "", /the job is ending/)
    })
  )

  it.scoped("of steps whose outcomes cannot be kept are made of what they came to, in the same process", () =>
    Effect.gen(function* () {
      const outcomes: ReadonlyArray<unknown> = [1n, "x".repeat(2_000)]
      for (const outcome of outcomes) {
        const world = new World()
        const agent = agentOf((job) =>
          job.step("card", Effect.as(world.act("charge"), outcome), {
            compensate: (output) => world.act(output === outcome ? "refund" : "refund of another")
          })
        )
        const runtime = yield* TestRuntime.crashable([agent], { options: { maxStepOutcomeBytes: 1_000 } })
        const job = yield* runtime.client.submit("durable", {})
        const error = (yield* Effect.flip(job.result)) as { details?: Record<string, unknown> }
        assert.deepStrictEqual(world.done, ["charge", "refund"])
        assert.isUndefined(error.details?.["not_undone"])
      }
    })
  )

  it.scoped("of steps whose outcomes cannot be kept are named by the end after a crash", () =>
    Effect.gen(function* () {
      const world = new World()
      const agent = agentOf((job) =>
        Effect.gen(function* () {
          yield* job.step("hotel", world.act("book"), { compensate: () => world.act("cancel") })
          const charging = job.step("card", Effect.as(world.act("charge"), 1n), {
            compensate: () => world.act("refund")
          })
          yield* Effect.ignore(charging)
          return yield* Effect.never
        })
      )
      const runtime = yield* TestRuntime.crashable([agent])
      const job = yield* runtime.client.submit("durable", {})
      yield* Check.seen(job, { kind: stepKind, body: { key: "card", state: "failed" } })
      yield* runtime.crash
      yield* runtime.restart
      yield* job.cancel()
      const error = (yield* Effect.flip(job.result)) as { details?: Record<string, unknown> }
      assert.deepStrictEqual(world.done, ["book", "charge", "cancel"])
      assert.deepStrictEqual(error.details?.["not_undone"], ["card"])
    })
  )

  it.scoped("run without the lease that has expired, and over a budget that is used up", () =>
    Effect.gen(function* () {
      const answers = yield* Ref.make<ReadonlyArray<string>>([])
      const agent = agentOf((job) =>
        Effect.gen(function* () {
          const lease = yield* Lease
          const tries = Effect.flatMap(Effect.exit(lease.authorize("tool.call", "x")), (exit) =>
            Ref.update(answers, (all) => [...all, Exit.isSuccess(exit) ? "may" : "may not"])
          )
          yield* job.step("a", lease.spend({ amount: "1", currency: "USD" }), {
            compensate: () => Effect.zipRight(tries, lease.spend({ amount: "0.5", currency: "USD" }))
          })
          return yield* Effect.never
        })
      )
      const runtime = yield* TestRuntime.crashable([agent])
      const submit = (more: object) =>
        runtime.client.submit(
          "durable",
          {},
          {
            leaseRequest: { "tool.call": ["*"], "cost.budget": ["USD:1"] },
            ...more
          }
        )
      const cancelled = yield* submit({})
      yield* Check.seen(cancelled, { kind: stepKind, body: { key: "a", state: "ended" } })
      yield* cancelled.cancel()
      yield* Effect.exit(cancelled.result)
      assert.deepStrictEqual(yield* Ref.get(answers), ["may"])
      assert.deepStrictEqual((yield* runtime.store.job(cancelled.jobId))?.budget, { USD: "-0.5" })
      const expires_at = new Date(
        (yield* Effect.clockWith((c) => c.currentTimeMillis)) + 60_000
      ).toISOString()
      const expired = yield* submit({ leaseConstraints: { expires_at } })
      yield* Check.seen(expired, { kind: stepKind, body: { key: "a", state: "ended" } })
      yield* TestClock.adjust("1 minute")
      yield* Effect.exit(expired.result)
      assert.deepStrictEqual(yield* Ref.get(answers), ["may", "may not"])
      assert.strictEqual((yield* runtime.store.job(expired.jobId))?.status, "error")
    })
  )

  it.scoped("refuse nested steps, and keys that are theirs", () =>
    Effect.gen(function* () {
      const agent = agentOf((job) =>
        Effect.gen(function* () {
          const inner = job.step("inner", Effect.void, { compensate: () => Effect.void })
          const nested = yield* Effect.exit(job.step("outer", inner))
          const reserved = yield* Effect.exit(job.step("compensate:x", Effect.void))
          return [nested, reserved].map((exit) => (Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""))
        })
      )
      const runtime = yield* TestRuntime.crashable([agent])
      const job = yield* runtime.client.submit("durable", {})
      const [nested, reserved] = (yield* job.result) as ReadonlyArray<string>
      assert.match(nested ?? "", /give the compensation to outer/)
      assert.match(reserved ?? "", /are of compensations/)
    })
  )

  it.scoped(
    "go on in the next process when the runtime is stopped meanwhile; a cancel that comes then wins",
    () =>
      Effect.gen(function* () {
        const base = Context.get(yield* Layer.build(StoreMemory.layer()), Store)
        const store = Layer.succeed(Store, { ...base, kind: "durable" as const })
        const ran: Array<string> = []
        const blocked = yield* Ref.make(true)
        const agent = agentOf((job) =>
          Effect.gen(function* () {
            for (const key of ["a", "b", "c"])
              yield* job.step(key, Effect.void, {
                compensate: () =>
                  Effect.gen(function* () {
                    ran.push(key)
                    if (key === "b" && (yield* Ref.get(blocked))) yield* Effect.never
                  })
              })
            return yield* failing()
          })
        )
        const first = yield* Scope.make()
        const context = yield* Layer.buildWithScope(TestRuntime.layer([agent], { store }), first)
        const job = yield* Context.get(context, ArcpClient.ArcpClient).submit("durable", {})
        yield* Check.seen(job, { kind: stepKind, body: { key: "compensate:b", state: "started" } })
        yield* Effect.fork(Effect.ignore(job.cancel()))
        yield* Effect.eventually(
          Effect.filterOrFail(
            base.job(job.jobId),
            (record) => record?.cancelRequested !== undefined,
            () => "not yet"
          )
        )
        yield* Scope.close(first, Exit.void)
        const between = yield* base.job(job.jobId)
        assert.deepStrictEqual([between?.status, between?.survival?.ended?.status], ["running", "error"])
        yield* Ref.set(blocked, false)
        const second = yield* Layer.build(TestRuntime.layer([agent], { store }))
        const again = yield* Context.get(second, ArcpClient.ArcpClient).subscribe(job.jobId, {
          history: true
        })
        assert.strictEqual(((yield* Effect.flip(again.result)) as { code?: string }).code, "CANCELLED")
        assert.deepStrictEqual(ran, ["c", "b", "b", "a"])
      })
  )

  it.scoped("of a child whose parent does not survive run before the parent's end", () =>
    Effect.gen(function* () {
      const world = new World()
      const child = agentOf(books(world, () => Effect.never))
      const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
        Effect.flatMap(Job, (job) => Effect.flatMap(job.delegate("durable", {}), (below) => below.await))
      )
      const runtime = yield* TestRuntime.crashable([child, parent])
      const job = yield* runtime.client.submit("parent", {}, { leaseRequest: { "agent.delegate": ["*"] } })
      const ended = yield* Effect.fork(Effect.flip(job.result))
      const [below] = yield* Effect.eventually(
        Effect.filterOrFail(
          runtime.store.jobs({ principals: "everyone", parentJobId: job.jobId, limit: 1 }),
          (jobs) => jobs.length > 0,
          () => "not yet"
        )
      )
      const jobId = below?.jobId ?? ""
      yield* Effect.eventually(
        Effect.filterOrFail(
          runtime.store.journalValue(jobId, "step", "car"),
          (value) => value !== undefined,
          () => "not yet"
        )
      )
      yield* runtime.crash
      yield* runtime.restart
      assert.strictEqual(
        ((yield* Fiber.join(ended)) as { details?: Record<string, unknown> }).details?.["reason"],
        "runtime_restart"
      )
      assert.deepStrictEqual(world.done, undone)
      const records = yield* Effect.forEach([jobId, job.jobId], (id) => runtime.store.job(id))
      const [first = 0, second = 0] = records.map((record) => record?.lastEventSeq)
      assert.isBelow(first, second)
    })
  )

  it.scoped(
    "of a version that is gone are named by the end of a job that is cancelled, which keeps its key",
    () =>
      Effect.gen(function* () {
        const world = new World()
        const agents = [agentOf(books(world, () => Effect.never))]
        const runtime = yield* TestRuntime.crashable(agents)
        const job = yield* runtime.client.submit("durable", {}, { idempotencyKey: "key" })
        yield* Check.seen(job, { kind: stepKind, body: { key: "car", state: "ended" } })
        yield* runtime.crash
        agents.length = 0
        yield* runtime.restart
        yield* job.cancel()
        const error = (yield* Effect.flip(job.result)) as { code?: string; details?: Record<string, unknown> }
        assert.deepStrictEqual(
          [error.code, error.details?.["not_undone"]],
          ["CANCELLED", ["car", "hotel", "flight"]]
        )
        assert.deepStrictEqual(world.done, booked)
        assert.strictEqual((yield* runtime.store.jobByKey("test", "key"))?.jobId, job.jobId)
      })
  )
})
