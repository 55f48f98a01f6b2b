/** How jobs are dropped, whoever does it: a runtime, or an operator on a file that no runtime has. */
import * as Effect from "effect/Effect"
import {
  type HookEvent,
  Op,
  type StoreError,
  type StoreService,
  type Viewer
} from "../../../services/store/Store.js"

/** The changes that drop some jobs. */
export interface Dropped {
  readonly ops: ReadonlyArray<Op>
  /** The sessions that have something of them in their views. */
  readonly viewers: ReadonlyArray<Viewer>
}

/** Calls of hooks that are read at once. */
const page = 256

/** Returns the calls of hooks that are owed for a job. */
const hookEventsOf = (store: StoreService, jobId: string) =>
  Effect.gen(function* () {
    const all: Array<HookEvent> = []
    for (let seq = 0; ; ) {
      const events = yield* store.hookEvents({ jobId, seq }, page)
      const own = events.filter((event) => event.jobId === jobId)
      all.push(...own)
      const last = own.at(-1)
      if (last === undefined || own.length < page) return all
      seq = last.seq
    }
  })

/**
 * Returns the changes that drop jobs, with everything of them; views that still hold something of one begin after it. The
 * calls of hooks that are owed outlive their jobs, but not by somebody's wish (`drop`).
 */
export const dropping = (
  store: StoreService,
  jobIds: ReadonlyArray<string>,
  hooks: "keep" | "drop" = "keep"
): Effect.Effect<Dropped, StoreError> =>
  Effect.gen(function* () {
    const viewers = yield* store.viewers(jobIds)
    const events =
      hooks === "keep" ? [] : (yield* Effect.forEach(jobIds, (jobId) => hookEventsOf(store, jobId))).flat()
    const ops = [
      ...viewers.map(({ end, sessionId }) => Op.TrimSession({ sessionId, eventSeq: end })),
      ...jobIds.map((jobId) => Op.DropJob({ jobId })),
      ...(events.length === 0 ? [] : [Op.DropHookEvents({ events })])
    ]
    return { viewers, ops }
  })
