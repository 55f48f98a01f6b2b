/**
 * Who may write to the tables: the runtime that holds them. It says that it is alive with each commit, and every third of its
 * lease without one. One that says nothing for a whole lease may be followed by another, and from then on writes nothing any
 * more: each of its batches states who it is. So the lease decides only who tries; that two never write rests on the batches.
 *
 * Time is the database's, so that clocks of machines need not agree.
 */
import { hostname } from "node:os"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { inRealTime } from "../../../services/runtime/within.js"
import { StoreError } from "../../../services/store/Store.js"
import type { PgFailure, PgStatements } from "./statement.js"

/** A runtime that holds the tables. */
export interface Holder {
  /** Of this process, at random. */
  readonly id: string
  readonly lease: Duration.Duration
}

/** How messages call this process. */
const ourName = () => `${hostname()}, process ${process.pid}`

const take = (statements: PgStatements, { id, lease }: Holder) =>
  statements.executeValues(
    `INSERT INTO {writers} (slot, id, name, last_commit, alive, expires)
     VALUES ('runtime', $1, $2, 0, clock_timestamp(), clock_timestamp() + $3::bigint * interval '1 millisecond')
     ON CONFLICT (slot) DO UPDATE SET id = excluded.id, name = excluded.name, last_commit = 0,
       alive = excluded.alive, expires = excluded.expires
       WHERE {writers}.expires < clock_timestamp() OR {writers}.id = excluded.id
     RETURNING 1`,
    [id, ourName(), Duration.toMillis(lease)]
  )

/** What can be seen of whoever holds the tables. */
export interface SeenHolder {
  readonly id: string
  readonly name: string
  /** As text: whether it is still the same is all that is asked of it. */
  readonly expires: string
  /** Milliseconds of its lease, and since it has said that it is alive. */
  readonly left: number
  readonly silent: number
}

/** Returns whether a holder runs on this machine, by its name. */
export const isOfThisMachine = ({ name }: SeenHolder): boolean => name.startsWith(`${hostname()}, `)

/** Looks at who holds the tables. */
export const look = (statements: PgStatements): Effect.Effect<SeenHolder | undefined, PgFailure> =>
  Effect.map(
    statements.executeValues(
      `SELECT id, name, expires::text, (extract(epoch FROM expires - clock_timestamp()) * 1000)::float8,
         (extract(epoch FROM clock_timestamp() - alive) * 1000)::float8
       FROM {writers} WHERE slot = 'runtime'`,
      []
    ),
    ([row]) =>
      row === undefined
        ? undefined
        : {
            id: String(row[0]),
            name: String(row[1]),
            expires: String(row[2]),
            left: Number(row[3]),
            silent: Number(row[4])
          }
  )

/** Milliseconds between two looks at whether the holder says that it is alive. */
const betweenLooks = 250

/**
 * Takes the tables. While another runtime holds them, waits for the end of its lease: it may have died. Fails when that says
 * that it is alive.
 */
export const hold = (
  statements: PgStatements,
  holder: Holder,
  database: string
): Effect.Effect<void, PgFailure | StoreError> =>
  Effect.gen(function* () {
    let first: SeenHolder | undefined
    for (;;) {
      if ((yield* take(statements, holder)).length > 0) return
      const seen = yield* look(statements)
      if (seen === undefined) continue
      if (first === undefined) {
        first = seen
        yield* Effect.logWarning(
          `${database} is held by another runtime (${seen.name}); waiting up to ${Math.ceil(seen.left / 1000)} s for a sign ` +
            "that it is alive"
        )
      } else if (seen.id !== first.id || seen.expires !== first.expires)
        return yield* new StoreError({
          message:
            `${database} is held by another runtime (${seen.name}), which is alive; stop it, or give each a prefix of ` +
            "its own"
        })
      yield* inRealTime(Effect.sleep(Duration.millis(Math.max(10, Math.min(betweenLooks, seen.left)))))
    }
  })

/** What is said to whoever held the tables and does not any more. */
export const lost = (database: string): StoreError =>
  new StoreError({
    message: `another runtime holds the tables of ${database} since; stop one of them, or give each a prefix of its own`,
    publicMessage: "the database is held by another runtime",
    fenced: true
  })

/** Says that the holder is alive; fails when it is the holder no more. */
export const renew = (
  statements: PgStatements,
  { id, lease }: Holder,
  database: string
): Effect.Effect<void, PgFailure | StoreError> =>
  Effect.flatMap(
    statements.executeValues(
      `UPDATE {writers} SET alive = clock_timestamp(), expires = clock_timestamp() + $2::bigint * interval '1 millisecond'
       WHERE slot = 'runtime' AND id = $1 RETURNING 1`,
      [id, Duration.toMillis(lease)]
    ),
    (rows) => (rows.length > 0 ? Effect.void : lost(database))
  )

/** Lets others take the tables at once. */
export const release = (statements: PgStatements, { id }: Holder): Effect.Effect<unknown, PgFailure> =>
  statements.executeRaw("DELETE FROM {writers} WHERE slot = 'runtime' AND id = $1", [id])

/** The number of the holder's newest batch; `undefined` when it holds the tables no more. */
export const lastCommit = (
  statements: PgStatements,
  { id }: Holder
): Effect.Effect<number | undefined, PgFailure> =>
  Effect.map(
    statements.executeValues("SELECT last_commit::float8 FROM {writers} WHERE slot = 'runtime' AND id = $1", [
      id
    ]),
    ([row]) => (row === undefined ? undefined : Number(row[0]))
  )
