/**
 * `node bench/chart.mjs [results.json …]`: draws docs/performance.svg from docs/performance.json. From reports of
 * `npm run bench -- --only curve- --only open-jobs --only retained --json results.json` it takes the points first; a chart that a
 * report says nothing about keeps those it has.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { median } from "./stats.mjs"

const usage = `node bench/chart.mjs [results.json …]
  draws docs/performance.svg from docs/performance.json, after taking over what these reports say`

const here = (file) => fileURLToPath(new URL(file, import.meta.url))
const dataFile = here("../docs/performance.json")
const svgFile = here("../docs/performance.svg")

/** The charts: what is on their axes, and which metrics of which figure are their points. `prefix` comes before the number. */
const charts = [
  {
    id: "subscribers",
    title: "Frames/s to all subscribers of one job",
    x: "subscribers",
    y: "frames/s",
    figure: "curve-subscribers",
    prefix: "at"
  },
  {
    id: "open-jobs",
    title: "Events/s of one job beside open jobs",
    x: "open jobs",
    y: "events/s",
    figure: "open-jobs",
    prefix: "rate"
  },
  {
    id: "retained",
    title: "Events/s of one job over a log",
    x: "events retained",
    y: "events/s",
    figure: "retained",
    prefix: "rate"
  },
  {
    id: "sessions",
    title: "Memory of idle sessions, all together",
    x: "sessions",
    y: "MiB",
    figure: "curve-sessions",
    prefix: "at",
    linear: true,
    // Measured per session, in KiB.
    value: (kib, sessions) => (kib * sessions) / 1024
  }
]

const seriesName = { memory: "effect-arcp, in memory", FULL: "effect-arcp, SQLite FULL" }

/** Points of one side of a figure: `[x, y]`, ascending. */
const pointsOf = ({ prefix, value = (y) => y }, runs) => {
  const pattern = new RegExp(`^${prefix}(\\d+)$`)
  return Object.keys(runs[0].values)
    .flatMap((name) => {
      const x = Number(pattern.exec(name)?.[1])
      return Number.isNaN(x) ? [] : [[x, value(median(runs.map(({ values }) => values[name])), x)]]
    })
    .sort(([a], [b]) => a - b)
}

/** What a report says about a chart; nothing when it has no such figure. */
const seriesOf = (chart, report) => {
  const found = report.figures.filter(
    ({ error, figure }) => error === undefined && figure.name === chart.figure
  )
  if (found.length === 0) return undefined
  return Object.fromEntries([
    ["floor", pointsOf(chart, found[0].measured.floor)],
    ...found.map(({ figure, measured }) => [seriesName[figure.store], pointsOf(chart, measured.subject)])
  ])
}

/** The data with what the reports say in its place. */
const updated = (data, reports) => {
  const next = { ...data }
  for (const report of reports)
    for (const chart of charts) {
      const series = seriesOf(chart, report)
      if (series === undefined) continue
      const { cores, cpu, node } = report.environment
      next[chart.id] = { command: report.command, machine: `Node ${node}, ${cores} × ${cpu.trim()}`, series }
    }
  return next
}

const size = { width: 470, height: 300, left: 74, right: 18, top: 40, bottom: 52 }
const legendHeight = 34
const names = ["floor", ...Object.values(seriesName)]

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")
const short = (n) =>
  n >= 1e6 ? `${+(n / 1e6).toFixed(1)} M` : n >= 1e3 ? `${+(n / 1e3).toFixed(1)} k` : `${+n.toPrecision(2)}`

/** Round numbers from 0 to at least `most`. */
const ticksTo = (most) => {
  const rough = most / 4
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough)
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step)
}

/** A mark of its own for each series, so that they can be told apart without colours. */
const mark = (index, x, y) =>
  [
    `<circle cx="${x}" cy="${y}" r="4"/>`,
    `<rect x="${x - 4}" y="${y - 4}" width="8" height="8"/>`,
    `<path d="M${x} ${y - 5}L${x + 5} ${y + 4}H${x - 5}Z"/>`
  ][index]

const line = (index, points) => {
  const d = points.map(([x, y], i) => `${i === 0 ? "M" : "L"}${x} ${y}`).join("")
  return `<g class="s${index}"><path class="line" d="${d}"/>${points.map(([x, y]) => mark(index, x, y)).join("")}</g>`
}

const text = (x, y, content, { anchor = "middle", kind = "small", turn } = {}) =>
  `<text class="${kind}" x="${x}" y="${y}" text-anchor="${anchor}"${turn ? ` transform="rotate(-90 ${x} ${y})"` : ""}>${escaped(content)}</text>`

/** One chart, at its place. x is logarithmic, where its steps are powers. */
const panel = (chart, series, at) => {
  const all = Object.values(series).flat()
  const xs = [...new Set(all.map(([x]) => x))].sort((a, b) => a - b)
  const yTicks = ticksTo(Math.max(...all.map(([, y]) => y)))
  const plot = { w: size.width - size.left - size.right, h: size.height - size.top - size.bottom }
  const scaled = chart.linear ? (x) => x : Math.log10
  const [low, high] = [chart.linear ? 0 : scaled(xs[0]), scaled(xs.at(-1))]
  const round = (n) => Math.round(n * 10) / 10
  const toX = (x) => round(size.left + ((scaled(x) - low) / (high - low || 1)) * plot.w)
  const toY = (y) => round(size.top + plot.h - (y / yTicks.at(-1)) * plot.h)
  const bottom = size.top + plot.h
  return [
    `<g transform="translate(${at.x} ${at.y})">`,
    text(size.left, 22, chart.title, { anchor: "start", kind: "title" }),
    ...yTicks.map(
      (y) =>
        `<path class="grid" d="M${size.left} ${toY(y)}h${plot.w}"/>${text(size.left - 8, toY(y) + 4, short(y), { anchor: "end" })}`
    ),
    ...xs.map((x) => `<path class="axis" d="M${toX(x)} ${bottom}v5"/>${text(toX(x), bottom + 19, short(x))}`),
    `<path class="axis" d="M${size.left} ${bottom}h${plot.w}"/>`,
    text(size.left + plot.w / 2, bottom + 40, chart.linear ? chart.x : `${chart.x} (logarithmic)`),
    text(16, size.top + plot.h / 2, chart.y, { turn: true }),
    ...Object.entries(series).map(([name, points]) =>
      line(
        names.indexOf(name),
        points.map(([x, y]) => [toX(x), toY(y)])
      )
    ),
    "</g>"
  ].join("\n")
}

const style = `
svg { font-family: system-ui, -apple-system, "Segoe UI", sans-serif; color-scheme: light dark }
.back { fill: #ffffff }
text { fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.small { font-size: 12px }
.grid { stroke: #d8dee4; stroke-width: 1 }
.axis { stroke: #57606a; stroke-width: 1; fill: none }
.line { fill: none; stroke-width: 2.2 }
.s0 { stroke: #6e7781; fill: #6e7781 } .s0 .line { stroke-dasharray: 6 4 }
.s1 { stroke: #0969da; fill: #0969da }
.s2 { stroke: #bc4c00; fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
  .back { fill: #0d1117 }
  text { fill: #e6edf3 }
  .grid { stroke: #30363d }
  .axis { stroke: #9198a1 }
  .s0 { stroke: #9198a1; fill: #9198a1 }
  .s1 { stroke: #58a6ff; fill: #58a6ff }
  .s2 { stroke: #f0883e; fill: #f0883e }
}`

const legend = (width) => {
  const step = 230
  const from = (width - names.length * step) / 2 + 20
  return names
    .map((name, i) => {
      const x = from + i * step
      const sample = `<g class="s${i}"><path class="line" d="M${x - 16} 22h32"/>${mark(i, x, 22)}</g>`
      return `${sample}${text(x + 26, 26, name, { anchor: "start" })}`
    })
    .join("\n")
}

const draw = (data) => {
  const drawn = charts.filter(({ id }) => data[id] !== undefined)
  const width = 2 * size.width
  const height = legendHeight + Math.ceil(drawn.length / 2) * size.height
  const panels = drawn.map((chart, i) =>
    panel(chart, data[chart.id].series, {
      x: (i % 2) * size.width,
      y: legendHeight + Math.floor(i / 2) * size.height
    })
  )
  const title = drawn.map((chart) => chart.title).join("; ")
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escaped(title)}">`,
    `<style>${style}\n</style>`,
    `<rect class="back" width="${width}" height="${height}"/>`,
    legend(width),
    ...panels,
    "</svg>\n"
  ].join("\n")
}

const main = () => {
  const { positionals, values } = parseArgs({
    options: { help: { type: "boolean", default: false } },
    allowPositionals: true
  })
  if (values.help) return console.log(usage)
  const known = existsSync(dataFile) ? JSON.parse(readFileSync(dataFile, "utf8")) : {}
  const data = updated(
    known,
    positionals.map((file) => JSON.parse(readFileSync(file, "utf8")))
  )
  if (positionals.length > 0) writeFileSync(dataFile, `${JSON.stringify(data, null, 1)}\n`)
  writeFileSync(svgFile, draw(data))
}

main()
