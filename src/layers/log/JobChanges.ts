/** What changes jobs rather than adding events to them: their records, their owners, and who observes them. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { InternalError } from "../../protocol/Errors.js"
import type { EventLog, JobLog } from "../../services/log/EventLog.js"
import { takenAway } from "../../services/log/taken.js"
import { Pending } from "../../services/runtime/Pending.js"
import { absent, type JobRecord, Op } from "../../services/store/Store.js"
import { Account } from "./Account.js"
import { sizeOfOps } from "./CommitQueue.js"
import { JobLoad, type JobState, jobStateOf } from "./JobState.js"
import type { LogParts } from "./LogParts.js"
import type { Transaction } from "./Transaction.js"
import type { ViewState } from "./ViewState.js"

/** What is stored with a new job, and told of it. */
type Opening = NonNullable<Parameters<EventLog["Type"]["openJob"]>[2]>

/** Gives a job what it has of the job that delegated to it: depth, secrets and budget. */
const placeBelow = (
  { jobs }: LogParts["live"],
  job: JobState,
  record: JobRecord,
  { parent, secrets = [] }: Opening
): JobState => {
  const above = parent === undefined ? undefined : jobStateOf(parent)
  job.depth = above === undefined ? 0 : above.depth + 1
  if (secrets.length > 0 || (above !== undefined && above.secretValues.length > 0))
    job.secretValues = [...secrets, ...(above?.secretValues ?? [])]
  if (above?.account !== undefined || record.lease["cost.budget"] !== undefined)
    job.account = new Account(job, record, above?.account, ({ jobId }) => jobs.get(jobId)?.account)
  return job
}

/** Returns the change that stores a new job, which its owner observes from now on. The change returns what undoes it. */
const storing =
  (
    parts: LogParts,
    log: JobLog,
    record: JobRecord,
    given: ViewState,
    opening: Opening,
    opened: { isRefused: boolean }
  ) =>
  (tx: Transaction): (() => void) | undefined => {
    const { live, publisher, retention } = parts
    // A job that is run before its session has come back may have begun with what was here of that.
    const view = live.views.get(given.sessionId) ?? given
    const job = jobStateOf(log)
    const { accepted, event, freeKey, onCommit, ops = [], parent } = opening
    const above = parent === undefined ? undefined : jobStateOf(parent)
    const ended = record.endedAt !== undefined
    // Another process has the session; whoever submits hears from that, and submits it there. That stands when the batch is tried again
    // and the session is back: who submits is told so by then, and the job would be stored and run by nobody.
    if (opened.isRefused || (view.taken && record.parentJobId === undefined)) {
      opened.isRefused = true
      return undefined
    }
    live.jobs.set(job.jobId, job)
    job.loaded = true
    if (parts.watchers !== undefined) tx.onApply(() => parts.watchers?.opened(job))
    // Whoever observes nothing of its own is told of refusals all the same.
    const isHeld = view.isHeld && !view.dropped
    const observes = (!view.dropped || view.taken) && (ended || view.observesOwn)
    if (observes && isHeld) {
      if (isBehind(view, record)) view.behind.set(job.jobId, 0)
      else job.addObserver(view)
    }
    tx.owns({ job: job.jobId, epoch: absent })
    if (isHeld) tx.ownsView(view)
    if (freeKey !== undefined) tx.owns(freeKey)
    // What is written here of the job that delegates is so only while that is this process's.
    if (above !== undefined && ops.some((op) => op._tag === "PutJournal" && op.jobId === above.jobId))
      tx.ownsJob(above)
    if (!ended) {
      tx.ops.push(Op.PutJob({ job: tx.withBudget(job, record) }))
      if (observes) tx.ops.push(Op.Observe({ sessionId: view.sessionId, jobId: job.jobId, cursor: 0 }))
    }
    if (event !== undefined) {
      if (ended) tx.append(job, [event])
      else tx.begin(job, event)
    }
    if (ended) {
      job.ended = true
      tx.ops.push(Op.PutJob({ job: { ...record, lastEventSeq: tx.lastEventSeqOf(job) } }))
      tx.onApply(() => {
        job.close()
        retention.ended(job.jobId, record.principal)
      })
    }
    tx.add(ops)
    if (onCommit !== undefined) tx.onApply(() => onCommit(log))
    if (accepted !== undefined && publisher.listening)
      tx.onApply(() => publisher.opened(job, record, accepted()))
    return () => {
      live.jobs.delete(job.jobId)
      job.removeObserver(view)
      view.behind.delete(job.jobId)
    }
  }

/** Returns whether a view has to come to a new job by what it has not numbered before: of the job that delegated to it. */
const isBehind = (view: ViewState, { endedAt, parentJobId }: JobRecord): boolean =>
  endedAt === undefined && (!view.isKnown || (parentJobId !== undefined && view.behind.has(parentJobId)))

/** Returns what opens jobs and changes them: `EventLog.roomToOpen`, `openJob`, `reopenJob`, `adopt`, `amend` and `unobserve`. */
export const make = (parts: LogParts) => {
  const { committer, live, publisher, retention, store } = parts

  const roomToOpen: EventLog["Type"]["roomToOpen"] = (keep) =>
    Effect.suspend(() =>
      publisher.suspends
        ? Effect.async<void>((resume) =>
            publisher.admit((settled) => {
              keep(settled)
              resume(Effect.void)
            })
          )
        : Effect.void
    )

  const openJob = (
    record: JobRecord,
    view: ViewState,
    opening: Opening = {}
  ): Effect.Effect<JobLog, InternalError> => {
    const job = placeBelow(live, live.newJob(record), record, opening)
    const log = record.survival === undefined ? job : new JobLoad(job)
    const answer = { isRefused: false }
    const change = storing(parts, log, record, view, opening, answer)
    const size = (opening.event?.payload.length ?? 0) + sizeOfOps(opening.ops ?? [])
    const opened = new Pending<JobLog, InternalError>((done) =>
      committer.enqueue({
        _tag: "Change",
        change,
        size,
        done: (exit) => done(answer.isRefused ? Exit.fail(takenAway) : Exit.as(exit, log))
      })
    )
    return retention.isBlocked(job) ? Effect.zipRight(retention.room(job), opened) : opened
  }

  const reopenJob = (record: JobRecord, opening: Pick<Opening, "parent" | "secrets"> = {}) =>
    Effect.flatMap(live.loadJob(record), (job) => {
      if (!job.isHereAs(record)) return takenAway
      placeBelow(live, job, record, opening)
      if (record.budget !== undefined) job.account?.restore(record.budget)
      job.loaded = true
      return Effect.succeed(new JobLoad(job))
    })

  /** Commits a change by a job's record, as that is at the commit; fails when the job is not this process's by then. */
  const changed = (
    job: JobState,
    recordNow: () => JobRecord,
    change: (tx: Transaction, record: JobRecord) => (() => void) | undefined
  ) =>
    Effect.suspend(() => {
      let isTaken = false
      const changing = committer.change((tx) => {
        const record = recordNow()
        isTaken = !job.isHereAs(record)
        return isTaken ? undefined : change(tx, record)
      })
      return Effect.zipRight(
        changing,
        Effect.suspend(() => (isTaken ? takenAway : Effect.void))
      )
    })

  const adopt = (view: ViewState, job: JobState, recordNow: () => JobRecord) =>
    Effect.flatMap(store.numbering(view.sessionId, job.jobId, 0), (known) =>
      changed(job, recordNow, (tx, record) => {
        // It has ended since the record was read: what is stored of its end stands.
        if (job.closed && record.endedAt === undefined) return undefined
        const owner = job.owner
        job.owner = view.sessionId
        job.ownerView = job.observers.has(view) ? view : undefined
        tx.renumber(job, view, known.last)
        const back = tx.putRecord(job, record)
        return () => {
          back()
          job.owner = owner
          job.ownerView = undefined
          for (const observer of job.observers) if (observer.sessionId === owner) job.ownerView = observer
        }
      })
    )

  const amend = (job: JobState, record: JobRecord, onCommit: () => void) =>
    changed(
      job,
      () => record,
      (tx) => {
        tx.onApply(onCommit)
        return job.closed ? undefined : tx.putRecord(job, record)
      }
    )

  const unobserve = (view: ViewState, jobId: string) =>
    Effect.suspend(() => {
      const known = live.jobs.get(jobId)
      const observes = known === undefined || view.observed.has(known) || view.behind.has(jobId)
      if (view.dropped || !observes) return Effect.void
      return committer.change((tx) => {
        if (view.dropped) return
        tx.ownsView(view)
        tx.ops.push(Op.Unobserve({ sessionId: view.sessionId, jobId }))
        const behind = view.behind.get(jobId)
        const watched = view.watched.has(jobId)
        view.unwatch(jobId)
        // Of one that waits nothing may be in memory.
        const job = live.jobs.get(jobId)
        const following = job !== undefined && view.observed.has(job) ? job : undefined
        following?.removeObserver(view)
        if (following !== undefined) tx.onApply(() => live.forget(following))
        return () => {
          if (view.dropped) return
          if (following?.closed === false) following.addObserver(view)
          if (behind === undefined) return
          if (watched) view.watch(jobId, behind)
          else view.behind.set(jobId, behind)
        }
      })
    })

  return { roomToOpen, openJob, reopenJob, adopt, amend, unobserve }
}
