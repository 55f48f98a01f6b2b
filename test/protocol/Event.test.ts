import { describe, expect, it } from "@effect/vitest"
import { isKind, problem } from "../../src/protocol/Event.js"

const sha256 = "a".repeat(64)

const good: ReadonlyArray<readonly [string, unknown]> = [
  ["log", { level: "critical", message: "m", attributes: { a: [1] } }],
  ["thought", { text: "" }],
  ["tool_call", { tool: "t", call_id: "c" }],
  ["tool_call", { tool: "t", call_id: "c", args: null }],
  ["tool_result", { call_id: "c" }],
  ["tool_result", { call_id: "c", result: 0 }],
  ["tool_result", { call_id: "c", error: { code: "PERMISSION_DENIED" } }],
  ["status", { phase: "p", message: "m", anything: { goes: true } }],
  ["metric", { name: "n", value: -1.5, unit: "u", dimensions: { a: "b" } }],
  ["artifact_ref", { uri: "u", content_type: "c", byte_size: 0, sha256 }],
  ["delegate", { delegate_id: "d", agent: "a", input: null, lease_request: { "fs.read": ["*"] } }],
  ["progress", { current: 0 }],
  ["progress", { current: 2, total: 2, units: "files", message: "m" }],
  ["result_chunk", { result_id: "r", chunk_seq: 0, data: "", encoding: "base64", more: false }],
  ["x-vendor.acme.any-thing", null]
]

const bad: ReadonlyArray<readonly [string, unknown, string]> = [
  ["log", { level: "loud", message: "m" }, "body.level"],
  ["log", { level: "info" }, "body.message"],
  ["log", "text", "body"],
  ["log", { level: "info", message: "m", attributes: "s3cret" }, "body.attributes"],
  ["thought", { text: 1 }, "body.text"],
  ["tool_call", { tool: "", call_id: "c" }, "body.tool"],
  ["tool_result", { call_id: "c", result: 1, error: 1 }, "not both"],
  ["status", { message: "m" }, "body.phase"],
  ["metric", { name: "n", value: NaN }, "body.value"],
  ["metric", { name: "n", value: Infinity }, "body.value"],
  ["artifact_ref", { uri: "u", content_type: "c", sha256: "ABC" }, "body.sha256"],
  ["artifact_ref", { uri: "u", content_type: "c", byte_size: -1 }, "body.byte_size"],
  [
    "delegate",
    { delegate_id: "d", agent: "a", input: 1, lease_request: { s3cret: [] } },
    "body.lease_request"
  ],
  ["progress", { current: -1 }, "body.current"],
  ["progress", { current: 3, total: 2 }, "at most its total"],
  [
    "result_chunk",
    { result_id: "r", chunk_seq: 1.5, data: "", encoding: "utf8", more: true },
    "body.chunk_seq"
  ],
  ["result_chunk", { result_id: "r", chunk_seq: 0, data: "", encoding: "gzip", more: true }, "body.encoding"],
  ["hologram", {}, "unknown event kind"],
  ["x-vendor.acme", {}, "unknown event kind"],
  ["constructor", {}, "unknown event kind"]
]

describe("bodies", () => {
  for (const [kind, body] of good)
    it(`${kind} ${JSON.stringify(body)}`, () => {
      expect(problem(kind, body)).toBeUndefined()
    })

  for (const [kind, body, expected] of bad)
    it(`not ${kind} ${JSON.stringify(body)}`, () => {
      expect(problem(kind, body)).toContain(expected)
      expect(problem(kind, body)).not.toContain("s3cret")
    })
})

it("kinds are the protocol's ten", () => {
  for (const kind of ["log", "progress", "result_chunk"]) expect(isKind(kind)).toBe(true)
  for (const kind of ["x-vendor.a.b", "__proto__", "toString"]) expect(isKind(kind)).toBe(false)
})
