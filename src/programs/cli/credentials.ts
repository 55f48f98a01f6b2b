/** `arcp credentials`: what a runtime provisioned and could not revoke, and another try at it. */
import * as Command from "@effect/cli/Command"
import * as CliOptions from "@effect/cli/Options"
import * as Effect from "effect/Effect"

export const credentials = Command.make(
  "credentials",
  {
    db: CliOptions.text("db").pipe(
      CliOptions.withDescription("SQLite file of a runtime, also while that runs (default .arcp/arcp.db)"),
      CliOptions.withDefault(".arcp/arcp.db")
    ),
    revoke: CliOptions.boolean("revoke").pipe(
      CliOptions.withDescription(
        "try again to revoke them, with the provisioner of ARCP_LITELLM_URL and ARCP_LITELLM_KEY"
      )
    ),
    json: CliOptions.boolean("json").pipe(CliOptions.withDescription("one JSON value per line"))
  },
  (flags) =>
    Effect.flatMap(
      Effect.promise(() => import("./run/credentials.js")),
      ({ run }) => run(flags)
    )
).pipe(Command.withDescription("List provisioned credentials that are not known to be revoked"))
