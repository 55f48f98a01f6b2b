/** What commands take that work on the file of a runtime. */
import * as Flags from "./Flags.js"

/** The file of a runtime, unless another is named. */
export const defaultDb = ".arcp/arcp.db"

/** Which file; `when` says in what state its runtime may be. */
export const dbFlag = (when: string) =>
  Flags.text("db").pipe(
    Flags.withDescription(`SQLite file of a runtime, ${when}`),
    Flags.shownAs("FILE"),
    Flags.withDefault(defaultDb),
    Flags.sourced
  )

/** Which file a command works on: the one that is named, or else that of every runtime. */
export const fileOf = (db: Flags.Sourced<string> | undefined): string => db?.value ?? defaultDb

export const jsonFlag = Flags.boolean("json").pipe(
  Flags.withDescription("one JSON value per line on stdout"),
  Flags.inGroup("Output")
)
