/**
 * The store over a SQL client that speaks SQLite's dialect (`@effect/sql-sqlite-node` and its
 * relatives). The tables are in `store/schema.ts`; whoever opens the database brings it to that schema.
 *
 * Statements go to one connection, reserved for the life of the store, and not through the client: that
 * keeps every transaction flat and exclusive whatever fiber it runs in, lets a failing `COMMIT` be a
 * failure rather than a defect, and costs a fraction.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import { Turn } from "../../services/runtime/Turn.js"
import type {
  JobRecord,
  Op,
  Run,
  SessionRecord,
  StoredEvent,
  StoreService
} from "../../services/store/Store.js"
import { Store, StoreError } from "../../services/store/Store.js"
import { firstPlace, makeSearch } from "./ended.js"
import { jobsOf, type Log, type Plan, plan, type Statement, type WriterState } from "./plan.js"
import * as query from "./query.js"
import { toStoreError } from "./sqlError.js"
import { vacuumPage } from "./vacuum.js"

export interface Options {
  /** What error messages call the database; a SQLite store gives its file name. */
  readonly name?: string | undefined
}

const noLogs: ReadonlyMap<string, Log> = new Map()

const begin: Statement = ["BEGIN IMMEDIATE", []]
const end: Statement = ["COMMIT", []]
const undo: Statement = ["ROLLBACK", []]

/**
 * A store over a database that has the current schema. It keeps a connection of the client to itself,
 * so a client that has only one is the store's alone.
 */
export const make = (
  options: Options = {}
): Effect.Effect<StoreService, StoreError, SqlClient.SqlClient | Scope> =>
  Effect.gen(function* () {
    const mapError = Effect.mapError(toStoreError(options.name ?? "the database"))
    const connection = yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql.reserve).pipe(mapError)
    /** No read sees a transaction half done, and no two transactions mix. */
    const exclusive = (yield* Effect.makeSemaphore(1)).withPermits(1)

    const select = <A>([sql, params]: query.Query<A>): Effect.Effect<ReadonlyArray<A>, StoreError> =>
      mapError(exclusive(connection.execute(sql, params, undefined)))

    const selectOne = <A>(statement: query.Query<A>): Effect.Effect<A | undefined, StoreError> =>
      Effect.map(select(statement), (rows) => rows[0])

    /** Rows as arrays: reading a page is the hot path, and objects are made of them anyway. */
    const events = ([sql, params]: Statement): Effect.Effect<ReadonlyArray<StoredEvent>, StoreError> =>
      mapError(exclusive(Effect.map(connection.executeValues(sql, params), query.toEvents)))

    const parse = <A>(row: query.RecordRow): Effect.Effect<A, StoreError> =>
      Effect.try({ try: () => JSON.parse(row.record) as A, catch: (cause) => cause }).pipe(mapError)

    const selectRecords = <A>(statement: query.Query<query.RecordRow>) =>
      Effect.flatMap(select(statement), Effect.forEach(parse<A>))

    const selectRecord = <A>(
      statement: query.Query<query.RecordRow>
    ): Effect.Effect<A | undefined, StoreError> =>
      Effect.flatMap(selectOne(statement), (row) =>
        row === undefined ? Effect.succeed(undefined) : parse<A>(row)
      )

    const execute = ([sql, params]: Statement) => connection.executeRaw(sql, params)

    /** Uninterruptible: once begun, a transaction ends as a whole, and its caller learns how. */
    const transaction = <A>(
      body: Effect.Effect<A, SqlError | StoreError>,
      adopt: (result: A) => void
    ): Effect.Effect<A, StoreError> =>
      execute(begin).pipe(
        Effect.zipRight(body),
        Effect.zipLeft(execute(end)),
        // SQLite may have rolled back by itself already, which makes this one fail.
        Effect.tapErrorCause(() => Effect.ignore(execute(undo))),
        Effect.tap((result) => Effect.sync(() => adopt(result))),
        exclusive,
        Effect.uninterruptible,
        mapError
      )

    const start = yield* selectOne(query.writerStart)
    const state: WriterState = {
      nextRow: (start?.row ?? 0) + 1,
      nextJob: (start?.job ?? 0) + 1,
      logs: new Map()
    }

    const load = (jobIds: ReadonlyArray<string>): Effect.Effect<ReadonlyMap<string, Log>, SqlError> => {
      const [sql, params] = query.logs(jobIds)
      return Effect.map(connection.execute(sql, params, undefined), query.toLogs)
    }

    const write = (
      batch: ReadonlyArray<Op>,
      loaded: ReadonlyMap<string, Log>
    ): Effect.Effect<Plan, SqlError | StoreError> => {
      const planned = plan(batch, state, loaded)
      return planned._tag === "Misuse"
        ? Effect.fail(new StoreError({ message: planned.message }))
        : Effect.as(Effect.forEach(planned.statements, execute, { discard: true }), planned)
    }

    const commit = (batch: ReadonlyArray<Op>): Effect.Effect<void, StoreError> =>
      transaction(
        Effect.suspend(() => {
          const unknown = Array.from(jobsOf(batch)).filter((jobId) => !state.logs.has(jobId))
          if (unknown.length === 0) return write(batch, noLogs)
          return Effect.flatMap(load(unknown), (loaded) => write(batch, loaded))
        }),
        (planned) => planned.adopt()
      )

    const turn = yield* Turn
    const ended = (...query_: Parameters<typeof query.ended>) => select(query.ended(...query_))
    const unneeded = makeSearch({
      ended,
      neededOf: (jobIds) => Effect.map(select(query.neededOf(jobIds)), (rows) => new Set(query.ids(rows))),
      pause: turn.next
    })

    return {
      kind: "durable",
      commit: (batch) => (batch.length === 0 ? Effect.void : commit(batch)),
      session: (sessionId) => selectRecord<SessionRecord>(query.session(sessionId)),
      sessions: selectRecords<SessionRecord>(query.sessions),
      view: (sessionId) =>
        Effect.map(selectOne(query.view(sessionId)), (row) => row ?? { first: 1, last: 0 }),
      page: (sessionId, after, limit, maxBytes) => {
        const [sql, params] = query.page(sessionId, after, limit, maxBytes)
        return mapError(exclusive(connection.executeValues(sql, params))).pipe(
          Effect.map((rows) => query.toPage(rows, after, maxBytes))
        )
      },
      lastRun: (sessionId) => selectOne<Run>(query.lastRun(sessionId)),
      runs: (sessionId, fromEventSeq, limit) => select<Run>(query.runs(sessionId, fromEventSeq, limit)),
      observers: (jobId) => Effect.map(select(query.observers(jobId)), query.ids),
      observersOf: (jobIds) => Effect.map(select(query.observersOf(jobIds)), query.toGroups),
      viewers: (jobIds) => select(query.viewers(jobIds)),
      needed: (jobId) => Effect.map(selectOne(query.needed(jobId)), (row) => row?.seq ?? undefined),
      job: (jobId) => selectRecord<JobRecord>(query.job(jobId)),
      jobs: (filter) => selectRecords<JobRecord>(query.jobs(filter)),
      jobBySubmit: (sessionId, submitId) => selectRecord<JobRecord>(query.jobBySubmit(sessionId, submitId)),
      jobByKey: (principal, key) => selectRecord<JobRecord>(query.jobByKey(principal, key)),
      endedJobs: (endedBefore, limit) => Effect.map(select(query.endedJobs(endedBefore, limit)), query.ids),
      retired: ({ endedBefore, limit }) => unneeded(undefined, endedBefore, limit),
      surplus: ({ limit, needed, principal }) =>
        needed
          ? Effect.map(ended(principal, firstPlace, Number.MAX_SAFE_INTEGER, limit), query.ids)
          : unneeded(principal, Number.MAX_SAFE_INTEGER, limit),
      endedCounts: Effect.map(
        select(query.endedCounts),
        (rows) => new Map(rows.map(({ count, principal }) => [principal, count]))
      ),
      input: (jobId) => Effect.map(selectOne(query.input(jobId)), (row) => row?.input),
      events: (jobId, fromSeq, limit) => events(query.events(jobId, fromSeq, limit)),
      bounds: (jobId) => Effect.map(selectOne(query.bounds(jobId)), query.toBounds),
      boundsOf: (jobIds) => Effect.map(select(query.retained(jobIds)), query.toBoundsOf),
      marks: (jobId) => Effect.map(select(query.marks(jobId)), query.toMarks),
      aliveAt: Effect.map(selectOne(query.aliveAt), (row) => row?.aliveAt ?? 0),
      vacuum: Effect.map(
        transaction(vacuumPage(connection), ({ jobId }) => {
          // Its extents have moved.
          if (jobId !== undefined) state.logs.delete(jobId)
        }),
        ({ more }) => more
      )
    }
  })

/** `Store` over the `SqlClient` in the context, whose database has the current schema. */
export const layer = (options: Options = {}): Layer.Layer<Store, StoreError, SqlClient.SqlClient> =>
  Layer.scoped(Store, make(options))
