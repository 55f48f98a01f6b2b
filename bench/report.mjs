/** From the runs of a figure to rows of a Markdown table. */
import { storeName } from "./figures/common.mjs"
import { median } from "./stats.mjs"

const significant = (value) =>
  value >= 100 || value === 0
    ? Math.round(value).toLocaleString("en-US").replaceAll(",", " ")
    : value.toPrecision(3)

const isPercentiles = (value) => typeof value === "object"

/** The median of the runs, or the medians of their percentiles. */
const summary = (values) =>
  isPercentiles(values[0])
    ? Object.fromEntries(["p50", "p99", "max"].map((p) => [p, median(values.map((v) => v[p]))]))
    : median(values)

const cell = (value, unit) =>
  isPercentiles(value)
    ? ["p50", "p99", "max"].map((p) => significant(value[p])).join(" / ")
    : Number.isNaN(value)
      ? "–"
      : `${significant(value)} ${unit}`

/** Rounds pair floor and subject, so the ratio is taken in each round: what disturbs one disturbs both. */
const ratios = (floor, subject) =>
  subject.map((value, i) => (isPercentiles(value) ? value.p50 / floor[i].p50 : value / floor[i]))

const ratioCell = (ratio, { better }) =>
  `${Number.isFinite(ratio) ? ratio.toFixed(2) : "–"}${better === "lower" ? " (lower is better)" : ""}`

/** Microseconds of server CPU per unit, over all runs together: one run alone is too short to tell. */
const cpuEach = (runs) => {
  const units = runs.reduce((sum, run) => sum + (run.units ?? 0), 0)
  if (units === 0 || runs.some((run) => run.serverCpuNs === undefined)) return undefined
  return runs.reduce((sum, run) => sum + run.serverCpuNs, 0) / units / 1000
}

const busyOf = (runs) =>
  runs.length === 0 || runs.some((run) => run.busy === undefined)
    ? undefined
    : `${Math.round(100 * median(runs.map((run) => run.busy)))} %`

const arrow = (cells) =>
  cells.every((each) => each === undefined) ? "" : cells.map((each) => each ?? "–").join(" → ")

/** Sides in the order of the columns; a peer that did not take part has no runs. */
const sideNames = (measured) => Object.keys(measured)

/** Every metric of a figure: medians of each side, their ratio to the floor, and whether the target is met. */
export const results = ({ figure, measured }, facts) => {
  const names = sideNames(measured)
  const valuesOf = (side, metric) => measured[side].map((run) => run.values[metric])
  const all = Object.fromEntries(
    names.map((side) => [
      side,
      measured[side].length === 0
        ? {}
        : Object.fromEntries(
            Object.keys(figure.metrics).map((metric) => [metric, summary(valuesOf(side, metric))])
          )
    ])
  )
  const cpu = Object.fromEntries(names.map((side) => [side, cpuEach(measured[side])]))
  return Object.entries(figure.metrics).map(([name, metric]) => {
    const ratioOf = (side) =>
      measured[side] === undefined || measured[side].length === 0
        ? undefined
        : median(ratios(valuesOf("floor", name), valuesOf(side, name)))
    const floor = all.floor[name]
    const subject = all.subject[name]
    const ratio = ratioOf("subject")
    const context = { all, cpuUs: cpu.subject, facts, floor, ratio, store: figure.store, subject }
    return {
      name,
      metric,
      floor,
      subject,
      peer: all.peer?.[name],
      ratio,
      peerRatio: ratioOf("peer"),
      cpu,
      met: metric.target?.met(context)
    }
  })
}

const targetCell = ({ met, metric: { target } }) =>
  target === undefined ? "" : `${target.text} ${met ? "✓" : "✗"}`

/** The rows of one measured figure, one per metric, as arrays of cells. */
export const rows = (entry, { facts, peer }) => {
  const { count, figure, measured, peerError } = entry
  const fewer = count !== undefined && count < figure.count ? ` (${count} events)` : ""
  const peerCell = (result) =>
    result.peer === undefined
      ? (peerError ?? "–")
      : `${cell(result.peer, result.metric.unit)}, ${ratioCell(result.peerRatio, {})}`
  return results(entry, facts).map((result, i) => {
    const { floor, metric, ratio, subject } = result
    const label = metric.label === undefined ? "" : `: ${metric.label}`
    const percentiles = isPercentiles(subject) ? ", ms p50 / p99 / max" : ""
    const cpu = sideNames(measured).map((side) => result.cpu[side])
    return [
      `${figure.title}${label}${percentiles}${fewer}`,
      storeName[figure.store],
      cell(floor, metric.unit),
      cell(subject, metric.unit),
      ...(peer ? [peerCell(result)] : []),
      ratioCell(ratio, metric),
      targetCell(result),
      i === 0 ? arrow(cpu.map((each) => (each === undefined ? undefined : significant(each)))) : "",
      i === 0 ? arrow(sideNames(measured).map((side) => busyOf(measured[side]))) : ""
    ]
  })
}

/** The whole report as a Markdown table, with a note where the frames differ in size. */
export const table = (report, context) => {
  const header = [
    "figure",
    "store",
    "floor",
    "effect-arcp",
    ...(context.peer ? ["peer, and its ratio"] : []),
    "ratio",
    "target",
    "server CPU, µs each",
    "client busy"
  ]
  const line = (cells) => `| ${cells.join(" | ")} |`
  const failed = ({ error, figure: { store, title } }) => {
    const cells = [title, storeName[store], "", `failed: ${error.split("\n")[0]}`]
    return [...cells, ...header.slice(cells.length).map(() => "")]
  }
  const body = report.flatMap((entry) => (entry.error === undefined ? rows(entry, context) : [failed(entry)]))
  return [
    line(header),
    line(header.map(() => "---")),
    ...body.map(line),
    ...sizes(report),
    ...score(report, context)
  ].join("\n")
}

/** How many targets are met. */
const score = (report, { facts }) => {
  const judged = report
    .filter((entry) => entry.error === undefined)
    .flatMap((entry) => results(entry, facts))
    .filter(({ met }) => met !== undefined)
  if (judged.length === 0) return []
  return ["", `Targets met: ${judged.filter(({ met }) => met).length} of ${judged.length}.`]
}

const sizes = (report) => {
  const bytes = (side) =>
    report.flatMap((entry) => entry.measured?.[side] ?? []).flatMap((run) => run.frameBytes ?? [])
  const sides = { floor: bytes("floor"), "effect-arcp": bytes("subject"), peer: bytes("peer") }
  const known = Object.entries(sides).filter(([, each]) => each.length > 0)
  if (known.length < 2) return []
  return [
    "",
    `Bytes per event frame: ${known.map(([name, each]) => `${name} ${Math.round(median(each))}`).join(", ")}.`
  ]
}
