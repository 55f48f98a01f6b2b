/** The log for people: what belongs to an entry is set in, and no text of others has a colour or steers a terminal. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { prettyLogger } from "../../../src/programs/cli/prettyLog.js"

const logged = (colours: boolean, effect: Effect.Effect<void>) => {
  const entries: Array<string> = []
  const logger = Logger.map(prettyLogger(colours), (text) => void entries.push(text))
  return Effect.as(Effect.provide(effect, Logger.replace(Logger.defaultLogger, logger)), entries)
}

const evil = "red \u001b[31m, back \b\r\n[00:00:00.000] INFO: forged\u2028[00:00:00.000] INFO: forged"

const everything = Effect.logError(evil, { [evil]: evil }, new Error(evil)).pipe(
  Effect.withLogSpan(evil),
  Effect.annotateLogs({ job: "job_1", [evil]: evil })
)

describe("the log for people", () => {
  it.effect("has an entry in the first column, and all of it set in below", () =>
    Effect.gen(function* () {
      const [text = "", ...others] = yield* logged(
        false,
        Effect.annotateLogs(Effect.logError("it failed", "of this", new Error("db is down")), {
          job: "job_1",
          agent: "bad@1.0.0"
        })
      )
      assert.deepStrictEqual(others, [])
      const lines = text.split("\n")
      assert.match(lines[0] ?? "", /^\[\d\d:\d\d:\d\d\.\d{3}\] ERROR: it failed$/)
      assert.deepStrictEqual(lines.slice(1, 3), ["  of this", "  Error: db is down"])
      assert.match(lines[3] ?? "", /^ {6}at .*prettyLog\.test\.ts/)
      assert.strictEqual(lines.at(-1), "  job=job_1 agent=bad@1.0.0")
    })
  )

  it.effect("on a terminal only its own colours are there, and nothing passes for an entry", () =>
    Effect.gen(function* () {
      for (const colours of [false, true]) {
        const [text = ""] = yield* logged(colours, everything)
        assert.strictEqual(text.includes("\u001b["), colours)
        const [first = "", ...others] = text.replace(/\u001b\[(0|1|2|3[123])m/g, "").split("\n")
        // The evil one wants to be red as well.
        assert.match(first, /^\[\d\d:\d\d:\d\d\.\d{3}\] ERROR: red \ufffd/)
        for (const line of others) assert.match(line, /^ {2}/)
        assert.notMatch([first, ...others].join(""), /[\u0000-\u0008\u000b-\u001f\u2028]/)
      }
    })
  )
})
