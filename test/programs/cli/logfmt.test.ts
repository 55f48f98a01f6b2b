/** Lines of the log, as Effect writes them. */
import * as Cause from "effect/Cause"
import * as FiberId from "effect/FiberId"
import * as FiberRefs from "effect/FiberRefs"
import * as HashMap from "effect/HashMap"
import * as List from "effect/List"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as LogSpan from "effect/LogSpan"
import { describe, expect, it } from "vitest"
import { logfmtLogger } from "../../../src/programs/cli/logfmt.js"

const line: Logger.Logger.Options<unknown> = {
  fiberId: FiberId.runtime(12, 0),
  logLevel: LogLevel.Info,
  message: ["job started"],
  cause: Cause.empty,
  context: FiberRefs.empty(),
  spans: List.empty(),
  annotations: HashMap.make(["job", "job_1"], ["agent", "echo@1.0.0"], ["principal", 'a "b"=c']),
  date: new Date(1_700_000_000_123)
}

const asEffect = (options: Logger.Logger.Options<unknown>) => {
  const expected = Logger.logfmtLogger.log(options)
  // The second is made of what is known of the first.
  expect(logfmtLogger.log(options)).toBe(expected)
  expect(logfmtLogger.log(options)).toBe(expected)
}

describe("a line of the log", () => {
  it("is that of Effect's own logger, whatever it says", () => {
    const changing = { n: 1 }
    const mixed = HashMap.make<[string, unknown][]>(["a b=", changing], ["count", 3], ["none", undefined])
    asEffect(line)
    asEffect({ ...line, annotations: mixed })
    changing.n = 2
    asEffect({ ...line, annotations: mixed })
    asEffect({ ...line, annotations: HashMap.empty(), message: "" })
    asEffect({ ...line, message: ["a", { b: 1 }, new Error("no"), ["x", "y"], 'say "so"\n\tnow', null] })
    asEffect({ ...line, date: new Date(1_700_000_000_124), logLevel: LogLevel.Warning })
    asEffect({ ...line, cause: Cause.die(new Error("broken")) })
    asEffect({ ...line, spans: List.of(LogSpan.make("took", 1_700_000_000_000)) })
    asEffect({ ...line, fiberId: FiberId.combine(FiberId.runtime(1, 0), FiberId.runtime(2, 0)) })
    asEffect({ ...line, fiberId: FiberId.none })
  })
})
