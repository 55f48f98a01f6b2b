/** `x-vendor.<vendor>.<name>`, as event kinds, message types, extensions and capabilities use it (§5). */
export const vendorName = /^x-vendor\.[A-Za-z0-9_-]+\.[A-Za-z0-9._-]+$/

/** Feature (§6.2): a refused request of any kind is answered by `session.error` with `details.request_id`. */
export const requests = "x-vendor.effect-arcp.requests"

/** In the capabilities of a welcome: what the runtime takes and sends in one frame, `{frame_bytes, outbound_frame_bytes}`. */
export const limits = "x-vendor.effect-arcp.limits"

/** In `job.result`: `json` when the chunks are the JSON text of a value that was too large to come inline. */
export const encoding = "x-vendor.effect-arcp.encoding"

/** In the extensions of a submit: when the job is to begin, `{start_at}` (RFC 3339) or `{delay_sec}`. */
export const schedule = "x-vendor.effect-arcp.schedule"

/** In an accept, a listing and the answer to a subscribe: when a pending job begins at the earliest. */
export const startAt = "x-vendor.effect-arcp.start_at"

/** Event kind: a step of a durable job, `{key, state: started|ended|failed|retry, attempt, ms?}`. */
export const step = "x-vendor.effect-arcp.step"

/** In the payload of an event: the step in which it was emitted, `{key, attempt}`. It is the kind of the steps' own events. */
export const inStep = "x-vendor.effect-arcp.in_step"
