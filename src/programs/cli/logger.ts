import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { inLine, safe, safeJson } from "./text.js"

/** How a log is written. */
export const formats = ["pretty", "json", "logfmt"] as const
export type LogFormat = (typeof formats)[number]

/** Lines after which a log is written out, whatever else the process does. */
const maxLines = 1_000

/** Milliseconds that a line waits for others at the most. */
const gatheringMs = 10

/**
 * Writes lines that come soon after each other at once: a write per line would cost more than the line, and whoever waits for
 * the answer that a line tells of would wait for its write too. The last ones are written with the scope, or when the
 * process exits.
 */
const gathered = (logger: Logger.Logger<unknown, string>) =>
  Effect.gen(function* () {
    const { unsafe } = yield* Effect.console
    let lines: Array<string> = []
    const flush = () => {
      if (lines.length === 0) return
      const text = lines.join("\n")
      lines = []
      unsafe.error(text)
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => process.on("exit", flush)),
      () =>
        Effect.sync(() => {
          process.off("exit", flush)
          flush()
        })
    )
    return Logger.make((options) => {
      if (lines.push(logger.log(options)) === 1) setTimeout(flush, gatheringMs).unref()
      else if (lines.length >= maxLines) flush()
    })
  })

/** Further lines of a text, set in: what begins in the first column is an entry of the log. */
const setIn = (value: unknown): unknown =>
  typeof value === "string" ? value.replace(/\r?\n|[\r\v\f\u0085\u2028\u2029]/g, "\n    ") : value

/** The logger for people, in which no text can pass for an entry of its own. */
const pretty = (): Logger.Logger<unknown, void> => {
  const logger = Logger.prettyLogger({ stderr: true, mode: "tty" })
  return Logger.make((options) =>
    logger.log({
      ...options,
      message: Array.isArray(options.message) ? options.message.map(setIn) : setIn(options.message),
      annotations: HashMap.fromIterable(
        Array.from(options.annotations, ([name, value]) => [inLine(name), setIn(value)] as const)
      )
    })
  )
}

/** Logs go to stderr: stdout is for results, for the address of a runtime, or for envelopes. */
export const stderrLogger = (format: LogFormat): Layer.Layer<never> =>
  format === "pretty"
    ? Logger.replace(Logger.defaultLogger, pretty())
    : Layer.unwrapScoped(
        Effect.map(
          gathered(
            format === "json"
              ? Logger.map(Logger.jsonLogger, safeJson)
              : Logger.map(Logger.logfmtLogger, safe)
          ),
          (logger) => Logger.replace(Logger.defaultLogger, logger)
        )
      )
