/** The event log over any `Store`. See services/log/EventLog.ts for the idea, the other files here for the parts. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { InternalError } from "../../protocol/Errors.js"
import { EventLog } from "../../services/log/EventLog.js"
import type { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { type Op, type Store, type StoreError, toInternalError } from "../../services/store/Store.js"
import { sizeOfOps } from "./CommitQueue.js"
import type { Committed } from "./Committed.js"
import * as Emitting from "./Emitting.js"
import * as Following from "./Following.js"
import * as History from "./History.js"
import * as JobChanges from "./JobChanges.js"
import { JobLoad, type JobState, jobStateOf } from "./JobState.js"
import * as LogParts from "./LogParts.js"
import { leaving, left } from "./leaving.js"
import * as Viewing from "./Viewing.js"
import { type ViewState, viewStateOf } from "./ViewState.js"

const unread = toInternalError("the log could not be read")

const stored = <A>(effect: Effect.Effect<A, InternalError | StoreError>): Effect.Effect<A, InternalError> =>
  Effect.mapError(effect, (error) => (error._tag === "StoreError" ? unread(error) : error))

/** Makes the log over the store in context, with views and jobs as they were stored. */
export const make = Effect.gen(function* () {
  const parts = yield* LogParts.make
  const { committer, live, reader, retention, sequencer } = parts
  const emitting = Emitting.make(parts)
  const jobs = JobChanges.make(parts)
  const views = Viewing.make(parts)
  const history = History.make(parts)

  /** Counts the records of refused submits, which have ended already and are kept like jobs. */
  const countEnded = (ops: ReadonlyArray<Op> = []) =>
    Effect.sync(() => {
      for (const op of ops)
        if (op._tag === "PutJob" && op.job.endedAt !== undefined)
          retention.ended(op.job.jobId, op.job.principal)
    })

  /** Lets a view observe a job: one of another node as it is now, and what comes of it is looked for. */
  const joining = (view: ViewState, job: JobState, join: History.Join) =>
    job.foreignTo === undefined
      ? history.observe(view, job, join)
      : Effect.zipRight(live.refresh(job), history.observe(view, job, join))

  /** Lets a view observe a job. One that is left to other nodes meanwhile it observes as one of theirs. */
  const observe = (
    view: ViewState,
    job: JobState,
    join: History.Join
  ): Effect.Effect<void, StoreError | InternalError> =>
    Effect.flatMap(live.holds.joined(job, joining(view, job, join)), (isJoined) =>
      isJoined ? Effect.void : live.holds.holding(live.loadAgain(job), (now) => observe(view, now, join))
    )

  return EventLog.of({
    commit: (ops, owners = []) =>
      committer.change((tx) => {
        for (const owner of owners) tx.owns(owner)
        tx.add(ops)
      }, sizeOfOps(ops)),
    stopped: committer.stopped,
    openView: views.openView,
    holdView: (session) => stored(sequencer.hold(session)),
    takeSession: views.takeSession,
    absentView: (session) => live.absentView(session),
    dropView: views.dropView,
    attach: (view, connection) => views.attach(viewStateOf(view), connection),
    detach: (view) => views.detach(viewStateOf(view)),
    ack: (view, eventSeq) => views.ack(viewStateOf(view), eventSeq),
    read: (view, after, wake) => views.read(viewStateOf(view), after, wake),
    again: (view, eventSeq) => views.again(viewStateOf(view), eventSeq),
    roomToOpen: jobs.roomToOpen,
    openJob: (record, owner, opening) => jobs.openJob(record, viewStateOf(owner), opening),
    loadJob: (record) => stored(live.loadJob(record)),
    reopenJob: (record, opening) => stored(jobs.reopenJob(record, opening)),
    took: (records) => live.took(records),
    leaving: (record, move) => leaving(parts, record, move),
    left: (jobIds) => left(parts, jobIds),
    leaveJob: (job) => {
      if (job instanceof JobLoad) job.leave()
    },
    letGo: (job) => live.rest(jobStateOf(job)),
    holding: (record, use) => live.holds.holding(stored(live.loadJob(record)), use),
    goneView: (sessionId, features) => live.goneView(sessionId, features),
    loadJobs: (records) => stored(live.loadJobs(records)),
    append: emitting.append,
    flush: (job) => emitting.flush(jobStateOf(job)),
    end: (job, event, record, onCommit) => emitting.end(jobStateOf(job), event, record, onCommit),
    observe: (view, job, join) =>
      Effect.tap(stored(observe(viewStateOf(view), jobStateOf(job), join)), () => countEnded(join.ops)),
    onSlow: (tell) => {
      live.onSlow = ({ foreignTo: node, jobId }, sessionId, slow) => {
        if (node !== undefined) tell({ jobId, node }, sessionId, slow)
      }
    },
    slow: (jobId, sessionId, slow) =>
      Effect.sync(() => {
        const job = live.jobs.get(jobId)
        if (job !== undefined) parts.pace.slow(job, sessionId, slow)
      }),
    events: (job) => history.follow(jobStateOf(job)),
    follow: (record) => Following.make(parts, stored(live.loadJob(record))),
    streamedResult: (job) => stored(reader.streamedResult(jobStateOf(job))),
    forget: (jobs) => stored(retention.forget(jobs)),
    unobserve: (view, jobId) => jobs.unobserve(viewStateOf(view), jobId),
    ownsElsewhere: (view) => {
      const { sessionId, watched } = viewStateOf(view)
      return Array.from(watched).some((jobId) => live.jobs.get(jobId)?.owner === sessionId)
    },
    adopt: (view, job, recordNow) => stored(jobs.adopt(viewStateOf(view), jobStateOf(job), recordNow)),
    amend: (job, record, onCommit) => jobs.amend(jobStateOf(job), record, onCommit)
  })
})

/** Provides the log over the `Store` in context. Fails when the store cannot say what it holds. */
export const layer = (): Layer.Layer<EventLog, StoreError, Committed | Store | RuntimeOptions> =>
  Layer.scoped(EventLog, make)

export * from "../../services/log/EventLog.js"
