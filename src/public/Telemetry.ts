/** What watches over a runtime ask: health, readiness, metrics; and OTLP, by the variables of OpenTelemetry. */
export { type App, healthz, metrics, type Readers, readyz } from "../layers/telemetry/Health.js"
export { layerHealth, layerMetrics } from "../layers/telemetry/HealthRoutes.js"
export { layerConfig as layerOtlp, type Options as OtlpOptions } from "../layers/telemetry/Otlp.js"
export { layer as layerProcess } from "../layers/telemetry/Process.js"
export type { Unreadiness } from "../layers/telemetry/Readiness.js"
