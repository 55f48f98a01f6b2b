/** What `arcp doctor` does. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { columnsOf, fitted } from "../columns.js"
import { fileOf } from "../db-flags.js"
import type { DoctorFlags } from "../doctor.js"
import { exitCode, leaving } from "../exit.js"
import { inLine, json } from "../text.js"
import { UsageError } from "../UsageError.js"
import { fileChecks } from "./doctor/fileChecks.js"
import type { Finding } from "./doctor/finding.js"
import { pgChecks } from "./doctor/pgChecks.js"
import { remoteChecks } from "./doctor/remoteChecks.js"
import { systemChecks } from "./doctor/systemChecks.js"
import { postgresOf } from "./stored.js"

/** One line: how it is, what was looked at, what was found, and what to do. */
const line = ({ check, level, said, todo }: Finding): string =>
  inLine(`${level.padEnd(4)}  ${check.padEnd(11)}  ${said}${todo === undefined ? "" : `; ${todo}`}`)

export const run = (flags: DoctorFlags) =>
  Effect.gen(function* () {
    if (flags.port < 0 || flags.port > 65_535)
      return yield* new UsageError({ message: "--port takes 0 (any free port) to 65535" })
    const pg = yield* postgresOf(flags)
    const store = Option.isSome(pg) ? yield* pgChecks(pg.value) : yield* fileChecks(fileOf(flags.db))
    const found = [
      ...(yield* systemChecks({ ...flags, holder: store.holder })),
      ...store.found,
      ...(yield* remoteChecks(flags))
    ]
    for (const finding of found)
      yield* Console.log(flags.json ? json(finding) : fitted(line(finding), columnsOf(process.stdout)))
    if (found.some(({ level }) => level === "fail")) leaving.code = exitCode.error
  })
