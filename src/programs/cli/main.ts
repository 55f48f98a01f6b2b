/** Runs one command to its end: its logs, what is printed when it fails, and the code the program leaves with. */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { type Command, type Given, idle, isOn, type Surroundings, type Written } from "./Command.js"
import { decode } from "./decode.js"
import { exitCode, leaving, report } from "./exit.js"
import type { Sourced } from "./Flags.js"
import { formats, type LogFormat, stderrLogger } from "./logger.js"
import type { Asked } from "./parse.js"
import { harmlessly } from "./terminal.js"

const levels: Readonly<Record<string, LogLevel.LogLevel>> = {
  trace: LogLevel.Trace,
  debug: LogLevel.Debug,
  info: LogLevel.Info,
  warning: LogLevel.Warning,
  error: LogLevel.Error,
  none: LogLevel.None
}

/** `--log-format`, where it is given; else with `--json` as everything else is written, and without as the command does it. */
const formatOf = ({ flags }: Command, given: Given["flags"]): LogFormat => {
  const { fallback } = flags["logFormat"] ?? {}
  const written = given["logFormat"] as Sourced<unknown> | undefined
  const asked = written?.value ?? (given["json"] === true ? "json" : fallback)
  return formats.find((format) => format === asked) ?? "logfmt"
}

/** The file of a runtime that a command works on, if it does. */
const fileOf = ({ flags }: Command, { texts }: Written): string | undefined =>
  flags["db"] && (texts.get("db")?.[0] ?? (flags["db"].fallback as string | undefined))

export const main = ({
  command,
  written
}: Pick<Extract<Asked, { _tag: "Run" }>, "command" | "written">): Effect.Effect<void, never, Surroundings> =>
  Effect.suspend(() => {
    const given = decode(command, written)
    const level = levels[String(given.flags["logLevel"])] ?? LogLevel.Info
    return Effect.forEach(idle(command.onlys, written, true), (said) => Effect.logWarning(said)).pipe(
      Effect.zipRight(Effect.promise(() => command.start(given))),
      Effect.flatten,
      Effect.provide(stderrLogger(formatOf(command, given.flags))),
      Logger.withMinimumLogLevel(level)
    )
  }).pipe(
    Effect.onInterrupt(() =>
      Effect.sync(() => {
        if (!command.untilSignal && leaving.code === exitCode.success) leaving.code = exitCode.interrupted
      })
    ),
    Effect.catchAllCause(report({ db: fileOf(command, written), isJson: isOn(written, "json") })),
    harmlessly
  )
