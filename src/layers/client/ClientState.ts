/**
 * Where a client keeps its session's place for the next process: option `state` of `ArcpClient`. A module of its own,
 * so that a browser's bundle has it only when it is used.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Check from "../../protocol/Check.js"
import type * as Message from "../../protocol/Message.js"
import type { ResumeState } from "../../services/client/ArcpClient.js"
import type { ClientSession } from "./ClientSession.js"
import * as holding from "./holding.js"
import { JobInbox } from "./JobInbox.js"
import type { SubmittedJob } from "./Reattach.js"

/** Any `KeyValueStore` of `@effect/platform`, and whatever else has these two. What is kept is secret. */
export interface StateStore {
  readonly get: (key: string) => Effect.Effect<Option.Option<string>, unknown>
  readonly set: (key: string, value: string) => Effect.Effect<void, unknown>
}

/** A job of the session, and how far its reader has got. */
export interface SavedJob {
  readonly jobId: string
  readonly agent: string
  readonly traceId?: string | undefined
  readonly lease: Message.Accepted["lease"]
  readonly expiresAt?: string | undefined
  readonly idempotencyKey?: string | undefined
  readonly eventsAfter: number
  /** Its chunks have to be read again from here. */
  readonly chunksAfter: number
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
  readonly saved: Saved | undefined
  /** Made by `keptJobs`. */
  readonly jobs: KeptJobs
  /** Asks for what there is to save when its turn has come. */
  readonly save: (current: () => Saved) => Effect.Effect<void>
}

/** Opened once by each client, for its scope. */
export type ClientState = Effect.Effect<Opened, never, Scope.Scope>

/** As it is stored: the newer one of two, in case the process ends while it writes the other. */
interface Stored extends Saved {
  readonly version: number
}

const check = Check.object<Stored>({
  version: Check.count,
  sessionId: Check.text,
  resumeToken: Check.text,
  lastEventSeq: Check.count,
  jobs: Check.array(
    Check.object<SavedJob>({
      jobId: Check.text,
      agent: Check.text,
      traceId: Check.optional(Check.string),
      lease: Check.record(Check.array(Check.string)),
      expiresAt: Check.optional(Check.string),
      idempotencyKey: Check.optional(Check.string),
      eventsAfter: Check.count,
      chunksAfter: Check.count
    })
  )
})

/** The two are written in turn. */
const slot = (key: string, version: number) => (version % 2 === 1 ? key : `${key}.2`)

const read = (store: StateStore, key: string): Effect.Effect<Stored | undefined, unknown> =>
  Effect.flatMap(store.get(key), (text) =>
    Option.isNone(text)
      ? Effect.succeed(undefined)
      : Effect.try((): Stored => {
          const value: unknown = JSON.parse(text.value)
          const problem = check(value, "state")
          if (problem !== undefined) throw new Error(problem)
          return value as Stored
        })
  )

/** What was saved under `key`; nothing when there is nothing, or nothing that can be read. */
const load = (store: StateStore, key: string): Effect.Effect<Stored | undefined> =>
  Effect.gen(function* () {
    let newest: Stored | undefined
    let problem: unknown
    for (const version of [1, 2]) {
      const found = yield* Effect.either(read(store, slot(key, version)))
      if (Either.isLeft(found)) problem = found.left
      else if (found.right !== undefined && found.right.version > (newest?.version ?? -1))
        newest = found.right
    }
    if (newest === undefined && problem !== undefined)
      yield* Effect.logWarning("the saved state of the session cannot be read; a new one is opened", problem)
    return newest
  })

/** Saves when there is something new. A store that fails is told of once, and the session goes on. */
const saver = (store: StateStore, key: string, loaded: Stored | undefined): Opened["save"] => {
  const lock = Effect.unsafeMakeSemaphore(1)
  let version = loaded?.version ?? 0
  let saved = ""
  let failed = false
  const save = (current: () => Saved) =>
    Effect.suspend(() => {
      const state = current()
      const text = JSON.stringify(state)
      if (text === saved) return Effect.void
      const stored: Stored = { ...state, version: version + 1 }
      return Effect.matchEffect(store.set(slot(key, stored.version), JSON.stringify(stored)), {
        onSuccess: () =>
          Effect.sync(() => {
            version = stored.version
            saved = text
          }),
        onFailure: (error) => {
          if (failed) return Effect.void
          failed = true
          return Effect.logWarning(
            "the session's state cannot be saved; another process could not resume it",
            error
          )
        }
      })
    })
  // One after the other, each to its end: one that was cut off must not leave its mark on both.
  return (current) => lock.withPermits(1)(Effect.uninterruptible(save(current)))
}

/** How many jobs whose handles are gone are remembered for the next process. */
const maxLeft = 1_000

const saved = ({ about, inbox, key }: SubmittedJob): SavedJob => ({
  jobId: about.job_id,
  agent: about.agent,
  traceId: about.trace_id,
  lease: about.lease,
  expiresAt: about.lease_constraints?.expires_at,
  idempotencyKey: key,
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
  session.register(jobId, inbox)
  return { inbox, about, keyed: undefined, key: job.idempotencyKey, claimed: false }
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
      yield* place.move(now)
    })
}

/**
 * In a `KeyValueStore` of `@effect/platform`, under `key` and `KEY.2`, with its owner in `KEY.owner`. One client at a time:
 * another that is alive is noticed.
 */
export const keyValueStore = (store: StateStore, key = "arcp", options: StoreOptions = {}): ClientState =>
  Effect.gen(function* () {
    const { copied = false, onHeld = heldElsewhere } = options
    const loaded = yield* load(store, key)
    const save = saver(store, key, loaded)
    const place = yield* holding.make(store, key, copied)
    const mine = yield* place.take(loaded?.sessionId)
    if (!mine) yield* onHeld
    const saved = mine ? loaded : undefined
    return { saved, jobs: keptJobs(saved), save: saveIn(place, mine || copied, onHeld, save) }
  })
