/**
 * The one that commits. A batch is one statement where that is possible, and else a transaction, and states which batch it
 * follows: so it is applied once, however often it is sent, and the writer finds out by sending it again, or asking, whether
 * one of which it got no answer was.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { inRealTime } from "../../../services/runtime/within.js"
import { type Op, StoreError } from "../../../services/store/Store.js"
import { jobsOf, Misuse } from "../plan.js"
import { blockSize, keysOf, type LogEnd, plan, type WriterState } from "./batch.js"
import { outlookOf, toStoreError } from "./failures.js"
import { type Holder, lastCommit, lost } from "./holding.js"
import { transaction } from "./migrate.js"
import { type Lend, PgFailure, type Statements } from "./statement.js"
import { type Claim, type Values, writing } from "./statements.js"

/** What a writer works with. */
export interface WriterParts {
  readonly name: string
  readonly lend: Lend
  readonly holder: Holder
  /** How long a statement is tried again before its failure is told. */
  readonly patience: Duration.Duration
}

/** Milliseconds of the first pause between two attempts, and of the longest. */
const firstPause = 20
const longestPause = 1_000

/** Tries again what Postgres may do the next time; `onUnknown` is told when the statement may have been carried out. */
export const patiently = <A, E>(
  effect: Effect.Effect<A, E | PgFailure | StoreError>,
  patience: Duration.Duration,
  onUnknown: () => void = () => undefined
): Effect.Effect<A, E | PgFailure | StoreError> =>
  Effect.suspend(() => {
    const until = performance.now() + Duration.toMillis(patience)
    const attempt = (pause: number): Effect.Effect<A, E | PgFailure | StoreError> =>
      Effect.catchAll(effect, (error) => {
        if (!(error instanceof PgFailure)) return Effect.fail(error)
        const { again, unknown } = outlookOf(error)
        if (unknown) onUnknown()
        return !again || performance.now() + pause > until
          ? Effect.fail(error)
          : Effect.zipRight(
              inRealTime(Effect.sleep(Duration.millis(pause))),
              attempt(Math.min(2 * pause, longestPause))
            )
      })
    return attempt(firstPause)
  })

/** Selects the keys of jobs, and where their logs end. */
const logsOf = (statements: Statements, jobIds: ReadonlyArray<string>) =>
  Effect.map(
    statements.executeValues(
      `SELECT j.job_id, j.id::float8, coalesce((SELECT max(seq) FROM {events} WHERE job = j.id), j.first - 1)::float8
       FROM {jobs} j WHERE j.job_id = ANY($1::text[])`,
      [jobIds]
    ),
    (rows): ReadonlyMap<string, LogEnd> =>
      new Map(rows.map(([jobId, id, last]) => [String(jobId), { id: Number(id), last: Number(last) }]))
  )

/** One batch at a time. */
export class Writer {
  private readonly state: WriterState = { logs: new Map(), blocks: [], taken: 0 }
  /** Number of the newest batch that is known to be applied, and of the newest that was tried. */
  private applied = 0
  private tried = 0
  /** Batches of which it is not known that they were not applied, although that was told. */
  private readonly unknown = new Set<number>()

  constructor(private readonly parts: WriterParts) {}

  /** Commits a batch whole or not at all. */
  commit(batch: ReadonlyArray<Op>): Effect.Effect<void, StoreError> {
    const { lend, name, patience } = this.parts
    return Effect.gen(this, function* () {
      const jobs = Array.from(jobsOf(batch)).filter((jobId) => !this.state.logs.has(jobId))
      const keys = this.state.taken + keysOf(batch) - blockSize * this.state.blocks.length
      const loaded =
        jobs.length === 0 && keys <= 0
          ? new Map<string, LogEnd>()
          : yield* patiently(
              lend((statements) => this.prepare(statements, jobs, keys)),
              patience
            )
      const planned = yield* Effect.try({
        try: () => plan(batch, this.state, loaded),
        catch: (cause) => {
          if (cause instanceof Misuse) return new StoreError({ message: cause.message, misuse: true })
          throw cause
        }
      })
      if (planned.statements.length > 0) yield* this.apply(planned.statements)
      planned.adopt()
    }).pipe(Effect.mapError(toStoreError(name)))
  }

  /** Reads what a batch needs: where logs end, and keys for new jobs. */
  private prepare(statements: Statements, jobs: ReadonlyArray<string>, keys: number) {
    return Effect.gen(this, function* () {
      if (keys > 0) {
        const blocks = Math.ceil(keys / blockSize)
        const rows = yield* statements.executeValues(
          "SELECT nextval('{job_ids}')::float8 FROM generate_series(1, $1::integer)",
          [blocks]
        )
        this.state.blocks = [...this.state.blocks, ...rows.map(([first]) => Number(first))]
      }
      return jobs.length === 0 ? new Map<string, LogEnd>() : yield* logsOf(statements, jobs)
    })
  }

  private apply(statements: ReadonlyArray<Values>): Effect.Effect<void, PgFailure | StoreError> {
    const { holder, lend, name, patience } = this.parts
    return Effect.suspend(() => {
      const number = ++this.tried
      const claim = {
        writer: holder.id,
        after: this.applied,
        number,
        lease: Duration.toMillis(holder.lease)
      }
      const attempt = lend((connection) =>
        Effect.flatMap(send(connection, statements, claim), (written) =>
          written ? Effect.succeed(number) : lastCommit(connection, holder)
        )
      )
      return patiently(attempt, patience, () => this.unknown.add(number)).pipe(
        Effect.flatMap((newest) => {
          if (newest === undefined) return lost(name)
          if (newest !== number) return diverged(name)
          this.applied = number
          this.unknown.clear()
          return Effect.void
        })
      )
    })
  }
}

/** What was told to have failed has been applied after all: what is in memory is no more what is stored. */
const diverged = (name: string): StoreError =>
  new StoreError({
    message:
      `${name} has applied a batch of which no answer came while it was waited for; the runtime must be started again, ` +
      "and goes on from what is stored",
    publicMessage: "the database has applied what was told to have failed",
    fenced: true
  })

/** Returns whether the statements were carried out: they are not when the claim does not hold. */
const send = (
  connection: Statements,
  [first, ...rest]: ReadonlyArray<Values>,
  claim: Claim
): Effect.Effect<boolean, PgFailure> => {
  const execute = (values: Values, stated?: Claim) => {
    const [sql, params] = writing(values, stated)
    return connection.executeValues(sql, params)
  }
  const claimed = Effect.map(execute(first ?? {}, claim), ([row]) => row?.[0] === 1)
  return rest.length === 0
    ? claimed
    : transaction(
        connection,
        Effect.flatMap(claimed, (written) =>
          written
            ? Effect.as(
                Effect.forEach(rest, (values) => execute(values), { discard: true }),
                true
              )
            : Effect.succeed(false)
        )
      )
}
