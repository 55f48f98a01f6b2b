/** The flag of commands that look at what a runtime has stored, wherever that is. */
import * as Flags from "./Flags.js"

export const pgFlag = Flags.text("pg").pipe(
  Flags.withDescription("Postgres of a runtime, in place of a file; also ARCP_PG, unless --db names a file"),
  Flags.shownAs("URL"),
  Flags.optional
)
