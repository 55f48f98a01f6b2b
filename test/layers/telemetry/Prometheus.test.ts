/** The text that Prometheus reads, read by a parser of the tests' own. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"
import type * as MetricPair from "effect/MetricPair"
import { format } from "../../../src/layers/telemetry/Prometheus.js"
import { readExposition, sampleIn } from "../../support/exposition.js"

/** Metrics of these names in the registry of the process. */
const pairsOf = (prefix: string): ReadonlyArray<MetricPair.MetricPair.Untyped> =>
  Metric.unsafeSnapshot().filter(({ metricKey }) => metricKey.name.startsWith(prefix))

const counterOf = (name: string, labels: Readonly<Record<string, string>> = {}, description?: string) =>
  Metric.fromMetricKey(
    MetricKey.taggedWithLabels(
      MetricKey.counter(name, { incremental: true, ...(description === undefined ? {} : { description }) }),
      Object.entries(labels).map(([key, value]) => MetricLabel.make(key, value))
    )
  )

describe("the Prometheus exposition", () => {
  it("escapes help and values of labels, and nothing else", () => {
    const odd = 'a\\b"c\nd é 🙂 {x="y"}, z'
    counterOf("px_odd_total", { odd }, 'back\\slash "quoted"\nsecond line').unsafeUpdate(3, [])
    const text = format(pairsOf("px_odd"))
    const families = readExposition(text)
    assert.strictEqual(families.get("px_odd_total")?.help, 'back\\slash "quoted"\nsecond line')
    assert.strictEqual(sampleIn(families, "px_odd_total", { odd }), 3)
    assert.strictEqual(
      text,
      '# HELP px_odd_total back\\\\slash "quoted"\\nsecond line\n# TYPE px_odd_total counter\n' +
        'px_odd_total{odd="a\\\\b\\"c\\nd é 🙂 {x=\\"y\\"}, z"} 3\n'
    )
  })

  it("says the same when it has been sent: each sample is still there once", () => {
    for (const odd of ["\ud800", "\udc01", "zero\u0000", "zero", "\r", "\u2028", "x".repeat(10_000)])
      counterOf("px_sent_total", { odd }, "half a pair: \ud800").unsafeUpdate(1, [])
    const text = format(pairsOf("px_sent"))
    assert.notInclude(text, "\u0000")
    const samples = readExposition(Buffer.from(text).toString()).get("px_sent_total")?.samples
    assert.strictEqual(samples?.length, 6)
  })

  it("writes histograms with le, +Inf, _sum and _count", () => {
    const histogram = Metric.histogram(
      "px_hist_seconds",
      MetricBoundaries.fromIterable([0.1, 1, 10]),
      "a help"
    )
    for (const value of [0.05, 0.1, 0.5, 20]) histogram.unsafeUpdate(value, [])
    const families = readExposition(format(pairsOf("px_hist")))
    assert.strictEqual(families.get("px_hist_seconds")?.type, "histogram")
    const bucket = (le: string) => sampleIn(families, "px_hist_seconds_bucket", { le })
    assert.deepStrictEqual([bucket("0.1"), bucket("1"), bucket("10"), bucket("+Inf")], [2, 3, 3, 4])
    assert.strictEqual(sampleIn(families, "px_hist_seconds_count"), 4)
    assert.approximately(sampleIn(families, "px_hist_seconds_sum") ?? 0, 20.65, 1e-9)
  })

  it("has every kind of metric that Effect has", () => {
    Metric.gauge("px_kinds_gauge").unsafeUpdate(-1.5e-7, [])
    Metric.counter("px_kinds_total", { bigint: true, incremental: true }).unsafeUpdate(2n ** 60n, [])
    // One that can go down is a gauge.
    Metric.counter("px_kinds_up_and_down").unsafeUpdate(-4, [])
    Metric.frequency("px_kinds_words").unsafeUpdate('a "word"', [])
    Metric.summary({
      name: "px_kinds_summary",
      maxAge: Duration.hours(1),
      maxSize: 10,
      error: 0.1,
      quantiles: [0.5]
    }).unsafeUpdate(7, [])
    Metric.gauge("px_kinds_inf").unsafeUpdate(Number.POSITIVE_INFINITY, [])
    Metric.gauge("px_kinds_nan").unsafeUpdate(Number.NaN, [])
    const families = readExposition(format(pairsOf("px_kinds")))
    assert.strictEqual(sampleIn(families, "px_kinds_gauge"), -1.5e-7)
    assert.strictEqual(sampleIn(families, "px_kinds_total"), 2 ** 60)
    assert.strictEqual(families.get("px_kinds_up_and_down")?.type, "gauge")
    assert.strictEqual(sampleIn(families, "px_kinds_words", { key: 'a "word"' }), 1)
    assert.strictEqual(sampleIn(families, "px_kinds_summary_count"), 1)
    assert.strictEqual(sampleIn(families, "px_kinds_inf"), Number.POSITIVE_INFINITY)
    assert.isNaN(sampleIn(families, "px_kinds_nan"))
  })

  it("writes names that the format does not have with underscores, and each sample once", () => {
    counterOf("px-names.total", { "a-b": "1", "a.b": "2", __name__: "x", "9": "y" }).unsafeUpdate(1, [])
    counterOf("px_names_total", { other: "1" }).unsafeUpdate(1, [])
    Metric.gauge("px names total").unsafeUpdate(5, [])
    Metric.gauge("px_names_hist").unsafeUpdate(5, [])
    Metric.histogram("px_names_hist", MetricBoundaries.fromIterable([1])).unsafeUpdate(5, [])
    counterOf("px_names_h_sum").unsafeUpdate(5, [])
    Metric.histogram("px_names_h", MetricBoundaries.fromIterable([1])).unsafeUpdate(5, [])
    const text = format([...pairsOf("px-names"), ...pairsOf("px names"), ...pairsOf("px_names")])
    readExposition(text)
    assert.include(text, "# left out: another px_names_total, which is of another kind\n")
    assert.notInclude(text, "__name__")
  })

  it("says nothing of nothing, and is still an exposition", () => {
    assert.strictEqual(format([]), "")
    assert.strictEqual(readExposition(format([])).size, 0)
  })
})
