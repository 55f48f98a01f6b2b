/** Submits that go on from another job (§12.1). */
import * as Argument from "../../protocol/Argument.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { SubmitOptions } from "../../services/client/ArcpClient.js"

/**
 * Returns the option of a submit that goes on from another job of the same principal and agent: with what that one's steps
 * came to before the step `at`, and as that one was in whatever the submit leaves out, its input too when that is
 * `undefined`. Without `at` it is the other job once more, from its start.
 *
 * @example
 * client.submit("deploy@1.0.0", undefined, ArcpClient.fork(jobId, "roll db-2"))
 */
export const fork = (jobId: string, at?: string): Pick<SubmitOptions, "extensions"> => {
  Argument.check(
    "ArcpClient.fork",
    ["jobId", Argument.text, jobId],
    ["at", Argument.maybe(Argument.text), at]
  )
  return { extensions: { [Vendor.fork]: { job_id: jobId, at } } }
}
