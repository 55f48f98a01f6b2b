/** The event log over any `Store`. See services/log/EventLog.ts for the idea, the other files here for the parts. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Budget from "../../protocol/Budget.js"
import type { InternalError } from "../../protocol/Errors.js"
import { eventPayload, timestamp } from "../../protocol/EventText.js"
import { EventLog, type JobLog, type NewEvent, type View } from "../../services/log/EventLog.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { Turn } from "../../services/runtime/Turn.js"
import { type JobRecord, Op, Store, type StoreError, toInternalError } from "../../services/store/Store.js"
import { Account, type Report } from "./Account.js"
import * as Committed from "./Committed.js"
import * as Committer from "./Committer.js"
import * as History from "./History.js"
import { JobState } from "./JobState.js"
import { granularityOf } from "./Ledger.js"
import { LiveLogs } from "./Live.js"
import * as Pace from "./Pace.js"
import * as Reader from "./Reader.js"
import * as Retention from "./Retention.js"
import { Tail } from "./Tail.js"
import type { Touched, Transaction } from "./Transaction.js"
import { ViewState } from "./ViewState.js"

/** In memory, what may be queued before an emitter waits for the commit: short turns, so that others get theirs. */
const volatileEvents = 64
const volatileBytes = 128 * 1024

/** The one place where a view is opened up: it was made here. */
const stateOf = (view: View): ViewState => {
  if (view instanceof ViewState) return view
  throw new Error("this view was not made by this log")
}

/** The one place where a job's log is opened up: it was made here. */
const logOf = (job: JobLog): JobState => {
  if (job instanceof JobState) return job
  throw new Error("this job's log was not made by this log")
}

const unread = toInternalError("the log could not be read")

const stored = <A>(effect: Effect.Effect<A, InternalError | StoreError>): Effect.Effect<A, InternalError> =>
  Effect.mapError(effect, (error) => (error._tag === "StoreError" ? unread(error) : error))

const retentionLimits = (kind: "memory" | "durable", options: RuntimeOptions["Type"]) => {
  const share = kind === "memory" ? 16 : 1
  return {
    events: Math.max(1, Math.floor(options.maxRetainedEvents / share)),
    bytes: Math.max(1, Math.floor(options.maxRetainedBytes / share))
  }
}

/** Makes the log over the store in context, with views and jobs as they were stored. */
export const make = Effect.gen(function* () {
  const store = yield* Store
  const options = yield* RuntimeOptions
  const turn = yield* Turn
  const clock = yield* Effect.clock
  const now = () => clock.unsafeCurrentTimeMillis()
  const elapsed = monotonic(clock)
  const publisher = Committed.publisherOf(yield* Committed.Committed)
  // After the committer's last commit: consumers get everything, and then their end.
  yield* Effect.addFinalizer(() => Effect.sync(() => publisher.end()))
  const windowMs = Duration.toMillis(options.resumeWindow)
  const limits = retentionLimits(store.kind, options)

  const live = new LiveLogs(store, limits)
  const tail = new Tail(options.tailBytes, (job) => {
    if (job.closed) live.jobs.delete(job.jobId)
  })

  const report = ({ currency, remaining }: Report): NewEvent => ({
    type: "job.event",
    kind: "metric",
    payload: eventPayload(
      "metric",
      timestamp(now()),
      `{"name":"cost.budget.remaining","value":${Budget.format(remaining)},"unit":${JSON.stringify(currency)}}`
    )
  })

  /** After each commit: publish it, wake the readers, tell who lags, and look at what is over the limits. */
  const published = (touched: Touched) => {
    if (publisher.listening) for (const [job, { events }] of touched.appended) publisher.publish(job, events)
    for (const view of touched.views) {
      view.wake?.()
      pace.published(view)
    }
    for (const job of touched.jobs) {
      job.wake()
      if (job.closed) job.forgetSecrets()
    }
    retention.published(touched)
  }

  const committer = yield* Committer.make(store, tail, report, granularityOf(limits), published)
  const pace = Pace.make({ committer, limits, backPressureLag: options.backPressureLag, now })
  const retention = Retention.make({
    store,
    committer,
    live,
    tail,
    options,
    turn,
    now,
    monotonic: elapsed,
    windowMs
  })
  const history = History.make(store, committer)
  const reader = Reader.make(store, (jobId) => live.jobs.get(jobId), options)
  yield* retention.start

  const changed = (ops: ReadonlyArray<Op>) =>
    committer.change((tx) => {
      tx.ops.push(...ops)
    })

  /** Queues something as soon as every consumer that must lose nothing has room for it. */
  const admitted = (queue: (done: Committer.Done) => void) =>
    Effect.async<void, InternalError>((resume) =>
      publisher.admit((settled) =>
        queue((exit) => {
          settled()
          resume(exit)
        })
      )
    )

  // Emitting

  const appending = (job: JobState, event: NewEvent) => (done: Committer.Done) =>
    job.ended ? done(Exit.void) : committer.enqueue({ _tag: "Append", job, event, done })

  let queuedBytes = 0
  const enqueue = (job: JobState, event: NewEvent): Effect.Effect<void, InternalError> => {
    // Whoever asks for the budget right after a cost must see it counted.
    if (store.kind !== "memory" || event.cost !== undefined)
      return Effect.async<void, InternalError>((resume) =>
        committer.enqueue({ _tag: "Append", job, event, done: resume })
      )
    // In memory nothing can fail and nothing is durable, so it is as good as committed once it is queued.
    committer.enqueue({ _tag: "Append", job, event, done: undefined })
    queuedBytes += event.payload.length
    if (committer.backlog() < volatileEvents && queuedBytes < volatileBytes) return Effect.void
    return Effect.zipRight(
      committer.nextCommit,
      Effect.sync(() => {
        queuedBytes = 0
      })
    )
  }

  const append = (log: JobLog, event: NewEvent): Effect.Effect<void, InternalError> =>
    Effect.suspend(() => {
      const job = logOf(log)
      if (job.ended) return Effect.void
      if (retention.isBlocked(job)) return Effect.zipRight(retention.room(job), append(job, event))
      const committed = publisher.suspends ? admitted(appending(job, event)) : enqueue(job, event)
      return pace.holds(job) ? Effect.zipRight(committed, pace.wait(job)) : committed
    })

  const end = (
    job: JobState,
    event: NewEvent,
    record: (lastEventSeq: number) => JobRecord,
    onCommit?: () => void
  ) =>
    Effect.async<void, InternalError>((resume) => {
      job.ended = true
      let principal = ""
      committer.enqueue({
        _tag: "Append",
        job,
        event,
        record: (tx) => {
          const final = record(tx.lastEventSeqOf(job))
          principal = final.principal
          if (onCommit !== undefined) tx.onApply(onCommit)
          return Op.PutJob({ job: tx.withBudget(job, final) })
        },
        done: (exit) => {
          if (exit._tag === "Success") retention.ended(job.jobId, principal)
          resume(exit)
        }
      })
    })

  // Jobs

  const openJob: EventLog["Type"]["openJob"] = (record, owner, opening = {}) =>
    Effect.suspend(() => {
      const { accepted, event, onCommit, ops = [], parent, secrets = [] } = opening
      const view = stateOf(owner)
      const job = live.newJob(record)
      const above = parent === undefined ? undefined : logOf(parent)
      job.depth = above === undefined ? 0 : above.depth + 1
      if (secrets.length > 0 || (above !== undefined && above.secretValues.length > 0))
        job.secretValues = [...secrets, ...(above?.secretValues ?? [])]
      if (above?.account !== undefined || record.lease["cost.budget"] !== undefined)
        job.account = new Account(job, record, above?.account)
      const open = (tx: Transaction) => {
        live.jobs.set(job.jobId, job)
        if (!view.dropped) job.addObserver(view)
        const ended = record.endedAt !== undefined
        if (!ended) {
          tx.ops.push(Op.PutJob({ job: tx.withBudget(job, record) }))
          if (!view.dropped) tx.ops.push(Op.Observe({ sessionId: view.sessionId, jobId: job.jobId }))
        }
        if (event !== undefined) tx.append(job, [event])
        if (ended) {
          job.ended = true
          tx.ops.push(Op.PutJob({ job: { ...record, lastEventSeq: tx.lastEventSeqOf(job) } }))
          tx.onApply(() => {
            job.close()
            retention.ended(job.jobId, record.principal)
          })
        }
        tx.ops.push(...ops)
        if (onCommit !== undefined) tx.onApply(() => onCommit(job))
        if (accepted !== undefined && publisher.listening)
          tx.onApply(() => publisher.opened(job, record, accepted()))
        return () => {
          live.jobs.delete(job.jobId)
          job.removeObserver(view)
        }
      }
      const change = publisher.suspends
        ? admitted((done) => committer.enqueue({ _tag: "Change", change: open, done }))
        : committer.change(open)
      const opened = Effect.as(change, job)
      return retention.isBlocked(job) ? Effect.zipRight(retention.room(job), opened) : opened
    })

  const adopt = (view: ViewState, job: JobState, record: JobRecord) =>
    committer.change((tx) => {
      // It has ended since the record was read: what is stored of its end stands.
      if (job.closed && record.endedAt === undefined) return
      const owner = job.owner
      job.owner = view.sessionId
      job.ownerView = job.observers.has(view) ? view : undefined
      const back = putRecord(tx, job, record)
      return () => {
        back()
        job.owner = owner
        job.ownerView = undefined
        for (const observer of job.observers) if (observer.sessionId === owner) job.ownerView = observer
      }
    })

  const amend = (job: JobState, record: JobRecord, onCommit: () => void) =>
    committer.change((tx) => {
      tx.onApply(onCommit)
      if (!job.closed) return putRecord(tx, job, record)
    })

  const unobserve = (view: ViewState, jobId: string) =>
    Effect.suspend(() => {
      const job = live.jobs.get(jobId)
      if (job === undefined || !view.observed.has(job)) return Effect.void
      return committer.change((tx) => {
        tx.ops.push(Op.Unobserve({ sessionId: view.sessionId, jobId }))
        job.removeObserver(view)
        return () => {
          if (!job.closed && !view.dropped) job.addObserver(view)
        }
      })
    })

  /** Records of what has ended already are kept, and counted, like jobs. */
  const countEnded = (ops: ReadonlyArray<Op> = []) =>
    Effect.sync(() => {
      for (const op of ops)
        if (op._tag === "PutJob" && op.job.endedAt !== undefined)
          retention.ended(op.job.jobId, op.job.principal)
    })

  // Views

  const openView: EventLog["Type"]["openView"] = (session) =>
    Effect.suspend(() => {
      const view = live.newView(session)
      return committer
        .change((tx) => {
          tx.ops.push(Op.PutSession({ session }))
          tx.onApply(() => live.views.set(session.sessionId, view))
        })
        .pipe(Effect.as(view))
    })

  const dropView = (sessionId: string) =>
    committer.change((tx) => {
      tx.ops.push(Op.DropSession({ sessionId }))
      tx.onApply(() => {
        retention.dropped()
        const view = live.views.get(sessionId)
        if (view === undefined) return
        view.dropped = true
        for (const job of [...view.observed]) job.removeObserver(view)
        live.views.delete(sessionId)
        view.runs = []
        view.relieve()
      })
    })

  const attach = (view: ViewState, connection: Parameters<EventLog["Type"]["attach"]>[1]) =>
    Effect.sync(() => {
      view.setFeatures(connection.features)
      view.attach(connection.wake, elapsed())
    })

  const detach = (view: ViewState) =>
    Effect.sync(() => {
      view.detach()
      retention.detached(view)
    })

  const acknowledge = (view: ViewState, eventSeq: number) =>
    Effect.sync(() => {
      view.acked = Math.max(view.acked, eventSeq)
      pace.acknowledged(view)
    })

  const read = (view: ViewState, after: number) =>
    Effect.suspend(() => {
      view.reached(after, elapsed(), windowMs)
      pace.reached(view, after)
      return reader.read(view, after)
    })

  return EventLog.of({
    commit: changed,
    stopped: committer.stopped,
    openView,
    loadView: (session) => stored(live.loadView(session)),
    dropView,
    attach: (view, connection) => attach(stateOf(view), connection),
    detach: (view) => detach(stateOf(view)),
    ack: (view, eventSeq) => acknowledge(stateOf(view), eventSeq),
    read: (view, after) => read(stateOf(view), after),
    openJob,
    loadJob: (record) => stored(live.loadJob(record)),
    loadJobs: (records) => stored(live.loadJobs(records)),
    append,
    end: (job, event, record, onCommit) => end(logOf(job), event, record, onCommit),
    observe: (view, job, join) =>
      Effect.tap(stored(live.joined(logOf(job), history.observe(stateOf(view), logOf(job), join))), () =>
        countEnded(join.ops)
      ),
    events: (job) => history.follow(logOf(job)),
    streamedResult: (job) => stored(reader.streamedResult(logOf(job))),
    unobserve: (view, jobId) => unobserve(stateOf(view), jobId),
    adopt: (view, job, record) => adopt(stateOf(view), logOf(job), record),
    amend: (job, record, onCommit) => amend(logOf(job), record, onCommit)
  })
})

/** Stores a job's changed record, with the counters as the transaction leaves them. The result undoes it. */
const putRecord = (tx: Transaction, job: JobState, record: JobRecord): (() => void) => {
  const { account } = job
  const before = account?.record
  if (account !== undefined) account.record = record
  tx.ops.push(Op.PutJob({ job: tx.withBudget(job, { ...record, lastEventSeq: tx.lastEventSeqOf(job) }) }))
  return () => {
    if (account !== undefined && before !== undefined) account.record = before
  }
}

/** The log over the `Store` in context. Fails when the store cannot say what it holds. */
export const layer = (): Layer.Layer<EventLog, StoreError, Committed.Committed | Store | RuntimeOptions> =>
  Layer.scoped(EventLog, make)

export * from "../../services/log/EventLog.js"
