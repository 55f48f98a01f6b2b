/** Durable jobs over the end of their process: run again over what they have done, and nothing of it twice. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job, type JobService } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import type { Frame } from "../../support/Wire.js"
import { open } from "../../support/Wire.js"
import { makeStore, pong, restarted, resume, type Session, serve, submit, type TestStore } from "./support.js"

const isEnd = ({ type }: Frame) => type === "job.result" || type === "job.error"

/** What the events of a job say, in short; events of steps by key, attempt and state. */
const told = (frames: ReadonlyArray<Frame>): ReadonlyArray<string> =>
  frames
    .filter(({ type }) => type === "job.event")
    .map(({ payload: { kind, body } }) =>
      kind === "x-vendor.effect-arcp.step"
        ? `${body.key}#${body.attempt} ${body.state}`
        : kind === "log"
          ? body.message
          : kind === "status"
            ? `${body.phase}${body.attempt === undefined ? "" : ` ${body.attempt}`}`
            : kind
    )

/** A process on a store; `kill`: nothing more of it is stored. */
const start = (
  store: TestStore,
  agents: ReadonlyArray<Agent.Registered>,
  options: RuntimeOptions.Input = {}
) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(
      serve(store, agents, { revealFailures: true, ...options }),
      scope
    )
    return {
      run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, context),
      kill: Effect.suspend(() => {
        store.cut = true
        return Scope.close(scope, Exit.void)
      }),
      stop: Scope.close(scope, Exit.void)
    }
  })

/** Runs a handler that is killed where it waits at `crash`, and again to its end. */
const over = (
  handler: (
    job: JobService,
    crash: Effect.Effect<void>,
    gate: Effect.Latch
  ) => Effect.Effect<unknown, unknown, Job | Lease>,
  {
    how = "kill",
    options,
    submitted = {},
    times = 1,
    ...more
  }: {
    readonly how?: "kill" | "stop"
    readonly options?: RuntimeOptions.Input
    readonly submitted?: Record<string, unknown>
    readonly times?: number
    readonly restart?: "rerun"
  } = {}
) =>
  Effect.gen(function* () {
    const store = yield* makeStore
    let current = store
    let session: Session | undefined
    let jobId = ""
    for (let run = 1; ; run++) {
      const reached = yield* Deferred.make<void>()
      const { gate } = current
      const crash =
        run > times ? Effect.void : Effect.zipRight(Deferred.succeed(reached, undefined), Effect.never)
      const agent = Agent.handle(
        Agent.make("durable", {
          version: "1.0.0",
          ...(more.restart === undefined ? { durable: true } : more)
        }),
        () => Effect.orDie(Effect.flatMap(Job, (job) => handler(job, crash, gate)))
      )
      const process = yield* start(current, [agent], options)
      const before: Session | undefined = session
      const opened: Session = yield* process.run(open(before === undefined ? {} : resume(before, 0)))
      session = opened
      if (before === undefined) jobId = (yield* submit(opened, "durable", {}, submitted)).job_id as string
      if (run > times) {
        const end = yield* opened.next(isEnd)
        const frames = opened.seen.filter(({ job_id }) => job_id === jobId)
        assert.deepStrictEqual(
          frames.flatMap(({ event_seq }) => event_seq ?? []),
          Array.from(
            { length: frames.filter(({ event_seq }) => event_seq !== undefined).length },
            (_, i) => i + 1
          )
        )
        assert.strictEqual(frames.filter(isEnd).length, 1)
        yield* process.stop
        return {
          end,
          frames,
          told: told(frames),
          store: current.store,
          jobId,
          record: yield* current.store.job(jobId)
        }
      }
      yield* Deferred.await(reached)
      yield* how === "kill" ? Effect.zipRight(pong(opened), process.kill) : process.stop
      current = restarted(current)
    }
  })

describe("a durable job whose process dies", () => {
  it.scopedLive("is run again over its steps: each outcome once, each event once and in order", () =>
    Effect.gen(function* () {
      const ran: Array<string> = []
      const effect = (name: string) => Effect.sync(() => void ran.push(name))
      const result = yield* over((job, crash) =>
        Effect.gen(function* () {
          yield* job.log("info", "one")
          yield* job.log("info", "two")
          const a = yield* job.step("a", Effect.as(effect("a"), Math.random()))
          yield* job.log("info", "three")
          const failed = yield* Effect.flip(
            job.step("fails", Effect.zipRight(effect("fails"), Effect.fail("no")))
          )
          const all = yield* Effect.forEach(
            [1, 2, 3],
            (i) => job.step(`all ${i}`, Effect.as(effect(`all ${i}`), i)),
            {
              concurrency: 3
            }
          )
          yield* job.step(
            "outer",
            Effect.gen(function* () {
              yield* job.log("info", "in outer")
              yield* job.step("inner", effect("inner"))
              yield* job.flush
              yield* crash
              yield* effect("outer")
            })
          )
          yield* job.log("info", "last")
          return [a, failed, all, yield* job.step("a", Effect.die("again"))]
        })
      )
      const [a, failed, all, again] = result.end.payload.result
      assert.strictEqual(a, again)
      assert.deepStrictEqual([failed, all], ["no", [1, 2, 3]])
      assert.deepStrictEqual(ran, ["a", "fails", "all 1", "all 2", "all 3", "inner", "outer"])
      assert.deepStrictEqual(
        result.told.filter((line) => !line.startsWith("all")),
        [
          "running",
          "one",
          "two",
          "a#1 started",
          "a#1 ended",
          "three",
          "fails#1 started",
          "fails#1 failed",
          "outer#1 started",
          "in outer",
          "inner#1 started",
          "inner#1 ended",
          "recovered 2",
          "outer#2 retry",
          "in outer",
          "outer#2 ended",
          "last"
        ]
      )
    })
  )

  it.scopedLive(
    "does not log again what its own fiber had emitted, whatever its body is now, nor what has a key",
    () =>
      Effect.gen(function* () {
        let run = 0
        const result = yield* over((job, crash) =>
          Effect.gen(function* () {
            run++
            yield* job.log("info", `first of ${run}`)
            yield* Effect.fork(job.log("info", `keyed of ${run}`, {}, { key: "k" }))
            yield* job.step("pass", Effect.void)
            yield* job.log("info", `second of ${run}`)
            yield* job.flush
            yield* crash
            yield* job.log("info", `third of ${run}`)
          })
        )
        assert.deepStrictEqual(
          result.told.filter((line) => !line.includes("#")),
          ["running", "first of 1", "keyed of 1", "second of 1", "recovered 2", "third of 2"]
        )
      })
  )

  it.scopedLive("fails again what was refused, and has of it what came in its place", () =>
    Effect.gen(function* () {
      const tooLong = "x".repeat(20_000)
      const options = { maxOutboundFrameBytes: 16_384 }
      const logged = yield* over(
        (job, crash) =>
          Effect.gen(function* () {
            yield* Effect.catchAll(job.log("info", tooLong), () => job.log("info", "short"))
            yield* Effect.catchAll(job.log("info", tooLong), () =>
              Effect.zipRight(job.log("info", "also short"), job.step("in its place", Effect.void))
            )
            yield* Effect.catchAll(job.log("info", tooLong, {}, { key: "k" }), () =>
              job.log("info", "short by its key", {}, { key: "k" })
            )
            yield* job.flush
            yield* crash
            yield* job.log("info", "never logged before")
          }),
        { options }
      )
      assert.deepStrictEqual(logged.told, [
        "running",
        "short",
        "also short",
        "in its place#1 started",
        "in its place#1 ended",
        "short by its key",
        "recovered 2",
        "never logged before"
      ])
      assert.strictEqual(logged.end.type, "job.result")
    })
  )

  it.scopedLive("knows by its place what came after an emit that the log refused", () =>
    Effect.gen(function* () {
      let runs = 0
      const { told } = yield* over(
        (job, crash, gate) =>
          Effect.gen(function* () {
            const isFirst = ++runs === 1
            yield* job.flush
            if (isFirst) yield* gate.close
            // More than may be given up while the store takes nothing.
            for (let i = 0; i < 5; i++)
              yield* Effect.timeoutOption(job.log("info", `${i}`, {}, { key: `${i}` }), "1 millis")
            const tried = yield* Effect.either(job.log("info", "refused"))
            if (isFirst) assert.isTrue(Either.isLeft(tried))
            yield* gate.open
            yield* job.flush
            yield* job.log("info", "one")
            yield* job.flush
            yield* crash
            yield* job.log("info", "two")
          }),
        { options: { maxUncommittedEvents: 2 } }
      )
      assert.deepStrictEqual(told, ["running", "0", "1", "2", "3", "4", "one", "recovered 2", "two"])
    })
  )

  it.scopedLive("has what a cut off attempt has spent, and pays again only for what has no outcome", () =>
    Effect.gen(function* () {
      const result = yield* over(
        (job, crash) =>
          Effect.gen(function* () {
            const lease = yield* Lease
            const spend = lease.spend({ amount: "0.25", currency: "USD" })
            yield* job.step("paid", spend)
            yield* job.step("cut", Effect.zipRight(spend, crash))
            return String(yield* Effect.map(lease.remaining, (left) => left.get("USD")?.value))
          }),
        { submitted: { lease_request: { "cost.budget": ["USD:1.00"] } } }
      )
      assert.strictEqual(result.end.payload.result, "25")
      assert.deepStrictEqual(result.record?.budget, { USD: "0.25" })
    })
  )

  it.scopedLive("has the winner of a race that it had", () =>
    Effect.gen(function* () {
      let run = 0
      const result = yield* over((job, crash) =>
        Effect.gen(function* () {
          run++
          const slow = run === 1 ? Effect.sleep("5 millis") : Effect.void
          const winner = yield* Effect.race(
            job.step("a", Effect.as(slow, "a")),
            job.step("b", Effect.succeed("b"))
          )
          const order: Array<string> = []
          const note = (key: string) => job.step(key, Effect.void).pipe(Effect.map(() => order.push(key)))
          yield* run === 1
            ? Effect.forEach(["z", "y", "x"], note)
            : Effect.forEach(["x", "y", "z"], note, { concurrency: 3 })
          yield* job.flush
          yield* crash
          return [winner, order]
        })
      )
      assert.deepStrictEqual(result.end.payload.result, ["b", ["z", "y", "x"]])
    })
  )

  it.scopedLive("fails when its handler does other things than before", () =>
    Effect.gen(function* () {
      let run = 0
      const other = yield* over((job, crash) =>
        Effect.zipRight(job.step(++run === 1 ? "before" : "after", Effect.void), crash)
      )
      assert.strictEqual(other.end.payload.code, "INTERNAL_ERROR")
      assert.deepStrictEqual(other.end.payload.details, { reason: "nondeterministic", keys: ["before"] })
      const kind = yield* over((job, crash) =>
        Effect.zipRight(++run === 3 ? job.step("x", Effect.void) : job.sleep("x", 1), crash)
      )
      assert.strictEqual(kind.end.payload.code, "INTERNAL_ERROR")
      assert.match(kind.end.payload.message, /x is the key of a sleep, and was that of a step/)
    })
  )

  it.scopedLive("sleeps until the time that was set, and not anew", () =>
    Effect.gen(function* () {
      const result = yield* over((job, crash) =>
        Effect.gen(function* () {
          yield* job.sleep("short", 1)
          const startedAt = Date.now()
          yield* Effect.all([job.sleep("long", 400), Effect.delay(crash, 50)], { concurrency: 2 })
          return Date.now() - startedAt
        })
      )
      assert.isBelow(result.end.payload.result, 399)
      assert.include(result.told, "long#1 ended")
      assert.strictEqual(result.told.filter((line) => line === "long#1 started").length, 1)
    })
  )

  it.scopedLive("keeps its time limit, and ends in TIMEOUT when that has passed meanwhile", () =>
    Effect.gen(function* () {
      const result = yield* over((_, crash) => Effect.zipRight(Effect.delay(crash, 1_000), Effect.never), {
        submitted: { max_runtime_sec: 1 + 1 }
      })
      assert.strictEqual(result.end.payload.code, "TIMEOUT")
    })
  )

  it.scopedLive("ends in crash_loop when it gets no further, and goes on as long as it does", () =>
    Effect.gen(function* () {
      const stuck = yield* over((_, crash) => crash, {
        times: 3,
        options: { maxAttempts: 3, attemptPause: 1 }
      })
      assert.deepStrictEqual(stuck.end.payload.details, { reason: "crash_loop" })
      let run = 0
      const going = yield* over(
        (job, crash) =>
          Effect.gen(function* () {
            run++
            yield* Effect.forEach(
              Array.from({ length: run }, (_, i) => i),
              (i) => job.step(`step ${i}`, Effect.void)
            )
            yield* crash
            return run
          }),
        { times: 5, options: { maxAttempts: 3, attemptPause: 1 } }
      )
      assert.strictEqual(going.end.payload.result, 6)
      assert.strictEqual(going.told.filter((line) => line.startsWith("recovered")).length, 5)
    })
  )

  it.scopedLive("is run again whole when its contract says so", () =>
    Effect.gen(function* () {
      const result = yield* over(
        (job, crash) => Effect.zipRight(job.log("info", "again"), Effect.zipRight(job.flush, crash)),
        { restart: "rerun" }
      )
      assert.deepStrictEqual(result.told, ["running", "again", "recovered 2", "again"])
    })
  )
})

describe("a durable job whose runtime shuts down", () => {
  it.scopedLive("is left as it is: what its finalizers do is not in its log, and no attempt is lost", () =>
    Effect.gen(function* () {
      let finalized = 0
      const result = yield* over(
        (job, crash) =>
          Effect.gen(function* () {
            yield* job.step("a", Effect.void)
            yield* job.log("info", "before")
            yield* Effect.onInterrupt(crash, () =>
              Effect.suspend(() => {
                finalized++
                return Effect.ignore(
                  Effect.zipRight(job.log("info", "finalizer"), job.step("late", Effect.void))
                )
              })
            )
            return "done"
          }),
        { how: "stop", times: 4, options: { maxAttempts: 2 } }
      )
      assert.strictEqual(result.end.payload.result, "done")
      assert.strictEqual(finalized, 4)
      assert.deepStrictEqual(result.told, [
        "running",
        "a#1 started",
        "a#1 ended",
        "before",
        "recovered 2",
        "recovered 3",
        "recovered 4",
        "recovered 5"
      ])
    })
  )
})

describe("a durable job that is run again", () => {
  it.scopedLive(
    "is parked while its version is missing, listed so, can be cancelled, and goes on when it is back",
    () =>
      Effect.gen(function* () {
        const agent = (name: string) =>
          Agent.handle(
            Agent.make(name, {
              version: "1.0.0",
              durable: true,
              input: Agent.make("x", { version: "1" }).input
            }),
            (input) =>
              Effect.flatMap(Job, (job) =>
                Effect.zipRight(
                  job.step("a", Effect.void),
                  input === "wait" ? Effect.never : Effect.succeed(input)
                )
              )
          )
        let store = yield* makeStore
        const first = yield* start(store, [agent("durable")])
        const before = yield* first.run(open())
        const kept = (yield* submit(before, "durable", "wait", { idempotency_key: "k" })).job_id
        const cancelled = (yield* submit(before, "durable", "wait")).job_id
        yield* before.expect(
          "job.event",
          ({ job_id, payload }) => job_id === cancelled && payload.body.state === "ended"
        )
        yield* first.kill
        store = restarted(store)
        const second = yield* start(store, [agent("other")])
        const without = yield* second.run(open(resume(before, 0)))
        const parked = Effect.gen(function* () {
          yield* without.request("session.list_jobs", {})
          const { payload } = yield* without.expect("session.jobs")
          return payload.jobs.map((job: Record<string, unknown>) => job["parked"])
        })
        yield* Effect.repeat(parked, {
          until: (all: ReadonlyArray<unknown>) => all.every((why) => why === "agent_not_available")
        })
        assert.strictEqual((yield* submit(without, "other", "same")).payload.parked, undefined)
        yield* without.request("job.cancel", {}, { job_id: cancelled })
        const end = yield* without.expect("job.error", ({ job_id }) => job_id === cancelled)
        assert.strictEqual(end.payload.code, "CANCELLED")
        yield* second.kill
        store = restarted(store)
        const third = yield* start(store, [agent("durable")])
        const after = yield* third.run(open(resume(without, 0)))
        yield* after.expect(
          "job.event",
          ({ job_id, payload }) => job_id === kept && payload.body.phase === "recovered"
        )
        // Its key finds it, and it is cancelled by the session that is here now.
        const again = yield* submit(after, "durable", "wait", { idempotency_key: "k" })
        assert.strictEqual(again.job_id, kept)
        yield* after.request("job.cancel", {}, { job_id: kept })
        yield* after.expect("job.cancelled")
        yield* after.expect("job.error", ({ job_id }) => job_id === kept)
        yield* third.stop
      })
  )
})

describe("what a durable job delegates and streams", () => {
  const childOf = (name: string, durable: boolean, gate: () => Effect.Effect<void>, ran: Array<string>) =>
    Agent.handle(Agent.make(name, { version: "1.0.0", durable }), (input) =>
      Effect.gen(function* () {
        ran.push(`${name} ${input}`)
        yield* gate()
        return `${name} of ${input}`
      })
    )

  it.scopedLive(
    "is found again: a child that runs, one that has ended, one that was refused, one that was lost",
    () =>
      Effect.gen(function* () {
        const ran: Array<string> = []
        const reached = yield* Deferred.make<void>()
        let run = 0
        let isFirst = true
        const wait = () => Effect.suspend(() => (isFirst ? Effect.never : Effect.void))
        const agents = [
          childOf("done", false, () => Effect.void, ran),
          childOf("durable-child", true, wait, ran),
          childOf("plain", false, wait, ran),
          Agent.handle(Agent.make("parent", { version: "1.0.0", durable: true }), () =>
            Effect.orDie(
              Effect.gen(function* () {
                run++
                const job = yield* Job
                const code = Effect.map(Effect.flip(job.delegate("done", 1)), ({ message }) => message)
                const none = yield* code
                const done = yield* job.delegate("done", 1, { key: "done" })
                const first = yield* done.await
                const refused = yield* Effect.flip(
                  job.delegate("done", 2, { key: "refused", lease: { "tool.call": ["x"] } })
                )
                const survivor = yield* job.delegate("durable-child", 3, { key: "durable" })
                const lost = yield* job.delegate("plain", 4, { key: "lost" })
                const again = yield* job.delegate("plain", 5, { key: "again", retries: 1 })
                if (run === 1) yield* Deferred.succeed(reached, undefined)
                const reason = yield* Effect.flip(lost.await)
                return [
                  none,
                  first,
                  refused._tag,
                  yield* survivor.await,
                  reason.details?.["reason"],
                  yield* again.await,
                  done.jobId
                ]
              })
            )
          )
        ]
        const store = yield* makeStore
        const first = yield* start(store, agents)
        const before = yield* first.run(open())
        const { job_id } = yield* submit(before, "parent", {}, { lease_request: { "agent.delegate": ["*"] } })
        yield* Deferred.await(reached)
        yield* pong(before)
        yield* first.kill
        isFirst = false
        const second = yield* start(restarted(store), agents)
        const after = yield* second.run(open(resume(before, 0)))
        const end = yield* after.next((frame) => isEnd(frame) && frame.job_id === job_id)
        const [none, ...results] = end.payload.result
        assert.match(none, /with a { key }/)
        const done = results.pop()
        assert.deepStrictEqual(results, [
          "done of 1",
          "LeaseSubsetViolation",
          "durable-child of 3",
          "runtime_restart",
          "plain of 5"
        ])
        assert.deepStrictEqual([...ran].sort(), [
          "done 1",
          "durable-child 3",
          "durable-child 3",
          "plain 4",
          "plain 5",
          "plain 5"
        ])
        const ofParent = after.seen.filter((frame) => frame.job_id === job_id)
        const delegated = told(ofParent).filter((line) => line === "delegate" || line === "tool_result")
        assert.deepStrictEqual(delegated, [
          "delegate",
          "delegate",
          "tool_result",
          "delegate",
          "delegate",
          "delegate",
          "delegate"
        ])
        assert.isTrue(after.seen.some((frame) => frame.type === "job.accepted" && frame.job_id === done))
        // Nothing of a family outlives it, and it ends last.
        const ends = after.seen.filter(isEnd).map((frame) => frame.job_id)
        assert.strictEqual(ends.at(-1), job_id)
        assert.strictEqual(new Set(ends).size, ends.length)
        yield* second.stop
      })
  )

  for (const [encoding, text] of [
    ["utf8", "smörgåsbord \u{1f37d} ".repeat(40)],
    ["base64", "some bytes ".repeat(40)]
  ] as const)
    it.scopedLive(`goes on after what is committed of a streamed result (${encoding})`, () =>
      Effect.gen(function* () {
        const data = encoding === "utf8" ? text : new TextEncoder().encode(text)
        let run = 0
        const result = yield* over(
          (job, crash) =>
            Effect.gen(function* () {
              const stream = yield* job.openResult(encoding)
              const size = ++run === 1 ? 50 : 70
              for (let from = 0; from < data.length; from += size) {
                yield* stream.write(data.slice(from, from + size))
                if (run === 1 && from > 150) {
                  yield* job.flush
                  yield* crash
                }
              }
              yield* stream.end()
            }),
          {}
        )
        const chunks = result.frames
          .filter(({ payload, type }) => type === "job.event" && payload.kind === "result_chunk")
          .map(({ payload }) => payload.body)
        assert.strictEqual(new Set(chunks.map(({ result_id }) => result_id)).size, 1)
        assert.deepStrictEqual(
          chunks.map(({ chunk_seq, more }) => [chunk_seq, more]),
          chunks.map((_, i) => [i, i < chunks.length - 1])
        )
        const joined = Buffer.concat(chunks.map(({ data }) => Buffer.from(data, encoding)))
        assert.strictEqual(joined.toString(), text)
        assert.strictEqual(result.end.payload.result_id, chunks[0].result_id)
        assert.strictEqual(result.end.payload.result_size, Buffer.byteLength(text))
      })
    )
})
