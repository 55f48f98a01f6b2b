/** What is left of a job when it has ended, or does not run here any more. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { InternalError } from "../../protocol/Errors.js"
import type { Candidate } from "./Candidate.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import type { LiveJob } from "./LiveJob.js"

/** Ends the job in the table, and for whoever has cancelled or delegated to it. */
export const over = (
  { running }: Pick<JobParts, "running">,
  { parent, record }: Pick<Candidate, "parent" | "record">,
  live: LiveJob
): void => {
  if (running.get(record.jobId)?.live === live) running.remove(record.jobId)
  if (!live.storesCancel) live.answerCancels(live.ended ? undefined : Faults.left)
  if (parent !== undefined) {
    parent.live.children.delete(live)
    parent.live.presence?.touch()
  }
  if (live.awaited === undefined) return
  Deferred.unsafeDone(live.awaited.done, Effect.void)
  // Only after a defect are they still open; nobody must wait for them for ever.
  Deferred.unsafeDone(live.awaited.opened, Effect.fail(didNotEnd))
  Deferred.unsafeDone(live.awaited.outcome, Effect.fail(didNotEnd))
}

const didNotEnd = new InternalError({ message: "the job did not end as it should" })
