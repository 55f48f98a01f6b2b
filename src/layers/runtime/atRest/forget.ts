/**
 * Forgetting at once what somebody wants to be forgotten, on a store that no runtime has: jobs with everything that was
 * stored of them, and the sessions of a principal. By the changes with which a runtime drops jobs; whoever has
 * the file then writes it anew (`owning` of the store), so that nothing is left in its free pages.
 */
import * as Effect from "effect/Effect"
import { Op, type StoreError, type StoreService } from "../../../services/store/Store.js"
import { dropping } from "../../log/retention/dropping.js"
import { commitUnowned } from "../../store/unowned.js"

/** Jobs, or sessions, that are dropped in one commit. */
const batch = 256

const pages = <A>(all: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(all.length / batch) }, (_, i) => all.slice(i * batch, (i + 1) * batch))

/** Deletes from the tables what was dropped. */
export const freed = (store: StoreService): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    while (yield* store.vacuum) yield* Effect.yieldNow()
  })

/** Drops jobs and sessions, and deletes what they had from the tables. */
export const forget = (
  store: StoreService,
  {
    jobIds,
    sessionIds
  }: { readonly jobIds: ReadonlyArray<string>; readonly sessionIds: ReadonlyArray<string> },
  hooks: "keep" | "drop"
): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    for (const page of pages(sessionIds))
      yield* commitUnowned(
        store,
        page.map((sessionId) => Op.DropSession({ sessionId }))
      )
    for (const page of pages(jobIds)) yield* commitUnowned(store, (yield* dropping(store, page, hooks)).ops)
    yield* freed(store)
  })
