/** From the runs of a figure to rows of a Markdown table. */
import { storeName } from "./figures.mjs"
import { median } from "./stats.mjs"

const header = [
  "figure",
  "store",
  "floor",
  "effect-arcp",
  "ratio",
  "aim",
  "server CPU, µs each",
  "client busy"
]

const significant = (value) =>
  value >= 100 ? Math.round(value).toLocaleString("en-US").replaceAll(",", " ") : value.toPrecision(3)

const isPercentiles = (value) => typeof value === "object"

/** One side of a row: the median of the runs, or the medians of their percentiles. */
const cell = (values, unit) =>
  isPercentiles(values[0])
    ? ["p50", "p99", "max"].map((p) => significant(median(values.map((v) => v[p])))).join(" / ")
    : `${significant(median(values))} ${unit}`

/** Rounds pair floor and subject, so the ratio is taken in each round: what disturbs one disturbs both. */
const ratios = (floor, subject) =>
  subject.map((value, i) => (isPercentiles(value) ? value.p50 / floor[i].p50 : value / floor[i]))

const aimCell = (metric, figure, subject, ratio) => {
  if (metric.aim !== undefined) return `≥ ${metric.aim} ${ratio >= metric.aim ? "✓" : "✗"}`
  if (figure.aimP99Ms === undefined || !isPercentiles(subject[0])) return ""
  return `p99 ≤ ${figure.aimP99Ms} ms ${median(subject.map((v) => v.p99)) <= figure.aimP99Ms ? "✓" : "✗"}`
}

/** Microseconds of server CPU per unit, over all runs together: one run alone is too short to tell. */
const cpuEach = (runs) => {
  const units = runs.reduce((sum, run) => sum + (run.units ?? 0), 0)
  if (units === 0 || runs.some((run) => run.serverCpuNs === undefined)) return undefined
  return runs.reduce((sum, run) => sum + run.serverCpuNs, 0) / units / 1000
}

const busyCell = (runs) =>
  runs.some((run) => run.busy === undefined)
    ? ""
    : `${Math.round(100 * median(runs.map((run) => run.busy)))} %`

/** The rows of one measured figure, one per metric, as arrays of cells. */
export const rows = ({ figure, measured, count }) => {
  const fewer = count !== undefined && count < figure.count ? ` (${count} events)` : ""
  return Object.entries(figure.metrics).map(([name, metric], i) => {
    const floor = measured.floor.map((run) => run.values[name])
    const subject = measured.subject.map((run) => run.values[name])
    const ratio = median(ratios(floor, subject))
    const cpu = i === 0 ? [cpuEach(measured.floor), cpuEach(measured.subject)] : []
    const label = metric.label === undefined ? "" : `: ${metric.label}`
    const percentiles = isPercentiles(subject[0]) ? ", ms p50 / p99 / max" : ""
    return [
      `${figure.title}${label}${percentiles}${fewer}`,
      storeName[figure.store],
      cell(floor, metric.unit),
      cell(subject, metric.unit),
      `${Number.isFinite(ratio) ? ratio.toFixed(2) : "–"}${metric.better === "lower" ? " (lower is better)" : ""}`,
      aimCell(metric, figure, subject, ratio),
      cpu.every((value) => value !== undefined) && cpu.length > 0
        ? cpu.map((value) => significant(value)).join(" → ")
        : "",
      i === 0 ? `${busyCell(measured.floor)} → ${busyCell(measured.subject)}`.replace(/^ → $/, "") : ""
    ]
  })
}

/** The whole report as a Markdown table, with a note where the frames differ in size. */
export const table = (report) => {
  const line = (cells) => `| ${cells.join(" | ")} |`
  const body = report.flatMap((entry) =>
    entry.error === undefined
      ? rows(entry)
      : [
          [
            entry.figure.title,
            storeName[entry.figure.store],
            "",
            `failed: ${entry.error.split("\n")[0]}`,
            "",
            "",
            "",
            ""
          ]
        ]
  )
  return [line(header), line(header.map(() => "---")), ...body.map(line), ...sizes(report)].join("\n")
}

const sizes = (report) => {
  const bytes = (side) =>
    report.flatMap((entry) => entry.measured?.[side] ?? []).flatMap((run) => run.frameBytes ?? [])
  const floor = bytes("floor")
  const subject = bytes("subject")
  if (floor.length === 0 || subject.length === 0) return []
  return [
    "",
    `Bytes per event frame: floor ${Math.round(median(floor))}, effect-arcp ${Math.round(median(subject))}.`
  ]
}
