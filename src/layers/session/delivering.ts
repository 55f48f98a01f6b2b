/** The one writer of a transport: answers, and the events of the session from where the transport is. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { InternalError, ResumeWindowExpired } from "../../protocol/Errors.js"
import type { Jobs } from "../../services/jobs/Jobs.js"
import type { EventLog, Page } from "../../services/log/EventLog.js"
import type { TurnService } from "../../services/runtime/Turn.js"
import { sound } from "./boundary.js"
import { closeCodeOf, giveUp, type Served } from "./Served.js"
import type { Attachment, Session } from "./Session.js"

/** What delivery works on. */
export interface DeliveryServices {
  readonly log: EventLog["Type"]
  readonly jobs: Jobs["Type"]
  readonly turn: TurnService
  /** See TurnShare.ts. */
  readonly share: Effect.Effect<void>
}

/** What a writer does after a round. */
type Next = "again" | "wait" | "end"

/** The page with an accept before the first event of each job whose accept this transport has not sent (§6.3). */
const withAccepts = (
  jobs: DeliveryServices["jobs"],
  session: Session,
  { accepts }: Attachment,
  { frames, starts }: Page
) =>
  Effect.gen(function* () {
    const woven: Array<string> = []
    let next = 0
    for (const { index, jobId } of starts) {
      if (accepts.begins(jobId)) continue
      const accepted = yield* jobs.accepted(session, jobId)
      if (accepted === undefined) continue
      while (next < index) woven.push(frames[next++] as string)
      woven.push(session.frame(accepted))
    }
    return woven.length === 0 ? frames : [...woven, ...frames.slice(next)]
  })

/**
 * One round of the one writer: answers first, then events from where the transport is. The answers are taken after
 * the events were read, so that `job.accepted`, queued at the commit, precedes its job's events.
 */
const round = (
  { jobs, log, share }: DeliveryServices,
  served: Served
): Effect.Effect<Next, ResumeWindowExpired | InternalError> =>
  Effect.gen(function* () {
    const { attachment, connection, session } = served
    const { outbox } = attachment
    // Events of thousands of sessions are sent in shares of turns; answers, which are small, at once.
    if (outbox.idle) yield* share
    const page = yield* log.read(session.view, served.cursor)
    const events =
      page.starts.length === 0 ? page.frames : yield* withAccepts(jobs, session, attachment, page)
    const batches = outbox.take()
    served.cursor += page.frames.length
    const { farewell } = outbox
    if (batches.length > 0 || events.length > 0) served.pulse.sending()
    const last = batches.length - 1
    for (const [i, batch] of batches.entries()) {
      yield* connection.send(i === last && events.length > 0 ? [...batch.frames, ...events] : batch.frames)
      outbox.sent(batch)
    }
    if (batches.length === 0 && events.length > 0) yield* connection.send(events)
    if (farewell !== undefined && (events.length === 0 || !farewell.drained)) {
      if (farewell.frame !== undefined) yield* connection.send([farewell.frame])
      yield* connection.close(farewell.code, farewell.reason)
      return "end"
    }
    return batches.length === 0 && events.length === 0 ? "wait" : "again"
  })

/** Writes until the transport is closed: whoever has something to say puts it into the outbox, or into the log. */
export const write = (services: DeliveryServices, served: Served): Effect.Effect<void> => {
  const { outbox } = served.attachment
  let next: Next = "again"
  const rounds = Effect.whileLoop({
    while: () => next !== "end",
    body: (): Effect.Effect<Next | void, ResumeWindowExpired | InternalError> =>
      next === "wait" ? outbox.awaken : round(services, served),
    step: (after) => {
      next = after ?? "again"
    }
  })
  const failed = (cause: Cause.Cause<ResumeWindowExpired | InternalError>) =>
    sound(Effect.failCause(cause), "the writer of a connection").pipe(
      Effect.catchAll((error) => giveUp(services.turn, served, error, closeCodeOf(error)))
    )
  const release = Effect.sync(() => outbox.release())
  return Effect.matchCauseEffect(rounds, {
    onFailure: (cause) => Effect.zipRight(failed(cause), release),
    onSuccess: () => release
  })
}
