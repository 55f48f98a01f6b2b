/** What every command that talks to a runtime takes. */
import * as Flags from "./Flags.js"

/** Where `arcp serve` listens when it is not told. */
export const defaultUrl = "ws://127.0.0.1:7777/arcp"

/** How much of its own doings a command logs on stderr. */
export const logLevel = Flags.choice("log-level", [
  "trace",
  "debug",
  "info",
  "warning",
  "error",
  "none"
]).pipe(
  Flags.withDescription("how much is logged on stderr"),
  Flags.shownAs("LEVEL", "Output"),
  Flags.withDefault("info")
)

export const clientFlags = {
  json: Flags.boolean("json").pipe(
    Flags.withDescription("one JSON value per line on stdout"),
    Flags.inGroup("Output")
  ),
  logLevel,
  context: Flags.text("context").pipe(
    Flags.withDescription("a runtime by the name that arcp context add gave it"),
    Flags.shownAs("NAME", "Connection"),
    Flags.withEnvironment("ARCP_CONTEXT"),
    Flags.sourced
  ),
  url: Flags.text("url").pipe(
    Flags.withDescription("where the runtime is"),
    Flags.shownAs("URL", "Connection"),
    Flags.withEnvironment("ARCP_URL"),
    Flags.withDefault(defaultUrl),
    Flags.sourced
  ),
  token: Flags.text("token").pipe(
    Flags.withDescription("who you are: the TOKEN of arcp serve --token TOKEN=PRINCIPAL, or a JWT"),
    Flags.shownAs("TOKEN", "Connection"),
    Flags.withEnvironment("ARCP_TOKEN"),
    Flags.sourced
  ),
  giveUpAfter: Flags.text("give-up-after").pipe(
    Flags.withDescription(
      "leave with 5 when a runtime that was there has been away for so long: 30s, 10m, 2h"
    ),
    Flags.shownAs("DURATION", "Connection"),
    Flags.withDefault("10m")
  ),
  insecure: Flags.boolean("insecure").pipe(
    Flags.withDescription("allow ws:// to a host that is not this machine"),
    Flags.inGroup("Connection")
  )
}

export type ClientFlags = Flags.Values<typeof clientFlags>
