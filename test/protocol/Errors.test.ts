import { describe, expect, it } from "@effect/vitest"
import * as Errors from "../../src/protocol/Errors.js"

/** Section 10 of the protocol page. */
const table: Record<Errors.ErrorCode, boolean> = {
  PERMISSION_DENIED: false,
  LEASE_SUBSET_VIOLATION: false,
  JOB_NOT_FOUND: false,
  DUPLICATE_KEY: false,
  AGENT_NOT_AVAILABLE: false,
  AGENT_VERSION_NOT_AVAILABLE: false,
  CANCELLED: false,
  TIMEOUT: true,
  RESUME_WINDOW_EXPIRED: false,
  HEARTBEAT_LOST: true,
  LEASE_EXPIRED: false,
  BUDGET_EXHAUSTED: false,
  INVALID_REQUEST: false,
  UNAUTHENTICATED: false,
  INTERNAL_ERROR: true
}

it("a failure that an agent declares is not retryable unless it says so", () => {
  const retryable = (error: unknown) => {
    const sent = Errors.toPayload(new Errors.InternalError({ message: "no", details: { error } }))
    // The wire has one answer for each code.
    expect(sent.retryable).toBe(true)
    return Errors.isRetryable(Errors.fromPayload(sent))
  }
  expect([{ _tag: "TooBig", max: 30 }, "busy", null, { retryable: "yes" }].map(retryable)).toEqual(
    Array(4).fill(false)
  )
  expect(retryable({ _tag: "Busy", retryable: true })).toBe(true)
  expect(new Errors.InternalError({ message: "no", details: { limit: "jobs" } }).retryable).toBe(true)
})

it("codes and retryable are the protocol's", () => {
  expect(Errors.retryable).toEqual(table)
})

describe("one class per code", () => {
  const tags = new Set<string>()
  for (const [code, retryable] of Object.entries(table))
    it(code, () => {
      const payload = { code, message: "why", retryable, details: { limit: "jobs", "n.b": [1] } }
      const error = Errors.fromPayload(payload)
      expect(error.code).toBe(code)
      expect(error.message).toBe("why")
      expect(Errors.isArcpError(error)).toBe(true)
      expect(Errors.toPayload(error)).toEqual(payload)
      expect(Errors.toPayload(Errors.fromPayload({ code, message: "", retryable }))).toEqual({
        code,
        message: "",
        retryable
      })
      expect(tags.has(error._tag)).toBe(false)
      tags.add(error._tag)
    })
})

it("what a peer says of retryable does not change what it is", () => {
  const error = Errors.fromPayload({ code: "LEASE_EXPIRED", message: "", retryable: true })
  expect(Errors.toPayload(error).retryable).toBe(false)
})

it("an unknown code becomes INTERNAL_ERROR and is kept in the details", () => {
  for (const code of ["QUOTA", "constructor", "__proto__", ""]) {
    const error = Errors.fromPayload({ code, message: "m", retryable: false, details: { a: 1 } })
    expect(error.code).toBe("INTERNAL_ERROR")
    expect(error.details).toEqual({ a: 1, code })
  }
})

it("details are merged over the error's own", () => {
  const error = new Errors.JobNotFound({ message: "m", details: { a: 1, b: 1 } })
  expect(Errors.toPayload(error, { b: 2 }).details).toEqual({ a: 1, b: 2 })
})

it("details with a __proto__ key stay data", () => {
  const details = JSON.parse('{"__proto__":{"polluted":true}}') as Record<string, unknown>
  const error = Errors.fromPayload({ code: "TIMEOUT", message: "", retryable: true, details })
  const payload = Errors.toPayload(error, { a: 1 })
  for (const object of [error.details, payload.details])
    expect((object as { polluted?: unknown }).polluted).toBeUndefined()
  expect(JSON.stringify(payload.details)).toBe('{"__proto__":{"polluted":true},"a":1}')
})

it("a message on the wire is well-formed Unicode, also where it was cut", () => {
  const { message } = Errors.toPayload(
    new Errors.PermissionDenied({ message: `${"x".repeat(510)}😀${"x".repeat(9)}` })
  )
  expect(message).toBe(`${"x".repeat(510)}…`)
  expect(Errors.toPayload(new Errors.PermissionDenied({ message: "a\ud83d" })).message).toBe("a\ufffd")
})

it("messages are cut to 512 characters", () => {
  const message = Errors.toPayload(new Errors.InternalError({ message: "x".repeat(600) })).message
  expect(message).toHaveLength(512)
  expect(message.endsWith("…")).toBe(true)
  expect(Errors.truncateMessage("x".repeat(512))).toBe("x".repeat(512))
})

it("other errors are not protocol errors, whatever code they have", () => {
  const system = Object.assign(new Error("connect"), { code: "TIMEOUT" })
  const tagged = Object.assign(new Error("x"), { code: "TIMEOUT", _tag: "Cancelled" })
  for (const other of [system, tagged, new Error("x"), { code: "TIMEOUT", _tag: "Timeout" }, null, "TIMEOUT"])
    expect(Errors.isArcpError(other)).toBe(false)
})
