/** Feature names and their negotiation (§6.2). A runtime offers `provisioned_credentials` only when it can mint them. */
import * as Vendor from "./Vendor.js"

export const all = [
  "heartbeat",
  "ack",
  "list_jobs",
  "subscribe",
  "lease_expires_at",
  "cost.budget",
  "model.use",
  "provisioned_credentials",
  "progress",
  "result_chunk",
  "agent_versions",
  Vendor.requests
] as const

export type Feature = (typeof all)[number]

/** The effective set: what both lists name, in our order. A client that sends none gets none. */
export const negotiate = (
  ours: ReadonlyArray<Feature>,
  theirs: ReadonlyArray<string> | undefined
): ReadonlyArray<Feature> => (theirs === undefined ? [] : ours.filter((feature) => theirs.includes(feature)))
