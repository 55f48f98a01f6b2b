/** How many events of a job are read at once, so that pages of large ones stay small. */
import type { StoredEvent } from "../../services/store/Store.js"

/** Characters that a page is meant to have, the most events in it, and how many the first page has. */
const meant = 1024 * 1024
const most = 256
const firstPage = 16

/** What is added to the size of each event, in characters. */
const overhead = 64

/** Learns from the pages of a log how many events the next one has. */
export class PageSize {
  /** How many events are read next. */
  count = firstPage

  read(events: ReadonlyArray<StoredEvent>): void {
    const size = events.reduce((sum, { payload }) => sum + payload.length + overhead, 0)
    this.count = Math.max(1, Math.min(most, 2 * this.count, Math.floor((meant * events.length) / size)))
  }
}
