/** Runs one command to its end: its logs, what is printed when it fails, and the code the program leaves with. */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import type { Surroundings } from "./Command.js"
import { decode } from "./decode.js"
import { report } from "./exit.js"
import { stderrLogger } from "./logger.js"
import type { Asked } from "./parse.js"

const levels: Readonly<Record<string, LogLevel.LogLevel>> = {
  trace: LogLevel.Trace,
  debug: LogLevel.Debug,
  info: LogLevel.Info,
  warning: LogLevel.Warning,
  error: LogLevel.Error,
  none: LogLevel.None
}

export const main = ({
  command,
  written
}: Extract<Asked, { _tag: "Run" }>): Effect.Effect<void, never, Surroundings> =>
  Effect.suspend(() => {
    const given = decode(command, written)
    const level = levels[String(given.flags["logLevel"])] ?? LogLevel.Info
    return Effect.flatMap(
      Effect.promise(() => command.start(given)),
      (run) => run
    ).pipe(Effect.provide(stderrLogger(given.flags["json"] === true)), Logger.withMinimumLogLevel(level))
  }).pipe(Effect.catchAllCause(report))
