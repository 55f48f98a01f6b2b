/** The names in the documentation, the dashboard and the alert rules are those that a runtime tells. */
import { readFileSync } from "node:fs"
import * as Metric from "effect/Metric"
import { expect, it } from "vitest"
import { format } from "../../src/layers/telemetry/Prometheus.js"
import { type Family, families } from "../../src/services/runtime/Metrics.js"
import { readExposition } from "../support/exposition.js"

const page = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), "utf8")
const all: ReadonlyArray<Family> = Object.values(families)

it("the table of docs/telemetry.md is made of the metrics that there are", () => {
  const rows = all.map(
    ({ help, kind, labels, name }) =>
      `| \`${name}\` | ${kind} | ${labels.map((label) => `\`${label}\``).join(", ")} | ${help} |`
  )
  const table = ["| name | kind | labels | |", "|---|---|---|---|", ...rows].join("\n")
  const written = /<!-- metrics: [^\n]*-->\n([\s\S]*?)\n?<!-- \/metrics -->/.exec(page("telemetry.md"))?.[1]
  expect(written).toBe(table)
})

it("names are as Prometheus wants them", () => {
  for (const { kind, labels, name } of all) {
    expect(name).toMatch(/^(arcp|process|nodejs)_[a-z][a-z_]*[a-z]$/)
    if (kind === "counter") expect(name).toMatch(/_total$/)
    else expect(name).not.toMatch(/_total$/)
    for (const label of labels) expect(label).toMatch(/^[a-z]+$/)
  }
  expect(new Set(all.map(({ name }) => name)).size).toBe(all.length)
})

/** What Prometheus gets to see of the families, with the labels of each sample's name. */
const exposed = (): ReadonlyMap<string, ReadonlySet<string>> => {
  for (const family of all) {
    const labels = family.labels.map(() => "docs")
    if (family.kind === "histogram") family.update(1, ...labels)
    else family.of(...labels).unsafeModify(0, [])
  }
  const names = new Map<string, Set<string>>()
  for (const { samples } of readExposition(format(Metric.unsafeSnapshot())).values())
    for (const { labels, name } of samples)
      names.set(name, new Set([...(names.get(name) ?? []), ...Object.keys(labels)]))
  return names
}

/** Labels that a scrape adds. */
const scraped = ["job", "instance"]

/** What a query says: names of metrics, and the labels that it selects or groups by. */
const checkQuery = (query: string, names: ReadonlyMap<string, ReadonlySet<string>>) => {
  const used = [...query.matchAll(/\b(?:arcp|process|nodejs)_\w+/g)].map(([name]) => name)
  expect(used, query).not.toEqual([])
  const known = new Set<string>(scraped)
  for (const name of used) {
    expect([...names.keys()], query).toContain(name)
    for (const label of names.get(name) ?? []) known.add(label)
  }
  const selected = [...query.matchAll(/(\w+)(?:=~|!~|!=|=)"/g)].map(([, label]) => label as string)
  const grouped = [...query.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list]) => (list ?? "").split(/, ?/))
  for (const label of [...selected, ...grouped]) expect([...known], query).toContain(label)
  let depth = 0
  for (const c of query) {
    depth += "({[".includes(c) ? 1 : ")}]".includes(c) ? -1 : 0
    expect(depth, query).toBeGreaterThanOrEqual(0)
  }
  expect(depth, query).toBe(0)
  return used
}

it("the dashboard asks for metrics that there are, and for each of them", () => {
  const dashboard = JSON.parse(page("grafana-dashboard.json")) as {
    panels: ReadonlyArray<{ id: number; targets?: ReadonlyArray<{ expr: string }> }>
  }
  const names = exposed()
  const queries = dashboard.panels.flatMap(({ targets }) => targets ?? []).map(({ expr }) => expr)
  const used = new Set(queries.flatMap((query) => checkQuery(query, names)))
  for (const { name } of all)
    expect(
      [...used].some((one) => one === name || one.startsWith(`${name}_`)),
      name
    ).toBe(true)
  expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length)
})

it("the alert rules ask for metrics that there are", () => {
  const text = page("prometheus-alerts.yaml")
  const names = exposed()
  const queries = [...text.matchAll(/^ {8}expr: (?:\|\n((?: {10}[^\n]*\n)+)|([^\n]*)\n)/gm)].map(
    ([, block, line]) => block ?? line ?? ""
  )
  expect(queries.length).toBe([...text.matchAll(/- alert: /g)].length)
  for (const query of queries) checkQuery(query, names)
})

it("says of every alert what to do", () => {
  const alerts = [...page("prometheus-alerts.yaml").matchAll(/- alert: (\w+)/g)].map(([, name]) => name)
  const told = [...page("telemetry.md").matchAll(/^\| `(Arcp\w+)` \| .+ \|$/gm)].map(([, name]) => name)
  expect(told).toEqual(alerts)
})
