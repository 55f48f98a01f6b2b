/** Times and durations on the command line, and the table and the last line that are made of them. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { table } from "../../../src/programs/cli/run/jobs.js"
import { optionsFrom } from "../../../src/programs/cli/run/limits.js"
import * as Summary from "../../../src/programs/cli/summary.js"
import { age, durationMs, moment, took } from "../../../src/programs/cli/time.js"
import type { TimedJobEntry } from "../../../src/protocol/Message.js"
import type { JobEvent } from "../../../src/services/client/ArcpClient.js"

const now = Date.parse("2026-02-01T12:00:00Z")

describe("a time that somebody means", () => {
  it.each([
    ["1h", now - 3_600_000],
    ["90s", now - 90_000],
    ["2w", now - 14 * 86_400_000],
    ["2026-01-31", new Date(2026, 0, 31).getTime()],
    ["2026-01-31T12:00", new Date(2026, 0, 31, 12).getTime()],
    ["2026-01-31 12:00:00Z", Date.UTC(2026, 0, 31, 12)],
    ["2026-01-31T12:00:00.5+01:00", Date.UTC(2026, 0, 31, 11, 0, 0, 500)],
    ["2026-01-31t12:00:00-0530", Date.UTC(2026, 0, 31, 17, 30)],
    ["2024-02-29", new Date(2024, 1, 29).getTime()]
  ])("%s", (text, at) => expect(moment(text, now)).toBe(at))
  it.each([
    "",
    "soon",
    "1y",
    "2026-02-31",
    "2026-13-01",
    "2026-01-31T25:00Z",
    "2026-01-31T12:00+99:00",
    "1h ago"
  ])("%j is none", (text) => expect(moment(text, now)).toBeUndefined())
})

it("durations read well", () => {
  expect([0, 850, 1234, 59_949, 59_960, 125_000, 3_720_000, 90_000_000].map(took)).toEqual([
    "0ms",
    "850ms",
    "1.2s",
    "59.9s",
    "1m00s",
    "2m05s",
    "1h02m",
    "1d01h"
  ])
  expect([-5, 3_000, 300_000, 7_200_000, 800_000_000].map(age)).toEqual(["0s", "3s", "5m", "2h", "9d"])
  // So long ago that no timestamp says it.
  expect(["999999999w", "999999999d"].map((text) => moment(text, now))).toEqual([undefined, undefined])
  expect(["10m", "0s", "1.5h", "10"].map(durationMs)).toEqual([600_000, 0, undefined, undefined])
  // As Effect writes them, and the table of limits.
  expect(["10 minutes", "1.5 hours", "500 millis"].map(durationMs)).toEqual([600_000, 5_400_000, 500])
  expect(["-1 minute", "Infinity", "1h ago"].map(durationMs)).toEqual([undefined, undefined, undefined])
})

describe("--limit", () => {
  it.effect("takes a duration as every other flag does", () =>
    Effect.gen(function* () {
      const given = ["unloadAfter=10m", "attemptPause=2 seconds", "helloTimeout=800", "resumeWindowSec=7"]
      const { attemptPause, helloTimeout, resumeWindow, unloadAfter } = yield* optionsFrom(given)
      expect([unloadAfter, attemptPause, helloTimeout, resumeWindow].map(Duration.toMillis)).toEqual([
        600_000, 2_000, 800, 7_000
      ])
    })
  )
  it.effect("takes none for what is a number", () =>
    Effect.map(Effect.flip(optionsFrom(["maxRetainedBytes=10m"])), ({ message }) =>
      expect(message).toMatch(/^--limit maxRetainedBytes: /)
    )
  )
  it.effect("says how a duration is written", () =>
    Effect.map(Effect.flip(optionsFrom(["unloadAfter=soon"])), ({ message }) =>
      expect(message).toMatch(/^--limit unloadAfter: .*30 seconds/)
    )
  )
})

it("a listing has a header, age and duration, and fits", () => {
  const job = (fields: Partial<TimedJobEntry>): TimedJobEntry => ({
    job_id: "job_01J9ABCDEFGHJKMNPQRSTVWXYZ",
    agent: "survey@2.0.0",
    status: "success",
    lease: {},
    parent_job_id: null,
    created_at: "2026-02-01T11:58:00Z",
    trace_id: "",
    last_event_seq: 1,
    ...fields
  })
  const jobs = [
    job({ "x-vendor.effect-arcp.completed_at": "2026-02-01T11:58:01.500Z" }),
    job({ status: "pending", "x-vendor.effect-arcp.start_at": "2026-02-01T12:10:00Z" }),
    job({ status: "running", agent: `long\u001b[2J${"-".repeat(300)}@1.0.0` })
  ]
  const lines = table(jobs, now, 80)
  expect(lines[0]).toMatch(/^JOB +STATUS +AGE +TOOK +AGENT$/)
  expect(lines[1]).toMatch(/^job_\S+ +success +2m +1\.5s +survey@2\.0\.0$/)
  expect(lines[2]).toMatch(/^job_\S+ +pending +2m +in 10m +survey@2\.0\.0$/)
  expect(lines[3]).toMatch(/^job_\S+ +running +2m +long\ufffd\[2J-+…$/)
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(80)
  // Whose they are is said when they are of several.
  const of = "x-vendor.effect-arcp.principal"
  expect(table([job({ [of]: "alice" }), job({ [of]: "alice" })], now, 80)[0]).not.toContain("OF")
  const several = table([job({ [of]: "alice" }), job({ [of]: "b\u001b\u202e".repeat(20) })], now, 120)
  expect(several[0]).toMatch(/^JOB +STATUS +AGE +TOOK +OF +AGENT$/)
  expect(several[1]).toMatch(/^job_\S+ +success +2m +alice +survey@2\.0\.0$/)
  expect(several[2]).toMatch(/^job_\S+ +success +2m +[b\ufffd]+… +survey@2\.0\.0$/)
})

it("the last line has status, duration, events, and what was spent in each currency", () => {
  const summary = Summary.make()
  const metric = (name: string, value: number, unit: string, ts: string) =>
    summary.take({ kind: "metric", ts, eventSeq: 1, body: { name, value, unit } } as JobEvent)
  metric("cost.model", 0.1, "USD", "2026-02-01T12:00:00Z")
  metric("cost.search", 0.2, "USD", "2026-02-01T12:00:01Z")
  metric("cost.budget.remaining", 4.7, "USD", "2026-02-01T12:00:01Z")
  metric("cost.search", 3, "credits", "2026-02-01T12:00:02Z")
  const unknown = { createdAt: undefined, completedAt: undefined }
  expect(summary.line("success", unknown)).toBe("success in 2.0s, 4 events, spent USD 0.3 and credits 3")
  // As long as listings say, and not as long as its events, or whoever watched it.
  const times = { createdAt: "2026-02-01T11:59:59.900Z", completedAt: "2026-02-01T12:00:00.400Z" }
  expect(summary.line("error", times)).toMatch(/^error in 500ms, /)
  metric("cost.budget.remaining", -0.2, "USD", "2026-02-01T12:00:02Z")
  expect(summary.line("success", unknown)).toMatch(/spent .*, USD 0\.2 over its budget$/)
  expect(Summary.make().line("cancelled", unknown)).toBe("cancelled in 0ms, 0 events")
})
