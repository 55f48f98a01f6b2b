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
