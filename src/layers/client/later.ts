/** Submits whose jobs begin later. */
import * as Duration from "effect/Duration"
import * as Argument from "../../protocol/Argument.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { SubmitOptions } from "../../services/client/ArcpClient.js"

/** A time that there is. */
const date = Argument.that("a Date", (value) => value instanceof Date && !Number.isNaN(value.getTime()))

/**
 * Returns the options of a submit that is accepted at once, and whose job begins at a time, or after a delay that the runtime
 * counts. Until then it is `pending`, also over a restart of the runtime. Of effect-arcp runtimes.
 *
 * @example
 * client.submit("report", input, { ...ArcpClient.later({ delay: "10 minutes" }), idempotencyKey: "report 1" })
 */
export const later = (
  when: { readonly at: Date } | { readonly delay: Duration.DurationInput }
): Pick<SubmitOptions, "extensions"> => {
  Argument.check("ArcpClient.later", ["when", Argument.object, when])
  if ("at" in when) {
    Argument.check("ArcpClient.later", ["at", date, when.at])
    return { extensions: { [Vendor.schedule]: { start_at: when.at.toISOString() } } }
  }
  Argument.check("ArcpClient.later", ["delay", Argument.finiteDuration, when.delay])
  return { extensions: { [Vendor.schedule]: { delay_sec: Duration.toSeconds(when.delay) } } }
}
