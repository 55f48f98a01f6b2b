/** Feature names and their negotiation (§6.2). A runtime offers `provisioned_credentials` only when it can mint them. */

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

/** Features of ours, which a client asks for when it knows what they ask of it: a token that ends is renewed by a resume. */
export const vendor = ["x-vendor.effect-arcp.renewal"] as const

export type Feature = (typeof all)[number] | (typeof vendor)[number]

/** The effective set: what both lists name, in our order. A client that sends none gets none. */
export const negotiate = (
  ours: ReadonlyArray<Feature>,
  theirs: ReadonlyArray<string> | undefined
): ReadonlyArray<Feature> => (theirs === undefined ? [] : ours.filter((feature) => theirs.includes(feature)))
