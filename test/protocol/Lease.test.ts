import { describe, expect, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Lease from "../../src/protocol/Lease.js"

describe("a lease", () => {
  it("maps reserved and vendor capabilities to patterns", () => {
    for (const lease of [
      {},
      { "fs.read": ["/src/**"], "fs.write": [], "net.fetch": ["https://*/**"] },
      { "tool.call": ["search.*"], "agent.delegate": ["*"], "model.use": ["a/*"] },
      { "x-vendor.acme.print": ["*"], "x-vendor.a-b_c.d.e": ["x"] },
      { "cost.budget": ["USD:5.00", "credits:1000", "USD:0.000000000000000001"] },
      { "fs.read": ["x".repeat(1024)] },
      { "fs.read": Array(1000).fill("x") }
    ]) {
      expect(Lease.invalidLease(lease)).toBeUndefined()
      expect(Schema.is(Lease.Lease)(lease)).toBe(true)
    }
  })

  it("is nothing else", () => {
    const secret = "s3cret"
    for (const value of [
      null,
      [],
      secret,
      { [secret]: ["*"] },
      { "fs.execute": ["*"] },
      { "x-vendor.acme": ["*"] },
      { "fs.read": secret },
      { "fs.read": [""] },
      { "fs.read": [1] },
      { "fs.read": ["x".repeat(1025)] },
      { "fs.read": Array(1001).fill("x") },
      JSON.parse('{"__proto__":["*"]}'),
      { constructor: ["*"] },
      ...["5.00", "USD", "USD:", "USD:-1", "USD:1e3", "USD:.5", "USD:5.", "USD: 5", ":5", `${secret}!:1`].map(
        (entry) => ({ "cost.budget": [entry] })
      )
    ]) {
      const problem = Lease.invalidLease(value)
      expect(problem).toBeDefined()
      expect(problem).not.toContain(secret)
      expect(Schema.is(Lease.Lease)(value)).toBe(false)
    }
  })
})

it("a timestamp is RFC 3339 in UTC with a Z, and a real date", () => {
  for (const text of ["2026-01-02T03:04:05Z", "2026-12-31T23:59:59.123456789Z", "2024-02-29T00:00:00Z"])
    expect(Lease.isUtcTimestamp(text)).toBe(true)
  for (const text of [
    "",
    "2026-01-02",
    "2026-01-02T03:04:05",
    "2026-01-02T03:04:05+00:00",
    "2026-01-02T03:04:05z",
    "2026-01-02 03:04:05Z",
    "2026-13-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2025-02-29T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T00:60:00Z",
    "2026-01-02T03:04:05.Z",
    "12026-01-02T03:04:05Z",
    "2026-01-02T03:04:05Z\n"
  ])
    expect(Lease.isUtcTimestamp(text)).toBe(false)
})

describe("the ceiling", () => {
  it.each([
    ["/src/**", "/src/**", true],
    ["/src/**", "/src/a/*.ts", true],
    ["/src/**", "/src/../etc/passwd", false],
    ["/src/**", "/srcs/a", false],
    ["/src/*", "/src/a", false],
    ["/*/**", "/a/b", false],
    ["**", "/anything/at/all", true]
  ])("%s covers %s: %s", (by, pattern, expected) => {
    expect(Lease.covers(by, pattern)).toBe(expected)
  })
  it("never grants what was not asked for, nor what is not under it", () => {
    expect(
      Lease.reduce(
        { "fs.read": ["/src/a", "/etc"], "tool.call": ["x"] },
        { "fs.read": ["/src/**"], "net.fetch": ["**"] }
      )
    ).toEqual({ "fs.read": ["/src/a"], "tool.call": [] })
    expect(Lease.reduce({ "fs.read": ["/"] }, undefined)).toEqual({ "fs.read": ["/"] })
  })
})
