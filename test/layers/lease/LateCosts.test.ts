/** What is spent when the job that spends it has ended already (§9.6). */
import * as LanguageModel from "@effect/ai/LanguageModel"
import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Tools from "../../../src/layers/agents/Tools.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as LeasedLanguageModel from "../../../src/layers/lease/LeasedLanguageModel.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import * as Budget from "../../../src/protocol/Budget.js"
import type { ArcpError } from "../../../src/protocol/Errors.js"
import { all, unobserved } from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import { gate } from "../../support/lessee.js"
import { open } from "../../support/Wire.js"
import { makeStore, submit } from "../jobs/support.js"
import { durable, start, unloaded, until } from "../jobs/unloading.js"

/** How a child leaves something behind that costs USD 1. */
const ways = [
  "an uninterruptible call",
  "a tool that cannot be interrupted",
  "a forked fiber",
  "a metric",
  "a cost of its own",
  "a text of a model",
  "a stream of a model",
  "a finalizer that takes longer than the grace"
] as const

/** Those that the child can be interrupted in, and those that call the tool. */
const interruptible: ReadonlyArray<string> = [
  "a tool that cannot be interrupted",
  "a forked fiber",
  "a finalizer that takes longer than the grace"
]
const calling: ReadonlyArray<string> = [
  "an uninterruptible call",
  "a tool that cannot be interrupted",
  "a forked fiber"
]

/** USD 1 for each response. */
const prices = { m: { currency: "USD", inputPerMillion: "1000000", outputPerMillion: "0" } }

it.scoped.each(ways)("%s that ends after its job is charged to the jobs above it", (way) => {
  const work = gate()
  const paid = Deferred.unsafeMake<void>(FiberId.none)
  let runs = 0
  const print = Tools.make("print", { cost: { amount: "1", currency: "USD" } })
  const tools = Tools.layer([
    Tools.handle(print, () =>
      Effect.uninterruptible(
        Effect.zipRight(
          work.wait,
          Effect.sync(() => {
            runs += 1
          })
        )
      )
    )
  ])
  const parts = [
    { type: "text", text: "hi" },
    {
      type: "finish",
      reason: "stop",
      usage: { inputTokens: 1, outputTokens: 0, totalTokens: 1 }
    }
  ] as const
  const model = Layer.effect(
    LanguageModel.LanguageModel,
    LanguageModel.make({
      generateText: () => Effect.as(Effect.uninterruptible(work.wait), [...parts]),
      streamText: () =>
        Stream.fromEffect(Effect.uninterruptible(work.wait)).pipe(Stream.flatMap(() => Stream.make(parts[1])))
    })
  )
  const child = Agent.handle(Agent.make("child", { version: "1.0.0" }), () =>
    Effect.gen(function* () {
      const job = yield* Job
      const lease = yield* Lease
      const late = Effect.uninterruptible(work.wait)
      const spent: Effect.Effect<void, ArcpError, Tools.Tools | LanguageModel.LanguageModel> = {
        "an uninterruptible call": Effect.asVoid((yield* Tools.Tools).call(print, {})),
        "a tool that cannot be interrupted": Effect.asVoid((yield* Tools.Tools).call(print, {})),
        "a forked fiber": Effect.flatMap(
          Effect.forkDaemon(Effect.asVoid(Effect.flatMap(Tools.Tools, (all) => all.call(print, {})))),
          () => Effect.never
        ),
        "a metric": Effect.zipRight(late, job.metric({ name: "cost.search", value: 1, unit: "USD" })),
        "a cost of its own": Effect.zipRight(late, lease.spend({ amount: "1", currency: "USD" })),
        "a text of a model": Effect.asVoid(Effect.orDie(LanguageModel.generateText({ prompt: "hello" }))),
        "a stream of a model": Effect.orDie(Stream.runDrain(LanguageModel.streamText({ prompt: "hello" }))),
        "a finalizer that takes longer than the grace": Effect.scoped(
          Effect.zipRight(
            Effect.addFinalizer(() =>
              Effect.ignore(Effect.zipRight(late, lease.spend({ amount: "1", currency: "USD" })))
            ),
            Effect.zipRight(Effect.raceFirst(work.wait, Effect.yieldNow()), Effect.never)
          )
        )
      }[way]
      yield* interruptible.includes(way) ? spent : Effect.uninterruptible(spent)
    })
  )
  const middle = Agent.handle(Agent.make("middle", { version: "1.0.0" }), () =>
    Effect.gen(function* () {
      const job = yield* Job
      const lease = yield* Lease
      const before = yield* lease.remaining
      const running = yield* job.delegate(
        "child",
        {},
        { lease: { "tool.call": ["print"], "model.use": ["m"] } }
      )
      yield* work.reached
      yield* running.cancel
      yield* work.open
      yield* Deferred.await(paid)
      return [Budget.entries(before), Budget.entries(yield* lease.remaining)]
    })
  )
  const root = Agent.handle(Agent.make("root", { version: "1.0.0", output: Schema.Unknown }), () =>
    Effect.gen(function* () {
      const job = yield* Job
      const lease = yield* Lease
      const running = yield* job.delegate(
        "middle",
        {},
        {
          lease: {
            "tool.call": ["print"],
            "model.use": ["m"],
            "agent.delegate": ["child"],
            "cost.budget": ["USD:2"]
          }
        }
      )
      const seen = yield* running.await
      const refused = yield* Effect.exit(lease.authorize("tool.call", "print"))
      return { seen, left: Budget.entries(yield* lease.remaining), more: Exit.isSuccess(refused) }
    })
  )
  return Effect.gen(function* () {
    const session = yield* Effect.orDie(open())
    yield* session.request("job.submit", {
      agent: "root",
      input: null,
      lease_request: {
        "tool.call": ["print"],
        "model.use": ["m"],
        "agent.delegate": ["middle", "child"],
        "cost.budget": ["USD:2"]
      }
    })
    // What is left is told as it changes, on the job whose counter it is.
    const told: Array<number> = []
    while (told.length < 2) {
      const { payload } = yield* session.next((frame) => frame.payload.body?.name === "cost.budget.remaining")
      told.push(payload.body.value)
    }
    assert.deepStrictEqual(told, [1, 1])
    yield* Deferred.succeed(paid, undefined)
    const { payload } = yield* session.next(
      (frame) => frame.type === "job.result" && frame.payload.result?.left !== undefined
    )
    assert.deepStrictEqual(payload.result, { seen: [["USD:2"], ["USD:1"]], left: ["USD:1"], more: true })
    assert.strictEqual(runs, calling.includes(way) ? 1 : 0)
  }).pipe(
    Effect.provide(
      Runtime.serve().pipe(
        Layer.provideMerge(TransportMemory.layer()),
        Layer.provide(
          Runtime.layerMemory({ options: { cancelGrace: "0 millis", shutdownGrace: "0 millis" } })
        ),
        Layer.provide(
          Registry.layer([root, middle, child], {
            leased: [LeasedLanguageModel.leased({ name: "m", prices })]
          })
        ),
        Layer.provide(tools),
        Layer.provide(model),
        Layer.provide(Auth.layerStatic({ alice: "alice" }))
      )
    )
  )
})

/** What a fiber of an ended job spends, by which of the two ways, and what its parent is left with of USD 2 and EUR 1. */
const late = [
  ["at the limit", "2", "USD", ["EUR:1", "USD:0"]],
  ["over the limit", "2.5", "USD", ["EUR:1", "USD:-0.5"]],
  ["in a currency that the job had no budget in", "1", "EUR", ["EUR:0", "USD:2"]],
  ["in a currency that nobody has a budget in", "7", "GBP", ["EUR:1", "USD:2"]],
  ["of many digits", "0.000000000000000000000001", "USD", ["EUR:1", "USD:1.999999999999999999999999"]],
  ["of nothing", "0", "USD", ["EUR:1", "USD:2"]],
  ["that is negative", "-1", "USD", ["EUR:1", "USD:2"]],
  ["that is no number", "NaN", "USD", ["EUR:1", "USD:2"]],
  ["beyond what can be counted", "1e308", "USD", ["EUR:1", "USD:2"]],
  ["with more digits than can be counted", `1${"0".repeat(70)}`, "USD", ["EUR:1", "USD:2"]]
] as const

it.scoped.each(late)("what is spent after the end %s", ([, amount, currency, left]) =>
  Effect.gen(function* () {
    const spending = gate()
    const spent = yield* Deferred.make<void>()
    const child = Agent.handle(Agent.make("child", { version: "1.0.0" }), () =>
      Effect.gen(function* () {
        const lease = yield* Lease
        yield* spending.wait.pipe(
          Effect.zipRight(Effect.exit(lease.spend({ amount, currency }))),
          Effect.zipRight(Deferred.succeed(spent, undefined)),
          Effect.forkDaemon
        )
        yield* spending.reached
      })
    )
    const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
      Effect.gen(function* () {
        const [job, lease] = [yield* Job, yield* Lease]
        yield* Effect.flatMap(
          job.delegate("child", {}, { lease: { "cost.budget": ["USD:2"] } }),
          (child) => child.await
        )
        yield* spending.open
        yield* Deferred.await(spent)
        return Budget.entries(yield* lease.remaining)
      })
    )
    const result = yield* Effect.scoped(
      Effect.gen(function* () {
        const session = yield* Effect.orDie(open())
        yield* session.request("job.submit", {
          agent: "parent",
          input: null,
          lease_request: { "agent.delegate": ["child"], "cost.budget": ["USD:2", "EUR:1"] }
        })
        const { payload } = yield* session.next(
          (frame) => frame.type === "job.result" && Array.isArray(frame.payload.result)
        )
        return payload.result as ReadonlyArray<string>
      })
    ).pipe(
      Effect.provide(
        Runtime.serve().pipe(
          Layer.provideMerge(TransportMemory.layer()),
          Layer.provide(Runtime.layerMemory()),
          Layer.provide(Registry.layer([parent, child])),
          Layer.provide(Auth.layerStatic({ alice: "alice" }))
        )
      )
    )
    assert.deepStrictEqual([...result].sort(), [...left])
  })
)

it.scoped.each(["ended", "cancelled"])(
  "what is spent when the job above has %s too is charged to those that run",
  (how) =>
    Effect.gen(function* () {
      const work = gate()
      const paid = yield* Deferred.make<void>()
      const spending = (amount: string) =>
        Effect.flatMap(Lease, (lease) =>
          work.wait.pipe(
            Effect.zipRight(lease.spend({ amount, currency: "USD" })),
            Effect.exit,
            Effect.zipRight(Deferred.succeed(paid, undefined)),
            Effect.forkDaemon
          )
        )
      const child = Agent.handle(Agent.make("child", { version: "1.0.0" }), () =>
        Effect.asVoid(spending("0.75"))
      )
      const middle = Agent.handle(Agent.make("middle", { version: "1.0.0" }), () =>
        Effect.gen(function* () {
          const job = yield* Job
          yield* Effect.flatMap(
            job.delegate("child", {}, { lease: { "cost.budget": ["USD:1"] } }),
            ({ await: end }) => end
          )
          yield* work.reached
          if (how === "cancelled") yield* Effect.never
        })
      )
      const top = Agent.handle(Agent.make("top", { version: "1.0.0" }), () =>
        Effect.gen(function* () {
          const [job, lease] = [yield* Job, yield* Lease]
          const running = yield* job.delegate(
            "middle",
            {},
            { lease: { "agent.delegate": ["child"], "cost.budget": ["USD:1"] } }
          )
          yield* work.reached
          if (how === "cancelled") yield* running.cancel
          yield* Effect.exit(running.await)
          yield* work.open
          yield* Deferred.await(paid)
          return Budget.entries(yield* lease.remaining)
        })
      )
      const root = Agent.handle(Agent.make("root", { version: "1.0.0", output: Schema.Unknown }), () =>
        Effect.gen(function* () {
          const [job, lease] = [yield* Job, yield* Lease]
          const running = yield* job.delegate(
            "top",
            {},
            { lease: { "agent.delegate": ["middle", "child"], "cost.budget": ["USD:2"] } }
          )
          return [yield* running.await, Budget.entries(yield* lease.remaining)]
        })
      )
      const result = yield* Effect.gen(function* () {
        const session = yield* Effect.orDie(open())
        yield* session.request("job.submit", {
          agent: "root",
          input: null,
          lease_request: { "agent.delegate": ["top", "middle", "child"], "cost.budget": ["USD:5"] }
        })
        const { payload } = yield* session.next(
          (frame) => frame.type === "job.result" && Array.isArray(frame.payload.result?.[1])
        )
        return payload.result as unknown
      }).pipe(
        Effect.scoped,
        Effect.provide(
          Runtime.serve().pipe(
            Layer.provideMerge(TransportMemory.layer()),
            Layer.provide(Runtime.layerMemory({ options: { cancelGrace: "0 millis" } })),
            Layer.provide(Registry.layer([root, top, middle, child])),
            Layer.provide(Auth.layerStatic({ alice: "alice" }))
          )
        )
      )
      assert.deepStrictEqual(result, [["USD:1.25"], ["USD:4.25"]])
    })
)

it.scoped("is counted by a durable job above that sleeps meanwhile, and that nobody looks at", () =>
  Effect.gen(function* () {
    const work = gate()
    const paid = Deferred.unsafeMake<void>(FiberId.none)
    const worker = Agent.handle(Agent.make("worker", { version: "1.0.0" }), () =>
      Effect.flatMap(Lease, (lease) =>
        Effect.uninterruptible(
          work.wait.pipe(
            Effect.zipRight(lease.spend({ amount: "1", currency: "USD" })),
            Effect.ensuring(Deferred.succeed(paid, undefined))
          )
        )
      )
    )
    const root = durable("root", (job) =>
      Effect.gen(function* () {
        const lease = yield* Lease
        const child = yield* job.delegate("worker", {}, { key: "worker" })
        yield* work.reached
        yield* child.cancel
        yield* job.sleep("nap", "1 hour")
        return Budget.entries(yield* lease.remaining)
      })
    )
    const store = yield* makeStore
    const process = yield* start(store, [root, worker], { cancelGrace: "0 millis" })
    yield* Effect.addFinalizer(() => process.stop)
    const session = yield* process.run(open({}, [...all, unobserved]))
    const lease_request = { "agent.delegate": ["*"], "cost.budget": ["USD:2"] }
    const { job_id } = yield* submit(session, "root", {}, { lease_request })
    yield* work.reached
    const isAsleep = Effect.map(store.store.journal(job_id as string, { kind: "", key: "" }, 10), (entries) =>
      entries.some(({ key }) => key === "nap")
    )
    yield* until(isAsleep)
    yield* TestClock.adjust("10 minutes")
    yield* work.open
    yield* Deferred.await(paid)
    yield* TestClock.adjust("10 minutes")
    // It is unloaded as soon as nothing below it can spend any more.
    yield* unloaded(store.store, job_id)
    yield* TestClock.adjust("1 hour")
    yield* session.request("job.subscribe", { job_id, history: true })
    const { payload } = yield* session.expect("job.result")
    assert.deepStrictEqual(payload.result, ["USD:1"])
  })
)
