/** What waits to be committed: queued by anybody, taken in batches by the committer. */
import * as Exit from "effect/Exit"
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
      readonly done: Done
    }
  | {
      readonly _tag: "Append"
      readonly job: JobState
      readonly event: NewEvent
      /** Given with the terminal message: makes the job's final record. */
      readonly record?: ((tx: Transaction) => Op) | undefined
      readonly done: Done | undefined
    }

/** Most items, and most bytes of payload, in one batch. */
const maxItems = 1024
const maxBytes = 1024 * 1024

/** Fails whoever waits for these items. */
export const failAll = (items: ReadonlyArray<CommitItem>, error: InternalError): void => {
  const failure = Exit.fail(error)
  for (const item of items) item.done?.(failure)
}

/** Keeps items in the order in which they came, until it is ended; then whatever comes fails. */
export class CommitQueue {
  private items: Array<CommitItem> = []
  private head = 0
  private wake: (() => void) | undefined
  /** Why nothing is committed any more. */
  over: InternalError | undefined

  get length(): number {
    return this.items.length - this.head
  }
  add(item: CommitItem): void {
    if (this.over !== undefined) return item.done?.(Exit.fail(this.over))
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
      const item = this.items[this.head++] as CommitItem
      if (item._tag === "Append") bytes += item.event.payload.length
    }
    const batch = this.items.slice(from, this.head)
    if (this.head === this.items.length) this.clear()
    return batch
  }
  /** Fails what waits, and whatever is added from now on. The first reason stands for what comes. */
  end(error: InternalError): void {
    this.over ??= error
    const left = this.items.slice(this.head)
    this.clear()
    failAll(left, error)
  }
  private clear(): void {
    this.items = []
    this.head = 0
  }
}
