/** Looking at the Postgres of a runtime from beside it, without a change. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import { StoreError } from "../../../services/store/Store.js"
import { naming, prefixProblem } from "../naming.js"
import { nameOf, pooled } from "./connections.js"
import { toStoreError } from "./failures.js"
import { look, type SeenHolder } from "./holding.js"
import { versionOf } from "./migrate.js"
import { schemaVersion } from "./schema.js"

/** What was found. */
export interface Surveyed {
  readonly name: string
  /** Version of Postgres. */
  readonly server: string
  /** Milliseconds. */
  readonly roundTrip: number
  /** Of the schema, 0 without tables; and the one that this version makes. */
  readonly version: number
  readonly newest: number
  readonly mayMakeTables: boolean
  readonly holder: SeenHolder | undefined
  /** Milliseconds by which the clock of this machine is ahead. */
  readonly ahead: number
}

const about = `SELECT current_setting('server_version'), has_schema_privilege(current_schema(), 'CREATE'),
  (extract(epoch FROM clock_timestamp()) * 1000)::float8`

/** Looks at a database, and at the tables of a prefix in it. */
export const survey = (url: Redacted.Redacted, prefix = "arcp_"): Effect.Effect<Surveyed, StoreError> =>
  Effect.gen(function* () {
    const problem = prefixProblem(prefix)
    if (problem !== undefined) return yield* new StoreError({ message: problem })
    const ten = Duration.seconds(10)
    const { lend } = yield* pooled(
      { url, maxConnections: 1, connectTimeout: ten, statementTimeout: ten },
      naming(prefix)
    )
    return yield* lend((statements) =>
      Effect.gen(function* () {
        yield* statements.execute("SELECT 1", [])
        const start = performance.now()
        const [[server, mayMakeTables, time] = []] = yield* statements.executeValues(about, [])
        const roundTrip = performance.now() - start
        const version = yield* versionOf(statements, prefix)
        return {
          name: nameOf(url),
          server: String(server),
          roundTrip,
          version,
          newest: schemaVersion,
          mayMakeTables: mayMakeTables === true,
          holder: version === 0 ? undefined : yield* look(statements),
          ahead: Date.now() - roundTrip / 2 - Number(time)
        }
      })
    )
  }).pipe(Effect.mapError(toStoreError(nameOf(url))), Effect.scoped)
