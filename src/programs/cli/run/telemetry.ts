/** What of `arcp serve` is for whoever looks on: health, metrics, OTLP. */
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { Readers } from "../../../layers/telemetry/Health.js"
import * as HealthRoutes from "../../../layers/telemetry/HealthRoutes.js"
import * as Metrics from "../../../layers/telemetry/Metrics.js"
import * as Otlp from "../../../layers/telemetry/Otlp.js"
import { settings } from "../../../layers/telemetry/OtlpConfig.js"
import * as Process from "../../../layers/telemetry/Process.js"
import { version } from "../../version.js"
import type { ServeFlags } from "../serve.js"
import { UsageError } from "../UsageError.js"

/** A bearer token as a header can carry it. */
const carried = (name: string, token: string): Effect.Effect<Redacted.Redacted, UsageError> =>
  /^[\x21-\x7e]+$/.test(token)
    ? Effect.succeed(Redacted.make(token))
    : new UsageError({
        message: `${name} takes a token: letters, digits and signs of ASCII, without spaces, at least one`
      })

/** Returns who may read the metrics; `undefined` when nobody may. */
export const readersOf = ({
  metrics,
  metricsToken
}: ServeFlags): Effect.Effect<Readers | undefined, ConfigError | UsageError> =>
  Effect.gen(function* () {
    if (Option.isSome(metricsToken)) {
      if (metrics !== "local")
        return yield* new UsageError({
          message: `choose --metrics-token TOKEN or --metrics ${metrics}, not both`
        })
      return yield* carried("--metrics-token", metricsToken.value)
    }
    if (metrics !== "local") return metrics === "off" ? undefined : metrics
    const token = yield* Config.option(Config.redacted("ARCP_METRICS_TOKEN"))
    return Option.isSome(token) && Redacted.value(token.value) !== ""
      ? yield* carried("ARCP_METRICS_TOKEN", Redacted.value(token.value))
      : metrics
  })

/** Returns the layers that mount what those who look on ask. */
export const watched = (readers: Readers | undefined) =>
  Layer.unwrapEffect(
    Effect.map(Effect.serviceOption(Metrics.Metrics), (metrics) =>
      Layer.merge(
        HealthRoutes.layerHealth(),
        readers === undefined || Option.isNone(metrics)
          ? Layer.empty
          : Layer.provide(HealthRoutes.layerMetrics(readers), Layer.succeed(Metrics.Metrics, metrics.value))
      )
    )
  )

/**
 * Keeps the metrics of the program that this is provided to where somebody may read them, and exports what the variables of
 * OpenTelemetry ask for. Around everything else, so that what happens at the end is told too.
 */
export const telemetry = ({ metrics, node, transport }: ServeFlags): Layer.Layer<never, ConfigError> =>
  Layer.unwrapEffect(
    Effect.map(settings, (exported) =>
      exported === undefined && (metrics === "off" || transport === "stdio")
        ? Layer.empty
        : Layer.merge(
            Otlp.layerConfig({ serviceVersion: version, instanceId: Option.getOrUndefined(node) }),
            Process.layer()
          ).pipe(Layer.provideMerge(Metrics.layer()))
    )
  )
