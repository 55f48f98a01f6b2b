/** A delegated job as the handler that delegated to it has it (§10). */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { InternalError } from "../../protocol/Errors.js"
import type { Event } from "../../protocol/Event.js"
import type { Delegated } from "../../services/jobs/Job.js"
import type { JobLog } from "../../services/log/EventLog.js"
import type { JobRecord } from "../../services/store/Store.js"
import type { JobParts } from "./JobParts.js"
import type { Awaited, LiveJob } from "./LiveJob.js"

/** A delegated job that was accepted. */
export interface AcceptedChild {
  readonly live: LiveJob
  readonly awaited: Awaited
  readonly record: JobRecord
  readonly log: JobLog
}

/** Returns a handle over what a child comes to, and what ends it. */
export const handle = (
  { log }: Pick<JobParts, "log">,
  { log: job, record }: Pick<AcceptedChild, "log" | "record">,
  ends: Pick<Delegated<unknown, never>, "await" | "cancel">
): Delegated<unknown, never> => {
  const events = log.events(job).pipe(
    Stream.filter((event) => event.type === "job.event"),
    Stream.map((event) => JSON.parse(event.payload) as Event)
  )
  return {
    jobId: record.jobId,
    delegateId: record.submitId,
    agent: record.agent,
    events,
    of: (event) => event.from(events, (message) => new InternalError({ message })),
    ...ends
  }
}

/** What the parent's handler gets of a child. */
export const handleOf = (parts: Pick<JobParts, "log">, child: AcceptedChild): Delegated<unknown, never> =>
  handle(parts, child, {
    await: Deferred.await(child.awaited.outcome),
    cancel: Effect.suspend(() => {
      child.live.end({ _tag: "Cancel", reason: "the job that delegated to it cancelled it" })
      return Deferred.await(child.awaited.done)
    })
  })
