/** What the store has of views and of jobs, counted as memory counts it: what they retain, so that the limits mean the same as before. */
import * as Effect from "effect/Effect"
import { Turn } from "../../services/runtime/Turn.js"
import {
  epochOf,
  type SessionRecord,
  type StoreError,
  type StoreService
} from "../../services/store/Store.js"
import { onward } from "../store/onward.js"
import type { JobState } from "./JobState.js"
import type { Limits } from "./Ledger.js"
import { ViewState } from "./ViewState.js"

/** Runs of a view that are read at once, with a turn of the event loop after each page. */
const runsAtOnce = 1024

/** Counts anew what the log of a job retains, mark by mark. */
export const countRetained = (
  store: Pick<StoreService, "marks">,
  { jobId, ledger }: JobState,
  { first, last }: { readonly first: number; readonly last: number }
): Effect.Effect<void, StoreError> =>
  Effect.map(store.marks(jobId), (marks) => {
    ledger.last = first - 1
    for (const mark of marks) {
      ledger.cut()
      ledger.add(mark.seq, mark.bytes)
    }
    ledger.last = last
  })

/** Returns the view of a stored session, with what it retains counted run by run. */
export const storedView = (
  store: StoreService,
  session: SessionRecord,
  bounds: { readonly granularity: Limits; readonly allowance: Limits }
): Effect.Effect<ViewState, StoreError> =>
  Effect.gen(function* () {
    const turn = yield* Turn
    const { sessionId } = session
    const [start, first, need] = yield* Effect.all(
      [store.view(sessionId), store.runs(sessionId, 1, runsAtOnce), store.need(sessionId)],
      { concurrency: "unbounded" }
    )
    const view = new ViewState(
      sessionId,
      session.version,
      session.features,
      { ...start, acked: session.acked, need, epoch: epochOf(session) },
      bounds
    )
    view.ledger.last = start.first - 1
    for (let from = start.first, page = first; from <= start.last; ) {
      for (const run of page) {
        view.ledger.cut()
        view.ledger.add(run.eventSeq + run.count - 1, run.bytes)
      }
      const last = page[page.length - 1]
      if (last === undefined) break
      from = onward(from, last.eventSeq + last.count)
      if (from > start.last) break
      yield* turn.next
      page = yield* store.runs(sessionId, from, runsAtOnce)
    }
    view.ledger.last = start.last
    return view
  })
