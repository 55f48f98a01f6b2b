/**
 * Finding a session's jobs again: those of an earlier process of the same session, and those of a session that
 * could not be resumed, from the one that takes its place.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ResumeWindowExpired } from "../../protocol/Errors.js"
import type { Known } from "../../services/client/ArcpClient.js"
import type { ClientSession } from "./ClientSession.js"
import type { SavedJob } from "./ClientState.js"
import type { Handles } from "./Handles.js"
import { type About, JobInbox } from "./JobInbox.js"

/** A submit with an idempotency key, as it was sent. */
interface Keyed {
  readonly payload: { readonly idempotency_key: string | undefined }
  /** Epoch ms. */
  readonly at: number
}

interface SubmittedJob {
  readonly inbox: JobInbox
  readonly about: About
  readonly keyed: Keyed | undefined
  readonly key: string | undefined
  claimed: boolean
}

/** A runtime keeps keys for a day; with a margin, so that a submit cannot start the job a second time. */
const keyLifetime = Duration.toMillis("23 hours")

/** How many jobs whose handles are gone are remembered for the next process. */
const maxLeft = 1_000

/** The jobs that this session has submitted, which its numbering counts and a later process may ask for. */
export class SubmittedJobs {
  private readonly jobs = new Map<JobInbox, SubmittedJob>()
  /** Those whose handles are gone, by job. */
  private readonly left = new Map<string, SavedJob>()

  /** `kept`: a later process will read what is saved. */
  constructor(private readonly kept: boolean) {}

  add(inbox: JobInbox, about: About, keyed: Keyed | undefined): void {
    this.jobs.set(inbox, { inbox, about, keyed, key: keyed?.payload.idempotency_key, claimed: true })
  }
  /** A job of an earlier process: what comes for it is kept until somebody attaches. */
  restore(session: ClientSession, saved: SavedJob, from: number): void {
    const about = {
      job_id: saved.jobId,
      agent: saved.agent,
      trace_id: saved.traceId,
      lease: saved.lease,
      lease_constraints: saved.expiresAt === undefined ? undefined : { expires_at: saved.expiresAt }
    }
    const inbox = new JobInbox(session, { events: saved.eventsAfter, chunks: saved.chunksAfter, from })
    session.register(saved.jobId, inbox)
    this.jobs.set(inbox, { inbox, about, keyed: undefined, key: saved.idempotencyKey, claimed: false })
  }
  /** The job of an earlier process, to whoever asks first. */
  claim(jobId: string): SubmittedJob | undefined {
    for (const job of this.jobs.values())
      if (job.about.job_id === jobId && !job.claimed) {
        job.claimed = true
        return job
      }
    return undefined
  }
  get unclaimed(): ReadonlyArray<Known> {
    return Array.from(this.jobs.values())
      .filter((job) => !job.claimed)
      .map(({ about, key }) => ({ jobId: about.job_id, agent: about.agent, idempotencyKey: key }))
  }
  /** Was the job submitted by this session? Then its numbers are those of the submitting session. */
  of(inbox: JobInbox): SubmittedJob | undefined {
    return this.jobs.get(inbox)
  }
  /** Its handle is no longer used; a later process may still want to read on. */
  leave(inbox: JobInbox): void {
    const job = this.jobs.get(inbox)
    this.jobs.delete(inbox)
    if (!this.kept || job === undefined || inbox.readWhole) return
    const before = this.left.get(job.about.job_id)
    const now = saved(job)
    if (before === undefined || now.eventsAfter < before.eventsAfter) this.left.set(now.jobId, now)
    for (const oldest of this.left.keys()) {
      if (this.left.size <= maxLeft) break
      this.left.delete(oldest)
    }
  }
  /** The session is gone, and with it the numbers of those that were left. */
  forgetLeft(): void {
    this.left.clear()
  }
  /** What a later process needs of those that are not read to their end. */
  toSave(): ReadonlyArray<SavedJob> {
    const open = [...this.jobs.values()].filter(({ inbox }) => !inbox.readWhole).map(saved)
    // Several handles on one job are one job to the next process, from where the slowest was.
    const jobs = new Map<string, SavedJob>()
    for (const job of [...this.left.values(), ...open])
      if (job.eventsAfter < (jobs.get(job.jobId)?.eventsAfter ?? Infinity)) jobs.set(job.jobId, job)
    return [...jobs.values()]
  }
}

const saved = ({ about, inbox, key }: SubmittedJob): SavedJob => ({
  jobId: about.job_id,
  agent: about.agent,
  traceId: about.trace_id,
  lease: about.lease,
  expiresAt: about.lease_constraints?.expires_at,
  idempotencyKey: key,
  ...inbox.readTo
})

/** Subscribes to a job of a lost session from the new one; says in its streams what that means. */
export const reattach = (
  session: ClientSession,
  jobs: SubmittedJobs,
  [jobId, inboxes]: Handles["jobs"][number],
  lost: ResumeWindowExpired
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const own = inboxes.length === 1 ? jobs.of(inboxes[0] as JobInbox) : undefined
    const keyed =
      own?.keyed !== undefined && session.now() - own.keyed.at < keyLifetime ? own.keyed : undefined
    const adopt = (onAnswer: (jobId: string) => void) =>
      session.request("job.submit", "job.accepted", keyed?.payload, {
        repeatable: false,
        onAnswer: (accepted) => onAnswer(accepted.payload.job_id)
      })
    if (session.features.includes("subscribe")) {
      // Only of its own jobs does it know which number in the submitting session it has got to.
      const from = own?.inbox.replayAfter
      const replayed = from !== undefined
      yield* session.request(
        "job.subscribe",
        "job.subscribed",
        { job_id: jobId, history: replayed, from_event_seq: from },
        {
          jobId,
          repeatable: false,
          onAnswer: ({ payload }) => {
            for (const inbox of inboxes) inbox.rebase(payload.subscribed_from, replayed)
          }
        }
      )
      // The key makes the job this session's own again, so that it can be cancelled from here.
      if (keyed !== undefined && own?.inbox.ended === false) yield* Effect.ignore(adopt(() => {}))
    } else if (keyed !== undefined) {
      yield* adopt((found) => {
        if (found === jobId) for (const inbox of inboxes) inbox.rebase(session.numbers.last, false)
        else session.handles.fail(jobId, lost)
      })
    } else session.handles.fail(jobId, lost)
  }).pipe(
    Effect.catchAll((error) =>
      Effect.sync(() => {
        // That the new session is gone too is dealt with by whoever opens the next.
        if (error instanceof ResumeWindowExpired || session.over !== undefined) return
        session.handles.fail(
          jobId,
          new ResumeWindowExpired({
            message: `the job cannot be watched from a new session: ${error.message}`
          })
        )
      })
    )
  )
