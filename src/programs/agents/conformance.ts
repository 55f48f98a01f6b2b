/** Agents with exactly known behaviour, for conformance suites and benchmarks. */

import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { toPayload } from "../../protocol/Errors.js"
import { LeaseConstraints, Lease as Terms } from "../../protocol/Lease.js"
import * as Agent from "../../services/agents/Agent.js"
import { type EmitError, Job, type JobService, Step } from "../../services/jobs/Job.js"
import { Lease, leaseErrorOf } from "../../services/lease/Lease.js"
import { withDefault } from "../../services/runtime/optionSchemas.js"
import { ask } from "./ask.js"

const WorkCount = Schema.Int.pipe(Schema.between(0, 100_000_000))
const Millis = Schema.Number.pipe(Schema.finite(), Schema.nonNegative())
const MessageSize = Schema.Int.pipe(Schema.between(0, 1024 * 1024))

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))

/** Emits between two voluntary yields of a worker, well below what Effect's scheduler allows. */
const emitsPerTurn = 64

/**
 * `workers` fibers that take the next message each: `workers` emits are in flight, and messages come in
 * order. Between taking a number and appending, a fiber must not lose its turn to another, so each
 * yields on its own, between two messages, before the scheduler would make it.
 */
const emitConcurrently = (
  job: JobService,
  workers: number,
  count: number,
  message: (i: number) => string,
  pause: Effect.Effect<void> | undefined
): Effect.Effect<void, EmitError> => {
  let next = 0
  const worker = Effect.suspend(() => {
    let emitted = 0
    return Effect.whileLoop({
      while: () => next < count,
      body: () => {
        const emit = job.log("info", message(next++))
        if (pause !== undefined) return Effect.zipRight(emit, pause)
        return ++emitted % emitsPerTurn === 0 ? Effect.zipRight(emit, Effect.yieldNow()) : emit
      },
      step: () => {}
    })
  })
  return Effect.forEach(Array.from({ length: Math.min(workers, count) }), () => worker, {
    concurrency: "unbounded",
    discard: true
  })
}

const emitSequentially = (
  job: JobService,
  count: number,
  message: (i: number) => string,
  pause: Effect.Effect<void> | undefined
): Effect.Effect<void, EmitError> => {
  let i = 0
  return Effect.whileLoop({
    while: () => i < count,
    body:
      pause === undefined
        ? () => job.log("info", message(i++))
        : () =>
            i + 1 === count
              ? job.log("info", message(i++))
              : Effect.zipRight(job.log("info", message(i++)), pause),
    step: () => {}
  })
}

const emit = Agent.handle(
  Agent.make("emit", {
    version: "1.0.0",
    input: Schema.Struct({
      count: WorkCount,
      /** Characters of each message: its index, then padding. */
      size: withDefault(MessageSize, 100),
      delayMs: withDefault(Millis, 0),
      startDelayMs: withDefault(Millis, 0),
      /** Emits kept in flight. */
      batch: withDefault(Schema.Int.pipe(Schema.between(1, 10_000)), 1)
    }),
    output: Schema.Struct({ count: Schema.Int })
  }),
  ({ count, size, delayMs, startDelayMs, batch }) =>
    Effect.gen(function* () {
      const job = yield* Job
      const message = (i: number) => String(i).padEnd(size, ".").slice(0, size)
      const pause = delayMs > 0 ? Effect.sleep(delayMs) : undefined
      if (startDelayMs > 0) yield* Effect.sleep(startDelayMs)
      yield* batch === 1
        ? emitSequentially(job, count, message, pause)
        : emitConcurrently(job, batch, count, message, pause)
      return { count }
    })
)

const Ms = Schema.Struct({ ms: Millis })

const sleep = Agent.handle(Agent.make("sleep", { version: "1.0.0", input: Ms, output: Ms }), ({ ms }) =>
  Effect.flatMap(Job, (job) =>
    Effect.sleep(ms).pipe(Effect.as({ ms }), Effect.ensuring(Effect.ignore(job.log("info", "cleanup"))))
  )
)

const stubborn = Agent.handle(Agent.make("stubborn", { version: "1.0.0", input: Ms, output: Ms }), ({ ms }) =>
  Effect.uninterruptible(Effect.as(Effect.sleep(ms), { ms }))
)

const chunks = Agent.handle(
  Agent.make("chunks", {
    version: "1.0.0",
    input: Schema.Struct({
      chunks: WorkCount,
      /** Bytes of each chunk. */
      size: WorkCount,
      encoding: withDefault(Schema.Literal("utf8", "base64"), "utf8")
    })
  }),
  (input) =>
    Effect.gen(function* () {
      const job = yield* Job
      const data = (i: number): string | Uint8Array => {
        const code = 97 + (i % 26)
        return input.encoding === "utf8"
          ? String.fromCharCode(code).repeat(input.size)
          : new Uint8Array(input.size).fill(code)
      }
      const result = yield* job.openResult(input.encoding)
      const last = input.chunks - 1
      let i = 0
      yield* Effect.whileLoop({
        while: () => i < last,
        body: () => result.write(data(i++)),
        step: () => {}
      })
      yield* last < 0 ? result.end() : result.end(data(last))
    })
)

/** What `fail` fails with in its `fail` mode. */
export class ConformanceFailure extends Schema.TaggedError<ConformanceFailure>()("ConformanceFailure", {
  message: Schema.String
}) {}

const fail = Agent.handle(
  Agent.make("fail", {
    version: "1.0.0",
    input: Schema.Struct({
      mode: withDefault(Schema.Literal("fail", "defect", "throw"), "fail"),
      message: withDefault(Schema.String, "failed as asked")
    }),
    error: ConformanceFailure
  }),
  ({ mode, message }) => {
    switch (mode) {
      case "fail":
        return Effect.fail(new ConformanceFailure({ message }))
      case "defect":
        return Effect.die(new Error(message))
      case "throw":
        return Effect.sync(() => {
          throw new Error(message)
        })
    }
  }
)

const ver = (version: string, isDefault: boolean) =>
  Agent.handle(
    Agent.make("ver", { version, default: isDefault, output: Schema.Struct({ version: Schema.String }) }),
    () => Effect.succeed({ version })
  )

/** Does `demo.tool` as often as asked, at that cost each time, and counts how often it might and might not. */
const spend = Agent.handle(
  Agent.make("spend", {
    version: "1.0.0",
    input: Schema.Struct({
      /** A decimal. */
      amount: Schema.String,
      times: WorkCount,
      unit: withDefault(Schema.NonEmptyString, "USD")
    }),
    output: Schema.Struct({ spent: Schema.Int, denied: Schema.Int })
  }),
  ({ amount, times, unit }) =>
    Effect.gen(function* () {
      const job = yield* Job
      const lease = yield* Lease
      let spent = 0
      let denied = 0
      for (let i = 1; i <= times; i++) {
        const call_id = `spend-${i}`
        const allowed = yield* Effect.isSuccess(
          lease.authorize("tool.call", "demo.tool", { callId: call_id })
        )
        if (!allowed) {
          denied++
          continue
        }
        yield* job.toolCall({ tool: "demo.tool", args: { amount, unit }, call_id })
        yield* job.toolResult({ call_id, result: { ok: true } })
        yield* lease.spend({ name: "demo", amount, currency: unit })
        spent++
      }
      return { spent, denied }
    })
)

class ReadFailed extends Schema.TaggedError<ReadFailed>()("ReadFailed", { message: Schema.String }) {}

const read = Agent.handle(
  Agent.make("read", {
    version: "1.0.0",
    input: Schema.Struct({ path: Schema.String }),
    output: Schema.Struct({ content: Schema.String }),
    error: ReadFailed
  }),
  ({ path }) =>
    Effect.gen(function* () {
      const job = yield* Job
      const files = yield* FileSystem.FileSystem
      const call_id = "r1"
      const content = yield* files.readFileString(path).pipe(
        Effect.catchAll((failure) => {
          const error = leaseErrorOf(failure) ?? new ReadFailed({ message: failure.message })
          const shown = "code" in error ? toPayload(error) : { message: error.message }
          return Effect.zipRight(job.toolResult({ call_id, error: shown }), Effect.fail(error))
        })
      )
      yield* job.toolCall({ tool: "fs.read", args: { path }, call_id })
      yield* job.toolResult({ call_id, result: { characters: content.length } })
      return { content }
    })
)

/** Asks whether it might, and does nothing. */
const fetch = Agent.handle(
  Agent.make("fetch", {
    version: "1.0.0",
    input: Schema.Struct({ url: Schema.String }),
    output: Schema.Struct({ url: Schema.String })
  }),
  ({ url }) =>
    Effect.gen(function* () {
      const lease = yield* Lease
      return { url: yield* lease.authorize("net.fetch", url, { callId: "f1" }) }
    })
)

const model = Agent.handle(
  Agent.make("model", {
    version: "1.0.0",
    input: Schema.Struct({ model: Schema.String }),
    output: Schema.Struct({ model: Schema.String })
  }),
  (input) =>
    Effect.gen(function* () {
      const lease = yield* Lease
      return { model: yield* lease.authorize("model.use", input.model, { callId: "m1" }) }
    })
)

const delegate = Agent.handle(
  Agent.make("delegate", {
    version: "1.0.0",
    input: Schema.Struct({
      agent: Schema.String,
      input: Schema.Unknown,
      lease_request: Schema.optional(Terms),
      lease_constraints: Schema.optional(LeaseConstraints)
    })
  }),
  (input) =>
    Effect.gen(function* () {
      const job = yield* Job
      const child = yield* job.delegate(input.agent, input.input, {
        lease: input.lease_request,
        constraints: input.lease_constraints
      })
      return { child: yield* child.await }
    }).pipe(Effect.catchAll((error) => Effect.succeed({ error: error.code })))
)

/** Kills this process, as a crash does; what the job has said until then is stored. */
const crash = (job: JobService): Effect.Effect<never, EmitError> =>
  Effect.zipRight(
    job.flush,
    Effect.async<never>(() => {
      process.kill(process.pid, "SIGKILL")
    })
  )

const steps = Agent.handle(
  Agent.make("steps", {
    version: "1.0.0",
    durable: true,
    input: Schema.Struct({
      count: WorkCount,
      /** What each step waits. */
      ms: withDefault(Millis, 0),
      /** Each step appends a line to it: its number, and the attempt. */
      file: Schema.optional(Schema.String),
      /** This step, from 1, fails. */
      failAt: Schema.optional(Schema.Int),
      /** In the first attempt of this step the process is killed. */
      crashAt: Schema.optional(Schema.Int),
      /** Steps that run at once. */
      concurrency: withDefault(Schema.Int.pipe(Schema.between(1, 1_000)), 1),
      /** Each step has a step inside it that does the work. */
      nested: withDefault(Schema.Boolean, false),
      /** What each step costs, a decimal, in USD. */
      cost: Schema.optional(Schema.String)
    }),
    output: Schema.Struct({ count: Schema.Int }),
    error: ConformanceFailure
  }),
  ({ concurrency, cost, count, crashAt, failAt, file, ms, nested }) =>
    Effect.gen(function* () {
      const job = yield* Job
      const lease = yield* Lease
      const files = yield* FileSystem.FileSystem
      const work = (i: number) =>
        Effect.gen(function* () {
          const { attempt } = yield* Step
          yield* Effect.sleep(ms)
          if (i === crashAt && attempt === 1) yield* crash(job)
          if (i === failAt) yield* new ConformanceFailure({ message: `step ${i} failed as asked` })
          if (file !== undefined)
            yield* Effect.catchAll(
              files.writeFileString(file, `${i} ${attempt}\n`, { flag: "a" }),
              unwritable
            )
          yield* job.log("info", `step ${i}`)
          if (cost !== undefined) yield* lease.spend({ name: "step", amount: cost, currency: "USD" })
          return i
        })
      const once = (i: number) =>
        nested
          ? job.step(`${i}`, job.step(`${i} inner`, work(i)), { error: ConformanceFailure })
          : job.step(`${i}`, work(i))
      const done = yield* Effect.forEach(
        Array.from({ length: count }, (_, i) => i + 1),
        once,
        { concurrency }
      )
      yield* job.log("info", "all steps")
      return { count: done.length }
    })
)

/** What `steps` fails with when it may not write its file, or cannot. */
const unwritable = (failure: PlatformError) => {
  const { message } = failure
  return Effect.fail(leaseErrorOf(failure) ?? new ConformanceFailure({ message }))
}

const nap = Agent.handle(
  Agent.make("nap", { version: "1.0.0", durable: true, input: Ms, output: Ms }),
  ({ ms }) => Effect.flatMap(Job, (job) => Effect.as(job.sleep("nap", ms), { ms }))
)

export const agents: ReadonlyArray<Agent.Registered<FileSystem.FileSystem>> = [
  echo,
  emit,
  sleep,
  stubborn,
  chunks,
  fail,
  spend,
  read,
  fetch,
  model,
  delegate,
  steps,
  nap,
  ask,
  ver("1.0.0", false),
  ver("2.0.0", true)
]
