/** What of a job's record another node changes that takes it. */
import type { JobRecord, Op } from "./Store.js"

/** Returns the members of a record that moving its job puts. */
export const movedOf = ({
  cancelRequested,
  epoch,
  node
}: Extract<Op, { readonly _tag: "MoveJob" }>): Pick<JobRecord, "node" | "epoch" | "cancelRequested"> => ({
  node,
  epoch,
  ...(cancelRequested === undefined ? {} : { cancelRequested })
})
