/** What Prometheus' own tool says of the alert rules, the queries of the dashboard, the page's scrape, and what a runtime tells. */
import { execFileSync } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Metric from "effect/Metric"
import { afterAll, describe, expect, it } from "vitest"
import { format } from "../../src/layers/telemetry/Prometheus.js"
import { families } from "../../src/services/runtime/Metrics.js"

const promtool = ["/usr/bin/promtool", "/usr/local/bin/promtool"].find((path) => existsSync(path))
if (promtool === undefined)
  console.log(
    "skipped: what promtool says; there is no promtool (of Debian's package prometheus) in /usr/bin"
  )

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const read = (path: string) => readFileSync(at(path), "utf8")
const folder = mkdtempSync(join(tmpdir(), "arcp-promtool-"))
afterAll(() => rmSync(folder, { recursive: true }))

/** Returns what it says; throws, with that, when there is something wrong. */
const run = (args: ReadonlyArray<string>, input = "") =>
  execFileSync(promtool ?? "", args, { input, encoding: "utf8", stdio: "pipe" })

describe.skipIf(promtool === undefined)("promtool", () => {
  it("takes the alert rules, and each fires for what it is there for", () => {
    expect(run(["check", "rules", at("docs/prometheus-alerts.yaml")])).toMatch(/SUCCESS/)
    const alerts = [...read("docs/prometheus-alerts.yaml").matchAll(/- alert: (\w+)/g)].map(
      ([, name]) => name
    )
    const tests = read("test/docs/prometheus-alerts.test.yaml")
    for (const name of alerts) expect(tests).toMatch(new RegExp(`alertname: ${name}\\n\\s+exp_alerts:`))
    expect(run(["test", "rules", at("test/docs/prometheus-alerts.test.yaml")])).toMatch(/SUCCESS/)
  })

  it("reads every query of the dashboard", () => {
    const { panels } = JSON.parse(read("docs/grafana-dashboard.json")) as {
      readonly panels: ReadonlyArray<{ readonly targets?: ReadonlyArray<{ readonly expr: string }> }>
    }
    const queries = panels.flatMap(({ targets }) => targets ?? []).map(({ expr }) => expr)
    const rules = queries.map((expr, i) => ({
      record: `query:${i}`,
      expr: expr.replaceAll("$__rate_interval", "5m")
    }))
    const file = join(folder, "queries.yaml")
    // JSON is YAML.
    writeFileSync(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }))
    expect(run(["check", "rules", file])).toMatch(`${queries.length} rules found`)
  })

  it("takes the scrape of the page", () => {
    const [, block = ""] = /```yaml\n(scrape_configs:[\s\S]*?)```/.exec(read("docs/telemetry.md")) ?? []
    const token = join(folder, "token")
    writeFileSync(token, "m")
    const file = join(folder, "prometheus.yaml")
    writeFileSync(
      file,
      `rule_files: [${at("docs/prometheus-alerts.yaml")}]\n${block.replace("/etc/prometheus/arcp-token", token)}`
    )
    expect(run(["check", "config", file])).toMatch(/SUCCESS/)
  })

  it("finds nothing amiss in what a runtime tells", () => {
    for (const family of Object.values(families)) {
      const metric = family.of(...family.labels.map(() => "promtool"))
      if (family.kind === "counter") metric.unsafeUpdate(1, [])
      else metric.unsafeModify(1, [])
    }
    // Effect counts its fibers, and other tests their own things.
    const ours = new Set(Object.values(families).map(({ name }) => name))
    const told = Metric.unsafeSnapshot().filter(({ metricKey }) => ours.has(metricKey.name))
    expect(new Set(told.map(({ metricKey }) => metricKey.name))).toEqual(ours)
    expect(run(["check", "metrics"], format(told))).toBe("")
  })
})
