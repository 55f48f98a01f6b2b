/** What an async function waits for of its job when that is ended: it is told by the protocol's error, at once (§5.3, §5.4). */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import type { ArcpError } from "../../../src/protocol/Errors.js"
import * as Features from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { type Frame, open } from "../../support/Wire.js"
import { forever, makeStore, type Session, serve, submit } from "./support.js"
import { start, unloaded, until } from "./unloading.js"

type Job = Agent.PromiseJob

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** What never ends by itself. */
const never = () => new Promise<never>(() => {})

/** What listens to its signal, and says so when it ends. */
const listening =
  (job: Job, body: (signal: AbortSignal) => Promise<unknown> = aborted) =>
  async ({ signal }: { readonly signal: AbortSignal }) => {
    try {
      await body(signal)
    } finally {
      await Promise.resolve()
      await job.log("info", "inner")
      await job.log("info", "inner, too")
    }
  }

const aborted = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))

const lease = { "agent.delegate": ["*"] }

const waits: Readonly<Record<string, (job: Job) => Promise<unknown>>> = {
  sleep: (job) => job.sleep("q", "5 minutes"),
  input: (job) => job.input("q", { prompt: "?" }),
  "a step": (job) => job.step("q", never),
  "a sleep in a step": (job) => job.step("q", () => job.sleep("in q", "5 minutes")),
  hold: (job) => job.hold(never),
  "the pause between two attempts": (job) =>
    job.step("q", () => Promise.reject(new Error("no")), { attempts: 2, pause: "5 minutes" }),
  "a child": async (job) => (await job.delegate("forever", null, { key: "q", lease })).result(),
  "all at once": (job) =>
    Promise.all([job.sleep("a", "5 minutes"), job.step("b", never), job.input("c", { prompt: "?" })]),
  "its signal": (job) => aborted(job.signal)
}

/** Waits, and notes what it is told. */
const waiter = (wait: (job: Job) => Promise<unknown>, told: Array<string>, begun: () => void) =>
  Agent.fromPromise("waiter", { version: "1.0.0", durable: true }, async (_, job) => {
    try {
      setImmediate(begun)
      return await wait(job)
    } catch (error) {
      const { code, details, message } = error as ArcpError
      told.push(`${code}: ${message}${details === undefined ? "" : ` (${String(details["reason"])})`}`)
      // It goes on as if nothing was: it gets nowhere with that.
      for (const again of [
        job.sleep("again", "1 hour"),
        job.step("again, too", never),
        job.input("and again", { prompt: "?" }),
        job.delegate("forever", null, { key: "once more" })
      ])
        told.push((await again.catch((error: unknown) => error)) === error ? "the same" : "another")
      return "swallowed"
    } finally {
      await job.log("info", "finally")
      told.push("finally")
    }
  })

const again = ["the same", "the same", "the same", "the same", "finally"]

/** What came of a job: messages of its logs, and its end. */
const story = ({ seen }: Session, jobId: string | undefined) =>
  seen.flatMap(({ job_id, payload, type }) => {
    if (job_id !== jobId) return []
    if (type === "job.event") return payload.kind === "log" ? [payload.body.message] : []
    return type === "job.error" || type === "job.result" ? [payload.code ?? payload.result] : []
  })

const isEndOf =
  (jobId: string | undefined) =>
  ({ job_id, type }: Frame) =>
    job_id === jobId && (type === "job.result" || type === "job.error")

/** Starts such a job, ends it, and returns what it was told and what came of it. */
const ended = (
  wait: (job: Job) => Promise<unknown>,
  end: (session: Session, jobId: string | undefined) => Effect.Effect<unknown>,
  more: Record<string, unknown> = {}
) =>
  Effect.gen(function* () {
    const told: Array<string> = []
    const begun = yield* Deferred.make<void>()
    const agent = waiter(wait, told, () => Deferred.unsafeDone(begun, Effect.void))
    return yield* Effect.gen(function* () {
      const session = yield* open()
      const { job_id } = yield* submit(session, "waiter", {}, { lease_request: lease, ...more })
      yield* Deferred.await(begun)
      yield* end(session, job_id)
      yield* session.next(isEndOf(job_id))
      return { told, story: story(session, job_id) }
    }).pipe(Effect.provide(serve(yield* makeStore, [agent, forever])))
  })

const cancel = (session: Session, job_id: string | undefined) =>
  session.request("job.cancel", { reason: "enough" }, { job_id })

describe("what an async function has left waiting when it has settled", () => {
  const race = (limit: Duration.DurationInput, call: (job: Job) => Promise<unknown>, told: Array<string>) =>
    Agent.fromPromise("race", { version: "1.0.0", durable: true }, (_, job) => {
      const noted = (what: string, promise: Promise<unknown>) => {
        promise.catch((error: ArcpError) => told.push(`${what}: ${error.code}`))
        return promise
      }
      const called = noted("call", call(job))
      return Promise.race([called, noted("limit", job.sleep("limit", limit))])
    })
  const run = (agent: Agent.Registered, pass: Effect.Effect<unknown> = Effect.void) =>
    Effect.gen(function* () {
      const session = yield* open(
        {},
        Features.all.filter((feature) => feature !== "heartbeat")
      )
      const { job_id } = yield* submit(session, "race", {}, { lease_request: lease })
      yield* session.expect("job.event", ({ payload }) => payload.kind === "x-vendor.effect-arcp.step")
      yield* pass
      yield* session.next(isEndOf(job_id))
      return story(session, job_id)
    }).pipe((effect) =>
      Effect.flatMap(makeStore, (store) => Effect.provide(effect, serve(store, [agent, forever])))
    )

  /** Time passes. */
  const passing = Effect.fork(until(Effect.as(TestClock.adjust("1 second"), false)))

  it.scoped("is told that it is not waited for: the sleep that has lost", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const call = (job: Job) => job.step("call", () => "called")
      assert.deepStrictEqual(yield* run(race("24 hours", call, told)), ["called"])
      assert.deepStrictEqual(told, ["limit: CANCELLED"])
    })
  )

  it.scoped("is told by its signal, and waited for: the step that has lost", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const call = (job: Job) => job.step("call", listening(job))
      assert.deepStrictEqual(yield* run(race("1 second", call, told), passing), [
        "inner",
        "inner, too",
        undefined
      ])
      assert.deepStrictEqual(told, ["call: CANCELLED"])
    })
  )

  it.scoped("is no longer waited for than a part of the grace, and not at all where it cannot know", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const deaf = (job: Job) => job.step("call", ({ signal }) => (signal.aborted ? "no" : never()))
      assert.deepStrictEqual(yield* run(race("1 second", deaf, told), passing), [undefined])
      const unknowing = (job: Job) => job.step("call", never, { compensate: () => {} })
      assert.deepStrictEqual(yield* run(race("1 second", unknowing, told), passing), [undefined])
      assert.deepStrictEqual(told, ["call: CANCELLED"])
    })
  )

  it.scoped("is undone when it comes to something within that, and the function has failed", () =>
    Effect.gen(function* () {
      let pay = (_receipt: string) => {}
      const refunded: Array<string> = []
      const charge = (job: Job) => {
        return job.step(
          "charge",
          () =>
            new Promise<string>((resolve) => {
              pay = resolve
            }),
          {
            compensate: (receipt) => void refunded.push(receipt)
          }
        )
      }
      const agent = Agent.fromPromise("race", { version: "1.0.0", durable: true }, (_, job) => {
        const charging = charge(job)
        setImmediate(() => pay("receipt"))
        return Promise.race([charging, Promise.reject(new Error("no"))])
      })
      assert.deepStrictEqual(yield* run(agent), ["INTERNAL_ERROR"])
      assert.deepStrictEqual(refunded, ["receipt"])
    })
  )

  it.scoped("is what it has emitted, too, which gets in", () =>
    Effect.gen(function* () {
      const agent = Agent.fromPromise(
        "race",
        { version: "1.0.0", durable: true, awaitEmits: true },
        async (_, job) => {
          await job.step("s", () => {
            void job.log("info", "in the step")
          })
          void job.log("info", "one")
          void job.log("info", "two")
          return "done"
        }
      )
      assert.deepStrictEqual(yield* run(agent), ["in the step", "one", "two", "done"])
    })
  )

  it.scoped("is not told when it is an emit, nor is one that it was followed by meanwhile", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const told: Array<string> = []
      const agent = Agent.fromPromise(
        "emits",
        { version: "1.0.0", durable: true, awaitEmits: true },
        async (_, job) => {
          const emitting = async () => {
            await job.log("info", "one")
            await turn()
            told.push("one")
            await job.log("info", "two")
          }
          store.gate.unsafeClose()
          emitting().then(
            () => told.push("two"),
            (error: ArcpError) => told.push(error.code)
          )
          while (store.waiting === 0) await turn()
          void job.log("info", "beside")
          return "done"
        }
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "emits")
        yield* until(Effect.sync(() => store.waiting > 0))
        yield* store.gate.release
        yield* until(Effect.sync(() => told.length === 1 && store.waiting > 0))
        yield* store.gate.release
        yield* until(Effect.sync(() => told.length === 2 || store.waiting > 0))
        yield* store.gate.open
        assert.strictEqual((yield* session.next(isEndOf(job_id))).payload.result, "done")
        yield* until(Effect.sync(() => told.length === 2))
        assert.deepStrictEqual(told, ["one", "two"])
      }).pipe(Effect.provide(serve(store, [agent])))
    })
  )

  it.scoped("in a step: an input is asked no more, and the function goes on", () =>
    Effect.gen(function* () {
      let decide = () => {}
      const decided = new Promise<void>((resolve) => {
        decide = resolve
      })
      const agent = Agent.fromPromise("race", { version: "1.0.0", durable: true }, async (_, job) => {
        await job.step("ask", () => Promise.race([job.input("q", { prompt: "?" }), decided]))
        return job.input("go", { prompt: "go?" })
      })
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "race")
        const isOf = (kind: string) => (frame: Frame) => String(frame.payload.kind).endsWith(kind)
        yield* session.expect("job.event", isOf("input_request"))
        decide()
        const { payload } = yield* session.expect("job.event", isOf("input_closed"))
        assert.strictEqual(payload.body.reason, "cancelled")
        yield* cancel(session, job_id)
        yield* session.next(isEndOf(job_id))
      }).pipe(Effect.provide(serve(yield* makeStore, [agent])))
    })
  )
})

describe("what an attempt of a step has left waiting", () => {
  /** Winds down over some turns when its signal says so, and notes why. */
  const winding =
    (told: Array<string>) =>
    async ({ signal }: { readonly signal: AbortSignal }) => {
      const reason = await aborted(signal).catch((error: ArcpError) => error)
      for (let turns = 0; turns < 20; turns++) await turn()
      told.push(`${reason.code}: ${reason.message}`)
      throw reason
    }

  const run = (agent: Agent.Registered, use: (session: Session, jobId: string) => Effect.Effect<unknown>) =>
    Effect.gen(function* () {
      const session = yield* open(
        {},
        Features.all.filter((feature) => feature !== "heartbeat")
      )
      const { job_id } = yield* submit(session, agent.name)
      return yield* use(session, job_id as string)
    }).pipe((effect) => Effect.flatMap(makeStore, (store) => Effect.provide(effect, serve(store, [agent]))))

  const endOf = (session: Session, jobId: string) =>
    Effect.map(session.next(isEndOf(jobId)), ({ payload }) => payload.result ?? payload.message)

  it.scoped("an input is closed before the next one asks again", () =>
    Effect.gen(function* () {
      let fail = () => {}
      const failing = new Promise<never>((_, reject) => {
        fail = () => reject(new Error("no"))
      })
      const agent = Agent.fromPromise("again", { version: "1.0.0", durable: true }, (_, job) =>
        job.step(
          "outer",
          ({ attempt }) =>
            attempt === 1
              ? Promise.race([job.input("q", { prompt: "?" }), failing])
              : job
                  .input("q", { prompt: "again?", expiresIn: "1 minute" })
                  .catch((error: Error) => error.message),
          { attempts: 2 }
        )
      )
      const isOf = (kind: string) => (frame: Frame) => String(frame.payload.kind).endsWith(kind)
      yield* run(agent, (session, jobId) =>
        Effect.gen(function* () {
          yield* session.expect("job.event", isOf("input_request"))
          fail()
          const { payload } = yield* session.expect("job.event", isOf("input_request"))
          assert.strictEqual(payload.body.prompt, "again?")
          yield* TestClock.adjust("1 minute")
          assert.strictEqual(yield* endOf(session, jobId), "nobody has answered q in time")
        })
      )
    })
  )

  it.scoped("a step is told why, and waited for, before the next one takes its key", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const agent = Agent.fromPromise("again", { version: "1.0.0", durable: true }, (_, job) =>
        job.step<unknown>(
          "outer",
          ({ attempt }) =>
            attempt === 1
              ? Promise.all([job.step("inner", winding(told)), turn().then(() => Promise.reject("no"))])
              : job.step("inner", () => told.push("second")),
          { attempts: 2 }
        )
      )
      assert.strictEqual(yield* run(agent, endOf), 2)
      assert.deepStrictEqual(told, ["CANCELLED: the function that waited for it has ended", "second"])
    })
  )

  it.scoped("a step is waited for, too, when the attempt has taken too long", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const agent = Agent.fromPromise("again", { version: "1.0.0", durable: true }, (_, job) =>
        job.step<unknown>(
          "outer",
          ({ attempt }) =>
            attempt === 1
              ? Promise.race([job.step("inner", winding(told)), job.sleep("limit", "1 hour")])
              : job.step("inner", () => told.push("second")),
          { attempts: 2, timeout: "10 seconds" }
        )
      )
      const result = run(agent, (session, jobId) =>
        Effect.gen(function* () {
          yield* session.expect("job.event", ({ payload }) => payload.body?.key === "limit")
          yield* TestClock.adjust("10 seconds")
          return yield* endOf(session, jobId)
        })
      )
      assert.strictEqual(yield* result, 2)
      assert.deepStrictEqual(told, ["TIMEOUT: the attempt of the step has taken too long", "second"])
    })
  )

  it.scoped("emits: a step that has returned does not time out for them, nor is it run again", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      let runs = 0
      const agent = Agent.fromPromise(
        "pays",
        { version: "1.0.0", durable: true, awaitEmits: true },
        (_, job) =>
          job.step(
            "charge",
            () => {
              store.gate.unsafeClose()
              void job.log("info", "charged")
              return ++runs
            },
            { attempts: 2, timeout: "10 seconds" }
          )
      )
      yield* Effect.gen(function* () {
        const session = yield* open(
          {},
          Features.all.filter((feature) => feature !== "heartbeat")
        )
        const { job_id } = yield* submit(session, "pays")
        yield* until(Effect.sync(() => store.waiting > 0))
        yield* TestClock.adjust("11 seconds")
        yield* store.gate.open
        assert.strictEqual((yield* session.next(isEndOf(job_id))).payload.result, 1)
        assert.deepStrictEqual(story(session, job_id), ["charged", 1])
      }).pipe(Effect.provide(serve(store, [agent])))
      assert.strictEqual(runs, 1)
    })
  )
})

describe("an async function whose job is ended", () => {
  for (const [name, wait] of Object.entries(waits))
    it.scoped(`is told at once where it waits for ${name}`, () =>
      Effect.gen(function* () {
        const { story, told } = yield* ended(wait, cancel)
        assert.deepStrictEqual(told, ["CANCELLED: the job was cancelled: enough", ...again])
        assert.deepStrictEqual(story, ["finally", "CANCELLED"])
      })
    )

  it.scoped("is told by the error that the job ends with", () =>
    Effect.gen(function* () {
      const wait = (job: Job) => job.sleep("q", "5 minutes")
      const late = yield* ended(wait, () => TestClock.adjust("3 seconds"), { max_runtime_sec: 3 })
      assert.deepStrictEqual(late.told, ["TIMEOUT: the job ran longer than 3 s", ...again])
      assert.deepStrictEqual(late.story, ["finally", "TIMEOUT"])
      const expires_at = "1970-01-01T00:00:13.000Z"
      const expired = yield* ended(wait, () => TestClock.adjust("10 seconds"), {
        lease_constraints: { expires_at }
      })
      assert.deepStrictEqual(expired.told, [`LEASE_EXPIRED: the lease expired at ${expires_at}`, ...again])
      assert.deepStrictEqual(expired.story, ["finally", "LEASE_EXPIRED"])
    })
  )

  it.scoped("a step that has asked for its signal, or waits for the job, is waited for", () =>
    Effect.gen(function* () {
      const asked = yield* ended((job) => job.step("q", listening(job)), cancel)
      assert.deepStrictEqual(asked.story, ["inner", "inner, too", "finally", "CANCELLED"])
      const waits = yield* ended(
        (job) => job.step("q", () => listening(job, () => job.sleep("in q", "5 minutes"))({} as never)),
        cancel
      )
      assert.deepStrictEqual(waits.story, ["inner", "inner, too", "finally", "CANCELLED"])
    })
  )

  for (const [name, charge] of [
    ["can be compensated", (paid: Promise<string>) => () => paid],
    [
      "has its signal, and does not heed it",
      (paid: Promise<string>) =>
        ({ signal }: { readonly signal: AbortSignal }) =>
          signal.aborted ? "no" : paid
    ]
  ] as const)
    it.scoped(`a step that ${name}: what it came to within the grace is committed, and undone`, () =>
      Effect.gen(function* () {
        let pay = (_receipt: string) => {}
        const paid = new Promise<string>((resolve) => {
          pay = resolve
        })
        const refunded: Array<string> = []
        const charging = (job: Job) =>
          job.step("charge", charge(paid), { compensate: (receipt) => void refunded.push(receipt) })
        const { story } = yield* ended(charging, (session, jobId) =>
          Effect.gen(function* () {
            yield* cancel(session, jobId)
            yield* session.expect("job.cancelled")
            pay("receipt")
          })
        )
        assert.deepStrictEqual(refunded, ["receipt"])
        assert.strictEqual(story.at(-1), "CANCELLED")
      })
    )

  it.scoped("a step that can be compensated is waited for also beside what ends the function at once", () =>
    Effect.gen(function* () {
      let pay = (_receipt: string) => {}
      const paid = new Promise<string>((resolve) => {
        pay = resolve
      })
      const refunded: Array<string> = []
      const both = (job: Job) =>
        Promise.all([
          job.step("charge", () => paid, { compensate: (receipt) => void refunded.push(receipt) }),
          job.sleep("q", "5 minutes")
        ])
      yield* ended(both, (session, jobId) =>
        Effect.gen(function* () {
          yield* cancel(session, jobId)
          yield* session.expect("job.cancelled")
          pay("receipt")
        })
      )
      assert.deepStrictEqual(refunded, ["receipt"])
    })
  )

  it.scoped("a step that can be compensated and hangs is given up in time, and not tried again", () =>
    Effect.gen(function* () {
      let tries = 0
      const { story, told } = yield* ended(
        (job) =>
          job.step(
            "charge",
            () => {
              tries++
              return never()
            },
            { attempts: 3, timeout: "10 seconds", compensate: () => {} }
          ),
        (session, jobId) =>
          Effect.gen(function* () {
            yield* cancel(session, jobId)
            yield* session.expect("job.cancelled")
            yield* TestClock.adjust("25 seconds")
          })
      )
      assert.strictEqual(tries, 1)
      assert.strictEqual(told.at(-1), "finally")
      assert.deepStrictEqual(story, ["finally", "CANCELLED"])
    })
  )

  it.scoped("is told of its own end only, wherever it was called", () =>
    Effect.gen(function* () {
      const told: Array<unknown> = []
      const child = Agent.fromPromise("child", { version: "1.0.0", durable: true }, async (_, job) => {
        await job.sleep("a while", "20 seconds").catch((error: ArcpError) => told.push(error.code))
        return "well"
      })
      const parent = Agent.fromPromise("parent", { version: "1.0.0", durable: true }, async (_, job) => {
        // The child is begun by what the step has asked for.
        const begun = await job
          .step(
            "q",
            async () => {
              const child = await job.delegate("child", null, { key: "c" })
              await never()
              return child.jobId
            },
            { timeout: "10 seconds" }
          )
          .catch((error: ArcpError) => error.code)
        told.push(begun)
        return (await job.delegate("child", null, { key: "c" })).result()
      })
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(
          session,
          "parent",
          {},
          {
            lease_request: { "agent.delegate": ["child"] }
          }
        )
        yield* until(Effect.map(TestClock.adjust("1 second"), () => told.length > 0))
        yield* Effect.fork(until(Effect.as(TestClock.adjust("1 second"), false)))
        assert.strictEqual((yield* session.next(isEndOf(job_id))).payload.result, "well")
        assert.deepStrictEqual(told, ["TIMEOUT"])
      }).pipe(Effect.provide(serve(yield* makeStore, [parent, child])))
    })
  )

  it.scoped("leaves no rejection that nobody handles", () =>
    Effect.gen(function* () {
      const unhandled: Array<unknown> = []
      const note = (reason: unknown) => void unhandled.push(reason)
      process.on("unhandledRejection", note)
      yield* Effect.addFinalizer(() => Effect.sync(() => process.off("unhandledRejection", note)))
      const { story } = yield* ended((job) => {
        void job.hold(never)
        void job.sleep("beside", "1 hour")
        void job.step("beside, too", never)
        void job.delegate("forever", null, { key: "q", lease })
        void job.openResult()
        return job.input("q", { prompt: "?" })
      }, cancel)
      assert.strictEqual(story.at(-1), "CANCELLED")
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      assert.deepStrictEqual(unhandled, [])
    })
  )

  it.scoped("an attempt that takes too long ends also where it waits for the job, or for ever", () =>
    Effect.gen(function* () {
      const caught: Array<unknown> = []
      const bounded = (job: Job, key: string, body: () => Promise<unknown>) =>
        job.step(key, body, { timeout: "1 second" }).catch((error: ArcpError) => caught.push(error.message))
      const agent = Agent.fromPromise("bounded", { version: "1.0.0", durable: true }, async (_, job) => {
        await bounded(job, "a", () => job.sleep("in a", "1 hour"))
        await bounded(job, "b", never)
        return caught
      })
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "bounded")
        yield* until(Effect.map(TestClock.adjust("100 millis"), () => caught.length === 2))
        yield* session.next(isEndOf(job_id))
        assert.deepStrictEqual(caught, ["step a took longer than 1s", "step b took longer than 1s"])
      }).pipe(Effect.provide(serve(yield* makeStore, [agent])))
    })
  )

  it.scoped(
    "that is left to the next process is run again there, whatever it does with what it is told",
    () =>
      Effect.gen(function* () {
        const told: Array<string> = []
        const store = yield* makeStore
        let runs = 0
        const agent = waiter(
          (job) => job.step("q", () => (++runs === 1 ? never() : "second")),
          told,
          () => {}
        )
        const first = yield* start(store, [agent, forever])
        const { job_id } = yield* first.run(
          Effect.gen(function* () {
            const session = yield* open()
            const accepted = yield* submit(session, "waiter")
            yield* session.expect("job.event", ({ payload }) => payload.kind === "x-vendor.effect-arcp.step")
            return accepted
          })
        )
        yield* first.stop
        assert.deepStrictEqual(told, [
          "INTERNAL_ERROR: the runtime shut down; the job goes on when it is started again (shutdown)",
          ...again
        ])
        const left = yield* store.store.job(job_id as string)
        assert.deepStrictEqual([left?.status, left?.survival?.left], ["running", true])
        yield* start(store, [agent, forever])
        yield* until(Effect.sync(() => runs === 2))
      })
  )

  it.scoped("that is unloaded is told so, and run again when its wait is over", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const store = yield* makeStore
      const agent = waiter(
        async (job) => {
          await job.sleep("q", "1 hour")
          return "rested"
        },
        told,
        () => {}
      )
      const runtime = yield* start(store, [agent, forever])
      yield* runtime.run(
        Effect.gen(function* () {
          const session = yield* open()
          const { job_id } = yield* submit(session, "waiter")
          yield* session.expect("job.event", ({ payload }) => payload.kind === "x-vendor.effect-arcp.step")
          yield* TestClock.adjust("31 seconds")
          yield* unloaded(store.store, job_id)
          assert.deepStrictEqual(told, [
            "INTERNAL_ERROR: the job only waits, and is not in memory (unloaded)",
            ...again
          ])
          yield* TestClock.adjust("1 hour")
          assert.strictEqual((yield* session.next(isEndOf(job_id))).payload.result, "rested")
          assert.deepStrictEqual(story(session, job_id), ["finally", "rested"])
        })
      )
    })
  )
})
