/** What reaches an OpenTelemetry collector, and that one which does not answer holds up nothing. */
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Tracer from "effect/Tracer"
import * as Metrics from "../../../src/layers/telemetry/Metrics.js"
import * as Otlp from "../../../src/layers/telemetry/Otlp.js"
import { pairs, settings } from "../../../src/layers/telemetry/OtlpConfig.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { attributesOf, collector } from "../../support/collector.js"
import { open } from "../../support/Wire.js"
import { makeStore, serve } from "../jobs/support.js"

type Environment = Readonly<Record<string, string>>

const provider = (environment: Environment) => ConfigProvider.fromMap(new Map(Object.entries(environment)))

/** Runs a program that exports by these variables; what it logs is kept. */
const exporting =
  (environment: Environment, said: Array<string> = []) =>
  <A, E, R>(program: Effect.Effect<A, E, R>) =>
    program.pipe(
      Effect.provide(
        Otlp.layerConfig({ serviceVersion: "1.2.3", instanceId: "node-a" }).pipe(
          Layer.provideMerge(Metrics.layer())
        )
      ),
      Effect.withConfigProvider(provider(environment)),
      Effect.provide(
        Logger.replace(
          Logger.defaultLogger,
          Logger.make(({ message }) => void said.push(String(message)))
        )
      )
    )

const quick = {
  OTEL_BSP_SCHEDULE_DELAY: "20",
  OTEL_BLRP_SCHEDULE_DELAY: "20",
  OTEL_METRIC_EXPORT_INTERVAL: "50"
}

const child = Agent.handle(Agent.make("otel_child", { version: "1.0.0" }), () =>
  Effect.void.pipe(Effect.withSpan("in the child"))
)
const dying = Agent.handle(Agent.make("otel_dying", { version: "1.0.0" }), () => Effect.die("gone wrong"))
const parent = Agent.handle(Agent.make("otel_parent", { version: "1.0.0", durable: true }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    yield* job.step("first", Effect.void.pipe(Effect.withSpan("in the step")))
    yield* Effect.flatMap(job.delegate("otel_child", null, { key: "one" }), (delegated) => delegated.await)
    yield* Effect.flatMap(job.delegate("otel_dying", null, { key: "two" }), ({ await: end }) =>
      Effect.exit(end)
    )
    yield* Effect.logInfo("said by the agent")
  }).pipe(Effect.orDie)
)

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
const callerSpan = "00f067aa0ba902b7"
const traced = (flags: string) => ({
  trace_id: traceId,
  extensions: {
    "x-vendor.opentelemetry.tracecontext": { traceparent: `00-${traceId}-${callerSpan}-${flags}` }
  }
})

/** `flags`: of the span that the caller tells, `none` when that tells its trace alone. */
const submitTraced = (session: Effect.Effect.Success<ReturnType<typeof open>>, flags = "01") =>
  Effect.gen(function* () {
    yield* session.request(
      "job.submit",
      { agent: "otel_parent", input: {}, lease_request: { "agent.delegate": ["*"] } },
      flags === "none" ? { trace_id: traceId } : traced(flags)
    )
    const accepted = yield* session.expect("job.accepted")
    yield* session.next(({ job_id, type }) => type === "job.result" && job_id === accepted.payload.job_id)
  })

/** `before`: what is waited for before it ends. */
const runtime = (environment: Environment, flags?: string, before: Effect.Effect<void> = Effect.void) =>
  Effect.gen(function* () {
    const store = yield* makeStore
    yield* Effect.flatMap(open(), (session) => submitTraced(session, flags)).pipe(
      Effect.zipRight(before),
      Effect.scoped,
      Effect.provide(serve(store, [parent, child, dying])),
      exporting(environment)
    )
  })

describe("OTLP", () => {
  it.scopedLive("sends traces, metrics and logs of a runtime, whole when it has ended", () =>
    Effect.gen(function* () {
      const sink = yield* collector()
      const environment = {
        ...quick,
        OTEL_EXPORTER_OTLP_ENDPOINT: `${sink.url}/`,
        OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
        OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20key,x-tenant=a",
        OTEL_SERVICE_NAME: "agents",
        OTEL_RESOURCE_ATTRIBUTES: "service.name=other,deployment.environment=te%20st,odd"
      }
      // A gauge is told while there is somebody to tell of, and not by the last export.
      const told = () => sink.metrics().some(({ name }) => name === "arcp_sessions")
      yield* runtime(environment, undefined, Effect.repeat(Effect.sleep("5 millis"), { until: told }))
      const spans = sink.spans()
      const named = (name: string) => spans.find((span) => span.name === name)
      const jobs = spans.filter(({ name }) => name === "arcp.job")
      const job = jobs.find(
        ({ attributes }) => attributesOf(attributes)["arcp.agent"] === "otel_parent@1.0.0"
      )
      const delegated = jobs.find(
        ({ attributes }) => attributesOf(attributes)["arcp.agent"] === "otel_child@1.0.0"
      )
      assert.strictEqual(job?.traceId, traceId)
      assert.strictEqual(job?.parentSpanId, callerSpan)
      const step = named("arcp.step")
      assert.strictEqual(step?.parentSpanId, job?.spanId)
      assert.strictEqual(attributesOf(step?.attributes ?? [])["arcp.step.key"], "first")
      assert.strictEqual(named("in the step")?.parentSpanId, step?.spanId)
      assert.strictEqual(delegated?.traceId, traceId)
      assert.strictEqual(delegated?.parentSpanId, job?.spanId)
      assert.strictEqual(named("in the child")?.parentSpanId, delegated?.spanId)
      assert.isDefined(named("arcp.session"))

      const metrics = sink.metrics()
      const accepted = metrics.filter(({ name }) => name === "arcp_jobs_accepted_total").at(-1)
      assert.isTrue(accepted?.sum?.isMonotonic)
      assert.isTrue(
        accepted?.sum?.dataPoints.some(({ attributes }) => attributesOf(attributes)["agent"] === "otel_child")
      )
      assert.isAbove(
        metrics.filter(({ name }) => name === "arcp_commit_duration_seconds").at(-1)?.histogram?.dataPoints[0]
          ?.count ?? 0,
        0
      )
      assert.isDefined(metrics.find(({ name }) => name === "arcp_sessions")?.gauge)

      const log = sink.logs().find(({ body }) => body.stringValue === "said by the agent")
      assert.strictEqual(log?.traceId, traceId)
      assert.strictEqual(attributesOf(log?.attributes ?? [])["agent"], "otel_parent@1.0.0")
      // So do the runtime's own lines about a job: they have its trace, and its span.
      const died = jobs.find(
        ({ attributes }) => attributesOf(attributes)["arcp.agent"] === "otel_dying@1.0.0"
      )
      // It has failed, and nobody has interrupted it.
      assert.strictEqual(died?.status.code, 2)
      assert.notInclude(JSON.stringify(spans), "nterrupted")
      const ofDied = sink
        .logs()
        .filter(({ attributes }) => attributesOf(attributes)["agent"] === "otel_dying@1.0.0")
        .map(({ body, ...line }) => [
          body.stringValue?.replace(/ (?:after|in) .*/, ""),
          line.traceId,
          line.spanId
        ])
      assert.deepStrictEqual(ofDied, [
        ["job started", traceId, died?.spanId],
        ["agent otel_dying@1.0.0 failed", traceId, died?.spanId],
        ["job ended: error", traceId, died?.spanId]
      ])

      for (const path of ["/v1/traces", "/v1/metrics", "/v1/logs"]) {
        const resource = sink.resource(path)
        assert.strictEqual(resource["service.name"], "agents")
        assert.strictEqual(resource["service.version"], "1.2.3")
        assert.strictEqual(resource["service.instance.id"], "node-a")
        assert.strictEqual(resource["deployment.environment"], "te st")
      }
      for (const { headers } of sink.received) {
        assert.strictEqual(headers.authorization, "Bearer key")
        assert.strictEqual(headers["x-tenant"], "a")
        assert.strictEqual(headers["content-type"], "application/json")
      }
    })
  )

  it.scopedLive("sends protobuf unless told otherwise, each signal to where it is to go", () =>
    Effect.gen(function* () {
      const sink = yield* collector()
      yield* runtime({
        ...quick,
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${sink.url}/my/traces`,
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: `${sink.url}/my/logs`,
        OTEL_EXPORTER_OTLP_TRACES_HEADERS: "x-only=traces",
        OTEL_METRICS_EXPORTER: "none"
      })
      assert.deepStrictEqual([...new Set(sink.received.map(({ path }) => path))].sort(), [
        "/my/logs",
        "/my/traces"
      ])
      for (const { body, headers, path } of sink.received) {
        assert.strictEqual(headers["content-type"], "application/x-protobuf")
        assert.strictEqual(headers["x-only"], path === "/my/traces" ? "traces" : undefined)
        assert.include(body.toString("latin1"), "effect-arcp")
      }
      const traces = sink.received.filter(({ path }) => path === "/my/traces").map(({ body }) => body)
      assert.include(Buffer.concat(traces).toString("hex"), traceId)
    })
  )

  it.scopedLive("records no span of a caller who has decided so", () =>
    Effect.gen(function* () {
      const sink = yield* collector()
      yield* runtime(
        {
          ...quick,
          OTEL_EXPORTER_OTLP_ENDPOINT: sink.url,
          OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
          OTEL_RESOURCE_ATTRIBUTES: "service.instance.id=mine"
        },
        "00"
      )
      assert.deepStrictEqual(
        sink.spans().filter((span) => span.traceId === traceId),
        []
      )
      assert.isDefined(sink.spans().find(({ name }) => name === "arcp.session"))
      // What the variables say goes first.
      assert.strictEqual(sink.resource("/v1/traces")["service.instance.id"], "mine")
    })
  )

  it.scopedLive("whose caller tells a trace and no span is at the root of it, and sampled as what is", () =>
    Effect.gen(function* () {
      const jobsOf = (sampler: string, flags: string) =>
        Effect.gen(function* () {
          const sink = yield* collector()
          const environment = {
            ...quick,
            OTEL_EXPORTER_OTLP_ENDPOINT: sink.url,
            OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
            OTEL_TRACES_SAMPLER: sampler
          }
          yield* runtime(environment, flags)
          return sink.spans().filter((span) => span.traceId === traceId)
        })
      assert.deepStrictEqual(yield* jobsOf("parentbased_always_off", "none"), [])
      assert.isNotEmpty(yield* jobsOf("parentbased_always_off", "01"))
      const all = yield* jobsOf("parentbased_always_on", "none")
      const roots = all.filter(({ parentSpanId }) => parentSpanId === undefined)
      assert.deepStrictEqual(
        roots.map(({ name }) => name),
        ["arcp.job"]
      )
      const ids = new Set(all.map(({ spanId }) => spanId))
      for (const { parentSpanId } of all)
        if (parentSpanId !== undefined) assert.isTrue(ids.has(parentSpanId), parentSpanId)
    })
  )

  it("samples a share of the traces, by their ids", () => {
    const ids = Array.from({ length: 4_000 }, (_, i) =>
      Math.imul(i + 1, 0x9e3779b1)
        .toString(16)
        .replace("-", "")
        .padStart(8, "0")
        .repeat(4)
    )
    let at = 0
    const ended: Array<string> = []
    const base = {
      span: (name: string, parent: Option.Option<Tracer.AnySpan>) => {
        const traceId = Option.match(parent, {
          onNone: () => ids[at++] ?? "",
          onSome: (span) => span.traceId
        })
        return { name, traceId, sampled: true, context: Context.empty(), end: () => void ended.push(traceId) }
      },
      context: (f: () => unknown) => f()
    } as unknown as Tracer.Tracer
    const tracer = Otlp.sampling(base, { ratio: 0.25, followsParent: true })
    const make = (parent: Option.Option<Tracer.AnySpan>) =>
      tracer.span("a", parent, undefined as never, [], 0n, "internal")
    const roots = ids.map(() => make(Option.none()))
    for (const span of roots) span.end(1n, undefined as never)
    assert.approximately(ended.length / ids.length, 0.25, 0.05)
    // Whoever is below does as the trace does.
    for (const root of roots.slice(0, 50)) assert.strictEqual(make(Option.some(root)).sampled, root.sampled)
  })

  it.scopedLive(
    "is held up by no collector that hangs, is absent, refuses, redirects or answers without an end",
    () =>
      Effect.gen(function* () {
        const sink = yield* collector()
        const elsewhere = yield* collector()
        const behaviours: Readonly<Record<string, Parameters<typeof sink.answer>[0] | "absent">> = {
          absent: "absent",
          hangs: () => {},
          refuses: (response) => response.writeHead(401).end("no"),
          later: (response) => response.writeHead(429, { "retry-after": "100000" }).end(),
          redirects: (response) => response.writeHead(307, { location: `${elsewhere.url}/stolen` }).end(),
          endless: (response) => {
            response.writeHead(200)
            const write = () => {
              while (response.write("x".repeat(16_384)));
            }
            response.on("drain", write)
            response.on("error", () => {})
            write()
          }
        }
        for (const [name, how] of Object.entries(behaviours)) {
          const said: Array<string> = []
          if (how !== "absent") sink.answer(how)
          const began = performance.now()
          yield* Effect.gen(function* () {
            for (let i = 0; i < 5_000; i++) yield* Effect.withSpan(Effect.void, "a span")
            yield* Effect.logInfo("a line")
            yield* Effect.sleep("300 millis")
          }).pipe(
            exporting(
              {
                ...quick,
                OTEL_EXPORTER_OTLP_ENDPOINT: how === "absent" ? "http://127.0.0.1:1" : sink.url,
                OTEL_EXPORTER_OTLP_TIMEOUT: "200"
              },
              said
            )
          )
          assert.isBelow(performance.now() - began, 30_000, name)
          const warned = said.filter((line) => /could not be sent/.test(line))
          if (name !== "endless") assert.isAtLeast(warned.length, 1, name)
          // One for each signal, however much is dropped.
          assert.isAtMost(warned.length, 3, name)
          assert.notInclude(said.join(), "key")
        }
        assert.deepStrictEqual(elsewhere.received, [])
      })
  )

  it.scopedLive("loses nothing to a collector that is away for a while", () =>
    Effect.gen(function* () {
      const sink = yield* collector()
      const said: Array<string> = []
      const since = performance.now()
      // Longer than a few tries take.
      const taken = new Set<string>()
      sink.answer((response, { body }) => {
        const isAway = performance.now() - since < 2_500
        if (!isAway) for (const [, id = ""] of `${body}`.matchAll(/"spanId":"([0-9a-f]{16})"/g)) taken.add(id)
        response.writeHead(isAway ? 503 : 200).end("{}")
      })
      const all = 700
      yield* Effect.gen(function* () {
        for (let i = 0; i < all; i++) {
          yield* Effect.withSpan(Effect.void, "a span")
          if (i % 100 === 0) yield* Effect.sleep("50 millis")
        }
        yield* sink.until(() => taken.size >= all)
      }).pipe(
        exporting(
          {
            ...quick,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${sink.url}/v1/traces`,
            OTEL_EXPORTER_OTLP_PROTOCOL: "http/json"
          },
          said
        )
      )
      assert.strictEqual(taken.size, all)
      assert.deepStrictEqual(said, [])
    })
  )

  it.scopedLive("tries again what may pass", () =>
    Effect.gen(function* () {
      const sink = yield* collector()
      const said: Array<string> = []
      sink.answer((response) => response.writeHead(sink.received.length < 3 ? 503 : 200).end("{}"))
      Metric.counter("otel_again_total", { incremental: true }).unsafeUpdate(1, [])
      yield* sink
        .until(() => sink.received.length >= 4)
        .pipe(
          exporting(
            {
              ...quick,
              OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${sink.url}/v1/metrics`,
              OTEL_EXPORTER_OTLP_PROTOCOL: "http/json"
            },
            said
          )
        )
      assert.isDefined(sink.metrics().find(({ name }) => name === "otel_again_total"))
      assert.deepStrictEqual(said, [])
    })
  )

  it.scopedLive("waits as long as it is told to, and loses what is refused and nothing else", () =>
    Effect.gen(function* () {
      const sink = yield* collector()
      const said: Array<string> = []
      const times: Array<number> = []
      // Too soon, then too large; broken; malformed; and then as it should be.
      const statuses = [429, 413, 500, 400]
      const taken = new Set<string>()
      sink.answer((response, { body }) => {
        const status = statuses[times.length] ?? 200
        times.push(performance.now())
        if (status === 200) for (const [name = ""] of `${body}`.matchAll(/span \d/g)) taken.add(name)
        response.writeHead(status, status === 429 ? { "retry-after": "1" } : {}).end("{}")
      })
      yield* Effect.gen(function* () {
        for (const [i, answers] of [2, 1, 1, 1].entries()) {
          const seen = times.length
          yield* Effect.withSpan(Effect.void, `span ${i}`)
          yield* sink.until(() => times.length >= seen + answers)
        }
      }).pipe(
        exporting(
          {
            ...quick,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${sink.url}/v1/traces`,
            OTEL_EXPORTER_OTLP_PROTOCOL: "http/json"
          },
          said
        )
      )
      assert.deepStrictEqual([...taken], ["span 3"])
      assert.deepStrictEqual(
        said.map((line) => line.replace(/ to http.*/, "")),
        ["traces could not be sent", "traces are sent"]
      )
      assert.isAtLeast((times[1] ?? 0) - (times[0] ?? 0), 950)
    })
  )

  it.effect("does nothing without a variable, when it is disabled, or is told what it cannot do", () =>
    Effect.gen(function* () {
      const of = (environment: Environment) => Effect.withConfigProvider(settings, provider(environment))
      assert.isUndefined(yield* of({}))
      assert.isUndefined(yield* of({ OTEL_EXPORTER_OTLP_ENDPOINT: "", OTEL_SERVICE_NAME: "x" }))
      assert.isUndefined(
        yield* of({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:4318", OTEL_SDK_DISABLED: "TRUE" })
      )
      const grpc = yield* of({
        OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:4317",
        OTEL_EXPORTER_OTLP_PROTOCOL: "grpc"
      })
      assert.strictEqual(grpc?.targets.size, 0)
      assert.strictEqual(grpc?.warnings.length, 3)
      const odd = yield* of({
        OTEL_EXPORTER_OTLP_ENDPOINT: "not a URL",
        OTEL_TRACES_SAMPLER: "dice",
        OTEL_LOGS_EXPORTER: "console",
        OTEL_METRICS_EXPORTER: "none"
      })
      assert.strictEqual(odd?.targets.size, 0)
      assert.strictEqual(odd?.warnings.length, 3)
      const asked = yield* of({
        OTEL_TRACES_EXPORTER: "otlp",
        OTEL_TRACES_SAMPLER: "traceidratio",
        OTEL_TRACES_SAMPLER_ARG: "0.1"
      })
      assert.strictEqual(asked?.targets.get("traces")?.url, "http://localhost:4318/v1/traces")
      assert.deepStrictEqual(asked?.sampling, { ratio: 0.1, followsParent: false })
      const secret = yield* of({
        OTEL_EXPORTER_OTLP_ENDPOINT: "https://c.example",
        OTEL_EXPORTER_OTLP_HEADERS: "api-key=secret"
      })
      assert.notInclude(JSON.stringify([...(secret?.targets.values() ?? [])]), "secret")
      assert.deepStrictEqual(Redacted.value(secret?.targets.get("logs")?.headers ?? Redacted.make({})), {
        "api-key": "secret"
      })
      assert.deepStrictEqual(pairs("a=1,, =x,b=%zz,c=d=e"), { a: "1", b: "%zz", c: "d=e" })
      assert.isTrue(Schema.is(Schema.String)(asked?.serviceName))
    })
  )
})
