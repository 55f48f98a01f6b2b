/** The one that writes to a database: batches of operations, and the freeing of what was dropped. */
import type { Op } from "../../services/store/Store.js"
import { jobsOf, type LogEnd, type Plan, plan, type WriterState } from "./plan.js"
import * as query from "./query.js"
import { free } from "./vacuum.js"
import { change, select, transaction, type Work } from "./work.js"

const noLogs: ReadonlyMap<string, LogEnd> = new Map()

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
    const state = { nextRow: (start?.row ?? 0) + 1, nextJob: (start?.job ?? 0) + 1, logs: new Map() }
    return new Writer(state, mayWrite)
  }

  /** Commits a batch whole or not at all. */
  *commit(batch: ReadonlyArray<Op>): Work<void> {
    const { adopt } = yield* transaction(this.allowed(this.write(batch)))
    adopt()
  }

  /** Frees as much as one transaction may, and returns whether more is left; see `StoreService.vacuum`. */
  *free(now: () => number): Work<boolean> {
    const { more, moved } = yield* transaction(this.allowed(free(now)))
    for (const jobId of moved) this.state.logs.delete(jobId)
    return more
  }

  private *write(batch: ReadonlyArray<Op>): Work<Plan> {
    const unknown = Array.from(jobsOf(batch)).filter((jobId) => !this.state.logs.has(jobId))
    const loaded = unknown.length === 0 ? noLogs : query.toLogs(yield* select(query.logs(unknown)))
    const planned = plan(batch, this.state, loaded)
    yield* change(...planned.statements)
    return planned
  }

  private *allowed<A>(work: Work<A>): Work<A> {
    if (this.mayWrite !== undefined) yield* this.mayWrite()
    return yield* work
  }
}
