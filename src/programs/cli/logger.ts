import * as Logger from "effect/Logger"
import { safe, safeJson } from "./text.js"

/** Logs go to stderr: stdout is for results, for the address of a runtime, or for envelopes. */
export const stderrLogger = (json: boolean) =>
  Logger.replace(
    Logger.defaultLogger,
    Logger.withConsoleError(
      json ? Logger.map(Logger.jsonLogger, safeJson) : Logger.map(Logger.logfmtLogger, safe)
    )
  )
