/** Reading what a durable job has done, without the outcomes. */
import * as Effect from "effect/Effect"
import type { TurnService } from "../../../services/runtime/Turn.js"
import type { JournalIndexEntry, StoreError, StoreService } from "../../../services/store/Store.js"

/** Entries that are read at once. */
const page = 5_000

/** Reads the index of a journal, page by page. */
export const readJournal = (
  jobId: string,
  store: Pick<StoreService, "journal">,
  turn: TurnService,
  each: (entry: JournalIndexEntry) => void
): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    let after = { kind: "", key: "" }
    for (;;) {
      const entries = yield* store.journal(jobId, after, page)
      entries.forEach(each)
      const last = entries.at(-1)
      if (last === undefined || entries.length < page) return
      after = last
      yield* turn.next
    }
  })
