/**
 * The store over a SQL client that speaks SQLite's dialect: our own of one file, or an application's.
 *
 * Statements go to a connection, and not through the client: that keeps every transaction flat and exclusive whatever
 * fiber it runs in, lets a failing `COMMIT` be a failure rather than a defect, and costs a fraction. `lending.ts` says
 * whose connection it is.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import type { Fenced, StoreService } from "../../services/store/Store.js"
import { Store, type StoreError } from "../../services/store/Store.js"
import { whileBusy } from "./busy.js"
import * as Erasing from "./erasing.js"
import { borrowed, kept, type Lend } from "./lending.js"
import { claim, migrate, stillOwner, type TableOptions, tablesOf } from "./migrate.js"
import { type Naming, naming } from "./naming.js"
import { noted } from "./noted.js"
import { pack } from "./packing.js"
import { perform } from "./perform.js"
import { SqlClientTag } from "./sqlClientTag.js"
import { toStoreError } from "./sqlError.js"
import { type Read, readsOver } from "./sqlReads.js"
import { select, type Work } from "./work.js"
import { Writer } from "./writer.js"

/** Options of a store over a SQL client. */
export interface Options extends TableOptions {}

export { migrate } from "./migrate.js"

/** What a store works on. */
interface StoreParts {
  /** What error messages call the database. */
  readonly name: string
  readonly lend: Lend
  /** Throws when the store may not write any more; asked in every transaction. */
  readonly mayWrite?: (() => Work<void>) | undefined
  /** It is a file of ours, and what somebody wants to be deleted is overwritten there. */
  readonly erases?: boolean | undefined
}

/** Makes a store over tables of the current schema. Work is done one piece at a time: none sees another half done. */
const makeOver = ({
  erases = false,
  lend,
  mayWrite,
  name
}: StoreParts): Effect.Effect<StoreService, StoreError> =>
  Effect.gen(function* () {
    const mapError = Effect.mapError(toStoreError(name))
    const exclusive = (yield* Effect.makeSemaphore(1)).withPermits(1)
    const [reading, writing] = [noted("reading from the store"), noted("writing to the store")]
    const read: Read = (work) => reading(whileBusy(mapError(exclusive(lend(work)))))
    /** Once begun it ends as a whole, and its caller learns how. */
    const once = <A>(work: () => Work<A>) =>
      lend((statements) => perform(statements, work)).pipe(
        exclusive,
        Effect.uninterruptible,
        Effect.mapError((error) => (error._tag === "Fenced" ? error : toStoreError(name)(error)))
      )
    /** Between two attempts to begin, others may read. */
    const patiently = <A, E extends StoreError | Fenced>(work: Effect.Effect<A, E>) =>
      writing(whileBusy(work))
    const write = <A>(work: () => Work<A>) => patiently(once(work))
    const reads = yield* readsOver(name, read)
    /** Commits apart, nothing states what it owns. */
    const unfenced = <A>(work: () => Work<A>) => Effect.catchTag(once(work), "Fenced", Effect.die)
    const writer = yield* patiently(unfenced(() => Writer.start(mayWrite)))
    const free = Effect.clockWith((clock) =>
      unfenced(() => writer.free(() => clock.unsafeCurrentTimeMillis()))
    )
    const run = (sql: string) => unfenced(() => select<object>([sql, []]))
    return {
      kind: "durable",
      ...reads,
      commit: (batch) => (batch.ops.length === 0 ? Effect.void : write(() => writer.commit(pack(batch)))),
      ...(erases ? Erasing.make({ run, patiently, free }, name) : { vacuum: patiently(free) }),
      held: () => 0
    }
  })

/** Makes the store of a database that is its own: it keeps a connection of the client to itself. */
export const makeKeeping = (
  sql: SqlClient.SqlClient,
  name: string,
  tables: Naming = naming("")
): Effect.Effect<StoreService, StoreError, Scope> =>
  kept(sql, tables).pipe(
    Effect.mapError(toStoreError(name)),
    Effect.flatMap((lend) => makeOver({ name, lend }))
  )

/** The same of a file of a runtime: what somebody wants to be deleted is overwritten in it. */
export const makeErasing = (
  sql: SqlClient.SqlClient,
  name: string
): Effect.Effect<StoreService, StoreError, Scope> =>
  kept(sql, naming("")).pipe(
    Effect.mapError(toStoreError(name)),
    Effect.flatMap((lend) => makeOver({ name, lend, erases: true }))
  )

/** Makes the store of a database that others use as well, after its tables. */
export const make = (options: Options = {}): Effect.Effect<StoreService, StoreError, SqlClient.SqlClient> =>
  Effect.gen(function* () {
    yield* migrate(options)
    const { name, prefix } = tablesOf(options)
    const sql = yield* SqlClientTag
    const mapError = Effect.mapError(toStoreError(name))
    const lend = yield* mapError(borrowed(sql, naming(prefix), name))
    const owner = crypto.randomUUID()
    yield* whileBusy(mapError(lend((statements) => claim(statements, owner))))
    return yield* makeOver({ name, lend, mayWrite: () => stillOwner(owner, name) })
  })

/**
 * Provides `Store` over the `SqlClient` in context, in tables that it makes and keeps current (see {@link migrate}). It
 * borrows a connection for each read and each transaction, so a client that has only one can be the application's too;
 * neither sees the other's transactions half done. An application must not wait for a job, or an emit, inside a
 * transaction of the same database: the commit waits for its end, 30 s at most.
 *
 * Commits are as durable as the client's: with SQLite, set `synchronous` to `FULL` for the power cut. One runtime at a
 * time may use a prefix. When a second one opens it, commits of the first fail from then on.
 *
 * @example
 * Runtime.layer().pipe(Layer.provide(StoreSql.layer({ prefix: "jobs_" })), Layer.provide(SqliteClient.layer({ filename })))
 */
export const layer = (options: Options = {}): Layer.Layer<Store, StoreError, SqlClient.SqlClient> =>
  Layer.effect(Store, make(options))
