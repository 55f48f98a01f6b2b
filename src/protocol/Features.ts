/** Feature names and their negotiation (§6.2). A runtime offers `provisioned_credentials` only when it can mint them. */
import * as Vendor from "./Vendor.js"

/** What a runtime offers and a client asks for when it says nothing else. */
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
  Vendor.requests,
  Vendor.input
] as const

/**
 * A feature of ours that a client has to ask for: entries of the inventory then have a field of this name, with the
 * description, JSON Schema of the input and examples of each version. Not in `all`, so that a welcome stays small.
 */
export const describedAgents = "x-vendor.effect-arcp.agents"

/**
 * A feature of ours that a client has to ask for: the answer to a subscribe has a field of this name, with the input of the
 * job, where the runtime has kept it and the subscriber's own ceiling and agents cover the job.
 */
export const submittedInput = "x-vendor.effect-arcp.submitted_input"

/** A feature of ours that a client has to ask for: entries of a listing then have a field of this name, with whose job it is. */
export const principal = "x-vendor.effect-arcp.principal"

/** A feature of ours that a client has to ask for: it renews a token that ends by a resume with a fresh one. */
export const renewal = "x-vendor.effect-arcp.renewal"

/**
 * A feature of ours that a client has to ask for: it never resumes, so its session ends with its connection, and any session of
 * the principal that covers its jobs may cancel them, while it is there, too: the same client is another session elsewhere.
 */
export const transient = "x-vendor.effect-arcp.transient"

/**
 * A feature of ours that a client has to ask for: its session is sent no events of the jobs that it submits, nor of what those
 * delegate to, but accepts and refusals, and what it subscribes to.
 */
export const unobserved = "x-vendor.effect-arcp.unobserved"

/** Features of ours, which a client asks for when it knows what they ask of it. */
export const vendor = [renewal, describedAgents, submittedInput, principal, transient, unobserved] as const

/** A feature that can be negotiated. */
export type Feature = (typeof all)[number] | (typeof vendor)[number]

/** The effective set: what both lists name, in our order. A client that sends none gets none. */
export const negotiate = (
  ours: ReadonlyArray<Feature>,
  theirs: ReadonlyArray<string> | undefined
): ReadonlyArray<Feature> => (theirs === undefined ? [] : ours.filter((feature) => theirs.includes(feature)))
