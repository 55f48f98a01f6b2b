/** What durable jobs ask: over the wire, in one process and over the end of it. */
import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import * as CanonicalJson from "../../../src/protocol/CanonicalJson.js"
import type { InternalError } from "../../../src/protocol/Errors.js"
import * as Features from "../../../src/protocol/Features.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import type { Identity } from "../../../src/services/auth/Auth.js"
import { Policy, refuse } from "../../../src/services/auth/Policy.js"
import { InputExpired } from "../../../src/services/jobs/Input.js"
import { Job, type JobService } from "../../../src/services/jobs/Job.js"
import type { Lease } from "../../../src/services/lease/Lease.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import type { JobRecord, Store, StoreError } from "../../../src/services/store/Store.js"
import { type Frame, open } from "../../support/Wire.js"
import {
  as,
  makeStoreOf,
  pong,
  restarted,
  resume,
  type Session,
  serve,
  submit,
  type TestStore
} from "./support.js"
import { until } from "./unloading.js"

type Body = Record<string, unknown>

/** Without heartbeats, so that the clock may be adjusted. */
const quiet = Features.all.filter((feature) => feature !== "heartbeat")

/** The bodies of a job's events of a kind. */
const bodies = (session: Session, jobId: string, kind: string): ReadonlyArray<Body> =>
  session.seen
    .filter(({ job_id, payload, type }) => job_id === jobId && type === "job.event" && payload.kind === kind)
    .map(({ payload }) => payload.body as Body)

const requested = (session: Session, jobId: string, nth = 1) =>
  Effect.gen(function* () {
    for (;;) {
      const found = bodies(session, jobId, Vendor.inputRequest)[nth - 1]
      if (found !== undefined) return found as Body & { readonly input_id: string }
      yield* session.next(() => true)
    }
  })

/** Sends an answer, and gives what it was answered with: `accepted`, or the reason or code of the refusal. */
const answer = (session: Session, jobId: string, payload: Body) =>
  Effect.gen(function* () {
    const id = yield* session.request(Vendor.jobInput, payload, { job_id: jobId })
    const answered = yield* session.next(
      ({ payload }) =>
        payload["request_id"] === id || (payload.details as Body | undefined)?.["request_id"] === id
    )
    if (answered.type === Vendor.jobInputAccepted) return "accepted"
    const { code, details } = answered.payload
    return ((details as Body)["reason"] ?? (details as Body)["limit"] ?? code) as string
  })

const isEnd = ({ type }: Frame) => type === "job.result" || type === "job.error"

type Handler = (job: JobService) => Effect.Effect<unknown, unknown, Job | Lease>

const agentOf = (handler: Handler) =>
  Agent.handle(Agent.make("asks", { version: "1.0.0", durable: true }), () =>
    Effect.orDie(Effect.flatMap(Job, handler))
  )

/** Tests what durable jobs ask, over a store. */
export const suite = (name: string, layer: Layer.Layer<Store, StoreError>) =>
  describe(`${name}:`, () => {
    const makeStore = makeStoreOf(layer)

    /** A process on a store. */
    const start = (
      store: TestStore,
      handler: Handler,
      options: RuntimeOptions.Input = {},
      parts?: { readonly policy: Layer.Layer<Policy> }
    ) =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const layer = serve(store, [agentOf(handler)], { revealFailures: true, ...options }, parts)
        const context = yield* Layer.buildWithScope(layer, scope)
        return {
          run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, context),
          kill: Effect.suspend(() => {
            store.cut = true
            return Scope.close(scope, Exit.void)
          }),
          stop: Scope.close(scope, Exit.void)
        }
      })

    /** A job of a handler that asks, and its session. */
    const asking = (
      handler: Handler,
      options: RuntimeOptions.Input = {},
      submitted: Record<string, unknown> = {}
    ) =>
      Effect.gen(function* () {
        const store = yield* makeStore
        const process = yield* start(store, handler, options)
        yield* Effect.addFinalizer(() => process.stop)
        const session = yield* process.run(open({}, quiet))
        const jobId = (yield* submit(session, "asks", {}, submitted)).job_id as string
        return { store, process, session, jobId }
      })

    const Approval = Schema.Struct({ yes: Schema.Boolean, until: Schema.DateFromString })

    const sha256 = (value: unknown) =>
      createHash("sha256").update(CanonicalJson.stringify(value)).digest("hex")

    describe("an input", () => {
      it.scopedLive("is asked and answered: decoded for the handler, told without its value", () =>
        Effect.gen(function* () {
          const { jobId, session, store } = yield* asking((job) =>
            Effect.gen(function* () {
              const { until, yes } = yield* job.input("approve", {
                prompt: "Deploy?",
                schema: Approval,
                about: { hosts: ["a"], at: 1 },
                expiresIn: "3 days"
              })
              return [yes, until.getTime()]
            })
          )
          const request = yield* requested(session, jobId)
          assert.strictEqual(request["prompt"], "Deploy?")
          assert.deepStrictEqual(request["about"], {
            value: { hosts: ["a"], at: 1 },
            sha256: sha256({ at: 1, hosts: ["a"] })
          })
          assert.strictEqual((request["schema"] as Body)["type"], "object")
          assert.match(request["expires_at"] as string, /Z$/)
          assert.match(request.input_id, /^inp_/)
          const { input_id } = request
          const about_sha256 = sha256({ at: 1, hosts: ["a"] })
          const value = { yes: true, until: "2026-01-01T00:00:00.000Z" }
          const list = yield* session.request("session.list_jobs", {})
          const listed = yield* session.expect(
            "session.jobs",
            ({ payload }) => payload["request_id"] === list
          )
          assert.deepStrictEqual((listed.payload["jobs"] as ReadonlyArray<Body>)[0]?.["waiting_for"], [
            input_id
          ])
          const refused: ReadonlyArray<readonly [Body, string]> = [
            [{ input_id: "inp_1", value }, "unknown_input"],
            [{ input_id, value }, "about"],
            [{ input_id, value, about_sha256: "0".repeat(64) }, "about"],
            [{ input_id, value: { yes: 1 }, about_sha256 }, "value"],
            [{ input_id, value: null, about_sha256 }, "value"],
            [{ input_id, value: { ...value, more: 1 }, about_sha256 }, "value"],
            [{ input_id, about_sha256 }, "INVALID_REQUEST"]
          ]
          for (const [payload, reason] of refused)
            assert.strictEqual(yield* answer(session, jobId, payload), reason)
          assert.match(
            session.seen
              .filter(({ payload }) => (payload.details as Body | undefined)?.["reason"] === "about")
              .map(({ payload }) => payload["message"])
              .join("\n"),
            /^payload\.about_sha256: is missing: .*about\.sha256 of its event\n.*: not the SHA-256 of what/
          )
          assert.strictEqual(yield* answer(session, jobId, { input_id, value, about_sha256 }), "accepted")
          const end = yield* session.next(isEnd)
          assert.deepStrictEqual(end.payload["result"], [true, Date.parse("2026-01-01")])
          assert.deepStrictEqual(bodies(session, jobId, Vendor.inputClosed), [
            { input_id, reason: "answered", by: "alice" }
          ])
          // Once is enough; the same again is the same, in whatever order its members come.
          const again = { until: value.until, yes: true }
          assert.strictEqual(
            yield* answer(session, jobId, { input_id, value: again, about_sha256 }),
            "accepted"
          )
          const lie = { input_id, value, about_sha256: sha256({ hosts: ["b"] }) }
          assert.strictEqual(yield* answer(session, jobId, lie), "about")
          const other = { ...value, yes: false }
          assert.strictEqual(
            yield* answer(session, jobId, { input_id, value: other, about_sha256 }),
            "already_answered"
          )
          assert.strictEqual((yield* store.store.job(jobId))?.waitingFor, undefined)
        })
      )

      it.scoped("expires, with a failure of its own", () =>
        Effect.gen(function* () {
          const { jobId, session } = yield* asking((job) =>
            job
              .input("a", { prompt: "?", expiresIn: "1 hour" })
              .pipe(Effect.catchTag("InputExpired", ({ inputId, key }) => Effect.succeed([key, inputId])))
          )
          const { input_id } = yield* requested(session, jobId)
          yield* TestClock.adjust("59 minutes")
          yield* pong(session)
          assert.deepStrictEqual(bodies(session, jobId, Vendor.inputClosed), [])
          yield* TestClock.adjust("1 minutes")
          const end = yield* session.next(isEnd)
          assert.deepStrictEqual(end.payload["result"], ["a", input_id])
          assert.deepStrictEqual(bodies(session, jobId, Vendor.inputClosed), [
            { input_id, reason: "expired" }
          ])
          assert.strictEqual(yield* answer(session, jobId, { input_id, value: 1 }), "expired")
        })
      )

      it.scopedLive("takes only what is among its choices, and tells the value when it may", () =>
        Effect.gen(function* () {
          const { jobId, session } = yield* asking((job) =>
            job.input("a", { prompt: "?", choices: ["yes", { no: 1 }], tellValue: true })
          )
          const { choices, input_id } = yield* requested(session, jobId)
          assert.deepStrictEqual(choices, ["yes", { no: 1 }])
          for (const value of ["no", { no: 2 }, {}, [], null, true])
            assert.strictEqual(yield* answer(session, jobId, { input_id, value }), "value")
          assert.strictEqual(yield* answer(session, jobId, { input_id, value: { no: 1 } }), "accepted")
          assert.deepStrictEqual((yield* session.next(isEnd)).payload["result"], { no: 1 })
          assert.deepStrictEqual(bodies(session, jobId, Vendor.inputClosed), [
            { input_id, reason: "answered", by: "alice", value: { no: 1 } }
          ])
        })
      )

      it.scoped("is closed when it is not waited for any more, also before it is stored", () =>
        Effect.gen(function* () {
          const go = yield* Deferred.make<void>()
          const { session, store } = yield* asking((job) =>
            Effect.gen(function* () {
              yield* Deferred.await(go)
              yield* Effect.timeoutOption(job.input("a", { prompt: "?" }), "1 second")
              yield* job.log("info", "goes on")
            })
          )
          yield* session.expect("job.event")
          yield* store.gate.close
          yield* Deferred.succeed(go, undefined)
          yield* until(Effect.sync(() => store.waiting > 0))
          yield* TestClock.adjust("1 second")
          yield* store.gate.open
          yield* session.next(isEnd)
          assert.deepStrictEqual(
            session.seen.filter(({ type }) => type === "job.event").map(({ payload }) => payload.kind),
            ["status", Vendor.inputRequest, Vendor.inputClosed, "log"]
          )
        })
      )

      it.scopedLive("is closed by a cancel, and by the end of its job, before that", () =>
        Effect.gen(function* () {
          for (const how of ["cancel", "returns", "loses"] as const) {
            const { jobId, session } = yield* asking((job) => {
              const ask = job.input("a", { prompt: "?" })
              if (how === "cancel") return ask
              const asked = settle(job)
              return how === "returns"
                ? Effect.zipRight(Effect.forkDaemon(ask), asked)
                : Effect.raceFirst(ask, Effect.zipRight(asked, job.sleep("s", 20)))
            })
            const { input_id } = yield* requested(session, jobId)
            if (how === "cancel") yield* session.request("job.cancel", {}, { job_id: jobId })
            yield* session.next(isEnd)
            assert.deepStrictEqual(
              bodies(session, jobId, Vendor.inputClosed),
              [{ input_id, reason: "cancelled" }],
              how
            )
            assert.strictEqual(yield* answer(session, jobId, { input_id, value: 1 }), "unknown_input")
          }
        })
      )

      it.scopedLive("is its principal's to answer, by a token that covers the job", () =>
        Effect.gen(function* () {
          const { jobId, process, session } = yield* asking((job) => job.input("a", { prompt: "?" }))
          const { input_id } = yield* requested(session, jobId)
          const outcomes: Array<string> = []
          for (const token of ["bob", "narrow", "alice"]) {
            const other = yield* process.run(open(as(token), quiet))
            outcomes.push(yield* answer(other, jobId, { input_id, value: token }))
          }
          assert.deepStrictEqual(outcomes, ["JOB_NOT_FOUND", "PERMISSION_DENIED", "accepted"])
          assert.strictEqual((yield* session.next(isEnd)).payload["result"], "alice")
          const old = yield* process.run(
            open(
              {},
              Features.all.filter((feature) => feature !== Vendor.input)
            )
          )
          assert.strictEqual(yield* answer(old, jobId, { input_id, value: "alice" }), "INVALID_REQUEST")
        })
      )

      it.scopedLive("asks the policy who may answer, and says its reason to those who may list the job", () =>
        Effect.gen(function* () {
          const asked: Array<string> = []
          const policy = Layer.effect(
            Policy,
            Effect.map(Policy, (base) => ({
              ...base,
              listable: () => Effect.succeed("everyone" as const),
              mayAnswer: ({ principal }: Identity, { jobId }: JobRecord) =>
                Effect.sync(() => {
                  asked.push(`${principal} ${jobId}`)
                  return principal === "bob" || refuse("bob approves")
                })
            }))
          ).pipe(Layer.provide(PolicyLayer.layerSamePrincipal))
          const store = yield* makeStore
          const process = yield* start(store, (job) => job.input("a", { prompt: "?" }), {}, { policy })
          yield* Effect.addFinalizer(() => process.stop)
          const session = yield* process.run(open({}, quiet))
          const jobId = (yield* submit(session, "asks")).job_id as string
          const { input_id } = yield* requested(session, jobId)
          assert.strictEqual(yield* answer(session, jobId, { input_id, value: 1 }), "PERMISSION_DENIED")
          const bob = yield* process.run(open(as("bob"), quiet))
          assert.strictEqual(yield* answer(bob, jobId, { input_id, value: 2 }), "accepted")
          assert.strictEqual((yield* session.next(isEnd)).payload["result"], 2)
          assert.deepStrictEqual(bodies(session, jobId, Vendor.inputClosed), [
            { input_id, reason: "answered", by: "bob" }
          ])
          assert.deepStrictEqual(asked, [`alice ${jobId}`, `bob ${jobId}`])
        })
      )

      it.scopedLive("is for async functions too, and in a step", () =>
        Effect.gen(function* () {
          const agent = Agent.fromPromise("asks", { version: "1.0.0", durable: true }, async (_, job) => {
            const first = await job.input("a", { prompt: "?", choices: ["x", "y"] })
            const second = await job.step(
              "s",
              async () => `${first} ${await job.input("b", { prompt: "?" })}`
            )
            return await job
              .input("c", { prompt: "?", expiresIn: 10 })
              .catch((error: unknown) => [second, error instanceof InputExpired ? error.code : error])
          })
          const store = yield* makeStore
          yield* Effect.gen(function* () {
            const session = yield* open({}, quiet)
            const jobId = (yield* submit(session, "asks")).job_id as string
            const a = yield* requested(session, jobId, 1)
            assert.strictEqual(
              yield* answer(session, jobId, { input_id: a.input_id, value: "x" }),
              "accepted"
            )
            const b = yield* requested(session, jobId, 2)
            assert.strictEqual(yield* answer(session, jobId, { input_id: b.input_id, value: 7 }), "accepted")
            assert.deepStrictEqual((yield* session.next(isEnd)).payload["result"], ["x 7", "INPUT_EXPIRED"])
          }).pipe(Effect.provide(serve(store, [agent], { revealFailures: true })))
        })
      )

      it.scopedLive("is bounded: how much is asked, how many at once, how large an answer", () =>
        Effect.gen(function* () {
          const { jobId, session } = yield* asking(
            (job) =>
              Effect.gen(function* () {
                const limitOf = (ask: Effect.Effect<unknown, { readonly details?: unknown }>) =>
                  Effect.map(Effect.flip(ask), ({ details }) => (details as Body)["limit"])
                const large = yield* limitOf(
                  job.input("large", { prompt: "x".repeat(13_000) }) as Effect.Effect<unknown, InternalError>
                )
                yield* Effect.forEach(
                  Array.from({ length: 99 }, (_, i) => i),
                  (i) => Effect.fork(job.input(`n${i}`, { prompt: "?" })),
                  { discard: true }
                )
                const answered = yield* Effect.fork(job.input("small", { prompt: "?" }))
                yield* settle(job)
                const many = yield* limitOf(
                  job.input("many", { prompt: "?" }) as Effect.Effect<unknown, InternalError>
                )
                return [large, many, yield* Fiber.join(answered)]
              }),
            { maxStepOutcomeBytes: 64, maxOutboundFrameBytes: 16_384 }
          )
          const { input_id } = yield* requested(session, jobId, 100)
          const value = "x".repeat(80)
          assert.strictEqual(yield* answer(session, jobId, { input_id, value }), "step_outcome_bytes")
          assert.strictEqual(yield* answer(session, jobId, { input_id, value: "y" }), "accepted")
          const end = yield* session.next(isEnd)
          assert.deepStrictEqual(end.payload["result"], ["event_bytes", "open_inputs", "y"])
          const closed = bodies(session, jobId, Vendor.inputClosed)
          assert.strictEqual(closed.filter(({ reason }) => reason === "cancelled").length, 99)
        })
      )

      it.scopedLive("has no answer that the store has not: whoever gives it is told when it has", () =>
        Effect.gen(function* () {
          const { jobId, session, store } = yield* asking((job) => job.input("a", { prompt: "?" }))
          const { input_id } = yield* requested(session, jobId)
          yield* pong(session)
          store.failing = true
          const id = yield* session.request(Vendor.jobInput, { input_id, value: 1 }, { job_id: jobId })
          // It is tried again.
          yield* until(Effect.sync(() => store.failed > 1))
          yield* pong(session)
          assert.isUndefined(session.seen.find(({ payload }) => payload["request_id"] === id))
          store.failing = false
          const said = yield* session.next(({ payload }) => payload["request_id"] === id)
          assert.strictEqual(said.type, Vendor.jobInputAccepted)
          assert.strictEqual((yield* session.next(isEnd)).payload["result"], 1)
          assert.strictEqual(bodies(session, jobId, Vendor.inputClosed).length, 1)
        })
      )

      it.scopedLive("is not logged: neither an answer, nor one that a schema dies of", () =>
        Effect.gen(function* () {
          const lines: Array<string> = []
          const logger = Logger.replace(
            Logger.defaultLogger,
            Logger.map(Logger.logfmtLogger, (line) => void lines.push(line))
          )
          const Dies = Schema.String.pipe(
            Schema.filter((text) => {
              if (text === "secret 1") throw new Error(text)
              return text !== "secret 2"
            })
          )
          yield* Effect.gen(function* () {
            const { jobId, session } = yield* asking((job) => job.input("a", { prompt: "?", schema: Dies }))
            const { input_id } = yield* requested(session, jobId)
            const ask = (value: string) => answer(session, jobId, { input_id, value })
            assert.deepStrictEqual(
              [
                yield* ask("secret 1"),
                yield* ask("secret 2"),
                yield* ask("secret 3"),
                yield* ask("secret 4")
              ],
              ["INTERNAL_ERROR", "value", "accepted", "already_answered"]
            )
            // It may have come before the answer to the last of them.
            if (!session.seen.some(isEnd)) yield* session.next(isEnd)
          }).pipe(Effect.provide(logger))
          assert.isTrue(lines.some((line) => line.includes("input answered")))
          assert.deepStrictEqual(
            lines.filter((line) => line.includes("secret")),
            []
          )
        })
      )

      it.scopedLive("has one answer, of many that come at once", () =>
        Effect.gen(function* () {
          const { jobId, process, session } = yield* asking((job) => job.input("a", { prompt: "?" }))
          const { input_id } = yield* requested(session, jobId)
          const sessions = yield* Effect.all([0, 1, 2, 3].map(() => process.run(open({}, quiet))))
          const outcomes = yield* Effect.forEach(
            sessions,
            (other, i) => answer(other, jobId, { input_id, value: i % 2 }),
            { concurrency: "unbounded" }
          )
          const { result } = (yield* session.next(isEnd)).payload
          assert.deepStrictEqual(
            outcomes,
            [0, 1, 0, 1].map((value) => (value === result ? "accepted" : "already_answered"))
          )
          assert.strictEqual(bodies(session, jobId, Vendor.inputClosed).length, 1)
        })
      )
    })

    describe("what closes an input first", () => {
      const ask = (expiresIn?: "1 hour") =>
        asking(
          (job) =>
            job
              .input("a", { prompt: "?", expiresIn })
              .pipe(Effect.catchTag("InputExpired", () => Effect.succeed("expired"))),
          // Whoever answers waits for the store while the clock goes on.
          { storagePatience: "1 day" }
        )

      /** What an answer came to that is on its way. */
      const sent = (session: Session, jobId: string, payload: Body) =>
        Effect.fork(answer(session, jobId, payload))

      /** Waits until a commit waits at the gate. */
      const committing = (store: TestStore) => until(Effect.sync(() => store.waiting > 0))

      /** Lets everything run that does not wait for the store, or the clock. */
      const calm = Effect.repeatN(Effect.zipRight(Effect.yieldNow(), realTurn), 20)

      it.scoped("is an answer, although its time passes while that is stored", () =>
        Effect.gen(function* () {
          const { jobId, session, store } = yield* ask("1 hour")
          const { input_id } = yield* requested(session, jobId)
          yield* store.gate.close
          const answered = yield* sent(session, jobId, { input_id, value: "in time" })
          yield* committing(store)
          yield* TestClock.adjust("2 hours")
          yield* calm
          yield* store.gate.open
          assert.strictEqual(yield* Fiber.join(answered), "accepted")
          assert.strictEqual((yield* session.next(isEnd)).payload["result"], "in time")
          assert.deepStrictEqual(bodies(session, jobId, Vendor.inputClosed), [
            { input_id, reason: "answered", by: "alice" }
          ])
        })
      )

      it.scoped("is the end of its time, although an answer comes while that is stored", () =>
        Effect.gen(function* () {
          const { jobId, session, store } = yield* ask("1 hour")
          const { input_id } = yield* requested(session, jobId)
          yield* store.gate.close
          yield* TestClock.adjust("2 hours")
          yield* committing(store)
          const answered = yield* sent(session, jobId, { input_id, value: "late" })
          yield* calm
          yield* store.gate.open
          assert.strictEqual(yield* Fiber.join(answered), "expired")
          assert.strictEqual((yield* session.next(isEnd)).payload["result"], "expired")
          assert.deepStrictEqual(bodies(session, jobId, Vendor.inputClosed), [
            { input_id, reason: "expired" }
          ])
        })
      )

      it.scoped("is an answer, although its job is cancelled while that is stored", () =>
        Effect.gen(function* () {
          const { jobId, session, store } = yield* ask()
          const { input_id } = yield* requested(session, jobId)
          yield* store.gate.close
          const answered = yield* sent(session, jobId, { input_id, value: 1 })
          yield* committing(store)
          yield* session.request("job.cancel", {}, { job_id: jobId })
          yield* calm
          yield* store.gate.open
          assert.strictEqual(yield* Fiber.join(answered), "accepted")
          assert.strictEqual((yield* session.next(isEnd)).payload["code"], "CANCELLED")
          assert.deepStrictEqual(bodies(session, jobId, Vendor.inputClosed), [
            { input_id, reason: "answered", by: "alice" }
          ])
        })
      )

      it.scoped("is a cancel of its job, although an answer comes while that is stored", () =>
        Effect.gen(function* () {
          const { jobId, session, store } = yield* ask()
          const { input_id } = yield* requested(session, jobId)
          yield* store.gate.close
          yield* session.request("job.cancel", {}, { job_id: jobId })
          yield* committing(store)
          const answered = yield* sent(session, jobId, { input_id, value: 1 })
          yield* calm
          yield* store.gate.open
          assert.strictEqual(yield* Fiber.join(answered), "unknown_input")
          assert.deepStrictEqual(bodies(session, jobId, Vendor.inputClosed), [
            { input_id, reason: "cancelled" }
          ])
        })
      )

      it.scopedLive("is nothing, when its process dies before that is stored", () =>
        Effect.gen(function* () {
          const handler: Handler = (job) => job.input("a", { prompt: "?" })
          const store = yield* makeStore
          const first = yield* start(store, handler)
          const before = yield* first.run(open({}, quiet))
          const jobId = (yield* submit(before, "asks")).job_id as string
          const { input_id } = yield* requested(before, jobId)
          yield* pong(before)
          yield* store.gate.close
          yield* before.request(Vendor.jobInput, { input_id, value: "lost" }, { job_id: jobId })
          yield* calm
          assert.strictEqual(before.seen.filter(({ type }) => type === Vendor.jobInputAccepted).length, 0)
          store.cut = true
          yield* store.gate.open
          yield* first.stop
          const second = yield* start(restarted(store), handler)
          yield* Effect.addFinalizer(() => second.stop)
          const session = yield* second.run(open(resume(before, 0), quiet))
          assert.strictEqual(yield* answer(session, jobId, { input_id, value: "kept" }), "accepted")
          assert.strictEqual((yield* session.next(isEnd)).payload["result"], "kept")
          assert.strictEqual(bodies(session, jobId, Vendor.inputClosed).length, 1)
        })
      )
    })

    /** A turn of the event loop, whatever clock there is. */
    const realTurn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

    /** Waits until a question is in the log. */
    const settle = (job: JobService): Effect.Effect<void> =>
      Effect.repeat(Effect.zipRight(Effect.ignore(job.flush), Effect.yieldNow()), { times: 20 })

    describe("an input whose process dies", () => {
      /** Asks in one process, and goes on in the next. */
      const over = (
        handler: (job: JobService, run: number) => Effect.Effect<unknown, unknown, Job | Lease>,
        between: (first: Session, jobId: string) => Effect.Effect<unknown, unknown>
      ) =>
        Effect.gen(function* () {
          const store = yield* makeStore
          const first = yield* start(store, (job) => handler(job, 1))
          const before = yield* first.run(open({}, quiet))
          const jobId = (yield* submit(before, "asks")).job_id as string
          yield* between(before, jobId)
          yield* pong(before)
          yield* first.kill
          const second = yield* start(restarted(store), (job) => handler(job, 2))
          yield* Effect.addFinalizer(() => second.stop)
          const session = yield* second.run(open(resume(before, 0), quiet))
          return { session, jobId, store }
        })

      it.scopedLive("is the same one, and not asked again", () =>
        Effect.gen(function* () {
          const { jobId, session } = yield* over(
            (job) =>
              Effect.zipRight(job.step("s", Effect.succeed(1)), job.input("a", { prompt: "?", about: 1 })),
            requested
          )
          const { input_id } = yield* requested(session, jobId)
          const about_sha256 = sha256(1)
          assert.strictEqual(
            yield* answer(session, jobId, { input_id, value: "x", about_sha256 }),
            "accepted"
          )
          assert.strictEqual((yield* session.next(isEnd)).payload["result"], "x")
          assert.strictEqual(bodies(session, jobId, Vendor.inputRequest).length, 1)
          assert.strictEqual(bodies(session, jobId, Vendor.inputClosed).length, 1)
        })
      )

      it.scopedLive("gives its answer again, in the order in which they came", () =>
        Effect.gen(function* () {
          const race = (job: JobService, run: number) =>
            Effect.gen(function* () {
              const both = yield* Effect.all(
                [job.input("a", { prompt: "?" }), job.input("b", { prompt: "?" })].map((input, i) =>
                  Effect.as(input, i)
                ),
                { concurrency: 2 }
              ).pipe(
                Effect.zipRight(
                  Effect.raceFirst(job.input("a", { prompt: "?" }), job.input("b", { prompt: "?" }))
                )
              )
              if (run === 1) yield* Effect.never
              return both
            })
          const { jobId, session } = yield* over(race, (first, jobId) =>
            Effect.gen(function* () {
              const a = yield* requested(first, jobId, 1)
              const b = yield* requested(first, jobId, 2)
              assert.strictEqual(
                yield* answer(first, jobId, { input_id: b.input_id, value: "second" }),
                "accepted"
              )
              assert.strictEqual(
                yield* answer(first, jobId, { input_id: a.input_id, value: "first" }),
                "accepted"
              )
            })
          )
          assert.strictEqual((yield* session.next(isEnd)).payload["result"], "second")
          assert.strictEqual(bodies(session, jobId, Vendor.inputClosed).length, 2)
        })
      )

      it.scopedLive("ends a handler that asks about another thing", () =>
        Effect.gen(function* () {
          const { session } = yield* over(
            (job, run) => job.input("a", { prompt: "?", about: { run } }),
            requested
          )
          const { message } = (yield* session.next(isEnd)).payload
          assert.match(message, /a asks about another thing$/)
        })
      )

      it.scopedLive(
        "may be answered before its handler asks again, and is asked again when that does not take it",
        () =>
          Effect.gen(function* () {
            const go = yield* Deferred.make<void>()
            const Even = Schema.Struct({ n: Schema.Int.pipe(Schema.filter((n) => n % 2 === 0)) })
            const { jobId, session } = yield* over(
              (job, run) =>
                Effect.gen(function* () {
                  if (run === 2) yield* Deferred.await(go)
                  return yield* job.input("a", { prompt: "?", schema: Even })
                }),
              requested
            )
            const first = yield* requested(session, jobId)
            const { input_id } = first
            assert.strictEqual(yield* answer(session, jobId, { input_id, value: { n: "1" } }), "value")
            assert.strictEqual(yield* answer(session, jobId, { input_id, value: { n: 1 } }), "accepted")
            yield* Deferred.succeed(go, undefined)
            const again = yield* requested(session, jobId, 2)
            assert.strictEqual(
              yield* answer(session, jobId, { input_id: again.input_id, value: { n: 3 } }),
              "value"
            )
            assert.strictEqual(
              yield* answer(session, jobId, { input_id: again.input_id, value: { n: 4 } }),
              "accepted"
            )
            assert.deepStrictEqual((yield* session.next(isEnd)).payload["result"], { n: 4 })
          })
      )
    })
  })
