/** What the variables of the environment say that OpenTelemetry defines for exporters. Empty ones count as not set. */
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"

/** The signals of OpenTelemetry. */
const signals = ["traces", "metrics", "logs"] as const
export type Signal = (typeof signals)[number]

/** Where one signal goes. */
export interface Target {
  readonly url: string
  /** They may have a key of the collector's. */
  readonly headers: Redacted.Redacted<Readonly<Record<string, string>>>
  readonly protocol: "http/protobuf" | "http/json"
  /** What one request may take, in milliseconds. */
  readonly timeoutMs: number
  /** Milliseconds between two exports. */
  readonly intervalMs: number
}

/** Which traces are recorded that begin here, and whether a caller's decision holds. */
export interface Sampling {
  /** Of traces that begin here, the share that is recorded. */
  readonly ratio: number
  readonly followsParent: boolean
}

/** What is exported, and whereto. */
export interface OtlpSettings {
  readonly targets: ReadonlyMap<Signal, Target>
  readonly serviceName: string
  readonly attributes: Readonly<Record<string, string>>
  readonly sampling: Sampling
  /** Spans of one request at the most. */
  readonly maxBatch: number
  /** What was said that cannot be done. */
  readonly warnings: ReadonlyArray<string>
}

const variable = (name: string): Effect.Effect<string | undefined, ConfigError> =>
  Effect.map(Config.option(Config.string(name)), (value) => {
    const text = Option.getOrUndefined(value)?.trim()
    return text === "" ? undefined : text
  })

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Reads `a=1,b=2`, values percent-encoded; what is no pair is left out. */
export const pairs = (text: string | undefined): Readonly<Record<string, string>> =>
  Object.fromEntries(
    (text ?? "").split(",").flatMap((pair) => {
      const at = pair.indexOf("=")
      const name = pair.slice(0, Math.max(0, at)).trim()
      return name === "" ? [] : [[decoded(name), decoded(pair.slice(at + 1).trim())] as const]
    })
  )

const millis = (text: string | undefined, fallback: number): number => {
  const value = Number(text)
  return text !== undefined && Number.isFinite(value) && value > 0 ? Math.min(value, 2 ** 31 - 1) : fallback
}

const intervals: Readonly<Record<Signal, readonly [name: string, fallback: number]>> = {
  traces: ["OTEL_BSP_SCHEDULE_DELAY", 5_000],
  metrics: ["OTEL_METRIC_EXPORT_INTERVAL", 60_000],
  logs: ["OTEL_BLRP_SCHEDULE_DELAY", 1_000]
}

const defaultEndpoint = "http://localhost:4318"

/** Returns where one signal goes; what cannot be done is said, and that signal is not exported. */
const targetOf = (signal: Signal, warn: (what: string) => void) =>
  Effect.gen(function* () {
    const own = signal.toUpperCase()
    const exporter = yield* variable(`OTEL_${own}_EXPORTER`)
    const either = (name: string) =>
      Effect.flatMap(variable(`OTEL_EXPORTER_OTLP_${own}_${name}`), (value) =>
        value === undefined ? variable(`OTEL_EXPORTER_OTLP_${name}`) : Effect.succeed(value)
      )
    const mine = yield* variable(`OTEL_EXPORTER_OTLP_${own}_ENDPOINT`)
    const base = yield* variable("OTEL_EXPORTER_OTLP_ENDPOINT")
    if (exporter === "none") return undefined
    if (exporter !== undefined && exporter !== "otlp") {
      warn(`OTEL_${own}_EXPORTER=${exporter}: only otlp and none are known; ${signal} are not exported`)
      return undefined
    }
    if (exporter === undefined && mine === undefined && base === undefined) return undefined
    const url = mine ?? `${(base ?? defaultEndpoint).replace(/\/+$/, "")}/v1/${signal}`
    if (!URL.canParse(url) || !/^https?:/i.test(url)) {
      warn(`the OTLP endpoint of ${signal} is no http or https URL; they are not exported`)
      return undefined
    }
    const protocol = (yield* either("PROTOCOL")) ?? "http/protobuf"
    if (protocol !== "http/protobuf" && protocol !== "http/json") {
      warn(`OTLP over ${protocol}: use http/protobuf or http/json; ${signal} are not exported`)
      return undefined
    }
    const [name, fallback] = intervals[signal]
    return {
      url,
      protocol,
      headers: Redacted.make(pairs(yield* either("HEADERS"))),
      timeoutMs: millis(yield* either("TIMEOUT"), 10_000),
      intervalMs: millis(yield* variable(name), fallback)
    } satisfies Target as Target
  })

const always: Sampling = { ratio: 1, followsParent: true }

const samplingOf = (
  name: string | undefined,
  arg: string | undefined,
  warn: (what: string) => void
): Sampling => {
  const share = arg === undefined ? 1 : Number(arg)
  const ratio = share >= 0 && share <= 1 ? share : 1
  if (ratio !== share)
    warn(`OTEL_TRACES_SAMPLER_ARG=${arg}: takes a number from 0 to 1; everything is recorded`)
  switch (name) {
    case undefined:
    case "parentbased_always_on":
      return always
    case "always_on":
      return { ratio: 1, followsParent: false }
    case "always_off":
      return { ratio: 0, followsParent: false }
    case "traceidratio":
      return { ratio, followsParent: false }
    case "parentbased_always_off":
      return { ratio: 0, followsParent: true }
    case "parentbased_traceidratio":
      return { ratio, followsParent: true }
    default:
      warn(`OTEL_TRACES_SAMPLER=${name} is not known; everything is recorded`)
      return always
  }
}

/** Returns what is to be exported; `undefined` when nothing is. */
export const settings: Effect.Effect<OtlpSettings | undefined, ConfigError> = Effect.gen(function* () {
  if ((yield* variable("OTEL_SDK_DISABLED"))?.toLowerCase() === "true") return undefined
  const warnings: Array<string> = []
  const warn = (what: string) => void warnings.push(what)
  const targets = new Map<Signal, Target>()
  for (const signal of signals) {
    const target = yield* targetOf(signal, warn)
    if (target !== undefined) targets.set(signal, target)
  }
  if (targets.size === 0 && warnings.length === 0) return undefined
  const { "service.name": named, ...attributes } = pairs(yield* variable("OTEL_RESOURCE_ATTRIBUTES"))
  return {
    targets,
    serviceName: (yield* variable("OTEL_SERVICE_NAME")) ?? named ?? "effect-arcp",
    attributes,
    sampling: samplingOf(
      yield* variable("OTEL_TRACES_SAMPLER"),
      yield* variable("OTEL_TRACES_SAMPLER_ARG"),
      warn
    ),
    maxBatch: Math.min(4_096, millis(yield* variable("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"), 512)),
    warnings
  }
})
