import { Buffer } from "node:buffer"
import { PassThrough } from "node:stream"
import { expect, it, vi } from "@effect/vitest"
import { LineReader, type LineReaderOptions } from "../../../src/layers/agents/mcp/LineReader.js"
import { Pace } from "../../../src/layers/agents/mcp/Pace.js"
import { make } from "../../../src/services/runtime/Turn.js"

/** A reader whose turns come when the test says so, and for which each line takes a millisecond. */
const reading = (more: Partial<LineReaderOptions> = {}) => {
  const input = new PassThrough()
  const lines: Array<string> = []
  const turns: Array<() => void> = []
  let now = 0
  const turn = make((callback) => {
    turns.push(callback)
    return () => {}
  })
  const reader = new LineReader(input, {
    max: 1_000_000,
    onLine: (line) => {
      now++
      lines.push(line)
    },
    onTooLarge: () => lines.push("too large"),
    pace: new Pace(turn, () => now),
    ...more
  })
  const push = (text: string) => input.emit("data", Buffer.from(text))
  /** Lets a turn come; returns whether anybody waited for it. */
  const next = () => {
    const waiting = turns.splice(0)
    for (const callback of waiting) callback()
    return waiting.length > 0
  }
  const run = () => {
    while (next());
  }
  return { input, lines, reader, push, next, run }
}

it("takes a few milliseconds of a turn, and is read from again when the lines are taken", () => {
  const { input, lines, next, push, reader } = reading()
  let idle = 0
  push("x\n".repeat(100))
  reader.whenIdle(() => idle++)
  const taken: Array<number> = []
  while (lines.length < 100) {
    expect([input.isPaused(), idle]).toEqual([true, 0])
    const before = lines.length
    next()
    taken.push(lines.length - before)
  }
  expect(taken).toEqual(Array.from({ length: 20 }, () => 5))
  expect([input.isPaused(), idle]).toEqual([false, 1])
  reader.whenIdle(() => idle++)
  expect(idle).toBe(2)
})

it("gives lines whole, wherever the pieces end, and what comes while it waits after them", () => {
  const { lines, next, push, run } = reading()
  push("a\r\nb")
  push("c\n\nd")
  next()
  push("é".slice(0, 1))
  push("\nlast")
  run()
  expect(lines).toEqual(["a", "bc", "", "dé"])
})

it("copies an unfinished line no more often than it must, a byte at a time", () => {
  const { lines, push, run } = reading({ max: 20_000_000 })
  push("x".repeat(9_000_000))
  run()
  const concat = vi.spyOn(Buffer, "concat")
  for (let i = 0; i < 2_000; i++) {
    push("y")
    run()
  }
  expect(concat.mock.calls.length).toBeLessThan(5)
  concat.mockRestore()
  push("\n")
  run()
  expect(lines.map(({ length }) => length)).toEqual([9_002_000])
})

it("refuses a line that is too large, at once and once, and takes nothing after it", () => {
  for (const text of ["x".repeat(11), "x\nxxxxxxxxxxx\nx\n"]) {
    const { input, lines, push, run } = reading({ max: 10 })
    push(text)
    run()
    push("more\n")
    run()
    expect(lines.at(-1)).toBe("too large")
    expect(lines.filter((line) => line === "too large")).toHaveLength(1)
    expect(input.isPaused()).toBe(false)
  }
})

it("that is stopped takes no line any more, and lets whoever writes go on", () => {
  const { input, lines, next, push, reader, run } = reading()
  push("x\n".repeat(20))
  next()
  reader.stop()
  run()
  push("y\n")
  run()
  expect(lines).toHaveLength(5)
  expect(input.isPaused()).toBe(false)
})
