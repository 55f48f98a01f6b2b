/** The store of one process that dies at a chosen commit: from there on nothing of it is stored, and nothing answered. */
import * as Effect from "effect/Effect"
import type { Batch, Fenced, Op, StoreError, StoreService } from "../services/store/Store.js"

/** At which commit a process dies: instead of it, or after it was stored and before anybody was told. */
export interface CrashPoint {
  /** The n-th commit of the process that changes a job, from 1. */
  readonly commit: number
  readonly when: "before" | "after"
}

/** Tells whether a batch changes a job: signs of life, acknowledgements and sessions that come and go do not. */
const changesJob = ({ _tag }: Op): boolean =>
  _tag === "PutJob" || _tag === "Append" || _tag === "PutJournal" || _tag === "PutInput"

/** Waits for ever, and keeps no process alive. */
const never = Effect.async<never>(() => {})

/** What a process commits to. */
export class CrashStore {
  readonly service: StoreService
  /** Where it dies, if it does. */
  point: CrashPoint | undefined
  /** Commits so far that change a job. */
  commits = 0
  /** Commits that are not answered yet. */
  pending = 0
  isDead = false

  constructor(
    base: StoreService,
    /** Called when it comes to the point, with the commit there. */
    private readonly onCrash: (ops: ReadonlyArray<Op>) => void
  ) {
    this.service = {
      ...base,
      kind: "durable",
      commit: (batch) => Effect.suspend(() => this.commit(base, batch))
    }
  }

  /** From now on nothing is stored. */
  die(): void {
    this.isDead = true
    this.pending = 0
  }

  private commit(base: StoreService, batch: Batch): Effect.Effect<void, StoreError | Fenced> {
    if (this.isDead) return never
    const committing = this.counted(base.commit(batch))
    if (!batch.ops.some(changesJob)) return committing
    this.commits++
    const { point } = this
    if (point?.commit !== this.commits) return committing
    const crash = Effect.suspend(() => {
      this.onCrash(batch.ops)
      return never
    })
    return point.when === "before" ? crash : Effect.zipRight(committing, crash)
  }

  private counted<A, E>(committing: Effect.Effect<A, E>): Effect.Effect<A, E> {
    this.pending++
    return Effect.ensuring(
      committing,
      Effect.sync(() => {
        if (!this.isDead) this.pending--
      })
    )
  }
}
