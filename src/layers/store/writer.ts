/** The one that writes to a database: batches of operations, and the freeing of what was dropped. */
import type { FreeKey } from "../../services/store/Store.js"
import type { PackedBatch } from "./packing.js"
import { jobsOf, type Plan, plan, sessionsOf, type WriterState } from "./plan.js"
import { free } from "./vacuum.js"
import { change, select, transaction, type Work } from "./work.js"
import * as query from "./writerQuery.js"

const none: ReadonlyMap<string, never> = new Map<string, never>()

/** Knows where the next row goes and where logs end. One piece of its work at a time. */
export class Writer {
  private constructor(
    private readonly state: WriterState,
    /** Throws when this writer may not write any more; asked in every transaction. */
    private readonly mayWrite: (() => Work<void>) | undefined
  ) {}

  /** Returns the writer of a database, which goes on where the last one ended. */
  static *start(mayWrite?: () => Work<void>): Work<Writer> {
    const [start] = yield* select(query.writerStart)
    const state = {
      nextRow: (start?.row ?? 0) + 1,
      nextJob: (start?.job ?? 0) + 1,
      logs: new Map(),
      epochs: new Map()
    }
    return new Writer(state, mayWrite)
  }

  /** Commits a batch whole or not at all. Throws `Taken` when it states to own what somebody else has taken. */
  *commit(batch: PackedBatch): Work<void> {
    const { adopt } = yield* transaction(this.allowed(this.write(batch)))
    adopt()
  }

  /** Frees as much as one transaction may, and returns whether more is left; see `StoreService.vacuum`. */
  *free(now: () => number): Work<boolean> {
    const { more, moved } = yield* transaction(this.allowed(free(now)))
    for (const jobId of moved) this.state.logs.delete(jobId)
    return more
  }

  private *write(batch: PackedBatch): Work<Plan> {
    const { epochs, logs } = this.state
    const jobs = Array.from(jobsOf(batch)).filter((jobId) => !logs.has(jobId))
    const sessions = sessionsOf(batch).filter((sessionId) => !epochs.has(sessionId))
    const used = new Set<FreeKey>()
    for (const owner of batch.owners)
      if ("key" in owner && (yield* select(query.keyUsed(owner))).length > 0) used.add(owner)
    const planned = plan(batch, this.state, {
      used,
      logs: jobs.length === 0 ? none : query.toLogs(yield* select(query.logs(jobs))),
      epochs: sessions.length === 0 ? none : query.toEpochs(yield* select(query.epochs(sessions)))
    })
    yield* change(...planned.statements)
    return planned
  }

  private *allowed<A>(work: Work<A>): Work<A> {
    if (this.mayWrite !== undefined) yield* this.mayWrite()
    return yield* work
  }
}
