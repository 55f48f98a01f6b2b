/** Submits whose jobs begin later. */
import * as Duration from "effect/Duration"
import * as Vendor from "../../protocol/Vendor.js"
import type { SubmitOptions } from "../../services/client/ArcpClient.js"

/**
 * Returns the options of a submit that is accepted at once, and whose job begins at a time, or after a delay that the runtime
 * counts. Until then it is `pending`, also over a restart of the runtime. Of effect-arcp runtimes.
 *
 * @example
 * client.submit("report", input, { ...ArcpClient.later({ delay: "10 minutes" }), idempotencyKey: "report 1" })
 */
export const later = (
  when: { readonly at: Date } | { readonly delay: Duration.DurationInput }
): Pick<SubmitOptions, "extensions"> => ({
  extensions: {
    [Vendor.schedule]:
      "at" in when ? { start_at: when.at.toISOString() } : { delay_sec: Duration.toSeconds(when.delay) }
  }
})
