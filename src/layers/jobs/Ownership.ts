/** Which session a job belongs to: the one that submitted it, or one that took it over when that was gone (§5.2). */
import * as Effect from "effect/Effect"
import type { InternalError } from "../../protocol/Errors.js"
import { coversJob } from "../../services/auth/Policy.js"
import type { Credential } from "../../services/credentials/Credentials.js"
import type { JobSession, Outgoing } from "../../services/jobs/Jobs.js"
import type { JobLog } from "../../services/log/EventLog.js"
import type { JobRecord } from "../../services/store/Store.js"
import * as Elsewhere from "./elsewhere.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import type { LiveJob } from "./LiveJob.js"
import * as OnWire from "./onWire.js"

/** Tells which session owns a job, and what it may see of it. */
export interface Ownership {
  /** The credentials of a job that this session may see. */
  readonly shown: (session: JobSession, record: JobRecord) => ReadonlyArray<Credential>
  /** The accept of a job as its owner gets it: with the id of its submit, or as that of a delegated job. */
  readonly accept: (session: JobSession, record: JobRecord) => Outgoing
  /**
   * Tells whether the session may be the owner of a job from now on: the one that was no longer exists, the principal is
   * the same, and its own agents and ceiling cover the job.
   */
  readonly inheritable: (session: JobSession, record: JobRecord) => Effect.Effect<boolean, InternalError>
  /** Makes the session the owner of a job, and of what that has delegated to. */
  readonly take: (
    session: JobSession,
    record: JobRecord,
    log: JobLog,
    requestId: string
  ) => Effect.Effect<void, InternalError>
}

/** Tells whether a session may see the credentials of a job: the submitter's, when its own token covers the job (§5.6). */
export const seesCredentials = ({ features, identity }: JobSession, record: JobRecord): boolean =>
  identity.principal === record.principal &&
  features.includes("provisioned_credentials") &&
  coversJob(identity, record)

/** Returns what tells who owns a job. */
export const make = (parts: JobParts): Ownership => {
  const { credentials, log, running, store, waits } = parts
  const shown: Ownership["shown"] = (session, record) => {
    const held = credentials.held(record.jobId)
    // Asked last: comparing leases is the most work.
    return held.length > 0 && seesCredentials(session, record) ? held : []
  }

  const inheritable: Ownership["inheritable"] = (session, record) =>
    record.principal !== session.identity.principal || record.sessionId === session.sessionId
      ? Effect.succeed(false)
      : Effect.map(
          Faults.storage(store.session(record.sessionId)),
          (owner) => owner === undefined && coversJob(session.identity, record)
        )

  /** A running job and what it delegated to belong to another session from now on. */
  const takeFamily = (session: JobSession, job: LiveJob): Effect.Effect<void, InternalError> =>
    Effect.gen(function* () {
      job.owner = session
      for (const child of job.children) {
        const opened = running.get(child.record.jobId)
        if (opened === undefined) continue
        child.record = { ...child.record, sessionId: session.sessionId }
        yield* log.adopt(session.view, opened.log, child.record)
        yield* log.observe(session.view, opened.log, {
          history: false,
          onCommit: () => session.send(accept(session, child.record))
        })
        yield* takeFamily(session, child)
      }
    })

  const accept: Ownership["accept"] = (session, record) =>
    OnWire.acceptance(
      record,
      record.parentJobId === undefined ? record.submitId : undefined,
      shown(session, record),
      running.get(record.jobId)?.live.span
    )

  return {
    shown,
    accept,
    inheritable,
    take: (session, record, job, requestId) =>
      Effect.suspend(() => {
        // The submit's id goes with the session: a frame of this session may have the old owner's by chance.
        const by = { sessionId: session.sessionId, submitId: requestId }
        const taking = Effect.gen(function* () {
          const queued = running.queue.get(record.jobId)
          if (queued !== undefined) {
            const taken = { ...queued.record, ...by }
            running.queue.adopt(queued, session, taken)
            return yield* log.adopt(session.view, job, taken)
          }
          const live = running.get(record.jobId)?.live
          if (live === undefined) {
            yield* Elsewhere.isHere(parts, record)
            const stored = (yield* Faults.storage(store.job(record.jobId))) ?? record
            return yield* log.adopt(session.view, job, { ...stored, ...by })
          }
          live.record = { ...live.record, ...by }
          yield* log.adopt(session.view, job, live.record)
          yield* takeFamily(session, live)
        })
        // It must not be loaded, or unloaded, meanwhile.
        return running.get(record.jobId) === undefined ? waits.locked(record.jobId, taking) : taking
      })
  }
}
