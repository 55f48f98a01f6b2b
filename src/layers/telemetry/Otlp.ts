/**
 * Traces, metrics and logs to an OpenTelemetry collector, by the variables that OpenTelemetry defines
 * (`OTEL_EXPORTER_OTLP_ENDPOINT` and the like). `@effect/opentelemetry` is loaded only when one of them asks for it.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import type { ConfigError } from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { Metrics } from "../../services/runtime/Metrics.js"
import { isStandIn } from "../../services/runtime/Tracing.js"
import { withoutInterrupted } from "./interruptedSpans.js"
import type { OtlpSettings, Sampling, Signal, Target } from "./OtlpConfig.js"
import { settings } from "./OtlpConfig.js"

/** What a program says of itself; what the variables say of the same goes first. */
export interface Options {
  readonly serviceVersion?: string | undefined
  /** `service.instance.id`: of nodes of a cluster the name, or what they export is taken for that of one. */
  readonly instanceId?: string | undefined
}

/** What each signal gets to be sent when the process ends. */
const lastFlush = Duration.seconds(2)

/** Gauges are brought up to date at least as often as this, in milliseconds. */
const refreshing = 15_000

const packages = Effect.tryPromise({
  try: () =>
    Promise.all([
      import("@effect/opentelemetry/OtlpLogger"),
      import("@effect/opentelemetry/OtlpMetrics"),
      import("@effect/opentelemetry/OtlpTracer"),
      import("@effect/opentelemetry/OtlpSerialization"),
      import("@effect/platform/HttpClient"),
      import("./otlpClient.js")
    ]),
  catch: (error) =>
    typeof error === "object" && error !== null && "code" in error && error.code === "ERR_MODULE_NOT_FOUND"
      ? "variables of OpenTelemetry ask for an export, which needs @effect/opentelemetry, and that is not installed here: npm i @effect/opentelemetry@0.64"
      : `OTLP could not be loaded: ${String(error)}`
})

/** A share of the traces, told by their ids, so that everybody who takes the same share takes the same ones. */
const isInShare = (traceId: string, ratio: number): boolean =>
  Number.parseInt(traceId.slice(-13), 16) < ratio * 16 ** 13

/**
 * Returns a tracer that exports what is sampled; of the rest it makes spans that go nowhere. A span whose parent only stands in
 * for its trace is at the root: the share decides about it, and it is exported without a parent.
 */
export const sampling = (tracer: Tracer.Tracer, { followsParent, ratio }: Sampling): Tracer.Tracer =>
  Tracer.make({
    span: (...args) => {
      const [, given] = args
      const span = tracer.span(...args)
      const parent = Option.filter(given, (span) => !isStandIn(span))
      if (Option.isNone(parent)) Object.assign(span, { parent })
      const isSampled =
        followsParent && Option.isSome(parent) ? parent.value.sampled : isInShare(span.traceId, ratio)
      return isSampled ? span : Object.assign(span, { sampled: false, end: () => {} })
    },
    context: (f, fiber) => tracer.context(f, fiber)
  })

type Loaded = Effect.Effect.Success<typeof packages>

/** How what is exported is written. */
const written = ({ OtlpSerialization, layerJson, layerProtobuf }: Loaded[3], protocol: Target["protocol"]) =>
  Layer.effect(
    OtlpSerialization,
    Effect.map(OtlpSerialization, (as) => ({
      ...as,
      traces: (data: unknown) => as.traces(withoutInterrupted(data))
    }))
  ).pipe(Layer.provide(protocol === "http/json" ? layerJson : layerProtobuf))

/** Options of an exporter, and what it works with. */
const exporting = (
  [, , , Serialization, { HttpClient: client }, { make }]: Loaded,
  { attributes, serviceName, targets }: OtlpSettings,
  { instanceId, serviceVersion }: Options
) => {
  const own = instanceId === undefined ? {} : { "service.instance.id": instanceId }
  const options = (target: Target) => ({
    url: target.url,
    headers: Redacted.value(target.headers),
    exportInterval: Duration.millis(target.intervalMs),
    shutdownTimeout: lastFlush,
    resource: { serviceName, serviceVersion, attributes: { ...own, ...attributes } }
  })
  /** Runs what makes the exporter of a signal, when that is to be exported. */
  return <A>(
    signal: Signal,
    start: (
      given: ReturnType<typeof options>
    ) => Effect.Effect<
      A,
      never,
      HttpClient.HttpClient | typeof Serialization.OtlpSerialization.Identifier | Scope.Scope
    >
  ): Effect.Effect<A | undefined, never, Scope.Scope> => {
    const target = targets.get(signal)
    if (target === undefined) return Effect.succeed(undefined)
    return Effect.flatMap(make(signal, target, lastFlush), (service) =>
      start(options(target)).pipe(
        Effect.provide(written(Serialization, target.protocol)),
        Effect.provideService(client, service)
      )
    ).pipe(
      // The variables have been read, and by the standard: it would read them again.
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map()))
    )
  }
}

/** Starts what exports; it ends, and sends what is left, with the scope. */
const start = (loaded: Loaded, given: OtlpSettings, options: Options) =>
  Effect.gen(function* () {
    const [OtlpLogger, OtlpMetrics, OtlpTracer] = loaded
    const { maxBatch, targets } = given
    const forSignal = exporting(loaded, given, options)
    const metrics = yield* Effect.serviceOption(Metrics)
    yield* forSignal("metrics", (options) => OtlpMetrics.make(options))
    if (Option.isSome(metrics) && targets.has("metrics")) {
      const every = Math.min(refreshing, (targets.get("metrics")?.intervalMs ?? refreshing) / 2)
      yield* Effect.forkScoped(Effect.forever(Effect.zipRight(metrics.value.refresh, Effect.sleep(every))))
    }
    const tracer = yield* forSignal("traces", (options) =>
      OtlpTracer.make({ ...options, maxBatchSize: maxBatch })
    )
    const logger = yield* forSignal("logs", (options) =>
      OtlpLogger.make({ ...options, maxBatchSize: maxBatch })
    )
    return Layer.mergeAll(
      tracer === undefined ? Layer.empty : Layer.setTracer(sampling(tracer, given.sampling)),
      logger === undefined ? Layer.empty : Logger.add(logger)
    )
  })

/**
 * Exports traces, metrics and logs of the program that this is provided to, as the variables of OpenTelemetry say; nothing
 * without them. With `Metrics` in the context the runtime's gauges are brought up to date for it. A collector that does not
 * answer holds up nothing; what cannot be sent is dropped, and said once.
 */
export const layerConfig = (options: Options = {}): Layer.Layer<never, ConfigError> =>
  Layer.unwrapScoped(
    Effect.gen(function* () {
      const given = yield* settings
      if (given === undefined) return Layer.empty
      for (const warning of given.warnings) yield* Effect.logWarning(warning)
      if (given.targets.size === 0) return Layer.empty
      const loaded = yield* Effect.either(packages)
      if (loaded._tag === "Left") return yield* Effect.as(Effect.logWarning(loaded.left), Layer.empty)
      return yield* start(loaded.right, given, options)
    })
  )
