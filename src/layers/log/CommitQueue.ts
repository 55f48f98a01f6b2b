/** What waits to be committed: queued by anybody, taken in batches by the committer. */
import type * as Exit from "effect/Exit"
import type { InternalError } from "../../protocol/Errors.js"
import type { NewEvent } from "../../services/log/EventLog.js"
import type { Op } from "../../services/store/Store.js"
import type { JobState } from "./JobState.js"
import type { Transaction } from "./Transaction.js"

/** Called when the batch of an item is committed, or was not. */
export type Done = (exit: Exit.Exit<void, InternalError>) => void

/** Puts operations into a transaction; may return what undoes it if the commit fails. */
export type Change = (tx: Transaction) => (() => void) | void

/** What waits to be committed. */
export type CommitItem =
  | {
      readonly _tag: "Change"
      readonly change: Change
      /** What it puts that can be large, in bytes or characters. */
      readonly size: number
      readonly done: Done
    }
  | {
      /** An event that was emitted. It counts in its job's window. */
      readonly _tag: "Append"
      readonly job: JobState
      readonly event: NewEvent
      /** Nobody waits for the commit, so it is tried again when it fails. */
      readonly returned: boolean
      readonly done: Done | undefined
    }
  | {
      /** The terminal message of a job, with what makes its final record. */
      readonly _tag: "End"
      readonly job: JobState
      readonly event: NewEvent
      readonly record: (tx: Transaction) => Op
      readonly done: Done
    }
  | {
      /** Somebody waits until everything of this job that was queued before is committed. */
      readonly _tag: "Flush"
      readonly job: JobState
      readonly done: Done
    }

/**
 * Most items in one batch, and bytes of what it writes, of which the last item may be over: of payloads, ends included, of journals, and
 * of what changes say that they put.
 */
export const maxItems = 1024
export const maxBytes = 1024 * 1024

/** Returns what an operation puts that can be large. */
const sizeOfOp = (op: Op): number =>
  op._tag === "PutInput"
    ? op.input.length
    : op._tag === "PutJournal"
      ? op.entries.reduce((sum, { about, value = "" }) => sum + about.length + value.length, 0)
      : op._tag === "PutWish"
        ? op.wish.body.length
        : 0

/** Returns what operations put that can be large, in characters. */
export const sizeOfOps = (ops: ReadonlyArray<Op>): number => {
  let size = 0
  for (const op of ops) size += sizeOfOp(op)
  return size
}

const sizeOfJournal = (journal: NonNullable<NewEvent["journal"]>): number => {
  let size = 0
  for (const { value = "" } of [journal].flat()) size += value.length
  return size
}

/** Returns what an item writes, in characters, as far as that can be much. */
const sizeOf = (item: CommitItem): number => {
  if (item._tag === "Flush") return 0
  if (item._tag === "Change") return item.size
  const { journal, payload } = item.event
  return journal === undefined ? payload.length : payload.length + sizeOfJournal(journal)
}

/** Keeps items in the order in which they came, until it is ended; then whatever comes is refused. */
export class CommitQueue {
  private items: Array<CommitItem> = []
  private head = 0
  private wake: (() => void) | undefined
  /** Why nothing is committed any more. */
  over: InternalError | undefined

  constructor(
    /** Fails whoever waits for an item, and breaks the job of one that nobody waits for. */
    private readonly refuse: (item: CommitItem, error: InternalError) => void
  ) {}

  get length(): number {
    return this.items.length - this.head
  }
  add(item: CommitItem): void {
    if (this.over !== undefined) return this.refuse(item, this.over)
    this.items.push(item)
    this.wake?.()
  }
  /** Calls `go` once there is something to take, at once when there is already. */
  whenFilled(go: () => void): void {
    if (this.length > 0) return go()
    this.wake = () => {
      this.wake = undefined
      go()
    }
  }
  /** Takes the oldest items, as many as fit into one batch. */
  take(): ReadonlyArray<CommitItem> {
    const from = this.head
    let bytes = 0
    while (this.head < this.items.length && this.head - from < maxItems && bytes < maxBytes) {
      bytes += sizeOf(this.items[this.head++] as CommitItem)
    }
    const batch = this.items.slice(from, this.head)
    if (this.head === this.items.length) this.clear()
    // Under load it is never empty: what was taken must not be held until it is.
    else if (this.head >= maxItems && this.head * 2 >= this.items.length) {
      this.items = this.items.slice(this.head)
      this.head = 0
    }
    return batch
  }
  /** Puts back what was taken, before everything else. */
  putBack(items: ReadonlyArray<CommitItem>): void {
    if (this.over !== undefined) return this.refuseAll(items, this.over)
    this.items = [...items, ...this.items.slice(this.head)]
    this.head = 0
    if (items.length > 0) this.wake?.()
  }
  /** Returns the jobs of which something waits that is tried again. */
  jobs(): ReadonlySet<JobState> {
    const jobs = new Set<JobState>()
    for (let i = this.head; i < this.items.length; i++) {
      const item = this.items[i] as CommitItem
      if (isTriedAgain(item)) jobs.add(item.job)
    }
    return jobs
  }
  /** Refuses everything of these jobs that waits. */
  discard(jobs: ReadonlySet<JobState>, error: InternalError): void {
    const all = this.items.slice(this.head)
    this.items = all.filter((item) => item._tag === "Change" || !jobs.has(item.job))
    this.head = 0
    this.refuseAll(
      all.filter((item) => item._tag !== "Change" && jobs.has(item.job)),
      error
    )
  }
  /** Refuses what waits, and whatever is added from now on. The first reason stands for what comes. */
  end(error: InternalError): void {
    this.over ??= error
    const left = this.items.slice(this.head)
    this.clear()
    this.refuseAll(left, error)
  }
  refuseAll(items: ReadonlyArray<CommitItem>, error: InternalError): void {
    for (const item of items) this.refuse(item, error)
  }
  private clear(): void {
    this.items = []
    this.head = 0
  }
}

/** Returns whether an item is tried again when its batch is not committed. */
export const isTriedAgain = (item: CommitItem): item is CommitItem & { readonly _tag: "Append" | "Flush" } =>
  item._tag === "Flush" || (item._tag === "Append" && (item.returned || item.job.endures))

/** Returns whether nobody is told when an item is refused: its job breaks. */
export const isKept = (item: CommitItem): item is CommitItem & { readonly _tag: "Append" | "Flush" } =>
  item._tag === "Flush" || (item._tag === "Append" && item.returned)
