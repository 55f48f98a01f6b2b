import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { safe, safeJson } from "./text.js"

/** How a log is written. */
export const formats = ["pretty", "json", "logfmt"] as const
export type LogFormat = (typeof formats)[number]

/** Lines after which a log is written out, whatever else the process does. */
const maxLines = 1_000

/**
 * Writes the lines of a turn of the event loop at once, or a write per line would cost more than the line; the last ones
 * with the scope, or when the process exits.
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
      if (lines.push(logger.log(options)) === 1) setImmediate(flush)
      else if (lines.length >= maxLines) flush()
    })
  })

/** Logs go to stderr: stdout is for results, for the address of a runtime, or for envelopes. */
export const stderrLogger = (format: LogFormat): Layer.Layer<never> =>
  format === "pretty"
    ? Logger.replace(Logger.defaultLogger, Logger.prettyLogger({ stderr: true, mode: "tty" }))
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
