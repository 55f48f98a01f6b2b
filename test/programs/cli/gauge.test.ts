import { describe, expect, it } from "@effect/vitest"
import * as Gauge from "../../../src/programs/cli/gauge.js"
import type { JobEvent } from "../../../src/services/client/ArcpClient.js"

const at = { ts: "2026-01-01T00:00:00Z", eventSeq: 1 }
const metric = (name: string, value: number, unit?: string): JobEvent => ({
  kind: "metric",
  body: { name, value, unit },
  ...at
})

describe("the gauge", () => {
  it("is empty without a budget, and nothing changes it", () => {
    const gauge = Gauge.make([])
    expect(gauge.take(metric("cost.demo", 1, "USD"))).toBe(false)
    expect(gauge.toString()).toBe("")
  })

  it("adds up entries of a currency and takes costs off exactly, below zero too", () => {
    const gauge = Gauge.make(["USD:0.2", "USD:0.10", "credits:10"])
    expect(gauge.toString()).toBe("USD 0.3 of 0.3 left, credits 10 of 10 left")
    for (let i = 0; i < 3; i++) expect(gauge.take(metric("cost.demo", 0.1, "USD"))).toBe(true)
    expect(gauge.toString()).toBe("USD 0 of 0.3 left, credits 10 of 10 left")
    gauge.take(metric("cost.x", 1e-7, "USD"))
    expect(gauge.toString()).toMatch(/^USD -0\.0000001 of 0\.3 left/)
  })

  it("believes the runtime about what remains: children spend too", () => {
    const gauge = Gauge.make(["USD:1"])
    gauge.take(metric("cost.demo", 0.1, "USD"))
    expect(gauge.take(metric("cost.budget.remaining", 0.25, "USD"))).toBe(true)
    expect(gauge.toString()).toBe("USD 0.25 of 1 left")
  })

  it("is not changed by anything else", () => {
    const gauge = Gauge.make(["USD:1"])
    for (const event of [
      metric("cost.demo", 0.5, "EUR"),
      metric("cost.demo", 0.5),
      metric("costs", 0.5, "USD"),
      metric("latency", 0.5, "USD"),
      metric("cost.demo", Number.NaN, "USD"),
      { kind: "x-vendor.acme.cost", body: { name: "cost.demo", value: 0.5, unit: "USD" }, ...at } as const,
      { kind: "x-vendor.acme.note", body: null, ...at } as const
    ])
      expect(gauge.take(event)).toBe(false)
    expect(gauge.toString()).toBe("USD 1 of 1 left")
  })

  it("begins where the job is when watching begins later", () => {
    expect(Gauge.make(["USD:1", "credits:5"], { USD: 0.4, constructor: 1 }).toString()).toBe(
      "USD 0.4 of 1 left, credits 5 of 5 left"
    )
    for (const left of [undefined, null, "x", { USD: "0.4" }, { USD: Number.POSITIVE_INFINITY }])
      expect(Gauge.make(["USD:1"], left).toString()).toBe("USD 1 of 1 left")
  })
})
