/**
 * Where a client keeps its session's place for the next process: option `state` of `ArcpClient`. A module of its own,
 * so that a browser's bundle has it only when it is used.
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { ResumeWindowExpired } from "../../protocol/Errors.js"
import type * as Message from "../../protocol/Message.js"
import type { ResumeState } from "../../services/client/ArcpClient.js"
import type { ClientSession } from "./ClientSession.js"
import * as holding from "./holding.js"
import { JobInbox, sessionLost } from "./JobInbox.js"
import type { SubmittedJob } from "./Reattach.js"
import { open } from "./savedState.js"

/** Any `KeyValueStore` of `@effect/platform`, and whatever else has these two. What is kept is secret. */
export interface StateStore {
  /** Returns what is kept under a key, if anything is. */
  readonly get: (key: string) => Effect.Effect<Option.Option<string>, unknown>
  /** Keeps a text under a key, durably when it returns. */
  readonly set: (key: string, value: string) => Effect.Effect<void, unknown>
}

/** A job of the session, and how far its reader has got. */
export interface SavedJob {
  readonly jobId: string
  readonly agent: string
  readonly traceId?: string | undefined
  readonly lease: Message.Accepted["lease"]
  /** When its lease ends, RFC 3339. */
  readonly expiresAt?: string | undefined
  readonly idempotencyKey?: string | undefined
  /** The `event_seq` of the last event that its reader has taken. */
  readonly eventsAfter: number
  /** Its chunks have to be read again from here. */
  readonly chunksAfter: number
  /** Its reader has not been told yet that something is missing before that. */
  readonly gap?: boolean | undefined
  /** It is in a session that is gone, whose numbers these are, and has not been found again in the one that took its place. */
  readonly lost?: boolean | undefined
  /** It has gone on in another session than submitted it: its history cannot be asked for after an event that has come there. */
  readonly rebased?: boolean | undefined
}

/** What the next process needs to go on with a session. */
export interface Saved extends ResumeState {
  readonly jobs: ReadonlyArray<SavedJob>
}

/** The jobs of a session, as a later process will find them. */
export interface KeptJobs {
  /** Makes the jobs of the earlier process again: what comes for them is kept until somebody attaches. */
  readonly restore: (session: ClientSession) => ReadonlyArray<SubmittedJob>
  /** The handle of a job is no longer used. */
  readonly left: (job: SubmittedJob) => void
  /** The session is gone, and with it the numbers of those that were left. */
  readonly forget: () => void
  /** Returns what a later process needs of these, and of those that were left and not read to their end. */
  readonly toSave: (open: Iterable<SubmittedJob>) => ReadonlyArray<SavedJob>
}

/** What the process before has left, and how to leave something for the next. */
export interface Opened {
  /** What it has left, if anything. */
  readonly saved: Saved | undefined
  /** Made by `keptJobs`. */
  readonly jobs: KeptJobs
  /** Asks for what there is to save when its turn has come. */
  readonly save: (current: () => Saved) => Effect.Effect<void>
}

/** Opened once by each client, for its scope. */
export type ClientState = Effect.Effect<Opened, never, Scope.Scope>

/** How many jobs whose handles are gone are remembered for the next process. */
const maxLeft = 1_000

const saved = ({ about, inbox, key }: SubmittedJob): SavedJob => ({
  jobId: about.job_id,
  agent: about.agent,
  traceId: about.trace_id,
  lease: about.lease,
  expiresAt: about.lease_constraints?.expires_at,
  idempotencyKey: key,
  lost: inbox.lost || undefined,
  rebased: inbox.rebased,
  ...inbox.readTo
})

const restored = (session: ClientSession, job: SavedJob, from: number): SubmittedJob => {
  const { expiresAt, jobId } = job
  const about = {
    job_id: jobId,
    agent: job.agent,
    trace_id: job.traceId,
    lease: job.lease,
    lease_constraints: expiresAt === undefined ? undefined : { expires_at: expiresAt }
  }
  const inbox = new JobInbox(session, { events: job.eventsAfter, chunks: job.chunksAfter, from })
  if (job.gap) inbox.missed("session_lost", sessionLost)
  inbox.rebased = job.rebased
  if (job.lost) {
    inbox.lose()
    session.orphaned = new ResumeWindowExpired({ message: "not found again" })
  }
  session.register(jobId, inbox)
  return { inbox, about, key: job.idempotencyKey, claimed: false }
}

/** Returns the jobs of a session that an earlier process has left, to which those of this one are added. */
export const keptJobs = (earlier: Saved | undefined): KeptJobs => {
  /** Those whose handles are gone, by job. */
  const left = new Map<string, SavedJob>()
  return {
    restore: (session) =>
      (earlier?.jobs ?? []).map((job) => restored(session, job, earlier?.lastEventSeq ?? 0)),
    left: (job) => {
      if (job.inbox.readWhole) return
      const before = left.get(job.about.job_id)
      const now = saved(job)
      if (before === undefined || now.eventsAfter < before.eventsAfter) left.set(now.jobId, now)
      for (const oldest of left.keys()) {
        if (left.size <= maxLeft) break
        left.delete(oldest)
      }
    },
    forget: () => left.clear(),
    toSave: (jobs) => {
      const open = [...jobs].filter(({ inbox }) => !inbox.readWhole).map(saved)
      // Several handles on one job are one job to the next process, from where the slowest was.
      const slowest = new Map<string, SavedJob>()
      for (const job of [...left.values(), ...open])
        if (job.eventsAfter < (slowest.get(job.jobId)?.eventsAfter ?? Infinity)) slowest.set(job.jobId, job)
      return [...slowest.values()]
    }
  }
}

/** How a store is used. */
export interface StoreOptions {
  /**
   * The store is this client's alone, and there may be copies of it: `sessionStorage`, which a duplicated tab has a copy of.
   * A client whose session is held then keeps its own in it. Default: false; it then keeps nothing.
   */
  readonly copied?: boolean | undefined
  /**
   * Run when another client that is alive holds the session that was saved, or has taken the store over: this one has a
   * session of its own, and `restored` is empty. Default: a warning in the log.
   */
  readonly onHeld?: Effect.Effect<void> | undefined
}

const heldElsewhere = Effect.logWarning(
  "another client holds the saved session; this one has a session of its own"
)

/**
 * Saves through a place that is this client's. `kept` is false where it is not: then nothing is saved. Holds the session
 * that is saved, whichever that becomes.
 */
const saveIn = (place: holding.Place, kept: boolean, told: Effect.Effect<void>, save: Opened["save"]) => {
  let mine = kept
  let sessionId = ""
  return (current: () => Saved): Effect.Effect<void> =>
    Effect.gen(function* () {
      if (!mine) return
      if (!(yield* place.isMine)) {
        mine = false
        return yield* told
      }
      let now = sessionId
      yield* save(() => {
        const state = current()
        now = state.sessionId
        return state
      })
      if (now === sessionId) return
      sessionId = now
      yield* place.hold(now)
    })
}

/**
 * In a `KeyValueStore` of `@effect/platform`, under `key`, `KEY.2` and `KEY.jobs.N`, with its owner in `KEY.owner`. One
 * client at a time: another that is alive is noticed.
 */
export const keyValueStore = (store: StateStore, key = "arcp", options: StoreOptions = {}): ClientState =>
  Effect.gen(function* () {
    const { copied = false, onHeld = heldElsewhere } = options
    const place = yield* holding.make(store, key, copied)
    const free = yield* place.take
    // Not before: whoever had the place may have saved until it left.
    const opened = yield* open(store, key)
    const sessionId = opened.saved?.sessionId
    const mine =
      free && (sessionId === undefined || ((yield* place.settled) && (yield* place.hold(sessionId))))
    if (!mine) yield* onHeld
    const saved = mine ? opened.saved : undefined
    return { saved, jobs: keptJobs(saved), save: saveIn(place, mine || copied, onHeld, opened.save) }
  })
