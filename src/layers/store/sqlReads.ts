/** The reads of a store over SQL: everything that it can be asked, whoever writes to it. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { Turn, type TurnService } from "../../services/runtime/Turn.js"
import type {
  DueQuery,
  JobFilter,
  JobRecord,
  NewsQuery,
  Run,
  StoreError,
  StoreService
} from "../../services/store/Store.js"
import { allEnded, makeSearch } from "./ended.js"
import * as Intact from "./intact.js"
import type { Statements } from "./lending.js"
import { type ListingStep, list, stepSize } from "./listing.js"
import { type Queries, sqlite } from "./queries.js"
import * as query from "./query.js"
import * as retention from "./retentionQuery.js"
import type { Statement } from "./statements.js"
import * as viewing from "./viewQuery.js"

/** What a store answers from what is committed. */
export type Reads = Omit<StoreService, "kind" | "commit" | "vacuum" | "held" | "died">

/** Runs a read, which sees no transaction half done. */
export type Read<E = SqlError> = <A>(
  work: (statements: Statements<E>) => Effect.Effect<A, E>
) => Effect.Effect<A, StoreError>

/** Reads rows, and the records in them. */
const selecting = <E>(name: string, read: Read<E>) => {
  const select = <A>([sql, params]: query.Query<A>): Effect.Effect<ReadonlyArray<A>, StoreError> =>
    read((statements) => statements.execute<A>(sql, params))

  const selectOne = <A>(statement: query.Query<A>): Effect.Effect<A | undefined, StoreError> =>
    Effect.map(select(statement), (rows) => rows[0])

  /** Reads rows as arrays: reading a page is the hot path, and objects are made of them anyway. */
  const values = <A>([sql, params]: Statement, make: (rows: query.Rows) => A): Effect.Effect<A, StoreError> =>
    read((statements) => Effect.map(statements.executeValues(sql, params), make))

  const intact = Intact.make(name)

  /** Reads a record, or nothing. */
  const one = <A>(
    statement: query.Query<query.RecordRow>,
    parse: (row: query.RecordRow) => Effect.Effect<A, StoreError>
  ): Effect.Effect<A | undefined, StoreError> =>
    Effect.flatMap(selectOne(statement), (row) => (row === undefined ? Effect.succeed(row) : parse(row)))

  return { select, selectOne, values, intact, one }
}

type Select = ReturnType<typeof selecting>

/** Records of rows but for those that are damaged: of these the operator is told where they are read. */
const undamaged = <A>(
  rows: ReadonlyArray<query.RecordRow>,
  parse: (row: query.RecordRow) => Effect.Effect<A, StoreError>
) =>
  Effect.map(
    Effect.forEach(rows, (row) =>
      Effect.catchAll(parse(row), (error) =>
        error.damaged === undefined ? error : Effect.succeed(undefined)
      )
    ),
    (found) => found.filter((record) => record !== undefined)
  )

/** Reads a page of records; what is damaged takes nobody's place. */
const pageOf = <Row extends query.RecordRow, A>(
  limit: number,
  read: (after: Row | undefined, limit: number) => Effect.Effect<ReadonlyArray<Row>, StoreError>,
  parse: (row: query.RecordRow) => Effect.Effect<A, StoreError>,
  turn: TurnService
) =>
  Effect.gen(function* () {
    const found: Array<A> = []
    for (let after: Row | undefined; ; ) {
      const left = limit - found.length
      const rows: ReadonlyArray<Row> = yield* read(after, left)
      found.push(...(yield* undamaged(rows, parse)))
      after = rows.at(-1)
      if (rows.length < left || found.length >= limit) return found
      yield* turn.next
    }
  })

/** Finds jobs that are due. */
const dueJobs =
  ({ intact, select }: Select, asked: Queries, turn: TurnService) =>
  (wanted: DueQuery) =>
    pageOf(
      wanted.limit,
      (after: query.DueRow | undefined, limit) =>
        select(asked.due({ ...wanted, after: after ?? wanted.after, limit })),
      intact.job,
      turn
    )

/** Finds jobs: those of a listing, and those that have ended and may be dropped. */
const searching = (reading: Select, asked: Queries, turn: TurnService) => {
  const { intact, select } = reading
  const ended = (...search: Parameters<Queries["ended"]>) => select(asked.ended(...search))
  const unneeded = makeSearch({
    ended,
    neededOf: (jobIds) => Effect.map(select(asked.neededOf(jobIds)), (rows) => new Set(query.ids(rows))),
    pause: turn.next
  })
  const toStep =
    ({ damaged }: JobFilter) =>
    (rows: ReadonlyArray<query.ListedRow>): Effect.Effect<ListingStep<JobRecord>, StoreError> => {
      const records = rows.flatMap(({ record }) => (record === null ? [] : [{ record }]))
      return Effect.map(
        damaged === "left out" ? undamaged(records, intact.job) : Effect.forEach(records, intact.job),
        (found) => ({ found, next: rows.at(-1) })
      )
    }
  return {
    jobs: (filter: JobFilter) =>
      list(
        filter,
        (after) => Effect.flatMap(select(asked.jobs(filter, after, stepSize)), toStep(filter)),
        turn.next
      ),
    due: dueJobs(reading, asked, turn),
    retired: ({ endedBefore, limit }: Parameters<StoreService["retired"]>[0]) =>
      unneeded(undefined, endedBefore, limit),
    surplus: ({ limit, needed, principal }: Parameters<StoreService["surplus"]>[0]) =>
      needed
        ? allEnded({ ended, pause: turn.next }, principal, limit)
        : unneeded(principal, Number.MAX_SAFE_INTEGER, limit)
  }
}

/** Counts what is stored: a page at a time, and others read in between. */
const counting = ({ selectOne }: Select, asked: Queries, turn: TurnService) =>
  Effect.gen(function* () {
    let events = 0
    let bytes = 0
    for (let [job, seq] = [-1, -1]; ; ) {
      const page = yield* selectOne(asked.counted(job, seq))
      events += page?.events ?? 0
      bytes += page?.bytes ?? 0
      if (page === undefined || page.extents < asked.countedAtOnce) return { events, bytes }
      job = page.job ?? job
      seq = page.seq ?? seq
      yield* turn.next
    }
  })

/** Returns the reads of a database, which error messages call `name`, and which understands what is `asked`. */
export const readsOver = <E>(
  name: string,
  read: Read<E>,
  asked: Queries = sqlite,
  /** Returns the name that a column holds. */
  nameOf: (stored: string) => string = (stored) => stored
): Effect.Effect<Reads> =>
  Effect.map(Turn, (turn) => {
    const reading = selecting(name, read)
    const { intact, one, select, selectOne, values } = reading
    const lives = Effect.map(
      select(asked.lives),
      (rows): ReadonlyMap<string, number> => new Map(rows.map(({ aliveAt, node }) => [nameOf(node), aliveAt]))
    )
    return {
      ...searching(reading, asked, turn),
      session: (sessionId) => one(asked.session(sessionId), intact.session),
      sessions: Effect.flatMap(select(asked.sessions), Effect.forEach(intact.session)),
      sessionPage: (filter) =>
        pageOf(
          filter.limit,
          (after: query.SessionRow | undefined, limit) =>
            select(asked.sessionPage({ ...filter, after: after?.sessionId ?? filter.after, limit })),
          intact.session,
          turn
        ),
      view: (sessionId) =>
        Effect.map(selectOne(asked.view(sessionId)), (row) => row ?? { first: 1, last: 0 }),
      page: (sessionId, after, limit, maxBytes) =>
        Effect.flatMap(
          values(asked.page(sessionId, after, limit, maxBytes), (rows) =>
            viewing.toPage(rows, after, maxBytes)
          ),
          intact.page
        ),
      runs: (sessionId, fromEventSeq, limit) => select<Run>(asked.runs(sessionId, fromEventSeq, limit)),
      numbering: (sessionId, jobId, after) =>
        Effect.map(selectOne(asked.numbering(sessionId, jobId, after)), viewing.toNumbering),
      observed: (sessionId) =>
        Effect.map(select(asked.observed(sessionId)), (rows) => query.toObserved(rows, nameOf)),
      news: ((news) => news && ((wanted: NewsQuery) => values(news(wanted), viewing.toNews)))(asked.news),
      openOn: ((asking) =>
        asking &&
        ((nodes: ReadonlyArray<string>, principals: ReadonlyArray<string>) =>
          Effect.map(
            select(asking(nodes, principals)),
            (rows) =>
              new Map(
                rows.map(({ pending, principal, running }) => [nameOf(principal), { pending, running }])
              )
          )))(asked.openOn),
      backlog: (after, limit) => values(asked.backlog(after, limit), viewing.toBacklog),
      lagging: (jobId) => Effect.map(select(asked.lagging(jobId)), query.ids),
      need: (sessionId) => Effect.map(selectOne(asked.need(sessionId)), (row) => row?.need ?? 1),
      hasLost: (sessionId) => Effect.map(selectOne(asked.hasLost(sessionId)), (row) => row?.lost === 1),
      observersOf: (jobIds) => Effect.map(select(asked.observersOf(jobIds)), retention.toGroups),
      viewers: (jobIds) => select(asked.viewers(jobIds)),
      needed: (jobId) => Effect.map(selectOne(asked.needed(jobId)), (row) => row?.seq ?? undefined),
      neededAbove: (jobId) => Effect.map(selectOne(asked.neededAbove(jobId)), (row) => row !== undefined),
      job: (jobId) => one(asked.job(jobId), intact.job),
      jobBySubmit: (sessionId, submitId) => one(asked.jobBySubmit(sessionId, submitId), intact.job),
      jobByKey: (principal, key) => one(asked.jobByKey(principal, key), intact.job),
      endedCounts: Effect.map(select(asked.endedCounts), retention.toEndedCounts),
      waitingObserved: (sessionId) => Effect.map(select(asked.waitingObserved(sessionId)), query.ids),
      waitingOwners: (principal) => Effect.map(select(asked.waitingOwners(principal)), query.ids),
      waitingCounts: (node) =>
        Effect.map(
          select(asked.waitingCounts(node)),
          (rows) => new Map(rows.map(({ count, principal }) => [principal, count]))
        ),
      jobNodes: Effect.map(select(asked.jobNodes), (rows) =>
        query.ids(rows).map((name) => JSON.parse(name) as string)
      ),
      input: (jobId) =>
        Effect.flatMap(selectOne(asked.input(jobId)), (row) => intact.json(jobId, "the input", row?.input)),
      jobPlaces: (jobIds) =>
        Effect.map(select(asked.jobPlaces(jobIds)), (rows) => query.toPlaces(rows, nameOf)),
      sessionPlaces: (sessionIds) =>
        Effect.map(select(asked.sessionPlaces(sessionIds)), (rows) => query.toPlaces(rows, nameOf)),
      nodeCounts: Effect.map(
        Effect.all([select(asked.openCounts), select(asked.attachedCounts)]),
        ([jobs, sessions]) => ({
          jobs: query.toCounts(jobs, nameOf),
          sessions: query.toCounts(sessions, nameOf)
        })
      ),
      wishes: (node, limit) =>
        Effect.map(select(asked.wishes(node, limit)), (rows) => query.toWishes(rows, nameOf)),
      hookEvents: (after, limit) => select(asked.hookEvents(after, limit)),
      journal: (jobId, after, limit) =>
        Effect.flatMap(select(asked.journal(jobId, after, limit)), (rows) =>
          intact.journal(jobId, query.toJournal(rows))
        ),
      journalValue: (jobId, kind, key) =>
        Effect.flatMap(selectOne(asked.journalValue(jobId, kind, key)), (row) =>
          intact.json(jobId, "the journal", row?.value ?? undefined)
        ),
      events: (jobId, fromSeq, limit) =>
        Effect.flatMap(values(asked.events(jobId, fromSeq, limit), viewing.toEvents), (events) =>
          intact.events(jobId, fromSeq, events)
        ),
      boundsOf: (jobIds) => Effect.map(select(asked.retained(jobIds)), retention.toBoundsOf),
      marks: (jobId) => Effect.map(select(asked.marks(jobId)), retention.toMarks),
      lives,
      aliveAt: Effect.map(lives, (all) => Math.max(0, ...all.values())),
      freeing: Effect.map(selectOne(asked.freeing), (row) => row?.events ?? 0),
      retained: counting(reading, asked, turn)
    }
  })
