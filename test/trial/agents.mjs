/** What the nodes of a trial host: agents of every shape that a failover must treat in a way of its own. */
import { Effect, Schedule, Schema } from "effect"
import { Agent, Job, Lease } from "../../dist/index.js"

const Count = Schema.Struct({ count: Schema.Int, ms: Schema.Number })

/** Whoever waits for a commit is told when there is none in time, and decides: a job of a trial tries again. */
const patiently = (effect) =>
  Effect.retry(effect, {
    schedule: Schedule.spaced("200 millis"),
    while: ({ details }) => details?.reason === "storage"
  })

/** Steps, each of which costs a cent: what survives a node, with a budget. */
const counting = ({ count, ms }, pays) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    const lease = yield* Lease.Lease
    for (let i = 1; i <= count; i++)
      yield* job.step(
        `${i}`,
        Effect.gen(function* () {
          yield* Effect.sleep(ms)
          yield* job.log("info", `step ${i}`)
          if (pays) yield* patiently(lease.spend({ name: "step", amount: "0.01", currency: "USD" }))
        })
      )
    return count
  }).pipe(Effect.orDie)

const durable = (name) =>
  Agent.make(name, { version: "1.0.0", input: Count, output: Schema.Int, durable: true })

const steps = Agent.handle(durable("steps"), (input) => counting(input, false))
const part = Agent.handle(durable("part"), (input) => counting(input, true))

/** Delegates to three parts at once, and pays itself meanwhile: a tree with one budget. */
const tree = Agent.handle(durable("tree"), (input) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    const delegate = (i) =>
      Effect.flatMap(
        patiently(job.delegate("part", input, { key: `part ${i}`, lease: { "cost.budget": ["USD:1"] } })),
        (child) => child.await
      )
    const parts = yield* Effect.all([delegate(1), delegate(2), delegate(3), counting(input, true)], {
      concurrency: "unbounded"
    })
    return parts.reduce((sum, part) => sum + Number(part), 0)
  }).pipe(Effect.orDie)
)

/** Sleeps twice: a job that is unloaded, or waits for its time on whatever node has it. */
const nap = Agent.handle(durable("nap"), ({ count, ms }) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    for (let i = 1; i <= count; i++) yield* job.sleep(`nap ${i}`, ms)
    return count
  }).pipe(Effect.orDie)
)

/** Says a number again and again: what does not survive. */
const speak = Agent.handle(
  Agent.make("speak", { version: "1.0.0", input: Count, output: Schema.Int }),
  ({ count, ms }) =>
    Effect.gen(function* () {
      const job = yield* Job.Job
      for (let i = 1; i <= count; i++) {
        yield* job.log("info", `${i}`)
        yield* Effect.sleep(ms)
      }
      return count
    }).pipe(Effect.orDie)
)

export const agents = [steps, part, tree, nap, speak]
