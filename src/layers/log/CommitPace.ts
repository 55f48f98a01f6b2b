/**
 * When the next batch is committed: one turn of the event loop later, so that everything that this turn emits goes into it, and
 * however fast an emitter comes back after a commit, sockets and timers are served before the next. Only the first few
 * items of a turn need not wait, where a commit takes no time: a job that is alone is told of, and ended, in the turn that
 * its submit comes in.
 */
import type { TurnService } from "../../services/runtime/Turn.js"

/** Says when to commit. */
export class CommitPace {
  /** Items that were committed in this turn. */
  private committed = 0

  constructor(
    private readonly turn: TurnService,
    /** Items in one turn after which the next batch waits; with none, each waits. */
    private readonly maxInTurn: number
  ) {}

  /** Counts what is committed now. */
  commits(items: number): void {
    if (this.maxInTurn === 0) return
    if (this.committed === 0)
      this.turn.onNext(() => {
        this.committed = 0
      })
    this.committed += items
  }

  /** Calls back when what waits is to be committed. */
  whenDue(go: () => void): void {
    if (this.committed < this.maxInTurn) return go()
    this.turn.onNext(go)
  }
}
