/**
 * Who may write to the tables: the runtime that holds them, or those that share them, each a node with a name. It says that it is alive with each commit, and every third of its
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
import { lockWriters, migrateUnheld, transaction } from "./migrate.js"
import type { PgFailure, PgStatements } from "./statement.js"
import { toStored } from "./text.js"

/** A runtime that holds the tables. */
export interface Holder {
  /** Of this process, at random. */
  readonly id: string
  readonly lease: Duration.Duration
  /** Its name as a node of those that share the tables; absent when it has them for itself. */
  readonly node: string | undefined
}

/** The slot of whoever has the tables for itself; each node has its own. */
const alone = "runtime"

/** Returns the slot of a node. */
export const slotOfNode = (node: string): string => `node ${toStored(node)}`

/** Returns the slot that a runtime takes. */
export const slotOf = ({ node }: Pick<Holder, "node">): string =>
  node === undefined ? alone : slotOfNode(node)

/** How messages call this process. */
const ourName = ({ node }: Holder) =>
  `${hostname()}, process ${process.pid}${node === undefined ? "" : `, node ${node}`}`

/** Is somebody there who is alone where this one is a node, or the other way round? Of a slot `s`. */
const isOtherKind = (s: string) => `({writers}.slot = '${alone}') <> (${s} = '${alone}')`

/**
 * Takes a slot that is free, when nobody of the other kind is alive; one of those that is not may not write any more. Whoever
 * takes one is alone in doing so.
 */
const take = (statements: PgStatements, holder: Holder) =>
  transaction(
    statements,
    Effect.gen(function* () {
      yield* statements.executeRaw(lockWriters, [])
      const slot = slotOf(holder)
      const others = yield* statements.executeValues(
        `SELECT 1 FROM {writers} WHERE ${isOtherKind("$1::text")} AND expires >= clock_timestamp() LIMIT 1`,
        [slot]
      )
      if (others.length > 0) return false
      yield* statements.executeRaw(`DELETE FROM {writers} WHERE ${isOtherKind("$1::text")}`, [slot])
      // What was begun in that place is done before (`CredentialStorePg`), and nothing is begun there after.
      yield* statements.executeRaw("SELECT 1 FROM {writers} WHERE slot = $1 FOR UPDATE", [slot])
      const taken = yield* statements.executeValues(
        `INSERT INTO {writers} (slot, id, name, last_commit, alive, expires)
         VALUES ($4, $1, $2, 0, clock_timestamp(), clock_timestamp() + $3::bigint * interval '1 millisecond')
         ON CONFLICT (slot) DO UPDATE SET id = excluded.id, name = excluded.name, last_commit = 0,
           alive = excluded.alive, expires = excluded.expires
           WHERE {writers}.expires < clock_timestamp() OR {writers}.id = excluded.id
         RETURNING 1`,
        [holder.id, ourName(holder), Duration.toMillis(holder.lease), slot]
      )
      return taken.length > 0
    })
  )

/** What can be seen of whoever holds the tables. */
export interface SeenHolder {
  readonly id: string
  /** Whether it is one of several. */
  readonly isNode: boolean
  readonly name: string
  /** As text: whether it is still the same is all that is asked of it. */
  readonly expires: string
  /** Milliseconds of its lease, and since it has said that it is alive. */
  readonly left: number
  readonly silent: number
}

/** Returns whether a holder runs on this machine, by its name. */
export const isOfThisMachine = ({ name }: SeenHolder): boolean => name.startsWith(`${hostname()}, `)

/** Looks at who holds the tables; of several at the one that has said last that it is alive. */
export const look = (
  statements: PgStatements,
  /** Only those that are in the way of this slot. */
  slot?: string
): Effect.Effect<SeenHolder | undefined, PgFailure> =>
  Effect.map(
    statements.executeValues(
      `SELECT id, name, expires::text, (extract(epoch FROM expires - clock_timestamp()) * 1000)::float8,
         (extract(epoch FROM clock_timestamp() - alive) * 1000)::float8, slot <> '${alone}'
       FROM {writers} ${slot === undefined ? "" : `WHERE slot = $1 OR ${isOtherKind("$1::text")}`}
       ORDER BY expires DESC LIMIT 1`,
      slot === undefined ? [] : [slot]
    ),
    ([row]) =>
      row === undefined
        ? undefined
        : {
            id: String(row[0]),
            name: String(row[1]),
            expires: String(row[2]),
            left: Number(row[3]),
            silent: Number(row[4]),
            isNode: row[5] === true
          }
  )

/** Returns the slots of all that are alive, as writers or as nodes: what one says of itself may be late where the other is not. */
export const slotsAlive = (statements: PgStatements): Effect.Effect<ReadonlySet<string>, PgFailure> =>
  Effect.map(
    statements.executeValues(
      `SELECT slot FROM {writers} WHERE expires >= clock_timestamp()
       UNION SELECT 'node ' || name FROM {nodes} WHERE expires >= clock_timestamp()`,
      []
    ),
    (rows) => new Set(rows.map(([slot]) => String(slot)))
  )

/** Returns whether a node has its slot, or is back in it. */
export const hasSlot = (statements: PgStatements, node: string): Effect.Effect<boolean, PgFailure> =>
  Effect.map(
    statements.executeValues("SELECT 1 FROM {writers} WHERE slot = $1", [slotOfNode(node)]),
    (rows) => rows.length > 0
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
      if (yield* take(statements, holder)) return
      const seen = yield* look(statements, slotOf(holder))
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
            `${database} is held by another runtime (${seen.name}), which is alive; ` +
            (seen.isNode !== (holder.node !== undefined)
              ? "stop it, make both nodes of a cluster, or give each a prefix of its own"
              : holder.node === undefined
                ? "stop it, or give each a prefix of its own"
                : "give each node a name of its own")
        })
      yield* inRealTime(Effect.sleep(Duration.millis(Math.max(10, Math.min(betweenLooks, seen.left)))))
    }
  })

/**
 * Brings tables of an older version up to date before this node takes its place: while a node is there that knows only the older
 * ones it is waited for as in {@link hold}, since it may have died, and fails when that says that it is alive.
 */
export const migrateShared = (
  statements: PgStatements,
  database: string,
  prefix: string
): Effect.Effect<void, PgFailure | StoreError> =>
  Effect.gen(function* () {
    const held = Effect.map(look(statements), (seen) =>
      seen !== undefined && seen.left > 0 ? seen : undefined
    )
    let first: SeenHolder | undefined
    for (;;) {
      const seen = yield* migrateUnheld(statements, database, prefix, held)
      if (seen === undefined) return
      if (first === undefined) {
        first = seen
        yield* Effect.logWarning(
          `${database} has tables of an older version, and ${seen.name} was there; waiting up to ` +
            `${Math.ceil(seen.left / 1000)} s for a sign that it is alive`
        )
      } else if (seen.id !== first.id || seen.expires !== first.expires)
        return yield* new StoreError({
          message:
            `the tables ${prefix}* of ${database} are of an older version, and a runtime of that is alive on them ` +
            `(${seen.name}); they are brought up to date when none is: stop all of that version, then start this one`
        })
      yield* inRealTime(Effect.sleep(Duration.millis(Math.max(10, Math.min(betweenLooks, seen.left)))))
    }
  })

/** What is said to whoever held the tables and does not any more. */
export const lost = (database: string, { node }: Pick<Holder, "node">): StoreError =>
  new StoreError({
    message:
      node === undefined
        ? `another runtime holds the tables of ${database} since; stop one of them, or give each a prefix of its own`
        : `node ${node} was taken for gone by others on ${database}, which go on with what it ran; start it again`,
    publicMessage: "the database is held by another runtime",
    fenced: true
  })

/** Says that the holder is alive; fails when it is the holder no more. */
export const renew = (
  statements: PgStatements,
  holder: Holder,
  database: string
): Effect.Effect<void, PgFailure | StoreError> =>
  Effect.flatMap(
    statements.executeValues(
      `UPDATE {writers} SET alive = clock_timestamp(), expires = clock_timestamp() + $2::bigint * interval '1 millisecond'
       WHERE slot = $3 AND id = $1 RETURNING 1`,
      [holder.id, Duration.toMillis(holder.lease), slotOf(holder)]
    ),
    (rows) => (rows.length > 0 ? Effect.void : lost(database, holder))
  )

/** Lets others take the tables at once. */
export const release = (statements: PgStatements, holder: Holder): Effect.Effect<unknown, PgFailure> =>
  statements.executeRaw("DELETE FROM {writers} WHERE slot = $2 AND id = $1", [holder.id, slotOf(holder)])

/** The number of the holder's newest batch; `undefined` when it holds the tables no more. */
export const lastCommit = (
  statements: PgStatements,
  holder: Holder
): Effect.Effect<number | undefined, PgFailure> =>
  Effect.map(
    statements.executeValues("SELECT last_commit::float8 FROM {writers} WHERE slot = $2 AND id = $1", [
      holder.id,
      slotOf(holder)
    ]),
    ([row]) => (row === undefined ? undefined : Number(row[0]))
  )
