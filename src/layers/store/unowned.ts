/** Changing a store that nobody else has: nothing that is written is stated to be owned. */
import * as Effect from "effect/Effect"
import type { Op, StoreError, StoreService } from "../../services/store/Store.js"

/** Commits changes of which nothing is stated to be owned, whole or not at all. */
export const commitUnowned = (
  store: Pick<StoreService, "commit">,
  ops: ReadonlyArray<Op>
): Effect.Effect<void, StoreError> => Effect.catchTag(store.commit({ ops, owners: [] }), "Fenced", Effect.die)
