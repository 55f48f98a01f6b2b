import { describe, expect, it } from "vitest"
import type { Frame } from "./support/Frame.js"
import { SessionRecord } from "./support/SessionRecord.js"

/** The suite leans on these checks for every frame: each must notice its breach. */
const sess = `sess_${"0".repeat(26)}`
const job_id = `job_${"0".repeat(26)}`
let ids = 0
const frame = (type: string, payload: Record<string, unknown>, top: Partial<Frame> = {}): Frame => ({
  arcp: "1.1",
  id: String(++ids).padStart(26, "0"),
  type,
  session_id: sess,
  ...(type.startsWith("job.") ? { job_id } : {}),
  ...top,
  payload
})
const ts = "2026-01-01T00:00:00.000Z"
const accepted = () => frame("job.accepted", { request_id: "r", accepted_at: ts })
const event = (event_seq: number, top: Partial<Frame> = {}) =>
  frame("job.event", { kind: "log", ts, body: {} }, { event_seq, ...top })
const result = (event_seq: number) =>
  frame("job.result", { final_status: "success", completed_at: ts }, { event_seq })

const breaches = (frames: ReadonlyArray<Frame>, replayFrom?: number, replay: ReadonlyArray<Frame> = []) => {
  const record = new SessionRecord()
  record.id = sess
  let expected = 1
  for (const each of frames) expected = record.observe(each, expected)
  if (replayFrom !== undefined) expected = replayFrom + 1
  for (const each of replay) expected = record.observe(each, expected)
  return record.violations.join("\n")
}

describe("the checks on every frame", () => {
  it("are silent on a good session and its replay", () => {
    const frames = [accepted(), event(1), event(2), result(3)]
    expect(breaches(frames, 1, frames.slice(2))).toBe("")
  })

  const first = event(1)
  it.each<[string, ReadonlyArray<Frame>, RegExp]>([
    ["a gap", [accepted(), event(1), event(3)], /event_seq 3 where 2 was due/],
    ["a duplicate", [accepted(), first, first], /event_seq 1 where 2 was due/],
    ["not from 1", [accepted(), event(2)], /event_seq 2 where 1/],
    ["an event before its accept", [event(1)], /before job.accepted/],
    ["an event after the end", [accepted(), result(1), event(2)], /follows the job's terminal message/],
    ["a second end", [accepted(), result(1), result(2)], /follows the job's terminal message/],
    ["an id used twice", [accepted(), first, event(2, { id: first.id })], /id was used before/],
    ["an id that is no ULID", [accepted(), event(1, { id: "x" })], /id is not a ULID/],
    [
      "another session",
      [accepted(), event(1, { session_id: `sess_${"1".repeat(26)}` })],
      /session_id is not/
    ],
    ["a sequence number where none belongs", [frame("session.pong", {}, { event_seq: 1 })], /event_seq is 1/],
    [
      "a wrong retryable",
      [frame("session.error", { code: "TIMEOUT", message: "", retryable: false })],
      /retryable/
    ]
  ])("notice %s", (_, frames, breach) => {
    expect(breaches(frames)).toMatch(breach)
  })

  it("notice a replay with another id or content", () => {
    const frames = [accepted(), first, event(2)]
    expect(breaches(frames, 0, [event(1)])).toMatch(/replayed with id/)
    const changed = { ...first, payload: { ...first.payload, body: { message: "other" } } }
    expect(breaches(frames, 0, [changed])).toMatch(/another content/)
    expect(breaches(frames, 0, [event(2)])).toMatch(/event_seq 2 where 1 was due/)
  })
})
