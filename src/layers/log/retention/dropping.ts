/** How jobs are dropped, whoever does it: a runtime, or an operator on a file that no runtime has. */
import * as Effect from "effect/Effect"
import { Op, type StoreError, type StoreService, type Viewer } from "../../../services/store/Store.js"

/** The changes that drop some jobs. */
export interface Dropped {
  readonly ops: ReadonlyArray<Op>
  /** The sessions that have something of them in their views. */
  readonly viewers: ReadonlyArray<Viewer>
}

/** Returns the changes that drop jobs, with everything of them; views that still hold something of one begin after it. */
export const dropping = (
  store: StoreService,
  jobIds: ReadonlyArray<string>
): Effect.Effect<Dropped, StoreError> =>
  Effect.map(store.viewers(jobIds), (viewers) => ({
    viewers,
    ops: [
      ...viewers.map(({ end, sessionId }) => Op.TrimSession({ sessionId, eventSeq: end })),
      ...jobIds.map((jobId) => Op.DropJob({ jobId }))
    ]
  }))
