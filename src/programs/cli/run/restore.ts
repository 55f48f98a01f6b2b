/** What `arcp restore` does. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Backup from "../../../layers/store/care/backup.js"
import type { RestoreFlags } from "../backup.js"
import { fileOf } from "../db-flags.js"
import { count } from "../quantity.js"
import { inLine, json } from "../text.js"
import { filesOnly } from "./stored.js"

export const run = (flags: RestoreFlags, file = "") =>
  Effect.gen(function* () {
    yield* filesOnly(flags, "arcp restore", "pg_restore fills that from a dump (docs/postgres.md)")
    const now = yield* Clock.currentTimeMillis
    const made = yield* Backup.restore({ from: file, filename: fileOf(flags.db), now })
    if (flags.json) return yield* Console.log(json(made))
    yield* Console.log(
      inLine(
        `${made.file}  ${count(made.jobs, "job")}, ${count(made.events, "event")}, schema ${made.schema}`
      )
    )
    if (made.aside !== undefined)
      yield* Console.log(inLine(`${made.aside}  what was there before; delete it when it is not needed`))
    if (made.credentialsRestored) yield* Console.log("the records of credentials are those of the backup")
  })
