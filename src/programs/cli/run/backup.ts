/** What `arcp backup` does. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Backup from "../../../layers/store/care/backup.js"
import type { BackupFlags } from "../backup.js"
import { fileOf } from "../db-flags.js"
import { bytes, count } from "../quantity.js"
import { inLine, json } from "../text.js"
import { filesOnly } from "./stored.js"

export const run = (flags: BackupFlags, file = "") =>
  Effect.gen(function* () {
    yield* filesOnly(flags, "arcp backup", "pg_dump makes a copy of that (docs/postgres.md)")
    const made = yield* Backup.backup({ filename: fileOf(flags.db), to: file, replace: flags.force })
    if (flags.json) return yield* Console.log(json(made))
    const holds = [
      count(made.jobs, "job"),
      count(made.events, "event"),
      `schema ${made.schema}`,
      bytes(made.bytes)
    ]
    yield* Console.log(inLine(`${made.file}  ${holds.join(", ")}`))
    if (made.credentials !== undefined)
      yield* Console.log(inLine(`${made.credentials}  records of credentials; keep it beside`))
  })
