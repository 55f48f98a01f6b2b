import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { prettyLogger } from "./prettyLog.js"
import { coloured, safe, safeJson } from "./text.js"

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
const gathered = (logger: Logger.Logger<unknown, string>, written?: (text: string) => void) =>
  Effect.gen(function* () {
    const { unsafe } = yield* Effect.console
    const write = written ?? ((text: string) => unsafe.error(text))
    let lines: Array<string> = []
    const flush = () => {
      if (lines.length === 0) return
      const text = lines.join("\n")
      lines = []
      write(text)
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

/** Writes what has colours of its own, past the console, which takes such away. */
const writeError = (text: string): void => {
  process.stderr.write(`${text}\n`)
}

/** Logs go to stderr: stdout is for results, for the address of a runtime, or for envelopes. */
export const stderrLogger = (format: LogFormat): Layer.Layer<never> => {
  const colours = coloured(process.stderr)
  return Layer.unwrapScoped(
    Effect.map(
      format === "json"
        ? gathered(Logger.map(Logger.jsonLogger, safeJson))
        : format === "logfmt"
          ? gathered(Logger.map(Logger.logfmtLogger, safe))
          : gathered(prettyLogger(colours), colours ? writeError : undefined),
      (logger) => Logger.replace(Logger.defaultLogger, logger)
    )
  )
}
