/**
 * The one that commits. A batch is one statement where that is possible, and else a transaction, and states which batch it
 * follows: so it is applied once, however often it is sent, and the writer finds out by sending it again, or asking, whether
 * one of which it got no answer was.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { inRealTime } from "../../../services/runtime/within.js"
import { type Batch, Fenced, type Owner, StoreError } from "../../../services/store/Store.js"
import { Misuse } from "../plan.js"
import { blockSize, epochsOf, type JobEnd, jobsOf, keysOf, type PgWriterState, plan } from "./batch.js"
import { isUnanswered, mayWork, toStoreError } from "./failures.js"
import { type Holder, hasSlot, lastCommit, lost, slotOf } from "./holding.js"
import { lockWriters, transaction } from "./migrate.js"
import type { PartValues } from "./parts.js"
import { type LendPg, PgFailure, type PgStatements } from "./statement.js"
import { type BatchClaim, keysOf as keysIn, lockingKeys, nameOf, takenOf, writing } from "./statements.js"

/** What a writer works with. */
export interface WriterParts {
  readonly name: string
  readonly lend: LendPg
  readonly holder: Holder
  /** How long a statement is tried again before its failure is told. */
  readonly patience: Duration.Duration
}

/** Milliseconds of the first pause between two attempts, and of the longest. */
const firstPause = 20
const longestPause = 1_000

/**
 * Tries again what Postgres may do the next time, for so long after it has failed first, and once at least: what it took until then
 * was not its own, when this process stood still in a transaction that Postgres has ended for that. What got no answer has had its
 * time, and is tried again only within it.
 */
export const patiently = <A, E>(
  effect: Effect.Effect<A, E | PgFailure | StoreError>,
  patience: Duration.Duration
): Effect.Effect<A, E | PgFailure | StoreError> =>
  Effect.suspend(() => {
    const begun = performance.now()
    let until: number | undefined
    const attempt = (pause: number): Effect.Effect<A, E | PgFailure | StoreError> =>
      Effect.catchAll(effect, (error) => {
        if (!(error instanceof PgFailure) || !mayWork(error)) return Effect.fail(error)
        const now = performance.now()
        const isFirst = until === undefined && !isUnanswered(error)
        until ??= (isFirst ? now : begun) + Duration.toMillis(patience)
        return !isFirst && now + pause > until
          ? Effect.fail(error)
          : Effect.zipRight(
              inRealTime(Effect.sleep(Duration.millis(pause))),
              attempt(Math.min(2 * pause, longestPause))
            )
      })
    return attempt(firstPause)
  })

/** Selects the keys of jobs, and where their logs end. */
const logsOf = (statements: PgStatements, jobIds: ReadonlyArray<string>) =>
  Effect.map(
    statements.executeValues(
      `SELECT j.job_id, j.id::float8, coalesce((SELECT max(seq) FROM {events} WHERE job = j.id), j.first - 1)::float8,
         j.epoch::float8
       FROM {jobs} j WHERE j.job_id = ANY($1::text[])`,
      [jobIds]
    ),
    (rows): ReadonlyMap<string, JobEnd> =>
      new Map(
        rows.map(([jobId, id, last, epoch]) => [
          String(jobId),
          { id: Number(id), last: Number(last), epoch: Number(epoch) }
        ])
      )
  )

/** One batch at a time. */
export class PgWriter {
  private readonly state: PgWriterState
  /** Number of the newest batch that is known to be applied, and of the newest that was tried. */
  private applied = 0
  private tried = 0

  constructor(private readonly parts: WriterParts) {
    this.state = { node: parts.holder.node ?? "", logs: new Map(), blocks: [], taken: 0 }
  }

  /** Commits a batch whole or not at all. */
  commit(batch: Batch): Effect.Effect<void, StoreError | Fenced> {
    const { lend, name, patience } = this.parts
    return Effect.gen(this, function* () {
      const stated = epochsOf(batch)
      const jobs = Array.from(jobsOf(batch)).filter((jobId) => {
        const known = this.state.logs.get(jobId)
        return known === undefined || known.epoch !== (stated.get(jobId) ?? known.epoch)
      })
      const keys = this.state.taken + keysOf(batch) - blockSize * this.state.blocks.length
      const loaded =
        jobs.length === 0 && keys <= 0
          ? new Map<string, JobEnd>()
          : yield* patiently(
              lend((statements) => this.prepare(statements, jobs, keys)),
              patience
            )
      const planned = yield* this.plan(batch, loaded)
      if (planned.statements.length > 0) yield* this.apply(planned.statements, batch)
      planned.adopt()
    }).pipe(
      Effect.tapErrorTag("Fenced", ({ owners }) =>
        Effect.sync(() => {
          for (const owner of owners) if ("job" in owner) this.state.logs.delete(owner.job)
        })
      ),
      Effect.mapError((error) => (error._tag === "Fenced" ? error : toStoreError(name)(error)))
    )
  }

  /** Plans a batch. What somebody else has taken, and dropped, is no mistake of whoever writes to it. */
  private plan(batch: Batch, loaded: ReadonlyMap<string, JobEnd>) {
    const { lend, patience } = this.parts
    return Effect.try({
      try: () => plan(batch, this.state, loaded),
      catch: (cause) => {
        if (cause instanceof Misuse) return new StoreError({ message: cause.message, misuse: true })
        throw cause
      }
    }).pipe(
      Effect.catchAll((misuse) => {
        if (batch.owners.length === 0) return misuse
        const [sql, params] = takenOf(batch.owners)
        return Effect.flatMap(
          patiently(
            lend((statements) => statements.executeValues(sql, params)),
            patience
          ),
          (rows): Effect.Effect<never, StoreError | Fenced> =>
            rows.length === 0 ? misuse : fencedBy(batch.owners, rows)
        )
      })
    )
  }

  /** Reads what a batch needs: where logs end, and keys for new jobs. */
  private prepare(statements: PgStatements, jobs: ReadonlyArray<string>, keys: number) {
    return Effect.gen(this, function* () {
      if (keys > 0) {
        const blocks = Math.ceil(keys / blockSize)
        const rows = yield* statements.executeValues(
          "SELECT nextval('{job_ids}')::float8 FROM generate_series(1, $1::integer)",
          [blocks]
        )
        this.state.blocks = [...this.state.blocks, ...rows.map(([first]) => Number(first))]
      }
      return jobs.length === 0 ? new Map<string, JobEnd>() : yield* logsOf(statements, jobs)
    })
  }

  private apply(
    statements: ReadonlyArray<PartValues>,
    { gone, owners }: Batch
  ): Effect.Effect<void, PgFailure | StoreError | Fenced> {
    const { holder, lend, name, patience } = this.parts
    return Effect.suspend(() => {
      const number = ++this.tried
      const claim = {
        writer: holder.id,
        slot: slotOf(holder),
        after: this.applied,
        number,
        lease: Duration.toMillis(holder.lease),
        owners,
        gone
      }
      const attempt = lend((connection) =>
        Effect.flatMap(send(connection, statements, claim), (written) =>
          written
            ? Effect.succeed({ newest: number, taken: noRows, isBack: false })
            : refusal(connection, holder, claim)
        )
      )
      return Effect.flatMap(
        patiently(attempt, patience),
        ({ isBack, newest, taken }): Effect.Effect<void, StoreError | Fenced> => {
          if (newest === undefined) return lost(name, holder)
          if (newest === claim.after && isBack) return new Fenced({ owners: [], back: gone })
          if (newest === claim.after && taken.length > 0) return fencedBy(owners, taken)
          if (newest < claim.after) return receded(name)
          if (newest !== number) return diverged(name)
          this.applied = number
          return Effect.void
        }
      )
    })
  }
}

const noRows: ReadonlyArray<ReadonlyArray<unknown>> = []

/** Returns what tells those of the owners that are among the rows. */
const fencedBy = (owners: ReadonlyArray<Owner>, rows: ReadonlyArray<ReadonlyArray<unknown>>): Fenced => {
  const taken = new Set(rows.map(([id]) => id))
  return new Fenced({
    owners: owners.filter((owner) => taken.has(nameOf(owner)))
  })
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

/** What was told to be applied is not: a replica that was behind is the primary now, or a backup was restored. */
const receded = (name: string): StoreError =>
  new StoreError({
    message:
      `${name} has lost what it had confirmed: a replica that was behind is the primary now, or a backup was restored; the ` +
      "runtime must be started again, and goes on from what is stored",
    publicMessage: "the database has lost what it had confirmed",
    fenced: true
  })

/** What is claimed of a batch by its first statement, and of a node that is gone before that. */
type Claim = BatchClaim & Pick<Batch, "gone">

/**
 * Returns what of the claim of a batch that was not written is not so: the number of the holder's newest batch, who of the owners is
 * taken, and whether the node is back that was gone. When it is all so by now the batch is to be tried again.
 */
const refusal = (connection: PgStatements, holder: Holder, { after, gone, owners }: Claim) =>
  Effect.gen(function* () {
    const newest = yield* lastCommit(connection, holder)
    const isBack = gone !== undefined && (yield* hasSlot(connection, gone))
    const taken = owners.length === 0 ? noRows : yield* connection.executeValues(...takenOf(owners))
    return newest === after && taken.length === 0 && !isBack
      ? yield* new PgFailure({ cause: new Error("what it states was not so, and is so now") })
      : { newest, taken, isBack }
  })

/**
 * Returns whether a node is still gone; it does not come back until the transaction ends. So whoever starts under its name reads what
 * it has left after that, or has its slot before.
 */
const isStillGone = (connection: PgStatements, node: string) =>
  Effect.zipRight(
    connection.executeRaw(lockWriters, []),
    Effect.map(hasSlot(connection, node), (isBack) => !isBack)
  )

/** Carries out the statements, and returns whether they were: their claim may not hold. */
const send = (
  connection: PgStatements,
  [first = {}, ...rest]: ReadonlyArray<PartValues>,
  { gone, ...claim }: Claim
): Effect.Effect<boolean, PgFailure> => {
  const [sql, params] = writing(first, claim)
  const claimed = Effect.map(connection.executeValues(sql, params), ([row]) => row?.[0] === true)
  const keys = keysIn(claim.owners)
  if (rest.length === 0 && keys.length === 0 && gone === undefined) return claimed
  const [lock, itsKeys] = lockingKeys(keys)
  const locked = keys.length === 0 ? Effect.void : connection.executeRaw(lock, itsKeys)
  const stated =
    gone === undefined
      ? claimed
      : Effect.if(isStillGone(connection, gone), {
          onTrue: () => claimed,
          onFalse: () => Effect.succeed(false)
        })
  return transaction(
    connection,
    Effect.tap(Effect.zipRight(locked, stated), (written) =>
      written
        ? Effect.forEach(
            rest,
            (values) => {
              const [more, itsParams] = writing(values)
              return connection.executeRaw(more, itsParams)
            },
            { discard: true }
          )
        : Effect.void
    )
  )
}
