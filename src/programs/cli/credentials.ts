/** `arcp credentials`: what a runtime provisioned and could not revoke, and another try at it. */
import * as Command from "./Command.js"
import { logLevel } from "./client-flags.js"
import { dbFlag } from "./db-flags.js"
import * as CliOptions from "./Flags.js"
import { pgFlag } from "./pg-flag.js"

const options = {
  db: dbFlag("also while that runs"),
  pg: pgFlag,
  revoke: CliOptions.boolean("revoke").pipe(
    CliOptions.withDescription("try again to revoke them, with the gateway that the environment names")
  ),
  json: CliOptions.boolean("json").pipe(
    CliOptions.withDescription("one JSON value per line"),
    CliOptions.inGroup("Output")
  ),
  logLevel
}

export const credentials = Command.make(
  {
    name: "credentials",
    summary: "List provisioned credentials that are not known to be revoked",
    flags: options,
    examples: [
      "arcp credentials --db .arcp/arcp.db",
      "arcp credentials --revoke",
      "ARCP_PG=… arcp credentials    # of all nodes"
    ],
    more: {
      Environment: ["ARCP_LITELLM_URL, ARCP_LITELLM_KEY  as for arcp serve; --revoke asks it"],
      "Exit codes": ["0 none is outstanding   1 some are, or could not be revoked   2 a mistake"]
    }
  },
  () => import("./run/credentials.js")
)
