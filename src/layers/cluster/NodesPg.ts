/** The nodes on a Postgres, by its clock, in a table of the store. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import { NameTaken, Nodes, type SeenNode } from "../../services/cluster/Nodes.js"
import { within } from "../../services/runtime/within.js"
import { StoreError } from "../../services/store/Store.js"
import { naming, prefixProblem } from "../store/naming.js"
import { nameOf, type PgPool, pooled } from "../store/pg/connections.js"
import { toStoreError } from "../store/pg/failures.js"
import { slotOfNode } from "../store/pg/holding.js"
import { lockWriters, migrate, transaction, versionOf } from "../store/pg/migrate.js"
import { schemaVersion } from "../store/pg/schema.js"
import type { PgFailure, PgStatements } from "../store/pg/statement.js"
import { fromStored, toStored } from "../store/pg/text.js"
import { beating, rememberedFor, usualExpiry } from "./heartbeat.js"

/** How nodes are kept. */
export interface Options {
  /** `postgres://…`, as for the store; a pooler in transaction mode may stand before it. */
  readonly url: Redacted.Redacted
  /** What the names of all tables begin with. Default: `arcp_`. */
  readonly prefix?: string | undefined
  /** After how long of silence others take a node for gone. Default: 12 s. */
  readonly expiry?: Duration.DurationInput | undefined
}

/** A statement has its answer within this, or its connection is thrown away: well within an expiry. */
const patience = Duration.seconds(3)

/** A Postgres that does not answer learns by the expiry that this node has gone. */
const goodbye = Duration.seconds(2)

const expires = "clock_timestamp() + $3::bigint * interval '1 millisecond'"

const take = `INSERT INTO {nodes} (name, incarnation, address, version, started, alive, expires)
  VALUES ($1, $2, $4, $5, clock_timestamp(), clock_timestamp(), ${expires})
  ON CONFLICT (name) DO UPDATE SET incarnation = excluded.incarnation, address = excluded.address,
    version = excluded.version, started = excluded.started, alive = excluded.alive, expires = excluded.expires
    WHERE {nodes}.expires < clock_timestamp() OR {nodes}.incarnation = excluded.incarnation
  RETURNING 1`

const renew = `UPDATE {nodes} SET alive = clock_timestamp(), expires = ${expires}
  WHERE name = $1 AND incarnation = $2 RETURNING 1`

/** Whoever takes its place among the writers comes before this or after it. */
const alone = lockWriters

/** One that starts has its place among the writers before it has joined. */
const alive = `SELECT 1 FROM {nodes} WHERE name = $1 AND expires >= clock_timestamp()
  UNION ALL SELECT 1 FROM {writers} WHERE slot = $2 AND expires >= clock_timestamp()`

const replace = "UPDATE {nodes} SET incarnation = '' WHERE name = $1"

const forget = `DELETE FROM {nodes} WHERE alive < clock_timestamp() - $1::bigint * interval '1 millisecond'`

const seen = `SELECT name, address, version, (extract(epoch FROM started) * 1000)::float8,
    greatest(0, extract(epoch FROM clock_timestamp() - alive) * 1000)::float8, expires >= clock_timestamp()
  FROM {nodes} WHERE alive >= clock_timestamp() - $1::bigint * interval '1 millisecond' ORDER BY name`

const time = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8"

const toNode = ([
  name,
  address,
  version,
  startedAt,
  silentFor,
  isAlive
]: ReadonlyArray<unknown>): SeenNode => ({
  name: fromStored(String(name)),
  address: address === null ? undefined : String(address),
  version: String(version),
  startedAt: Number(startedAt),
  silentFor: Number(silentFor),
  isAlive: isAlive === true
})

/** Makes the tables where there are none. To bring older ones up to date is for whoever holds them. */
const tables = (statements: PgStatements, database: string, prefix: string) =>
  Effect.gen(function* () {
    const version = yield* versionOf(statements, prefix)
    if (version === 0) return yield* migrate(statements, database, prefix)
    if (version >= schemaVersion) return
    return yield* new StoreError({
      message: `the tables ${prefix}* of ${database} are of an older version; start a runtime of this version on them first`
    })
  })

/** Returns the nodes on a Postgres. */
export const layer = ({ prefix = "arcp_", url, ...options }: Options): Layer.Layer<Nodes, StoreError> =>
  Layer.scoped(
    Nodes,
    Effect.gen(function* () {
      const problem = prefixProblem(prefix)
      if (problem !== undefined) return yield* new StoreError({ message: problem })
      const expiry = Duration.decode(options.expiry ?? usualExpiry)
      const pool = pooled(
        { url, maxConnections: 1, connectTimeout: patience, statementTimeout: patience },
        naming(prefix)
      )
      const asking =
        ({ lend }: PgPool) =>
        <A>(work: (statements: PgStatements) => Effect.Effect<A, PgFailure | StoreError>) =>
          Effect.mapError(Effect.uninterruptible(lend(work)), toStoreError(nameOf(url)))
      const ask = asking(yield* pool)
      // A connection of its own: what is done about a node that has gone may wait for what that one had locked, and a beat must not.
      const beat = asking(yield* pool)
      const rows = (sql: string, params: ReadonlyArray<unknown>, by = ask) =>
        by((statements) => statements.executeValues(sql, params))
      yield* ask((statements) => tables(statements, nameOf(url), prefix))
      const remembered = Duration.toMillis(rememberedFor)
      return {
        join: ({ address, name, version }) =>
          Effect.gen(function* () {
            const incarnation = crypto.randomUUID()
            const key = [toStored(name), incarnation, Duration.toMillis(expiry)]
            yield* Effect.acquireRelease(
              rows(take, [...key, address ?? null, version]).pipe(
                Effect.filterOrFail(
                  (taken) => taken.length > 0,
                  () => new NameTaken({ name })
                )
              ),
              () =>
                within(
                  Effect.ignoreLogged(
                    rows("DELETE FROM {nodes} WHERE name = $1 AND incarnation = $2", key.slice(0, 2))
                  ),
                  goodbye
                )
            )
            yield* rows(forget, [remembered])
            return yield* beating(
              name,
              expiry,
              Effect.map(rows(renew, key, beat), (renewed) => renewed.length > 0)
            )
          }),
        bury: (name) =>
          ask((statements) =>
            transaction(
              statements,
              Effect.gen(function* () {
                const [key, slot] = [toStored(name), slotOfNode(name)]
                yield* statements.executeRaw(alone, [])
                if ((yield* statements.executeValues(alive, [key, slot])).length > 0) return false
                yield* statements.executeRaw(replace, [key])
                yield* statements.executeRaw("DELETE FROM {writers} WHERE slot = $1", [slot])
                return true
              })
            )
          ),
        list: Effect.map(rows(seen, [remembered]), (found) => found.map(toNode)),
        time: Effect.map(rows(time, []), ([row]) => Number(row?.[0]))
      }
    })
  )
