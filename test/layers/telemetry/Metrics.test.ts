/** What a runtime counts, and that labels stay few whatever people and agents are called. */
import { assert, describe, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as fc from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { WebSocket } from "ws"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as Metrics from "../../../src/layers/telemetry/Metrics.js"
import * as Process from "../../../src/layers/telemetry/Process.js"
import * as Prometheus from "../../../src/layers/telemetry/Prometheus.js"
import * as TransportWebSocket from "../../../src/layers/transport/TransportWebSocket.js"
import * as Budget from "../../../src/protocol/Budget.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import { Amounts, families, Metrics as MetricsTag } from "../../../src/services/runtime/Metrics.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { TransportServer } from "../../../src/services/transport/Transport.js"
import { readExposition, sampleIn } from "../../support/exposition.js"
import { measured } from "../../support/measured.js"
import { connect, hello, open } from "../../support/Wire.js"
import { as, makeStore, restarted, resume, serve, submit, type TestStore } from "../jobs/support.js"

const worker = Agent.handle(Agent.make("mx_worker", { version: "1.0.0", input: Schema.Unknown }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const lease = yield* Lease
    yield* job.metric({ name: "cost.tokens", value: 0.25, unit: "USD" })
    yield* job.metric({ name: "cost.other", value: 0.5, unit: "USD" })
    assert.isTrue(Either.isLeft(lease.check("fs.read", "/etc/passwd")))
    yield* Effect.ignore(lease.authorize("tool.call", "rm"))
    assert.isTrue(Either.isLeft(lease.check("fs.read", "/etc/passwd", false)))
    return "done"
  }).pipe(Effect.orDie)
)
const inventive = Agent.handle(Agent.make("mx_inventive", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const tell = (unit: string) => job.metric({ name: "cost.x", value: 1, unit })
    for (let i = 0; i < 40; i++) {
      yield* tell(`mxmade${i}`)
      yield* tell(`${i}${"u".repeat(100_000)}`)
    }
    yield* tell("CHF")
    yield* tell("mx-credits")
  }).pipe(Effect.orDie)
)
const thrifty = Agent.handle(Agent.make("mx_thrifty", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const lease = yield* Lease
    for (let i = 0; i < 50; i++) yield* lease.spend({ amount: "0.10", currency: "SEK" })
  }).pipe(Effect.orDie)
)
const failing = Agent.handle(Agent.make("mx_failing", { version: "1.0.0" }), () => Effect.die("it broke"))
const asker = Agent.handle(Agent.make("mx_asker", { version: "1.0.0", durable: true }), () =>
  Effect.flatMap(Job, (job) => job.input("ok?", { prompt: "go on?", schema: Schema.Boolean })).pipe(
    Effect.orDie
  )
)
const one = Agent.handle(
  Agent.make("mx_one", { version: "1.0.0", concurrency: 1 }),
  () => Effect.never as Effect.Effect<never>
)

const amounts = fc
  .tuple(fc.bigInt({ min: 0n, max: 10n ** 20n }), fc.integer({ min: 0, max: 30 }))
  .map(([digits, scale]) => BigDecimal.make(digits, scale))
const counted = new Amounts("counter", "mx_amounts_total", "amounts by run of a property", ["run"])
let runs = 0

/** Runs with metrics, over a store. */
const measuring =
  (store: TestStore, agents: Parameters<typeof serve>[1], options?: Parameters<typeof serve>[2]) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(
      Effect.scoped,
      Effect.provide(serve(store, agents, options).pipe(Layer.provideMerge(Metrics.layer())))
    )

const read = Effect.map(Prometheus.text, readExposition)

describe("metrics of a runtime", () => {
  it.scopedLive("count jobs, events, commits, costs and denials, and tell what there is now", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const before = {
        events: measured(families.events),
        commits: measured(families.commitEvents),
        timed: measured(families.commitSeconds),
        sent: measured(families.eventsSent),
        spend: measured(families.spend, "USD"),
        denied: measured(families.leaseDenials, "fs.read", "permission_denied"),
        called: measured(families.leaseDenials, "tool.call", "permission_denied"),
        opened: measured(families.sessionsOpened)
      }
      yield* measuring(store, [worker, failing, one])(
        Effect.gen(function* () {
          const session = yield* open()
          yield* submit(session, "mx_worker", {}, { lease_request: { "cost.budget": ["USD:1"] } })
          yield* session.expect("job.result")
          yield* submit(session, "mx_failing")
          yield* session.expect("job.error")
          const running = yield* submit(session, "mx_one")
          yield* submit(session, "mx_one")
          const text = yield* read
          const job = (agent: string, status: string) => sampleIn(text, "arcp_jobs", { agent, status })
          assert.strictEqual(job("mx_one", "running"), 1)
          assert.strictEqual(job("mx_one", "pending"), 1)
          assert.strictEqual(sampleIn(text, "arcp_sessions", { state: "attached" }), 1)
          const ended = (agent: string, status: string) =>
            sampleIn(text, "arcp_jobs_ended_total", { agent, status })
          assert.strictEqual(ended("mx_worker", "success"), 1)
          assert.strictEqual(ended("mx_failing", "error"), 1)
          assert.strictEqual(sampleIn(text, "arcp_jobs_accepted_total", { agent: "mx_one" }), 2)
          assert.strictEqual(sampleIn(text, "arcp_job_duration_seconds_count", { agent: "mx_worker" }), 1)
          assert.isAbove(sampleIn(text, "arcp_retained_events") ?? 0, 4)
          assert.isAbove(sampleIn(text, "arcp_retained_bytes") ?? 0, 400)
          assert.isDefined(sampleIn(text, "arcp_delivery_lag_events", { of: "all" }))
          assert.isDefined(sampleIn(text, "arcp_delivery_lag_events", { of: "last" }))
          yield* session.request("job.cancel", {}, { job_id: running.job_id })
          yield* session.expect("job.error", (frame) => frame.job_id === running.job_id)
          assert.strictEqual(measured(families.jobsEnded, "mx_one", "cancelled"), 1)
        })
      )
      assert.approximately(measured(families.spend, "USD") - before.spend, 0.75, 1e-9)
      assert.strictEqual(measured(families.leaseDenials, "fs.read", "permission_denied") - before.denied, 1)
      assert.strictEqual(measured(families.leaseDenials, "tool.call", "permission_denied") - before.called, 1)
      assert.strictEqual(measured(families.sessionsOpened) - before.opened, 1)
      const events = store.batches.flat().flatMap((op) => (op._tag === "Append" ? op.events : [])).length
      assert.strictEqual(measured(families.events) - before.events, events)
      assert.isAbove(measured(families.commitEvents) - before.commits, 2)
      assert.isAtLeast(measured(families.commitSeconds) - before.timed, store.batches.length)
      assert.isAbove(measured(families.eventsSent) - before.sent, 3)
      // Nothing is there any more.
      assert.strictEqual(measured(families.jobs, "mx_one", "running"), 0)
      assert.strictEqual(measured(families.sessions, "attached"), 0)
    })
  )

  it.scopedLive("count waiting and recovered jobs, and those whose agent is not here", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const jobOf = (agent: string, status: string) =>
        Effect.map(read, (text) => sampleIn(text, "arcp_jobs", { agent, status }) ?? 0)
      yield* measuring(store, [asker, one])(
        Effect.gen(function* () {
          const session = yield* open()
          yield* submit(session, "mx_asker")
          yield* session.next(({ payload }) => payload.kind?.endsWith("input_request"))
          assert.strictEqual(yield* jobOf("mx_asker", "waiting"), 1)
          yield* submit(session, "mx_one")
          store.cut = true
        })
      )
      const before = {
        rerun: measured(families.recoveries, "rerun"),
        ended: measured(families.recoveries, "ended"),
        parked: measured(families.jobs, "other", "parked")
      }
      // The agents that are registered give the labels, in the whole process.
      const after = restarted(store)
      yield* measuring(after, [worker])(
        Effect.gen(function* () {
          const isParked = () =>
            after.batches.flat().some((op) => op._tag === "PutJob" && op.job.survival?.parked !== undefined)
          while (!isParked()) yield* eventLoop.next
          assert.strictEqual((yield* jobOf("other", "parked")) - before.parked, 1)
        })
      )
      assert.strictEqual(measured(families.recoveries, "rerun") - before.rerun, 1)
      assert.strictEqual(measured(families.recoveries, "ended") - before.ended, 1)
    })
  )

  it.scopedLive("count resumes by outcome and refused logins by reason", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const before = ["resumed", "expired", "refused"].map((outcome) => measured(families.resumes, outcome))
      const refused = measured(families.loginsRefused, "unauthenticated")
      yield* measuring(store, [worker])(
        Effect.gen(function* () {
          const session = yield* open()
          const again = yield* open(resume(session, 0))
          const attempt = (more: Record<string, unknown>) =>
            Effect.gen(function* () {
              const wire = yield* connect
              yield* wire.send("session.hello", hello(more))
              return (yield* wire.expect("session.error")).payload.code
            })
          assert.strictEqual(yield* attempt(as("nobody")), "UNAUTHENTICATED")
          assert.strictEqual(
            yield* attempt({ resume: { session_id: "sess_x", resume_token: "x", last_event_seq: 0 } }),
            "RESUME_WINDOW_EXPIRED"
          )
          assert.strictEqual(yield* attempt(resume(again, 1_000)), "INVALID_REQUEST")
        })
      )
      const now = ["resumed", "expired", "refused"].map((outcome) => measured(families.resumes, outcome))
      assert.deepStrictEqual(
        now.map((count, i) => count - (before[i] ?? 0)),
        [1, 1, 1]
      )
      assert.strictEqual(measured(families.loginsRefused, "unauthenticated") - refused, 1)
    })
  )

  it.scopedLive("count commits that fail, and nothing where nobody keeps metrics", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const failed = measured(families.commitsFailed)
      yield* measuring(store, [worker])(
        Effect.gen(function* () {
          const session = yield* open()
          store.failing = true
          yield* session.request("job.submit", { agent: "mx_worker", input: {} })
          yield* session.expect("session.error")
          store.failing = false
        })
      )
      assert.isAbove(measured(families.commitsFailed), failed)
      const events = measured(families.events)
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "mx_worker")
        yield* session.expect("job.result")
      }).pipe(Effect.scoped, Effect.provide(serve(yield* makeStore, [worker])))
      assert.strictEqual(measured(families.events), events)
    })
  )

  it.scoped("bound labels under 10 000 odd names of agents and currencies, and of whatever else", () =>
    Effect.gen(function* () {
      const metrics = yield* Metrics.Metrics
      const odd = Array.from({ length: 10_000 }, (_, i) => `odd"\n\\{}${i}`)
      metrics.know(odd)
      const labels = new Set(odd.map((name) => metrics.agent(`${name}@1.0.0`)))
      assert.isAtMost(labels.size, 201)
      assert.isTrue(labels.has("other"))
      assert.strictEqual(metrics.agent("nobody knows"), "other")
      assert.deepStrictEqual(new Set(odd.map((code) => metrics.currency(code, false))), new Set(["other"]))
      assert.isAtMost(new Set(odd.map((code) => metrics.currency(code, true))).size, 33)
      assert.strictEqual(metrics.currency("EUR", false), "EUR")
      for (const name of odd) families.loginsRefused.update(0, name)
      families.recoveries.update(1, "x".repeat(257))
      const text = yield* read
      assert.isTrue(
        text
          .get("arcp_recoveries_total")
          ?.samples.every(({ labels }) => (labels["outcome"] ?? "").length < 257)
      )
      assert.isAtMost(text.get("arcp_logins_refused_total")?.samples.length ?? 0, 1_001)
      for (const { samples } of text.values()) assert.isAtMost(samples.length, 20_000)
    }).pipe(Effect.provide(Metrics.layer()))
  )

  it.scopedLive(
    "give no label to what a job says its costs are in, unless that is money, or in its budget",
    () =>
      Effect.gen(function* () {
        const others = measured(families.spend, "other")
        yield* measuring(yield* makeStore, [inventive], { maxFrameBytes: 1_000_000 })(
          Effect.gen(function* () {
            const session = yield* open()
            yield* submit(session, "mx_inventive")
            yield* session.expect("job.result")
            const told = yield* read
            const spent = (currency: string) => sampleIn(told, "arcp_spend_total", { currency })
            assert.strictEqual(spent("CHF"), 1)
            assert.isUndefined(spent("mx-credits"))
            assert.strictEqual((spent("other") ?? 0) - others, 81)
            assert.isBelow((yield* Prometheus.text).length, 200_000)
            yield* submit(session, "mx_inventive", {}, { lease_request: { "cost.budget": ["mx-credits:5"] } })
            yield* session.expect("job.result")
            assert.strictEqual(sampleIn(yield* read, "arcp_spend_total", { currency: "mx-credits" }), 1)
          })
        )
      })
  )

  it.scopedLive("add costs up exactly", () =>
    Effect.gen(function* () {
      yield* measuring(yield* makeStore, [thrifty])(
        Effect.gen(function* () {
          const session = yield* open()
          yield* submit(session, "mx_thrifty")
          yield* session.expect("job.result")
        })
      )
      assert.strictEqual(measured(families.spend, "SEK"), 5)
    })
  )

  it.prop("say of amounts what their exact sum is", [fc.array(amounts)], ([amounts]) => {
    const run = `${runs++}`
    let sum = BigDecimal.make(0n, 0)
    for (const amount of amounts) {
      sum = BigDecimal.sum(sum, amount)
      counted.add(amount, run)
      assert.strictEqual(measured(counted, run), Budget.toNumber(sum))
    }
  })

  it.scoped("add up what several sources tell of one gauge, and take back what is told no more", () =>
    Effect.gen(function* () {
      const metrics = yield* Metrics.Metrics
      const before = measured(families.queued)
      const told = { a: 3, b: 4 }
      yield* metrics.watch(Effect.sync(() => [[families.queued, told.a]]))
      yield* metrics
        .watch(Effect.sync(() => [[families.queued, told.b]]))
        .pipe(
          Effect.zipRight(metrics.refresh),
          Effect.zipRight(Effect.sync(() => assert.strictEqual(measured(families.queued) - before, 7))),
          Effect.scoped
        )
      assert.strictEqual(measured(families.queued) - before, 3)
      told.a = 1
      yield* metrics.refresh
      assert.strictEqual(measured(families.queued) - before, 1)
    }).pipe(Effect.provide(Metrics.layer()))
  )

  it.scopedLive("take back what was asked for by one that is gone, also when the answer comes after it", () =>
    Effect.gen(function* () {
      const metrics = yield* Metrics.Metrics
      const before = measured(families.queued)
      const asked = yield* Deferred.make<void>()
      const answer = yield* Deferred.make<number>()
      const source = Effect.zipRight(
        Deferred.succeed(asked, undefined),
        Effect.map(Deferred.await(answer), (n) => [[families.queued, n] as const])
      )
      const scope = yield* Scope.make()
      yield* Scope.extend(metrics.watch(source), scope)
      const reading = yield* Effect.fork(metrics.refresh)
      yield* Deferred.await(asked)
      yield* Scope.close(scope, Exit.void)
      yield* Deferred.succeed(answer, 7)
      yield* Fiber.join(reading)
      yield* metrics.refresh
      assert.strictEqual(measured(families.queued), before)
    }).pipe(Effect.provide(Metrics.layer()))
  )

  it.scopedLive("wait for no source that hangs or dies, and ask it once", () =>
    Effect.gen(function* () {
      const metrics = yield* Metrics.Metrics
      let asked = 0
      const hangs = yield* Deferred.make<void>()
      yield* metrics.watch(Effect.die("it broke"))
      yield* metrics.watch(
        Effect.suspend(() => {
          asked++
          return Effect.as(Deferred.await(hangs), [])
        })
      )
      yield* Effect.all([metrics.refresh, metrics.refresh], { concurrency: "unbounded" })
      assert.strictEqual(asked, 1)
      yield* Deferred.succeed(hangs, undefined)
    }).pipe(Effect.provide(Metrics.layer()))
  )

  it.scopedLive("tell of the process and its event loop", () =>
    Effect.gen(function* () {
      const metrics = yield* Metrics.Metrics
      yield* metrics.refresh
      const text = readExposition(Prometheus.format(Metric.unsafeSnapshot()))
      assert.isAbove(sampleIn(text, "process_resident_memory_bytes") ?? 0, 1e6)
      assert.isAbove(sampleIn(text, "process_cpu_seconds_total") ?? 0, 0)
      assert.isAbove(sampleIn(text, "process_start_time_seconds") ?? 0, 1e9)
      assert.isAbove(sampleIn(text, "nodejs_heap_size_used_bytes") ?? 0, 1e6)
      assert.isAtLeast(sampleIn(text, "nodejs_eventloop_delay_seconds", { of: "p99" }) ?? -1, 0)
    }).pipe(Effect.provide(Process.layer().pipe(Layer.provideMerge(Metrics.layer()))))
  )
})

describe("connections", () => {
  it.scopedLive("are counted by how they have ended, and by what was written to them", () =>
    Effect.gen(function* () {
      const closed = (code: string) => measured(families.connectionsClosed, "websocket", code)
      const before = { sent: measured(families.bytesSent), normal: closed("1000"), other: closed("other") }
      const services = yield* Layer.build(
        Runtime.serve().pipe(
          Layer.provideMerge(TransportWebSocket.layer({ port: 0 })),
          Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: 0 } })),
          Layer.provide(Registry.layer([])),
          Layer.provide(Auth.layerStatic({ alice: "alice" })),
          Layer.provideMerge(Metrics.layer())
        )
      )
      const { address } = Context.get(services, TransportServer)
      /** Opens a session, closes with this code; gives the bytes that came. */
      const visit = (code: number) =>
        Effect.promise(
          () =>
            new Promise<number>((resolve, reject) => {
              let bytes = 0
              const ws = new WebSocket(address)
              ws.once("error", reject)
              ws.once("open", () => {
                const payload = hello({ auth: { scheme: "bearer", token: "alice" } })
                ws.send(JSON.stringify({ arcp: "1.1", id: "m1", type: "session.hello", payload }))
              })
              ws.once("message", (data: Buffer) => {
                // With the frame's head, of four bytes.
                bytes = data.length + 4
                ws.close(code)
              })
              ws.once("close", () => resolve(bytes))
            })
        )
      const bytes = (yield* visit(1000)) + (yield* visit(4711))
      const told = Effect.zipRight(
        Context.get(services, MetricsTag).refresh,
        Effect.sync(() => closed("other"))
      )
      yield* Effect.repeat(Effect.zipRight(eventLoop.next, told), { until: (count) => count > before.other })
      assert.strictEqual(closed("1000") - before.normal, 1)
      assert.strictEqual(closed("other") - before.other, 1)
      assert.strictEqual(measured(families.bytesSent) - before.sent, bytes)
    })
  )
})
