/** `arcp sessions` and `arcp top`: what a runtime is about, as its file says it. */
import * as Command from "./Command.js"
import { logLevel } from "./client-flags.js"
import { dbFlag, jsonFlag } from "./db-flags.js"
import * as Flags from "./Flags.js"
import { pgFlag } from "./pg-flag.js"

const ofPrincipal = Flags.text("principal").pipe(
  Flags.withDescription("only of this principal"),
  Flags.shownAs("PRINCIPAL"),
  Flags.optional
)

const sessionsFlags = {
  db: dbFlag("also while that runs"),
  pg: pgFlag,
  principal: ofPrincipal,
  json: jsonFlag,
  logLevel
}
export type SessionsFlags = Flags.Values<typeof sessionsFlags>

export const sessions = Command.make(
  {
    name: "sessions",
    summary: "List the sessions of a runtime: connected or not, their jobs, how far behind",
    flags: sessionsFlags,
    examples: ["arcp sessions", "arcp sessions --principal alice --json"],
    more: {
      "What the columns say": [
        "STATE  connected, away (it can be resumed for LEFT), or gone: no server runs",
        "JOBS   that it has submitted and that have not ended",
        "LAG    events that it has not acknowledged; empty where it does not do that"
      ],
      "Without the file": [
        "Ask the server: GET /v1/sessions, or the console, shows the sessions that you may see."
      ]
    }
  },
  () => import("./run/sessions.js")
)

const topFlags = {
  db: dbFlag("also while that runs"),
  pg: pgFlag,
  principal: ofPrincipal,
  interval: Flags.text("interval").pipe(
    Flags.withDescription("time between two looks: 1s to 1h"),
    Flags.shownAs("DURATION"),
    Flags.withDefault("2s")
  ),
  count: Flags.integer("count").pipe(
    Flags.withDescription("leave after so many looks; else with Ctrl-C"),
    Flags.shownAs("N"),
    Flags.optional
  ),
  json: jsonFlag,
  logLevel
}
export type TopFlags = Flags.Values<typeof topFlags>

export const top = Command.make(
  {
    name: "top",
    summary: "Watch what a runtime does: jobs, events a second, spend",
    flags: topFlags,
    untilSignal: true,
    examples: [
      "arcp top",
      "arcp top --interval 10s --principal alice",
      "arcp top --json | jq .events_per_second"
    ],
    more: {
      Output: [
        "On a terminal one page that is drawn anew; elsewhere one line for each look,",
        "or with --json one value. It reads what is stored and asks the server nothing;",
        "where no server runs it says so (server_runs of --json)."
      ]
    }
  },
  () => import("./run/top.js")
)

const nodesFlags = { pg: pgFlag, json: jsonFlag, logLevel }
export type NodesFlags = Flags.Values<typeof nodesFlags>

export const nodes = Command.make(
  {
    name: "nodes",
    summary: "List the nodes on a Postgres: who is alive, where, with how many jobs",
    flags: nodesFlags,
    examples: ["arcp nodes --pg postgres://arcp@db.internal/arcp", "ARCP_PG=… arcp nodes --json"],
    more: {
      "What the columns say": [
        "STATE   alive, or gone: it has not said for so long that it is, and others take its jobs",
        "SILENT  since when it has not said so",
        "JOBS    that it has and that have not ended"
      ]
    }
  },
  () => import("./run/nodes.js")
)
