import { expect, it } from "@effect/vitest"
import * as Trace from "../../src/protocol/Trace.js"

const id = "4bf92f3577b34da6a3ce929d0e0e4736"

it("takes a trace-id, or the one in a traceparent", () => {
  expect(Trace.parse(id)).toBe(id)
  expect(Trace.parse(`00-${id}-00f067aa0ba902b7-01`)).toBe(id)
  expect(Trace.parse(`01-${id}-00f067aa0ba902b7-01-more`)).toBe(id)
})

it("refuses everything else", () => {
  const zero = "0".repeat(32)
  for (const text of [
    "",
    id.toUpperCase(),
    id.slice(1),
    `${id}0`,
    `${id}\n`,
    zero,
    `00-${zero}-00f067aa0ba902b7-01`,
    `00-${id}`,
    `00-${id}-00f067aa0ba902b7`,
    `00-${id.toUpperCase()}-00f067aa0ba902b7-01`
  ])
    expect(Trace.parse(text)).toBeUndefined()
})

it("makes ids that are never all zero", () => {
  const draws = [0, 0, 0, 0, 0, 1, 0xffffffff, -1]
  const made = Trace.make(() => draws.shift() as number)
  expect(made).toBe("0000000000000001ffffffffffffffff")
  expect(Trace.parse(made)).toBe(made)
})

const context = (traceparent: unknown, tracestate?: unknown) => ({ traceparent, tracestate })
const span = "00f067aa0ba902b7"

it("reads the span of a trace context, with its flag and state", () => {
  expect(Trace.remoteSpan(undefined, context(`00-${id}-${span}-01`))).toEqual({
    traceId: id,
    span: { spanId: span, sampled: true }
  })
  // Only the last bit says whether it is sampled.
  for (const [flags, sampled] of [
    ["00", false],
    ["02", false],
    ["03", true],
    ["ff", true]
  ] as const)
    expect(Trace.remoteSpan(id, context(`00-${id}-${span}-${flags}`))?.span.sampled).toBe(sampled)
  expect(Trace.remoteSpan(id, context(`00-${id}-${span}-01`, "vendor=a b,other=2"))?.span.tracestate).toBe(
    "vendor=a b,other=2"
  )
  // A later version may say more.
  expect(Trace.remoteSpan(id, context(`cc-${id}-${span}-01-what-ever`))?.span.spanId).toBe(span)
})

it("reads the span of a trace_id that is a whole traceparent", () => {
  expect(Trace.remoteSpan(`00-${id}-${span}-01`, undefined)).toEqual({
    traceId: id,
    span: { spanId: span, sampled: true }
  })
  const other = "b7ad6b7169203331"
  expect(Trace.remoteSpan(`00-${id}-${span}-01`, context(`00-${id}-${other}-01`))?.span.spanId).toBe(other)
})

it("a trace context that breaks its form, or is of another trace, is none", () => {
  const zero = "0".repeat(16)
  for (const traceparent of [
    undefined,
    5,
    "",
    id,
    `ff-${id}-${span}-01`,
    `00-${id}-${span}-01-more`,
    `00-${id}-${span}-01\n`,
    `00-${id}-${zero}-01`,
    `00-${zero}${zero}-${span}-01`,
    `00-${id.toUpperCase()}-${span}-01`,
    `00-${id}-${span}-1`,
    `00-${id.replace("4", "5")}-${span}-01`
  ])
    expect(Trace.remoteSpan(id, context(traceparent))).toBeUndefined()
  for (const extension of [undefined, null, "text", 5, []])
    expect(Trace.remoteSpan(id, extension)).toBeUndefined()
  for (const tracestate of [5, "", "a\n", "é=1", "x".repeat(513)])
    expect(Trace.remoteSpan(id, context(`00-${id}-${span}-01`, tracestate))?.span).toEqual({
      spanId: span,
      sampled: true
    })
})

it("writes a span, when its ids are W3C's", () => {
  expect(Trace.traceparent({ traceId: id, spanId: span }, true)).toBe(`00-${id}-${span}-01`)
  expect(Trace.traceparent({ traceId: id, spanId: span }, false)).toBe(`00-${id}-${span}-00`)
  expect(Trace.traceparent({ traceId: "noop", spanId: "noop" }, true)).toBeUndefined()
})
