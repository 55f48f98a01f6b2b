/** Feature names and their negotiation (§6.2). */

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
  "agent_versions"
] as const

export type Feature = (typeof all)[number]

/** What this runtime speaks. */
export const supported: ReadonlyArray<Feature> = [
  "heartbeat",
  "ack",
  "list_jobs",
  "subscribe",
  "lease_expires_at",
  "progress",
  "result_chunk",
  "agent_versions"
]

/** The effective set: what both lists name, in our order. A client that sends none gets none. */
export const negotiate = (
  ours: ReadonlyArray<Feature>,
  theirs: ReadonlyArray<string> | undefined
): ReadonlyArray<Feature> => (theirs === undefined ? [] : ours.filter((feature) => theirs.includes(feature)))
