/**
 * The store over a SQL client that speaks SQLite's dialect: our own of one file, or an application's.
 *
 * Statements go to a connection, and not through the client: that keeps every transaction flat and exclusive whatever
 * fiber it runs in, lets a failing `COMMIT` be a failure rather than a defect, and costs a fraction. `lending.ts` says
 * whose connection it is.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import { Turn, type TurnService } from "../../services/runtime/Turn.js"
import type {
  JobFilter,
  JobRecord,
  Op,
  Run,
  SessionRecord,
  StoreService
} from "../../services/store/Store.js"
import { Store, StoreError } from "../../services/store/Store.js"
import { whileBusy } from "./busy.js"
import { firstPlace, makeSearch } from "./ended.js"
import { borrowed, kept, type Lend, type Statements } from "./lending.js"
import { type ListingStep, list, stepSize } from "./listing.js"
import { claim, migrate, stillOwner, type TableOptions, tablesOf } from "./migrate.js"
import { naming } from "./naming.js"
import { jobsOf, type LogEnd, type Plan, plan, type WriterState } from "./plan.js"
import * as query from "./query.js"
import * as retention from "./retentionQuery.js"
import { SqlClientTag } from "./sqlClientTag.js"
import { toStoreError } from "./sqlError.js"
import type { Statement } from "./statements.js"
import { free } from "./vacuum.js"

/** Options of a store over a SQL client. */
export interface Options extends TableOptions {}

export { migrate } from "./migrate.js"

const noLogs: ReadonlyMap<string, LogEnd> = new Map()

/** Says once that something fails, for the operator, and once that it works again. */
const noted = (doing: string) => {
  let failing = false
  return <A>(effect: Effect.Effect<A, StoreError>): Effect.Effect<A, StoreError> =>
    Effect.matchEffect(effect, {
      onFailure: (error) => {
        const first = !failing
        failing = true
        const note = first ? Effect.logError(`${doing} failed: ${error.message}`) : Effect.void
        return Effect.zipRight(note, Effect.fail(error))
      },
      onSuccess: (result) => {
        if (!failing) return Effect.succeed(result)
        failing = false
        return Effect.as(Effect.logInfo(`${doing} works again`), result)
      }
    })
}

const begin: Statement = ["BEGIN IMMEDIATE", []]
const end: Statement = ["COMMIT", []]
const undo: Statement = ["ROLLBACK", []]

/** What a store works on. */
export interface StoreParts {
  /** What error messages call the database. */
  readonly name: string
  readonly lend: Lend
  /** Fails when the store may not write any more; asked in every transaction. */
  readonly mayWrite: (statements: Statements) => Effect.Effect<void, SqlError | StoreError>
}

/** Runs work on the database: one piece at a time, so that no read sees a transaction half done and no two mix. */
interface Access {
  readonly read: <A>(
    work: (statements: Statements) => Effect.Effect<A, SqlError>
  ) => Effect.Effect<A, StoreError>
  /**
   * Runs `body` in a transaction: once begun, it ends as a whole, and its caller learns how. `adopt` gets what was
   * committed. Between two attempts to begin, others may read.
   */
  readonly transaction: <A>(
    body: (statements: Statements) => Effect.Effect<A, SqlError | StoreError>,
    adopt: (result: A) => void
  ) => Effect.Effect<A, StoreError>
}

const executeOn =
  (statements: Statements) =>
  ([sql, params]: Statement) =>
    statements.executeRaw(sql, params)

const accessTo = ({ lend, mayWrite, name }: StoreParts): Effect.Effect<Access> =>
  Effect.map(Effect.makeSemaphore(1), (semaphore) => {
    const mapError = Effect.mapError(toStoreError(name))
    const exclusive = semaphore.withPermits(1)
    const reading = noted("reading from the store")
    const writing = noted("writing to the store")
    return {
      read: (work) => reading(whileBusy(mapError(exclusive(lend(work))))),
      transaction: (body, adopt) =>
        lend((statements) => {
          const execute = executeOn(statements)
          return execute(begin).pipe(
            Effect.zipRight(mayWrite(statements)),
            Effect.zipRight(body(statements)),
            Effect.zipLeft(execute(end)),
            // SQLite may have rolled back by itself already, which makes this one fail.
            Effect.tapErrorCause(() => Effect.ignore(execute(undo))),
            Effect.tap((result) => Effect.sync(() => adopt(result)))
          )
        }).pipe(exclusive, Effect.uninterruptible, mapError, whileBusy, writing)
    }
  })

/** Reads rows, and the records in them. */
const selecting = (name: string, { read }: Access) => {
  const select = <A>([sql, params]: query.Query<A>): Effect.Effect<ReadonlyArray<A>, StoreError> =>
    read((statements) => statements.execute(sql, params, undefined))

  const selectOne = <A>(statement: query.Query<A>): Effect.Effect<A | undefined, StoreError> =>
    Effect.map(select(statement), (rows) => rows[0])

  /** Reads rows as arrays: reading a page is the hot path, and objects are made of them anyway. */
  const values = <A>([sql, params]: Statement, make: (rows: query.Rows) => A): Effect.Effect<A, StoreError> =>
    read((statements) => Effect.map(statements.executeValues(sql, params), make))

  const parse = <A>(row: query.RecordRow): Effect.Effect<A, StoreError> =>
    Effect.mapError(
      Effect.try({ try: () => JSON.parse(row.record) as A, catch: (cause) => cause }),
      toStoreError(name)
    )

  const selectRecords = <A>(statement: query.Query<query.RecordRow>) =>
    Effect.flatMap(select(statement), Effect.forEach(parse<A>))

  const selectRecord = <A>(
    statement: query.Query<query.RecordRow>
  ): Effect.Effect<A | undefined, StoreError> =>
    Effect.flatMap(selectOne(statement), (row) =>
      row === undefined ? Effect.succeed(undefined) : parse<A>(row)
    )

  return { select, selectOne, values, parse, selectRecord, selectRecords }
}

type Select = ReturnType<typeof selecting>

/** Writes batches of operations, and frees what was dropped; it knows where the next row goes and where logs end. */
const writer = (
  { transaction }: Access,
  start: { readonly row: number; readonly job: number } | undefined
) => {
  const state: WriterState = {
    nextRow: (start?.row ?? 0) + 1,
    nextJob: (start?.job ?? 0) + 1,
    logs: new Map()
  }

  const load = (
    statements: Statements,
    jobIds: ReadonlyArray<string>
  ): Effect.Effect<ReadonlyMap<string, LogEnd>, SqlError> => {
    const [sql, params] = query.logs(jobIds)
    return Effect.map(statements.execute(sql, params, undefined), query.toLogs)
  }

  const write = (
    statements: Statements,
    batch: ReadonlyArray<Op>,
    loaded: ReadonlyMap<string, LogEnd>
  ): Effect.Effect<Plan, SqlError | StoreError> => {
    const planned = plan(batch, state, loaded)
    return planned._tag === "Misuse"
      ? Effect.fail(new StoreError({ message: planned.message, misuse: true }))
      : Effect.as(Effect.forEach(planned.statements, executeOn(statements), { discard: true }), planned)
  }

  const commit = (batch: ReadonlyArray<Op>): Effect.Effect<void, StoreError> =>
    transaction(
      (statements) => {
        const unknown = Array.from(jobsOf(batch)).filter((jobId) => !state.logs.has(jobId))
        if (unknown.length === 0) return write(statements, batch, noLogs)
        return Effect.flatMap(load(statements, unknown), (loaded) => write(statements, batch, loaded))
      },
      (planned) => planned.adopt()
    )

  const vacuum = Effect.map(
    transaction(free, ({ moved }) => {
      for (const jobId of moved) state.logs.delete(jobId)
    }),
    ({ more }) => more
  )

  return { commit, vacuum }
}

/** Finds jobs: those of a listing, and those that have ended and may be dropped. */
const searching = ({ parse, select }: Select, turn: TurnService) => {
  const ended = (...search: Parameters<typeof retention.ended>) => select(retention.ended(...search))
  const unneeded = makeSearch({
    ended,
    neededOf: (jobIds) => Effect.map(select(retention.neededOf(jobIds)), (rows) => new Set(query.ids(rows))),
    pause: turn.next
  })
  const toStep = (rows: ReadonlyArray<query.ListedRow>): Effect.Effect<ListingStep<JobRecord>, StoreError> =>
    Effect.map(
      Effect.forEach(
        rows.flatMap(({ record }) => (record === null ? [] : [{ record }])),
        parse<JobRecord>
      ),
      (found) => ({ found, next: rows.at(-1) })
    )
  return {
    jobs: (filter: JobFilter) =>
      list(filter, (after) => Effect.flatMap(select(query.jobs(filter, after, stepSize)), toStep), turn.next),
    retired: ({ endedBefore, limit }: Parameters<StoreService["retired"]>[0]) =>
      unneeded(undefined, endedBefore, limit),
    surplus: ({ limit, needed, principal }: Parameters<StoreService["surplus"]>[0]) =>
      needed
        ? Effect.map(ended(principal, firstPlace, Number.MAX_SAFE_INTEGER, limit), query.ids)
        : unneeded(principal, Number.MAX_SAFE_INTEGER, limit)
  }
}

/** Makes a store over tables of the current schema. */
export const makeOver = (parts: StoreParts): Effect.Effect<StoreService, StoreError> =>
  Effect.gen(function* () {
    const access = yield* accessTo(parts)
    const reading = selecting(parts.name, access)
    const { select, selectOne, selectRecord, selectRecords, values } = reading
    const { commit, vacuum } = writer(access, yield* selectOne(query.writerStart))
    return {
      kind: "durable",
      ...searching(reading, yield* Turn),
      commit: (batch) => (batch.length === 0 ? Effect.void : commit(batch)),
      session: (sessionId) => selectRecord<SessionRecord>(query.session(sessionId)),
      sessions: selectRecords<SessionRecord>(query.sessions),
      view: (sessionId) =>
        Effect.map(selectOne(query.view(sessionId)), (row) => row ?? { first: 1, last: 0 }),
      page: (sessionId, after, limit, maxBytes) =>
        values(query.page(sessionId, after, limit, maxBytes), (rows) => query.toPage(rows, after, maxBytes)),
      runs: (sessionId, fromEventSeq, limit) => select<Run>(query.runs(sessionId, fromEventSeq, limit)),
      observersOf: (jobIds) => Effect.map(select(retention.observersOf(jobIds)), retention.toGroups),
      viewers: (jobIds) => select(retention.viewers(jobIds)),
      needed: (jobId) => Effect.map(selectOne(retention.needed(jobId)), (row) => row?.seq ?? undefined),
      job: (jobId) => selectRecord<JobRecord>(query.job(jobId)),
      jobBySubmit: (sessionId, submitId) => selectRecord<JobRecord>(query.jobBySubmit(sessionId, submitId)),
      jobByKey: (principal, key) => selectRecord<JobRecord>(query.jobByKey(principal, key)),
      endedCounts: Effect.map(select(retention.endedCounts), retention.toEndedCounts),
      input: (jobId) => Effect.map(selectOne(query.input(jobId)), (row) => row?.input),
      journal: (jobId, after, limit) =>
        Effect.map(select(query.journal(jobId, after, limit)), query.toJournal),
      journalValue: (jobId, kind, key) =>
        Effect.map(selectOne(query.journalValue(jobId, kind, key)), (row) => row?.value ?? undefined),
      events: (jobId, fromSeq, limit) => values(query.events(jobId, fromSeq, limit), query.toEvents),
      boundsOf: (jobIds) => Effect.map(select(retention.retained(jobIds)), retention.toBoundsOf),
      marks: (jobId) => Effect.map(select(retention.marks(jobId)), retention.toMarks),
      aliveAt: Effect.map(selectOne(query.aliveAt), (row) => row?.aliveAt ?? 0),
      freeing: Effect.map(selectOne(retention.freeing), (row) => row?.events ?? 0),
      vacuum,
      held: () => 0
    }
  })

const mayAlways = () => Effect.void

/** Makes the store of a database that is its own: it keeps a connection of the client to itself. */
export const makeKeeping = (
  sql: SqlClient.SqlClient,
  name: string
): Effect.Effect<StoreService, StoreError, Scope> =>
  kept(sql, naming("")).pipe(
    Effect.mapError(toStoreError(name)),
    Effect.flatMap((lend) => makeOver({ name, lend, mayWrite: mayAlways }))
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
    return yield* makeOver({ name, lend, mayWrite: (statements) => stillOwner(statements, owner, name) })
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
