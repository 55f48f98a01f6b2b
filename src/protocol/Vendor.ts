/** `x-vendor.<vendor>.<name>`, as event kinds, message types, extensions and capabilities use it (§5). */
export const vendorName = /^x-vendor\.[A-Za-z0-9_-]+\.[A-Za-z0-9._-]+$/

/** Feature (§6.2): a refused request of any kind is answered by `session.error` with `details.request_id`. */
export const requests = "x-vendor.effect-arcp.requests"

/** In the capabilities of a welcome: what the runtime takes and sends in one frame, `{frame_bytes, outbound_frame_bytes}`. */
export const limits = "x-vendor.effect-arcp.limits"

/** In `job.result`: `json` when the chunks are the JSON text of a value that was too large to come inline. */
export const encoding = "x-vendor.effect-arcp.encoding"

/** In the extensions of a submit: the id of a job to be observed, and owned when its owner is gone; it never starts a run. */
export const adopt = "x-vendor.effect-arcp.adopt"

/** In `job.subscribed`: true when the session was subscribed to the job already, as the request came. */
export const goesOn = "x-vendor.effect-arcp.goes_on"

/** In the extensions of an accept: true when it answers a submit that has begun no job, but named one by its key or by `adopt`. */
export const existing = "x-vendor.effect-arcp.existing"

/** In the extensions of a submit: when the job is to begin, `{start_at}` (RFC 3339) or `{delay_sec}`. */
export const schedule = "x-vendor.effect-arcp.schedule"

/** In an accept, a listing and the answer to a subscribe: when a pending job begins at the earliest. */
export const startAt = "x-vendor.effect-arcp.start_at"

/** In the answer to a subscribe: when the job was accepted. */
export const createdAt = "x-vendor.effect-arcp.created_at"

/** In a listing: when the job ended. */
export const completedAt = "x-vendor.effect-arcp.completed_at"

/** Event kind: a step of a durable job, `{key, state: started|ended|failed|retry, attempt, ms?}`. */
export const step = "x-vendor.effect-arcp.step"

/** Event kind: a durable job asks and waits, `{input_id, prompt, schema?, choices?, about?: {value, sha256}, expires_at?}`. */
export const inputRequest = "x-vendor.effect-arcp.input_request"

/** Event kind: it waits no more, `{input_id, reason: answered|expired|cancelled, by?, value?}`. */
export const inputClosed = "x-vendor.effect-arcp.input_closed"

/** Feature (§6.2): a client may answer what a job asks, by a message `jobInput`. */
export const input = "x-vendor.effect-arcp.input"

/** Message of a client: the answer to what a job asks. */
export const jobInput = "x-vendor.effect-arcp.job.input"

/** Message of a runtime: such an answer is stored. */
export const jobInputAccepted = "x-vendor.effect-arcp.job.input_accepted"

/** In the payload of an event: the step in which it was emitted, `{key, attempt}`. It is the kind of the steps' own events. */
export const inStep = "x-vendor.effect-arcp.in_step"

/** Extension of a `job.submit`: `{job_id, at?}`, the job that it goes on from, and the step before which (§12.1). */
export const fork = "x-vendor.effect-arcp.fork"
