/** Checks of the Postgres of a runtime. Nothing is changed, and nothing is locked. */
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import { isOfThisMachine } from "../../../../layers/store/pg/holding.js"
import { survey } from "../../../../layers/store/pg/survey.js"
import { findings, type StoreFindings } from "./finding.js"

const inSeconds = (milliseconds: number) => `${Math.round(milliseconds / 1000)} s`

/** Clocks that differ by more are worth a word: ends of jobs and sessions are by that of the runtime. */
const clockTolerance = 5_000

/** Looks at a Postgres as a runtime would. */
export const pgChecks = (url: Redacted.Redacted): Effect.Effect<StoreFindings> =>
  survey(url).pipe(
    Effect.map(({ ahead, holder, mayMakeTables, name, newest, roundTrip, server, version }) => {
      const [postgres, schema, lock, clock] = [
        findings("postgres"),
        findings("schema"),
        findings("lock"),
        findings("clock")
      ]
      const found = [
        postgres.ok(`${name}: version ${server}, answers in ${roundTrip.toFixed(1)} ms`),
        version === newest
          ? schema.ok(`version ${version}`)
          : version > newest
            ? schema.fail(
                `version ${version}, this arcp has ${newest}`,
                "use the version that wrote it, or another prefix"
              )
            : mayMakeTables
              ? version === 0
                ? schema.ok("no tables yet: the first start makes them")
                : schema.warn(
                    `version ${version}, this arcp has ${newest}`,
                    "back it up first: the next start brings it up to date"
                  )
              : schema.fail(
                  "this user may not make tables",
                  "GRANT CREATE ON SCHEMA public TO it, or let another make them once"
                ),
        holder === undefined
          ? lock.ok("no runtime has it")
          : holder.left > 0
            ? lock.ok(`${holder.name} has it, and said so ${inSeconds(holder.silent)} ago`)
            : lock.warn(
                `${holder.name} had it and has said nothing since ${inSeconds(holder.silent)}`,
                "it has crashed or hangs: the next start takes its place"
              ),
        Math.abs(ahead) <= clockTolerance
          ? clock.ok(`within ${inSeconds(clockTolerance)} of that of Postgres`)
          : clock.warn(
              `${inSeconds(Math.abs(ahead))} ${ahead > 0 ? "ahead of" : "after"} that of Postgres`,
              "set both by NTP"
            )
      ]
      return {
        found,
        holder:
          holder !== undefined && holder.left > 0 && isOfThisMachine(holder)
            ? `${holder.name} has the tables`
            : undefined
      }
    }),
    Effect.catchAll(({ message }) =>
      Effect.succeed({
        found: [findings("postgres").fail(message, "arcp serve --pg would end with this")],
        holder: undefined
      })
    )
  )
