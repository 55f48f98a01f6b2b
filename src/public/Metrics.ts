/** What a runtime counts and measures, by `effect/Metric`. */
export {
  layer,
  Metrics,
  type MetricsService,
  type Sample,
  type Source
} from "../layers/telemetry/Metrics.js"
export { text as prometheus } from "../layers/telemetry/Prometheus.js"
