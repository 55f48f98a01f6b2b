/** `arcp doctor`: whether a runtime can run here, on its file, and what to do where it cannot. */
import * as Command from "./Command.js"
import { logLevel } from "./client-flags.js"
import { dbFlag, jsonFlag } from "./db-flags.js"
import * as Flags from "./Flags.js"

const asServe = (name: string, value: string, description: string) =>
  Flags.text(name).pipe(
    Flags.withDescription(description),
    Flags.shownAs(value, "As for arcp serve"),
    Flags.optional
  )

const flags = {
  db: dbFlag("also while that runs"),
  pg: asServe("pg", "URL", "the Postgres is looked at, and not the file; also ARCP_PG"),
  host: Flags.text("host").pipe(
    Flags.withDescription("where it listens"),
    Flags.shownAs("HOST", "As for arcp serve"),
    Flags.withDefault("127.0.0.1")
  ),
  port: Flags.integer("port").pipe(
    Flags.withDescription("where it listens; 0 is any, and is not tried"),
    Flags.shownAs("PORT", "As for arcp serve"),
    Flags.withDefault(7777)
  ),
  jwtJwks: asServe("jwt-jwks", "URL", "the key set is fetched and read"),
  jwtPublicKey: asServe("jwt-public-key", "FILE", "the key is read"),
  json: jsonFlag,
  logLevel
}
export type DoctorFlags = Flags.Values<typeof flags>

export const doctor = Command.make(
  {
    name: "doctor",
    summary: "Check whether a runtime can run here, and say what to do where not",
    flags,
    examples: ["arcp doctor", "arcp doctor --db /var/lib/arcp/arcp.db --port 7777", "arcp doctor --json"],
    more: {
      "What it looks at": [
        "Node and SQLite; the file: whose, readable by whom, sound, of which schema,",
        "who has it; its log, the disk; or the Postgres: whether it lets this user in,",
        "its schema, who has it; the clock, the port; the key set of JWTs, the",
        "provisioner that the environment names, the file of contexts. It changes",
        "nothing and keeps no lock, so a server may run."
      ],
      "Exit codes": ["0 nothing has failed, warnings aside   1 something has   2 a mistake"]
    }
  },
  () => import("./run/doctor.js")
)
