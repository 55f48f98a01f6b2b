/** The one writer of a transport: answers, and the events of the session from where the transport is. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Runtime from "effect/Runtime"
import type { InternalError, ResumeWindowExpired } from "../../protocol/Errors.js"
import type { Jobs } from "../../services/jobs/Jobs.js"
import type { EventLog, Page } from "../../services/log/EventLog.js"
import { families } from "../../services/runtime/Metrics.js"
import type { TurnService } from "../../services/runtime/Turn.js"
import { sound } from "./boundary.js"
import { type Keeper, Kept } from "./Keeper.js"
import type { Awakened } from "./Outbox.js"
import { closeCodeOf, giveUp, type Served } from "./Served.js"
import type { Attachment, Session } from "./Session.js"

/** What delivery works on. */
export interface DeliveryServices {
  readonly log: EventLog["Type"]
  readonly jobs: Jobs["Type"]
  readonly turn: TurnService
  /** Ends writers that have nothing to write. */
  readonly keeper: Keeper
  /** Somebody keeps metrics. */
  readonly isMeasured: boolean
  /** Runs in the lifetime of the runtime. */
  readonly run: (effect: Effect.Effect<void>, options?: Runtime.RunForkOptions) => Fiber.RuntimeFiber<void>
  /** See TurnShare.ts. */
  readonly share: Effect.Effect<void>
}

/** What a writer does after a round, or when it has waited. */
type Next = Awakened | "wait" | "end"

/** Milliseconds after which a writer that has had nothing to write ends, and twice that at the most. */
const lingering = 1000

/** Jobs that are read at once for their accepts. */
const acceptsAtOnce = 16

/** The page with an accept before the first event of each job whose accept this transport has not sent (§6.3). */
const withAccepts = (
  jobs: DeliveryServices["jobs"],
  session: Session,
  { accepts }: Attachment,
  { frames, starts }: Page
) =>
  Effect.gen(function* () {
    const missing = starts.filter(({ jobId }) => !accepts.begins(jobId))
    if (missing.length === 0) return frames
    const found = yield* Effect.forEach(
      missing,
      ({ index, jobId }) => Effect.map(jobs.accepted(session, jobId), (accepted) => ({ accepted, index })),
      { concurrency: acceptsAtOnce }
    )
    const woven: Array<string> = []
    let next = 0
    for (const { accepted, index } of found) {
      if (accepted === undefined) continue
      woven.push(...frames.slice(next, index))
      next = index
      woven.push(session.frame(accepted))
    }
    return woven.length === 0 ? frames : [...woven, ...frames.slice(next)]
  })

/** Sends the welcome, which waits for nothing that is read from the store. */
const greet = (served: Served) =>
  Effect.suspend(() => {
    served.greeted = true
    served.pulse.sending()
    const { outbox } = served.attachment
    return Effect.forEach(
      outbox.take(),
      (batch) =>
        Effect.zipRight(
          served.send(batch.frames),
          Effect.sync(() => outbox.sent(batch))
        ),
      { discard: true }
    )
  })

/**
 * One round of the one writer: answers first, then events from where the transport is. The answers are taken after
 * the events were read, so that `job.accepted`, queued at the commit, precedes its job's events.
 */
const round = (
  { isMeasured, jobs, log, share }: DeliveryServices,
  served: Served
): Effect.Effect<Next, ResumeWindowExpired | InternalError> =>
  Effect.gen(function* () {
    const { attachment, connection, session } = served
    const { outbox } = attachment
    outbox.heard()
    // Events of thousands of sessions are sent in shares of turns; answers, which are small, at once.
    if (outbox.idle) yield* share
    if (!served.greeted) yield* greet(served)
    const page = yield* log.read(session.view, attachment.cursor, outbox.wake)
    const events =
      page.starts.length === 0 ? page.frames : yield* withAccepts(jobs, session, attachment, page)
    // What is in them was decided for whoever is attached by now.
    if (session.hasLeft(attachment)) return "end"
    const batches = outbox.take()
    attachment.cursor += page.frames.length
    const { farewell } = outbox
    if (batches.length > 0 || events.length > 0) served.pulse.sending()
    if (isMeasured && page.frames.length > 0) families.eventsSent.update(page.frames.length)
    const last = batches.length - 1
    for (const [i, batch] of batches.entries()) {
      yield* served.send(i === last && events.length > 0 ? [...batch.frames, ...events] : batch.frames)
      outbox.sent(batch)
    }
    if (batches.length === 0 && events.length > 0) yield* served.send(events)
    if (farewell !== undefined && (events.length === 0 || !farewell.drained)) {
      if (farewell.frame !== undefined) yield* served.send([farewell.frame])
      yield* connection.close(farewell.code, farewell.reason)
      return "end"
    }
    // After events once more, for the log is told there how far they were sent; what else has come since has woken it.
    return events.length > 0 ? "again" : "wait"
  })

/** Writes until the transport is closed, or until it is to rest, which it says. */
const rounds = (services: DeliveryServices, served: Served, rest: () => void): Effect.Effect<void> => {
  const { outbox } = served.attachment
  let next: Next = "again"
  const all = Effect.whileLoop({
    while: () => next !== "end" && next !== "rest",
    body: (): Effect.Effect<Next, ResumeWindowExpired | InternalError> =>
      next === "wait" ? outbox.awaken : round(services, served),
    step: (after) => {
      next = after
    }
  })
  const failed = (cause: Cause.Cause<ResumeWindowExpired | InternalError>) =>
    sound(Effect.failCause(cause), "the writer of a connection").pipe(
      Effect.catchAll((error) => giveUp(services.turn, served, error, closeCodeOf(error)))
    )
  return Effect.matchCauseEffect(all, {
    onFailure: failed,
    onSuccess: () =>
      Effect.sync(() => {
        if (next === "rest") rest()
      })
  })
}

/** Ends a writer when the keeper finds it twice in the same wait. */
const restingWhenIdle = (services: DeliveryServices, { attachment: { outbox } }: Served): Kept => {
  let before: number | undefined
  const kept = new Kept(() => {
    const { waiting } = outbox
    if (waiting !== undefined && waiting === before) {
      outbox.rest()
      return Infinity
    }
    before = waiting
    return lingering
  })
  services.keeper.keep(kept, lingering)
  return kept
}

/**
 * Writes whenever there is something to write: whoever has something to say puts it into the outbox, or into the log. The
 * writer is a fiber only then, and for a moment after, since most connections are idle.
 */
export const begin = (services: DeliveryServices, served: Served): void => {
  const { outbox } = served.attachment
  outbox.begin = () => {
    let rests = false
    const rest = () => {
      rests = true
    }
    const kept = restingWhenIdle(services, served)
    // Not at once: whoever wakes it goes on first, and may have more to say.
    const fiber = services.run(rounds(services, served, rest), { immediate: false })
    served.runs(fiber)
    fiber.addObserver((exit) => {
      services.keeper.drop(kept)
      if (rests) return outbox.rested()
      outbox.release()
      served.wrote(exit)
    })
  }
  outbox.wake()
}
