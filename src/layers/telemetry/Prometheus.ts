/**
 * The text that Prometheus reads (exposition format 0.0.4), of whatever was counted with `effect/Metric` in this process:
 * the runtime's metrics, and those of agents and applications. A name or label that the format does not have is written
 * with underscores; what then has the name of another kind of metric is left out, which a comment says.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as MetricKey from "effect/MetricKey"
import type * as MetricPair from "effect/MetricPair"
import * as MetricState from "effect/MetricState"
import * as Option from "effect/Option"
import { Metrics } from "../../services/runtime/Metrics.js"

/** What an answer with the text is of. */
export const contentType = "text/plain; version=0.0.4; charset=utf-8"

const nameOf = (name: string): string => name.replace(/[^a-zA-Z0-9_:]/g, "_").replace(/^(?=\d|$)/, "_")
const labelOf = (name: string): string => name.replace(/[^a-zA-Z0-9_]/g, "_").replace(/^(?=\d|$)/, "_")

/** What does not survive on the way: half a surrogate pair has no UTF-8, and readers take a zero for the end. */
const sent = (text: string): string => text.replace(/[\u0000\p{Cs}]/gu, "\ufffd")

const escapedHelp = (text: string): string => sent(text).replaceAll("\\", "\\\\").replaceAll("\n", "\\n")
const escapedValue = (text: string): string => escapedHelp(text).replaceAll('"', '\\"')

const number = (value: number | bigint): string =>
  value === Number.POSITIVE_INFINITY ? "+Inf" : value === Number.NEGATIVE_INFINITY ? "-Inf" : String(value)

/** Labels, in the order of their names, each once. */
type Labels = ReadonlyMap<string, string>

const braces = (labels: Labels, extra?: readonly [name: string, value: string]): string => {
  const all = extra === undefined ? [...labels] : [...labels, extra]
  return all.length === 0
    ? ""
    : `{${all.map(([name, value]) => `${name}="${escapedValue(value)}"`).join(",")}}`
}

/** What the lines of one metric are made of: how its name goes on, a label of its own, and the value. */
type Line = readonly [suffix: string, extra: readonly [string, string] | undefined, value: number | bigint]

interface Written {
  readonly type: "counter" | "gauge" | "histogram" | "summary"
  readonly lines: ReadonlyArray<Line>
}

const histogramLines = ({ buckets, count, sum }: MetricState.MetricState.Histogram): ReadonlyArray<Line> => [
  ...Array.from(buckets)
    .filter(([boundary]) => Number.isFinite(boundary))
    .map(([boundary, upTo]): Line => ["_bucket", ["le", number(boundary)], upTo]),
  ["_bucket", ["le", "+Inf"], count],
  ["_sum", undefined, sum],
  ["_count", undefined, count]
]

const summaryLines = ({ count, quantiles, sum }: MetricState.MetricState.Summary): ReadonlyArray<Line> => [
  ...quantiles.map(
    ([quantile, value]): Line => [
      "",
      ["quantile", number(quantile)],
      Option.getOrElse(value, () => Number.NaN)
    ]
  ),
  ["_sum", undefined, sum],
  ["_count", undefined, count]
]

/** Returns a state as lines; `undefined` of what is no metric that the format has. */
const written = (
  state: MetricState.MetricState.Untyped,
  key: MetricKey.MetricKey.Untyped
): Written | undefined => {
  if (MetricState.isCounterState(state)) {
    const isIncremental = "incremental" in key.keyType && key.keyType.incremental === true
    return { type: isIncremental ? "counter" : "gauge", lines: [["", undefined, state.count]] }
  }
  if (MetricState.isGaugeState(state)) return { type: "gauge", lines: [["", undefined, state.value]] }
  if (MetricState.isHistogramState(state)) return { type: "histogram", lines: histogramLines(state) }
  if (MetricState.isSummaryState(state)) return { type: "summary", lines: summaryLines(state) }
  if (!MetricState.isFrequencyState(state)) return undefined
  return {
    type: "counter",
    lines: Array.from(state.occurrences, ([word, count]): Line => ["", ["key", word], count])
  }
}

/** Labels that the format itself writes, by the kind of the metric. */
const taken: Partial<Record<Written["type"], string>> = { histogram: "le", summary: "quantile" }

const labelsOf = (key: MetricKey.MetricKey.Untyped, type: Written["type"]): Labels => {
  const labels = new Map<string, string>()
  for (const { key: name, value } of key.tags) {
    const label = labelOf(name)
    if (label !== taken[type] && !label.startsWith("__")) labels.set(label, value)
  }
  return new Map([...labels].sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** What is written of one name. */
class Block {
  /** By what is before the value: a sample must be there once. */
  private readonly lines = new Map<string, number | bigint>()

  constructor(
    readonly name: string,
    readonly type: Written["type"],
    private readonly help: string
  ) {}

  add(labels: Labels, lines: ReadonlyArray<Line>): void {
    for (const [suffix, extra, value] of lines) {
      const at = `${this.name}${suffix}${braces(labels, extra)}`
      if (!this.lines.has(at)) this.lines.set(at, value)
    }
  }
  get text(): ReadonlyArray<string> {
    return [
      ...(this.help === "" ? [] : [`# HELP ${this.name} ${escapedHelp(this.help)}`]),
      `# TYPE ${this.name} ${this.type}`,
      ...Array.from(this.lines, ([at, value]) => `${at} ${number(value)}`)
    ]
  }
}

/** Names that a block of this type writes. */
const namesOf = (name: string, type: Written["type"]): ReadonlyArray<string> =>
  type === "histogram"
    ? [name, `${name}_bucket`, `${name}_sum`, `${name}_count`]
    : type === "summary"
      ? [name, `${name}_sum`, `${name}_count`]
      : [name]

/** Returns metrics as text, in the order of their names. */
export const format = (pairs: Iterable<MetricPair.MetricPair.Untyped>): string => {
  const blocks = new Map<string, Block>()
  const owners = new Map<string, Block>()
  const leftOut = new Set<string>()
  for (const { metricKey: key, metricState: state } of pairs) {
    const kind = written(state, key)
    if (kind === undefined) continue
    const name = nameOf(key.name)
    let block = blocks.get(name)
    if (block === undefined) {
      const names = namesOf(name, kind.type)
      if (names.some((one) => owners.has(one))) {
        leftOut.add(name)
        continue
      }
      block = new Block(
        name,
        kind.type,
        Option.getOrElse(key.description, () => "")
      )
      blocks.set(name, block)
      for (const one of names) owners.set(one, block)
    }
    if (block.type === kind.type) block.add(labelsOf(key, kind.type), kind.lines)
    else leftOut.add(name)
  }
  const sorted = [...blocks.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  const notes = Array.from(leftOut, (name) => `# left out: another ${name}, which is of another kind`)
  return [...sorted.flatMap(({ text }) => text), ...notes].map((line) => `${line}\n`).join("")
}

/** Returns the text of all metrics of this process, gauges brought up to date. */
export const text: Effect.Effect<string, never, Metrics> = Effect.flatMap(Metrics, ({ refresh }) =>
  Effect.map(Effect.zipRight(refresh, Metric.snapshot), format)
)
