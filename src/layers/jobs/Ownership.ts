/** Which session a job belongs to: the one that submitted it, or one that took it over when that was gone (§5.2). */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { type ArcpError, InternalError } from "../../protocol/Errors.js"
import { transient } from "../../protocol/Features.js"
import type { Identity } from "../../services/auth/Auth.js"
import { hasEnded } from "../../services/auth/ended.js"
import { coversJob } from "../../services/auth/Policy.js"
import { isOurs } from "../../services/cluster/Cluster.js"
import type { Credential } from "../../services/credentials/Credentials.js"
import type { JobSession, Outgoing } from "../../services/jobs/Jobs.js"
import type { JobLog } from "../../services/log/EventLog.js"
import type { JobRecord, SessionRecord } from "../../services/store/Store.js"
import { absentOwner } from "./durable/Owners.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import type { LiveJob } from "./LiveJob.js"
import * as OnWire from "./onWire.js"
import type { AdoptWant } from "./wishes/Want.js"

/** Tells which session owns a job, and what it may see of it. */
export interface Ownership {
  /**
   * Decides whether this session may see the credentials of a job. Returns what gives those that it is shown when it is told of
   * the job, at a commit: none when the session has been resumed meanwhile with another authority, which may be a narrower one,
   * or in the clear, and none once its token has ended.
   */
  readonly shown: (session: JobSession, record: JobRecord) => Effect.Effect<() => ReadonlyArray<Credential>>
  /** The accept of a job as its owner gets it: with the id of its submit, or as that of a delegated job. Made as `shown` is. */
  readonly accept: (session: JobSession, record: JobRecord) => Effect.Effect<() => Outgoing>
  /**
   * Tells whether the session may be the owner of a job from now on: the one that was no longer exists, the principal is
   * the same, and its own agents and ceiling cover the job.
   */
  readonly inheritable: (session: JobSession, record: JobRecord) => Effect.Effect<boolean, InternalError>
  /**
   * Tells whether the session may cancel a job as its owner may: it may inherit it, or could as soon as the connection ends that the
   * owner's session ends with. Those who never resume are on many nodes at once, and on each they are another session.
   */
  readonly mayCancel: (session: JobSession, record: JobRecord) => Effect.Effect<boolean, InternalError>
  /**
   * Makes the session the owner of a job, and of what that has delegated to. Of a job of another node, and of one that is being
   * loaded, unloaded or ended, it returns before that, and the session, which observes the job, then observes those too.
   */
  readonly take: (
    session: JobSession,
    record: JobRecord,
    requestId: string
  ) => Effect.Effect<void, InternalError>
  /** Does what another node wants: a session there becomes the owner. */
  readonly grant: (jobId: string, want: AdoptWant) => Effect.Effect<void, ArcpError>
}

/**
 * Tells whether a session may see the credentials of a job: the submitter's, when its own token covers the job (§5.6), and nobody on the
 * way can read them: over TLS, or within this machine (§14). The job has them in any case.
 */
export const seesCredentials = ({ exposed, features, identity }: JobSession, record: JobRecord) =>
  !exposed && identity.principal === record.principal && features.includes("provisioned_credentials")
    ? coversJob(identity, record)
    : Effect.succeed(false)

/** Tells whether what a job has been given is shown to a session, asked each time: it may have been resumed, or have lost the job. */
export const isShownTo = (live: LiveJob, sessionId: string): Effect.Effect<boolean> =>
  Effect.suspend(() =>
    live.owner.sessionId === sessionId ? seesCredentials(live.owner, live.record) : Effect.succeed(false)
  )

/** What an identity may do, beside what its principal may. */
const authorityOf = ({ agents, leaseCeiling }: Identity) => JSON.stringify([agents, leaseCeiling])

/** Tells whether a session has the same authority as before, and features. */
const isAlike = (now: JobSession, before: Pick<JobSession, "features" | "identity">): boolean =>
  (now.features === before.features && now.identity === before.identity) ||
  (now.features.join() === before.features.join() &&
    authorityOf(now.identity) === authorityOf(before.identity))

/**
 * Tells whether a session may still be shown what it might as it was before: another hello may have been said for it since, with another
 * token or on another connection, and its token may have ended.
 */
export const isStillShown = (
  session: JobSession,
  before: Pick<JobSession, "features" | "identity">,
  now: number
): boolean => !session.exposed && !hasEnded(session.identity, now) && isAlike(session, before)

const nothingShown = Effect.succeed((): ReadonlyArray<Credential> => [])

/** Jobs that are read at once. */
const page = 500

const gone = new InternalError({
  message: "the session is gone, or another has taken the job over meanwhile"
})

/** A session that takes jobs over. */
interface Heir {
  readonly session: JobSession
  /** It is here, and observes what it takes over. */
  readonly isHere: boolean
  /** Has a job taken over that somebody else has locked, or that is not stored yet: waits for that, or has it go on beside. */
  readonly whenFree: (taking: Effect.Effect<void, InternalError>) => Effect.Effect<void, InternalError>
}

/** What an adoption changes of a job's record; only that of a job that was submitted has a new submit. */
type By = Pick<JobRecord, "sessionId"> & Partial<Pick<JobRecord, "submitId">>

/** Logs that a job has no owner, when it could not be given one. */
export const unowned =
  ({ jobId }: JobRecord) =>
  <E extends ArcpError>(taking: Effect.Effect<void, E>): Effect.Effect<void> =>
    Effect.catchAll(taking, ({ message }) =>
      Effect.logWarning(`${jobId} has no owner; a cancel, or the key again, finds one`, message)
    )

/** Returns what tells who owns a job. */
export const make = (parts: JobParts): Ownership => {
  const { asking, cluster, credentials, log, now, owners, running, store, turn, unsettled, waits } = parts
  const shown: Ownership["shown"] = (session, record) =>
    Effect.suspend(() => {
      const { features, identity } = session
      // Asked last: comparing leases is the most work.
      if (credentials.held(record.jobId).length === 0 || hasEnded(identity, now())) return nothingShown
      return Effect.map(
        seesCredentials(session, record),
        (sees) => () =>
          sees && isStillShown(session, { features, identity }, now()) ? credentials.held(record.jobId) : []
      )
    })

  /** Tells whether a session covers a job that another one of its principal owns, and whose owner is none that has it for itself. */
  const covers =
    (isFree: (owner: SessionRecord | undefined) => boolean): Ownership["inheritable"] =>
    (session, record) =>
      record.principal !== session.identity.principal || record.sessionId === session.sessionId
        ? Effect.succeed(false)
        : Effect.flatMap(Faults.storage(store.session(record.sessionId)), (owner) =>
            isFree(owner) ? coversJob(session.identity, record) : Effect.succeed(false)
          )
  const inheritable = covers((owner) => owner === undefined)
  const mayCancel = covers((owner) => owner === undefined || owner.features.includes(transient))

  const join = (session: JobSession, record: JobRecord, job: JobLog) =>
    Effect.flatMap(accept(session, record), (told) =>
      log.observe(session.view, job, { history: false, isOwn: true, onCommit: () => session.send(told()) })
    )

  /** Brings what a session observes already up to date. */
  const again = (session: JobSession, job: JobLog) =>
    log.observe(session.view, job, { history: false, isOwn: true, onCommit: () => {} })

  /**
   * Makes a session the owner of one job, which is locked; fails when another than `after` has it by now. Returns what is in memory of a
   * job that runs.
   */
  const takeOne = (
    session: JobSession,
    after: string,
    jobId: string,
    job: JobLog,
    by: By
  ): Effect.Effect<LiveJob | undefined, InternalError> => {
    const adopt = (recordNow: () => JobRecord) =>
      log.adopt(session.view, job, () => ({ ...recordNow(), ...by }))
    // What was asked for twice is done as if it had been once.
    const isFree = ({ sessionId }: JobRecord) => sessionId === after || sessionId === by.sessionId
    return Effect.gen(function* () {
      const queued = running.queue.get(jobId)
      if (queued !== undefined) {
        if (!isFree(queued.record)) return yield* gone
        yield* adopt(() => queued.record)
        running.queue.adopt(queued, session, { ...queued.record, ...by })
        running.adopt(jobId, session)
        return undefined
      }
      const live = running.get(jobId)?.live
      if (live === undefined) {
        const stored = yield* Faults.storage(store.job(jobId))
        if (stored === undefined || asking.isElsewhere(stored) || !isFree(stored)) return yield* gone
        yield* adopt(() => stored)
        return undefined
      }
      if (!isFree(live.record)) return yield* gone
      const { sessionId, submitId } = live.record
      // What else is stored of it from here on says so too.
      live.record = { ...live.record, ...by }
      yield* Effect.tapError(
        adopt(() => live.record),
        () =>
          Effect.sync(() => {
            live.record = { ...live.record, sessionId, submitId }
          })
      )
      live.owner = session
      running.adopt(jobId, session)
      return live
    })
  }

  /**
   * Makes a session the owner of a job, under its lock: it is not begun, loaded, unloaded or answered as a row meanwhile. Then of what
   * that has delegated to.
   */
  const takeFamily = (
    heir: Heir,
    after: string,
    jobId: string,
    job: JobLog,
    by: By
  ): Effect.Effect<void, InternalError> =>
    Effect.gen(function* () {
      const { isHere, session } = heir
      const live = yield* waits.locked(jobId, Effect.uninterruptible(takeOne(session, after, jobId, job, by)))
      if (live === undefined) return
      if (isHere && live.parent !== undefined) yield* join(session, live.record, job)
      for (const child of live.children) yield* takeChild(heir, live, child)
    })

  /** Makes a session, which has a job by now, the owner of one that this has delegated to: as soon as that is opened. */
  const takeChild = (heir: Heir, parent: LiveJob, child: LiveJob): Effect.Effect<void, InternalError> =>
    Effect.suspend(() => {
      const { jobId } = child.record
      const { session, whenFree } = heir
      const taking = Effect.suspend(() => {
        const opened = running.get(jobId)
        return opened === undefined || parent.owner.sessionId !== session.sessionId
          ? Effect.void
          : // Whoever has it by now has taken it from whoever has the job above it.
            Effect.catchIf(
              takeFamily(heir, opened.live.record.sessionId, jobId, opened.log, {
                sessionId: session.sessionId
              }),
              (error) => error === gone,
              () => Effect.void
            )
      })
      if (running.get(jobId) !== undefined && !waits.isLocked(jobId)) return taking
      const opened = child.awaited === undefined ? Effect.void : Deferred.await(child.awaited.opened)
      return whenFree(Effect.zipRight(Effect.ignore(opened), taking))
    })

  /** Makes a session the owner of a job of this node, and of what that has delegated to. */
  const takeHere = (heir: Heir, record: JobRecord, submitId: string): Effect.Effect<void, InternalError> => {
    const { jobId } = record
    // The submit's id goes with the session: a frame of this session may have the old owner's by chance.
    const by = { sessionId: heir.session.sessionId, submitId }
    const taking = log.holding(record, (job) => takeFamily(heir, record.sessionId, jobId, job, by))
    // Of the last process: it gets its place first.
    return Effect.zipRight(
      unsettled.settled(jobId),
      Effect.suspend(() => (waits.isLocked(jobId) ? heir.whenFree(taking) : taking))
    )
  }

  /**
   * A session of this node that submits: it takes over what is free before anything else that it asks for. Nothing else that it asks for
   * waits for the rest, which may be as long as a job ends, or the store is away.
   */
  const submitting = (session: JobSession, record: JobRecord): Heir => ({
    session,
    isHere: true,
    whenFree: (taking) =>
      Effect.sync(() => asking.later("a job was taken over", unowned(record)(taking), () => {}))
  })

  /** Lets a session observe what a job of another node, which it owns by now, has delegated to. */
  const joinFamily = (session: JobSession, jobId: string): Effect.Effect<void, InternalError> =>
    Effect.gen(function* () {
      for (let after: JobRecord | undefined; ; ) {
        const children: ReadonlyArray<JobRecord> = yield* Faults.storage(
          store.jobs({
            ...{ principals: "everyone", status: ["pending", "running"], parentJobId: jobId },
            ...{ after, limit: page }
          })
        )
        for (const child of children) {
          yield* log.holding(child, (job) => join(session, child, job))
          yield* joinFamily(session, child.jobId)
        }
        after = children.at(-1)
        if (after === undefined || children.length < page) return
        yield* turn.next
      }
    })

  /** Makes a session the owner of a job of another node. */
  const takeThere = (session: JobSession, record: JobRecord, submitId: string) =>
    Effect.gen(function* () {
      const { features, sessionId } = session
      const { principal, ...identity } = session.identity
      const want = { sessionId, submitId, after: record.sessionId, features, identity }
      const outcome = yield* asking.ask(record, { kind: "adopt", ...want }, principal)
      const current = yield* Faults.storage(store.job(record.jobId))
      if (outcome === "done") {
        // What is here of the job knows its owner from now on.
        if (current !== undefined) yield* log.holding(current, (job) => again(session, job))
        return yield* joinFamily(session, record.jobId)
      }
      if (current?.sessionId === record.sessionId)
        yield* takeHere(submitting(session, current), current, submitId)
    })

  const accept: Ownership["accept"] = (session, record) =>
    Effect.map(
      shown(session, record),
      (credentials) => () =>
        OnWire.acceptance(
          record,
          record.parentJobId === undefined ? record.submitId : undefined,
          credentials(),
          running.get(record.jobId)?.live.span
        )
    )

  return {
    shown,
    accept,
    inheritable,
    mayCancel,
    take: (session, record, requestId) =>
      Effect.suspend(() => {
        if (!asking.isElsewhere(record)) return takeHere(submitting(session, record), record, requestId)
        const taking = unowned(record)(takeThere(session, record, requestId))
        asking.later("a job of another node was taken over", taking, () => {})
        return Effect.void
      }),
    grant: (jobId, { after, features, identity, sessionId, submitId }) =>
      Effect.gen(function* () {
        const known = yield* Faults.storage(store.job(jobId))
        const stored = yield* Faults.storage(store.session(sessionId))
        if (known === undefined || stored === undefined) return yield* gone
        const record = running.current(known)
        if (record.sessionId !== after && record.sessionId !== sessionId) return yield* gone
        const isHere = isOurs(cluster, stored)
        const here = isHere ? owners.session(sessionId) : undefined
        const session = here ?? (yield* absentOwner(parts, { ...record, sessionId }, { features, identity }))
        const heir: Heir = { session, isHere: here !== undefined, whenFree: (taking) => taking }
        yield* takeHere(heir, record, submitId)
      })
  }
}
