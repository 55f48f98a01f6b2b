/** What a handle holds, leaves behind, and fetches again. */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Dialer } from "../../../src/services/transport/Transport.js"
import { agentsForClients, Count } from "../../support/agents.js"
import { runtime } from "../../support/Wire.js"

const connect = (options: Partial<ArcpClient.Options> = {}) =>
  ArcpClient.make({ token: Redacted.make("alice"), reconnect: Schedule.recurs(20), ...options })
const collect = <A, E>(stream: Stream.Stream<A, E>) =>
  Effect.map(Stream.runCollect(stream), Chunk.toReadonlyArray)

const Bytes = Agent.make("bytes", { version: "1.0.0", input: Schema.Struct({ parts: Schema.Number }) })
const part = (i: number) => new Uint8Array(1000).fill(i % 251)
const bytes = Agent.handle(Bytes, ({ parts }) =>
  Effect.flatMap(Job, (job) => job.streamResult(Stream.range(0, parts - 1).pipe(Stream.map(part)), "base64"))
)
const whole = (parts: number) => {
  const all = new Uint8Array(parts * 1000)
  for (let i = 0; i < parts; i++) all.set(part(i), i * 1000)
  return all
}
const agents = [...agentsForClients, bytes]

const numbers = (events: ReadonlyArray<ArcpClient.JobEvent>) =>
  events.flatMap((event) => (event.kind === "log" ? [Number(event.body.message)] : []))
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1)

/** Counts how often the client dialled. */
const counting = Effect.gen(function* () {
  const dialer = yield* Dialer
  let dialled = 0
  const layer = (more: Partial<Dialer["Type"]> = {}) =>
    Layer.succeed(Dialer, {
      ...dialer,
      ...more,
      connect: Effect.suspend(() => {
        dialled++
        return dialer.connect
      })
    })
  return { layer, dialled: () => dialled }
})

describe("a stream that nobody reads", () => {
  it.scoped("is fetched again when it is read, and holds nobody up", () =>
    Effect.gen(function* () {
      const { dialled, layer } = yield* counting
      const client = yield* Effect.provide(connect({ held: { events: 10 } }), layer())
      const unread = yield* client.submit(Count, { to: 3000 })
      assert.strictEqual(yield* unread.result, 3000)
      const other = yield* client.submit(Count, { to: 5 })
      assert.deepStrictEqual(numbers(yield* collect(other.events)), upTo(5))
      assert.strictEqual(dialled(), 1)
      const events = yield* collect(unread.events)
      assert.deepStrictEqual(numbers(events), upTo(3000))
      assert.isTrue(events.every((event, i) => i === 0 || event.eventSeq > (events[i - 1]?.eventSeq ?? 0)))
      assert.isAbove(dialled(), 1)
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("a reader that stops leaves the rest to the next one", () =>
    Effect.gen(function* () {
      const client = yield* connect({ held: { events: 10 } })
      const job = yield* client.submit(Count, { to: 100 })
      const first = yield* collect(Stream.take(job.events, 40))
      const rest = yield* collect(job.events)
      assert.deepStrictEqual(numbers([...first, ...rest]), upTo(100))
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("has one reader at a time", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const job = yield* client.submit("forever", {})
      const open = yield* Deferred.make<void>()
      yield* Effect.fork(Stream.runForEach(job.events, () => Deferred.succeed(open, undefined)))
      yield* Deferred.await(open)
      const busy = yield* Effect.flip(Stream.runDrain(job.events))
      assert.strictEqual(busy._tag, "InvalidRequest")
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("behind a connection that takes the runtime with it, says what it left out", () =>
    Effect.gen(function* () {
      const { dialled, layer } = yield* counting
      const client = yield* Effect.provide(connect({ held: { events: 10 } }), layer({ ephemeral: true }))
      const job = yield* client.submit(Count, { to: 3000 })
      assert.strictEqual(yield* job.result, 3000)
      const events = yield* collect(job.events)
      const last = events[events.length - 1]
      assert.strictEqual(last?.kind, "gap")
      assert.deepInclude(last?.body, { reason: "evicted" })
      const seen = numbers(events)
      assert.deepStrictEqual(seen, upTo(seen.length))
      assert.isBelow(seen.length, 3000)
      assert.strictEqual(dialled(), 1)
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("is told when the runtime no longer has what it left behind", () =>
    Effect.gen(function* () {
      const client = yield* connect({ held: { events: 10 } })
      const job = yield* client.submit(Count, { to: 5000 })
      assert.strictEqual(yield* job.result, 5000)
      const events = yield* collect(job.events)
      assert.deepStrictEqual(
        events.filter((event) => event.kind === "gap").map((event) => event.body),
        [
          {
            reason: "evicted",
            replayed: false,
            message: "not read in time"
          }
        ]
      )
      // The session has survived it.
      const other = yield* client.submit(Count, { to: 3 })
      assert.deepStrictEqual(numbers(yield* collect(other.events)), upTo(3))
    }).pipe(Effect.provide(runtime(agents, { maxRetainedEvents: 1024 * 16 })))
  )
})

describe("a streamed result", () => {
  it.scoped("comes as bytes, in bounded memory, whoever else reads", () =>
    Effect.gen(function* () {
      const client = yield* connect({ held: { events: 8, bytes: 20_000 } })
      const job = yield* client.submit(Bytes, { parts: 300 })
      const chunks = yield* collect(job.chunks)
      assert.deepStrictEqual(new Uint8Array(chunks.flatMap((chunk) => [...chunk])), whole(300))
      const late = yield* Effect.flip(job.result)
      assert.strictEqual(late._tag, "InvalidRequest")
      assert.strictEqual(
        (yield* collect(job.events)).filter((event) => event.kind === "result_chunk").length,
        301
      )
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("is put together also when it was left behind, for all that wait", () =>
    Effect.gen(function* () {
      const client = yield* connect({ held: { events: 8, bytes: 20_000 } })
      const job = yield* client.submit(Bytes, { parts: 300 })
      // Until the end was seen.
      yield* Stream.runDrain(job.progress.changes)
      const [one, two] = yield* Effect.all([job.result, job.result], { concurrency: "unbounded" })
      assert.deepStrictEqual(one, whole(300))
      assert.deepStrictEqual(two, whole(300))
      assert.strictEqual((yield* Effect.flip(Stream.runDrain(job.chunks)))._tag, "InvalidRequest")
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("that is not streamed comes in one piece, and a failed one as its error", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const text = (chunks: ReadonlyArray<Uint8Array>) =>
        chunks.map((chunk) => new TextDecoder().decode(chunk))
      const job = yield* client.submit(Count, { to: 3 })
      assert.deepStrictEqual(text(yield* collect(job.chunks)), ["3"])
      assert.strictEqual(yield* job.result, 3)
      const failed = yield* client.submit("picky", "no")
      assert.strictEqual((yield* Effect.flip(Stream.runDrain(failed.chunks)))._tag, "InternalError")
    }).pipe(Effect.provide(runtime(agents)))
  )
})

describe("a handle and its scope", () => {
  const statusOf = (client: ArcpClient.ArcpClientService, jobId: string) =>
    Stream.runHead(Stream.filter(client.list(), (job) => job.job_id === jobId)).pipe(
      Effect.map(Option.map((job) => job.status)),
      Effect.map(Option.getOrUndefined)
    )
  const ends = (client: ArcpClient.ArcpClientService, jobId: string) =>
    Effect.repeat(Effect.zipRight(Effect.yieldNow(), statusOf(client, jobId)), {
      until: (status) => status !== "running" && status !== "pending"
    })

  it.scoped("interrupting whoever awaits the result cancels the job", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const job = yield* client.submit("forever", {})
      const waiting = yield* Effect.fork(job.result)
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(waiting)
      assert.strictEqual(yield* ends(client, job.jobId), "cancelled")
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("unless it is detached", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const job = yield* client.submit("forever", {}, { onInterrupt: "detach" })
      const waiting = yield* Effect.fork(job.result)
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(waiting)
      yield* client.ping
      assert.strictEqual(yield* statusOf(client, job.jobId), "running")
      yield* job.cancel()
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("leaving submitScoped cancels, leaving submit does not", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const kept = yield* Effect.scoped(client.submit("forever", {}))
      const ended = yield* Effect.scoped(client.submitScoped("forever", {}))
      assert.strictEqual(yield* ends(client, ended.jobId), "cancelled")
      assert.strictEqual(yield* statusOf(client, kept.jobId), "running")
      yield* client.cancel(kept.jobId)
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("also when the client's own scope ends with it", () =>
    Effect.gen(function* () {
      const watcher = yield* connect()
      const job = yield* Effect.scoped(
        Effect.flatMap(connect(), (client) => client.submitScoped("forever", {}))
      )
      assert.strictEqual(yield* ends(watcher, job.jobId), "cancelled")
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("an interrupted submit does not leave a job running", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const submitting = yield* Effect.fork(client.submit("forever", {}))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(submitting)
      const jobs = yield* Effect.repeat(collect(client.list()), { until: (jobs) => jobs.length > 0 })
      assert.strictEqual(yield* ends(client, jobs[0]?.job_id ?? ""), "cancelled")
    }).pipe(Effect.provide(runtime(agents)))
  )
})
