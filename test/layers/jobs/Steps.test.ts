/** Steps of durable jobs, in one process: outcomes, retries, limits, and where a durable job may emit. */
import { assert, describe, it } from "@effect/vitest"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Agent from "../../../src/services/agents/Agent.js"
import { type EmitError, Job, type JobService, Step } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { open } from "../../support/Wire.js"
import { makeStore, type Session, serve, submit } from "./support.js"

const stepKind = "x-vendor.effect-arcp.step"

/** What the events of a job say, in short. */
const told = (session: Session, jobId: string | undefined): ReadonlyArray<string> =>
  session.seen
    .filter((frame) => frame.job_id === jobId && frame.type === "job.event")
    .map(({ payload }) => {
      const { body, kind } = payload as unknown as { kind: string; body: Record<string, unknown> }
      const tag = (payload as unknown as Record<string, { key: string; attempt: number }>)[
        "x-vendor.effect-arcp.in_step"
      ]
      const at = tag === undefined ? "" : ` in ${tag.key}#${tag.attempt}`
      return kind === stepKind
        ? `${body["key"]}#${body["attempt"]} ${body["state"]}`
        : kind === "log"
          ? `${body["message"]}${at}`
          : kind === "status"
            ? `status ${body["phase"]}${at}`
            : `${kind}${at}`
    })

/** Runs a durable handler to its end. */
const runIn = <A>(
  handler: (job: JobService) => Effect.Effect<A, unknown, Job | Lease>,
  options: RuntimeOptions.Input = {},
  submitted: Record<string, unknown> = {}
) =>
  Effect.gen(function* () {
    const agent = Agent.handle(Agent.make("durable", { version: "1.0.0", durable: true }), () =>
      Effect.orDie(Effect.flatMap(Job, handler))
    )
    const store = yield* makeStore
    return yield* Effect.gen(function* () {
      const session = yield* open()
      const { job_id } = yield* submit(session, "durable", {}, submitted)
      const end = yield* session.next(({ type }) => type === "job.result" || type === "job.error")
      return { end, told: told(session, job_id), store: store.store, jobId: job_id as string }
    }).pipe(Effect.provide(serve(store, [agent], { revealFailures: true, ...options })))
  })

class Broken extends Data.TaggedError("Broken")<{ readonly why: string }> {}

describe("steps", () => {
  it.scoped("tell of themselves, tag what they emit, and keep their outcomes with the job", () =>
    Effect.gen(function* () {
      const ran = yield* runIn((job) =>
        Effect.gen(function* () {
          yield* job.log("info", "before")
          const step = yield* job.step(
            "a",
            Effect.gen(function* () {
              yield* job.log("info", "inside")
              const { attempt, idempotencyKey, key } = yield* Step
              return yield* job.step(
                "b",
                Effect.succeed({ attempt, key, mine: idempotencyKey === `${job.jobId}:a` })
              )
            })
          )
          yield* job.log("info", "after")
          return [step, yield* job.step("a", Effect.die("found again"))]
        })
      )
      const outcome = { attempt: 1, key: "a", mine: true }
      assert.deepStrictEqual(ran.end.payload["result"], [outcome, outcome])
      assert.deepStrictEqual(ran.told, [
        "status running",
        "before",
        "a#1 started",
        "inside in a#1",
        "b#1 started",
        "b#1 ended",
        "a#1 ended",
        "after"
      ])
      const journal = yield* ran.store.journal(ran.jobId, { kind: "", key: "" }, 100)
      assert.deepStrictEqual(
        journal.map(({ key, kind }) => `${kind} ${key}`),
        ["emits 0", "emits 1", "step a", "step b"]
      )
      assert.deepStrictEqual(JSON.parse((yield* ran.store.journalValue(ran.jobId, "step", "a")) ?? ""), {
        ok: outcome
      })
    })
  )

  it.scopedLive("try again by a schedule, within a time each, and keep failures by their schema", () =>
    Effect.gen(function* () {
      const Failure = Schema.TaggedStruct("Broken", { why: Schema.String })
      const ran = yield* runIn((job) =>
        Effect.gen(function* () {
          let runs = 0
          const third = yield* job.step(
            "third",
            Effect.suspend(() => (++runs < 3 ? Effect.fail("not yet") : Effect.succeed(runs))),
            { retry: Schedule.recurs(5) }
          )
          const failed = job.step("failed", new Broken({ why: "so" }), {
            error: Schema.transform(Failure, Schema.instanceOf(Broken), {
              strict: true,
              decode: ({ why }) => new Broken({ why }),
              encode: ({ why }) => ({ _tag: "Broken" as const, why })
            })
          })
          const first = yield* Effect.flip(failed)
          const again = yield* Effect.flip(failed)
          const late = yield* Effect.flip(job.step("late", Effect.never, { timeout: "20 millis" }))
          const plain = yield* Effect.flip(job.step("plain", Effect.fail({ no: 1 })))
          return [third, first instanceof Broken, again instanceof Broken, late.message, plain]
        })
      )
      assert.deepStrictEqual(ran.end.payload["result"], [
        3,
        true,
        true,
        "step late took longer than 20ms",
        { no: 1 }
      ])
      assert.deepStrictEqual(
        ran.told.filter((line) => line.startsWith("third")),
        ["third#1 started", "third#2 retry", "third#3 retry", "third#3 ended"]
      )
      assert.include(ran.told, "late#1 failed")
    })
  )

  it.scoped("refuse what cannot be kept, at once and not after a crash", () =>
    Effect.gen(function* () {
      const ran = yield* runIn(
        (job) =>
          Effect.gen(function* () {
            const map = yield* Effect.flip(job.step("map", Effect.succeed(new Map())))
            const large = yield* Effect.flip(job.step("large", Effect.succeed("x".repeat(2_000))))
            const full = yield* Effect.flip(
              Effect.forEach([1, 2, 3, 4, 5, 6, 7, 8], (i) =>
                job.step(`fill ${i}`, Effect.succeed("x".repeat(900)))
              )
            )
            return [map.details, large.details, full.details]
          }),
        { maxStepOutcomeBytes: 1_000, maxJournalBytes: 6_000 }
      )
      assert.deepStrictEqual(ran.end.payload["result"], [
        { reason: "step_outcome" },
        { limit: "step_outcome_bytes" },
        { limit: "journal_bytes" }
      ])
      // Bytes, and not characters: three a piece.
      const foreign = yield* runIn(
        (job) =>
          Effect.map(
            Effect.flip(
              Effect.forEach([1, 2, 3, 4], (i) => job.step(`fill ${i}`, Effect.succeed("語".repeat(900))))
            ),
            ({ details }) => details
          ),
        { maxStepOutcomeBytes: 3_000, maxJournalBytes: 8_000 }
      )
      assert.deepStrictEqual(foreign.end.payload["result"], { limit: "journal_bytes" })
      const classy = yield* runIn((job) => job.step("classy", new Broken({ why: "no schema" })))
      assert.match(String(classy.end.payload["message"]), /step classy .*error schema/)
    })
  )

  it.scoped(
    "are not alone in the journal: what is said once, and who is delegated to, has its limit too",
    () =>
      Effect.gen(function* () {
        const limitOf = <A>(emit: Effect.Effect<A, { readonly details?: unknown }, Job>) =>
          Effect.map(Effect.flip(emit), ({ details }) => details)
        const ran = yield* runIn(
          (job) =>
            Effect.gen(function* () {
              const many = Array.from({ length: 500 }, (_, i) => i)
              const keyed = yield* limitOf(
                Effect.forEach(many, (i) => job.log("info", `${i}`, undefined, { key: `key ${i}` }))
              )
              // What was logged before is known, and takes no room.
              yield* job.log("info", "0", undefined, { key: "key 0" })
              const placed = yield* limitOf(job.log("info", "placed"))
              const delegated = yield* limitOf(job.delegate("durable", {}, { key: "child" }))
              return [keyed, placed, delegated]
            }),
          { maxJournalBytes: 6_000 },
          { lease_request: { "agent.delegate": ["*"] } }
        )
        const full = { limit: "journal_bytes" }
        assert.deepStrictEqual(ran.end.payload["result"], [full, full, full])
        assert.isFalse(ran.told.some((line) => line.startsWith("placed") || line.startsWith("delegate")))
      })
  )

  it.scoped("are undone also of a job that has filled its journal", () =>
    Effect.gen(function* () {
      const undone: Array<string> = []
      const ran = yield* runIn(
        (job) =>
          Effect.gen(function* () {
            const compensate = (made: string) => Effect.sync(() => void undone.push(made))
            yield* job.step("make", Effect.succeed("made"), { compensate })
            for (let i = 0; ; i++) yield* job.log("info", `${i}`, undefined, { key: `key ${i}` })
          }),
        { maxJournalBytes: 6_000 }
      )
      assert.deepStrictEqual(undone, ["made"])
      assert.isUndefined(ran.end.payload.details?.["not_undone"])
    })
  )

  it.scoped("need a key of their own", () =>
    Effect.gen(function* () {
      const twice = yield* runIn((job) =>
        Effect.all([job.step("same", Effect.yieldNow()), job.step("same", Effect.void)], {
          concurrency: 2
        })
      )
      assert.match(String(twice.end.payload["message"]), /the key same is used twice at once/)
      const kinds = yield* runIn((job) =>
        Effect.zipRight(
          job.sleep("x", "0 millis"),
          Effect.flip(job.step("x", Effect.void)).pipe(Effect.map((error) => error.details))
        )
      )
      assert.deepStrictEqual(kinds.end.payload["result"], { reason: "nondeterministic", keys: ["x"] })
      const bad = yield* runIn((job) => job.step("a\nb", Effect.void))
      assert.match(String(bad.end.payload["message"]), /control characters/)
      const plain = Agent.handle(Agent.make("plain", { version: "1.0.0" }), () =>
        Effect.flatMap(Job, (job) => job.step("a", Effect.void))
      )
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "plain")
        const end = yield* session.expect("job.error")
        assert.match(String(end.payload["message"]), /durable: true/)
      }).pipe(Effect.provide(serve(yield* makeStore, [plain], { revealFailures: true })))
    })
  )
})

describe("what a durable job emits and pays", () => {
  it.scoped("is in its own fiber, in a step, or has a key", () =>
    Effect.gen(function* () {
      const ran = yield* runIn((job) =>
        Effect.gen(function* () {
          const inFiber = <A, E>(effect: Effect.Effect<A, E>) =>
            Effect.flatMap(Effect.fork(effect), Fiber.join)
          const refused = yield* Effect.flip(inFiber(job.log("info", "lost")))
          yield* inFiber(job.step("fiber", job.log("info", "found")))
          yield* inFiber(job.log("info", "keyed", {}, { key: "k" }))
          yield* job.log("info", "not again", {}, { key: "k" })
          const gate = yield* Deferred.make<void>()
          const stray = yield* job.step(
            "stray",
            Effect.zipLeft(
              Effect.forkDaemon(Effect.zipRight(Deferred.await(gate), Effect.flip(job.log("info", "stray")))),
              Effect.void
            ).pipe(Effect.map((fiber) => strays.push(fiber)))
          )
          yield* Deferred.succeed(gate, undefined)
          const late = yield* Fiber.join(strays[stray - 1] as Fiber.Fiber<EmitError>)
          return [refused.details, late.details]
        })
      )
      const reason = { reason: "outside_step" }
      assert.deepStrictEqual(ran.end.payload["result"], [reason, reason])
      assert.deepStrictEqual(
        ran.told.filter((line) => !line.includes("#") || line.includes(" in ")),
        ["status running", "found in fiber#1", "keyed"]
      )
    })
  )

  it.scoped("leaves its key and its child to the next when it is refused", () =>
    Effect.gen(function* () {
      const tooLong = "x".repeat(20_000)
      const ran = yield* runIn(
        (job) =>
          Effect.gen(function* () {
            const log = (text: string) => job.log("info", text, {}, { key: "k" })
            const child = (input: unknown) => job.delegate("nobody", input, { key: "child" })
            const refused = [
              yield* Effect.flip(log(tooLong)),
              yield* Effect.flip(child(tooLong)),
              yield* Effect.flip(child(tooLong))
            ]
            yield* log("short")
            yield* log("again")
            const { code } = yield* Effect.flip(child("short"))
            return [refused.map(({ details }) => details?.["limit"]), code]
          }),
        { maxOutboundFrameBytes: 16_384 },
        { lease_request: { "agent.delegate": ["*"] } }
      )
      const limit = "event_bytes"
      assert.deepStrictEqual(ran.end.payload["result"], [[limit, limit, limit], "AGENT_NOT_AVAILABLE"])
      assert.deepStrictEqual(ran.told, ["status running", "short", "delegate", "tool_result"])
    })
  )

  it.scoped("is paid in steps only", () =>
    Effect.gen(function* () {
      const lease = { "cost.budget": ["USD:1.00"], "tool.call": ["**"] }
      const ran = yield* runIn(
        (job) =>
          Effect.gen(function* () {
            const lease = yield* Lease
            const spend = lease.spend({ amount: "0.25", currency: "USD" })
            const cost = yield* Effect.flip(spend)
            const metric = yield* Effect.flip(job.metric({ name: "cost.x", value: 1, unit: "USD" }))
            const tool = yield* Effect.flip(lease.authorize("tool.call", "any"))
            yield* job.step("pay", Effect.zipRight(lease.authorize("tool.call", "any"), spend))
            const left = yield* lease.remaining
            return [cost.message, metric.message, tool.message, String(left.get("USD")).includes("75")]
          }),
        {},
        { lease_request: lease }
      )
      const [cost, metric, tool, counted] = ran.end.payload["result"] as ReadonlyArray<string>
      assert.match(`${cost}`, /belongs in a step/)
      assert.strictEqual(metric, cost)
      assert.match(`${tool}`, /tool.call refused: .* belongs in a step/)
      assert.isTrue(counted as unknown as boolean)
    })
  )
})

describe("a promise agent's steps", () => {
  it.scopedLive("know what is called inside them", () =>
    Effect.gen(function* () {
      const agent = Agent.fromPromise("durable", { version: "1.0.0", durable: true }, async (_, job) => {
        await job.log("info", "before")
        const both = await Promise.all(
          ["a", "b"].map((key) =>
            job.step(key, async ({ attempt }) => {
              await Promise.resolve()
              await job.log("info", `in ${key}`)
              return attempt
            })
          )
        )
        let runs = 0
        const third = await job.step(
          "third",
          () => {
            if (++runs < 3) throw new TypeError("not yet")
            return runs
          },
          { attempts: 3 }
        )
        const error = await job
          .step("bad", () => Promise.reject(new TypeError("no")))
          .catch((error: unknown) => (error instanceof Error ? `${error.name} ${error.message}` : ""))
        await job.sleep("nap", 1)
        await job.log("info", "after")
        return [both, third, error]
      })
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "durable")
        const end = yield* session.next(({ type }) => type === "job.result" || type === "job.error")
        assert.deepStrictEqual(end.payload["result"], [[1, 1], 3, "TypeError no"])
        assert.deepStrictEqual(
          told(session, job_id).filter((line) => !line.startsWith("third") && !/^[a-z]+#/.test(line)),
          ["status running", "before", "in a in a#1", "in b in b#1", "after"]
        )
      }).pipe(Effect.provide(serve(yield* makeStore, [agent])))
    })
  )
})

const strays: Array<Fiber.Fiber<EmitError, unknown>> = []
