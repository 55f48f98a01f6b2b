/**
 * Finding a session's jobs again: those of an earlier process of the same session, and those of a session that
 * could not be resumed, from the one that takes its place.
 */
import * as Effect from "effect/Effect"
import { ResumeWindowExpired } from "../../protocol/Errors.js"
import type * as Message from "../../protocol/Message.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { ClientError, Known } from "../../services/client/ArcpClient.js"
import type { ClientSession } from "./ClientSession.js"
import type { KeptJobs } from "./ClientState.js"
import type { About } from "./Current.js"
import type { Handles } from "./Handles.js"
import type { JobInbox } from "./JobInbox.js"

/** A job that the session has submitted. */
export interface SubmittedJob {
  readonly inbox: JobInbox
  readonly about: About
  readonly key: string | undefined
  claimed: boolean
}

/** The jobs that this session has submitted, which its numbering counts and a later process may ask for. */
export class SubmittedJobs {
  readonly #jobs = new Map<JobInbox, SubmittedJob>()
  readonly #kept: KeptJobs | undefined

  /** `kept`: what a later process will read. */
  constructor(kept: KeptJobs | undefined) {
    this.#kept = kept
  }

  /** Takes the place of what could not be found again of the same job: its numbers are this session's now. */
  add(job: SubmittedJob): void {
    for (const { about, inbox } of this.all)
      if (inbox.failed && about.job_id === job.about.job_id) this.#jobs.delete(inbox)
    this.#jobs.set(job.inbox, job)
  }
  get all(): Iterable<SubmittedJob> {
    return this.#jobs.values()
  }
  /** The job of an earlier process, to whoever asks first. */
  claim(jobId: string): SubmittedJob | undefined {
    for (const job of this.all)
      if (job.about.job_id === jobId && !job.claimed) {
        job.claimed = true
        return job
      }
    return undefined
  }
  get unclaimed(): ReadonlyArray<Known> {
    return [...this.all]
      .filter((job) => !job.claimed)
      .map(({ about, key }) => ({ jobId: about.job_id, agent: about.agent, idempotencyKey: key }))
  }
  /** Was the job submitted by this session? Then its numbers are those of the submitting session. */
  of(inbox: JobInbox): SubmittedJob | undefined {
    return this.#jobs.get(inbox)
  }
  /** Its handle is no longer used; a later process may still want to read on. */
  leave(inbox: JobInbox): void {
    const job = this.of(inbox)
    this.#jobs.delete(inbox)
    if (job) this.#kept?.left(job)
  }
}

/** Has the job come to its end? */
export const hasEnded = ({ current_status: status }: Message.Subscribed): boolean =>
  status !== "pending" && status !== "running"

/**
 * Asks for a job to be this session's own again, so that it can be cancelled from here. Never by its key, which is free when
 * the runtime has ended the job for a fault of its own: then it would start another run (§5.2 of the protocol page).
 */
const adopt = (session: ClientSession, { agent, job_id }: About, onAnswer?: () => void) =>
  session.request(
    "job.submit",
    "job.accepted",
    // Only the job counts; but a version may be named only where that was negotiated.
    { agent: agent.split("@")[0], input: null },
    { extensions: { [Vendor.adopt]: job_id }, repeatable: false, onAnswer }
  )

/** Between two tries to find out whether a job is subscribed to. */
const pause = 5_000

/**
 * Makes sure that a job of somebody else is subscribed to still: with a token that has ended its subscription has, too (§4.1 of the
 * protocol page), and nothing says so. Unless it has surely gone on, its streams say that something may be missing. Returns whether
 * to ask again.
 */
const confirm = (
  session: ClientSession,
  jobs: SubmittedJobs,
  [jobId, inboxes]: Handles["jobs"][number]
): Effect.Effect<unknown> => {
  // Others do not say whether it went on.
  if (session.guesses || !session.features.includes("subscribe")) return Effect.void
  if (inboxes.some((inbox) => inbox.ended || jobs.of(inbox))) return Effect.void
  const { doubtful, round, sessionId } = session
  return Effect.suspend(() => {
    const { connection } = session
    // Asked a second time it may be what the first one has begun that goes on.
    const isFirst = !doubtful.has(jobId)
    doubtful.add(jobId)
    return session.request(
      "job.subscribe",
      "job.subscribed",
      { job_id: jobId },
      {
        jobId,
        repeatable: false,
        onAnswer: ({ payload }) => {
          doubtful.delete(jobId)
          // Its handle was left meanwhile.
          if (!session.handles.has(jobId)) return session.unsubscribe(jobId)
          // Of a handle that is new it may be the subscription that goes on.
          const isAlone = session.handles.of(jobId).every((inbox) => inboxes.includes(inbox))
          if (payload[Vendor.goesOn] && isFirst && isAlone && session.connection === connection) return
          for (const inbox of inboxes)
            inbox.missed("unsubscribed", "subscribed to again; events may be missing")
        }
      }
    )
  }).pipe(
    Effect.as(false),
    Effect.catchAll((error) =>
      Effect.sync(() => {
        if (error instanceof ResumeWindowExpired || session.over) return false
        const isWanted = session.handles.has(jobId)
        // Nobody is left to whom it would be told.
        if (!isWanted) doubtful.delete(jobId)
        // After another hello it is asked anew, in another session not at all.
        if (!isWanted || session.round !== round || session.sessionId !== sessionId) return false
        // The next hello has another token.
        if (error._tag === "Unauthenticated") session.doubts = true
        else if (!error.retryable) session.handles.fail(jobId, error)
        return error.retryable
      })
    )
  )
}

/**
 * Asks until it is answered, or refused for good: nothing else would look for the job in this session. A place among its
 * subscriptions may become free, or the runtime's store be there again. Whoever waits for what comes of it is told of each refusal.
 */
const persistently = <A>(
  session: ClientSession,
  inboxes: ReadonlyArray<JobInbox>,
  lost: ResumeWindowExpired,
  asking: Effect.Effect<A, ClientError>
): Effect.Effect<A, ClientError> => {
  const { sessionId } = session
  let unanswered = 0
  const again: Effect.Effect<A, ClientError> = Effect.catchAll(asking, (error) => {
    if (error._tag === "RequestTimeout") unanswered++
    // What is damaged stays so, and of a code that is not ours it is not known.
    const { reason, code } = ("details" in error && error.details) || {}
    if (!error.retryable || reason === "damaged" || code || unanswered > 2 || session.over) return error
    for (const inbox of inboxes) inbox.refused(error)
    return Effect.zipRight(
      Effect.sleep(pause),
      Effect.suspend(() =>
        session.sessionId === sessionId && inboxes.some((inbox) => !inbox.released && !inbox.complete)
          ? again
          : lost
      )
    )
  })
  return again
}

/** Subscribes to a job of a lost session from the new one; says in its streams what that means. */
const reattach = (
  session: ClientSession,
  jobs: SubmittedJobs,
  [jobId, inboxes]: Handles["jobs"][number],
  lost: ResumeWindowExpired
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const own = inboxes.length === 1 ? jobs.of(inboxes[0] as JobInbox) : undefined
    // Others would take it for a submit like any other, and start a run.
    const adoptable = session.guesses ? undefined : own?.about
    const asking = <A>(request: Effect.Effect<A, ClientError>) =>
      persistently(session, inboxes, lost, request)
    if (session.features.includes("subscribe")) {
      // Only of its own jobs does it know which number in the submitting session it has got to.
      const after = own?.inbox.replayAfter
      const follow = (from: number | undefined, replayed?: boolean) =>
        asking(
          session.request(
            "job.subscribe",
            "job.subscribed",
            { job_id: jobId, history: from !== undefined, from_event_seq: from },
            {
              jobId,
              repeatable: false,
              onAnswer: ({ payload }) => {
                for (const inbox of inboxes) inbox.rebase(payload.subscribed_from, replayed)
              }
            }
          )
        )
      // In another numbering the events' could not be told from what it has had. Others need not give a second replay.
      if (adoptable && after && after.chunks < after.events) yield* follow(after.chunks)
      const { payload } = yield* follow(after?.events, !!after)
      // Once it is this session's, where it was read to in the one before says nothing to a next process.
      yield* session.options.save
      if (adoptable && !hasEnded(payload)) yield* Effect.ignore(asking(adopt(session, adoptable)))
    } else if (adoptable)
      yield* asking(
        adopt(session, adoptable, () => {
          for (const inbox of inboxes) inbox.rebase(session.numbers.last, false)
        })
      )
    else session.handles.fail(jobId, lost)
  }).pipe(
    Effect.catchAll((error) =>
      Effect.sync(() => {
        // That the new session is gone too is dealt with by whoever opens the next.
        if (error instanceof ResumeWindowExpired || session.over) return
        session.handles.fail(
          jobId,
          new ResumeWindowExpired({
            message: `not watched: ${error.message}`
          })
        )
      })
    )
  )

/** How many jobs are asked about at a time: a client may have thousands of them, and a runtime thousands of clients. */
const atOnce = 8

/**
 * Returns what looks for all jobs with handles, to be run side by side. Those of a session that is lost are looked for at once, since
 * until then they are in none; others are asked about one after the other.
 */
export const lookFor = (
  session: ClientSession,
  jobs: SubmittedJobs,
  lost: ResumeWindowExpired | undefined
): ReadonlyArray<Effect.Effect<void>> => {
  const all = [...session.handles.jobs]
  if (lost)
    return all
      .filter(([, inboxes]) => inboxes.some((inbox) => inbox.lost))
      .map((job) => reattach(session, jobs, job, lost))
  const { round } = session
  const asking = Effect.gen(function* () {
    // After another hello somebody else asks.
    for (let job = all.shift(); job && session.round === round; job = all.shift()) {
      const [jobId] = job
      // Left while it was asked about others.
      if (!session.handles.has(jobId)) session.doubtful.delete(jobId)
      else if (yield* confirm(session, jobs, job)) {
        yield* Effect.sleep(pause)
        all.push(job)
      }
    }
  })
  return Array.from({ length: atOnce }, () => asking)
}
