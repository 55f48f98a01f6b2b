/**
 * Durable agents of every shape, whose process is killed at random moments. What a step does to the world is written to two
 * places: a file gets a line per try, and a folder a file for each idempotency key, which can be made once.
 */
import { appendFileSync, closeSync, openSync } from "node:fs"
import { join } from "node:path"
import { Effect, Schema, Stream } from "effect"
import { Agent, Job, Lease } from "../../../dist/index.js"

const Input = Schema.Struct({ folder: Schema.String, count: Schema.Int, ms: Schema.Number })

/** Acts on the world, in a step: at some moment of `ms` milliseconds. */
const act = ({ folder, ms }) =>
  Effect.gen(function* () {
    const { idempotencyKey, key } = yield* Job.Step
    yield* Effect.sleep(Math.random() * ms)
    const name = idempotencyKey.replaceAll(":", "-")
    appendFileSync(join(folder, "tries"), `${name}\n`)
    try {
      closeSync(openSync(join(folder, name), "wx"))
    } catch (error) {
      if (error.code !== "EEXIST") throw error
    }
    yield* Effect.sleep(Math.random() * ms)
    return key
  })

const pay = Effect.flatMap(Lease.Lease, (lease) => lease.spend({ amount: "0.01", currency: "USD" }))

/** A child that survives, and one that does not. */
const part = Agent.handle(Agent.make("part", { version: "1.0.0", input: Input, durable: true }), (input) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    for (let i = 1; i <= input.count; i++) yield* job.step(`${i}`, Effect.zipRight(pay, act(input)))
    return "part"
  }).pipe(Effect.orDie)
)
const brief = Agent.handle(Agent.make("brief", { version: "1.0.0", input: Schema.Number }), (ms) =>
  Effect.as(Effect.sleep(ms), "brief")
)

/** Nested and concurrent steps, children, costs, keyed emits and a streamed result. */
const whole = Agent.handle(Agent.make("whole", { version: "1.0.0", input: Input, durable: true }), (input) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    yield* job.log("info", "begins")
    const child = yield* job.delegate("part", input, {
      key: "part",
      lease: { "cost.budget": ["USD:1"] }
    })
    yield* Effect.forEach(
      Array.from({ length: input.count }, (_, i) => i + 1),
      (i) =>
        job.step(
          `outer ${i}`,
          Effect.gen(function* () {
            yield* job.log("info", `in outer ${i}`)
            yield* pay
            yield* job.step(`inner ${i}`, act(input))
            yield* job.progress({ current: i, total: input.count })
          })
        ),
      { concurrency: 3 }
    )
    yield* Effect.forEach(
      [1, 2, 3],
      (i) => Effect.fork(job.log("info", `keyed ${i}`, {}, { key: `keyed ${i}` })),
      { discard: true }
    )
    // Interrupted at once by a crash of its process: another one takes its place.
    const plain = yield* job.delegate("brief", input.ms, { key: "brief", retries: 1_000 })
    yield* job.sleep("nap", input.ms)
    const parts = [yield* child.await, yield* plain.await]
    yield* job.log("info", "streams")
    yield* job.streamResult(Stream.fromIterable([...parts, ..."0123456789"].map((text) => text.repeat(500))))
  }).pipe(Effect.orDie)
)

/** Fails when it has done everything, and undoes it. */
const undone = Agent.handle(
  Agent.make("undone", { version: "1.0.0", input: Input, durable: true, compensateWithin: "5 minutes" }),
  (input) =>
    Effect.gen(function* () {
      const job = yield* Job.Job
      for (let i = 1; i <= input.count; i++)
        yield* job.step(`${i}`, act(input), { compensate: () => act(input) })
      return yield* Effect.die(new Error("nobody wants it"))
    }).pipe(Effect.orDie)
)

/** Asks and sleeps between things that it does; every other job fails then, and undoes them. */
const asker = Agent.handle(
  Agent.make("asker", {
    version: "1.0.0",
    input: Schema.Struct({ ...Input.fields, fails: Schema.Boolean }),
    durable: true,
    compensateWithin: "5 minutes"
  }),
  (input) =>
    Effect.gen(function* () {
      const job = yield* Job.Job
      const answers = []
      for (let i = 1; i <= input.count; i++) {
        yield* job.step(`${i}`, act(input), { compensate: () => act(input) })
        yield* job.sleep(`nap ${i}`, input.ms * 2)
        answers.push(yield* job.input(`ask ${i}`, { prompt: `${i}?`, schema: Schema.String, about: i }))
      }
      return input.fails ? yield* Effect.die(new Error("nobody wants it")) : answers
    }).pipe(Effect.orDie)
)

export const agents = [part, brief, whole, undone, asker]
