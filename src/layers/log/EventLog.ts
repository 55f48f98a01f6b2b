/** The event log over any `Store`. See services/log/EventLog.ts for the idea, log/* for the parts. */
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Budget from "../../protocol/Budget.js"
import { InternalError } from "../../protocol/Errors.js"
import { eventPayload, timestamp } from "../../protocol/EventText.js"
import { EventLog, type JobLog, type NewEvent } from "../../services/log/EventLog.js"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import {
  type JobRecord,
  Op,
  type Run,
  Store,
  type StoredEvent,
  StoreError
} from "../../services/store/Store.js"
import { Account, type Report } from "./Account.js"
import * as Committer from "./Committer.js"
import * as Reader from "./Reader.js"
import { JobState, Tail, ViewState } from "./State.js"
import type { Transaction } from "./Transaction.js"

/** In memory, what may be queued before an emitter waits for the commit: short turns, so that others get theirs. */
const volatileEvents = 64
const volatileBytes = 128 * 1024

/** How long an emitter waits for its owner's connection to get on. */
const patience = Duration.seconds(10)

/** Events looked at in one go when a view that lacks a feature takes a job's history. */
const scanPage = 256

export const make = Effect.gen(function* () {
  const store = yield* Store
  const options = yield* RuntimeOptions
  const clock = yield* Effect.clock
  const volatile = store.kind === "memory"
  const share = volatile ? 16 : 1
  const maxEvents = Math.max(1, Math.floor(options.maxRetainedEvents / share))
  const maxBytes = Math.max(1, Math.floor(options.maxRetainedBytes / share))

  const views = new Map<string, ViewState>()
  const jobs = new Map<string, JobState>()
  const tail = new Tail(options.tailBytes, (job) => {
    if (job.closed) jobs.delete(job.jobId)
  })
  const evicted = yield* Mailbox.make<Eviction>()
  const loading = yield* Effect.makeSemaphore(1)

  /** After each commit: wake the readers, tell who lags, and evict what is over the limits. */
  const published = (touched: { readonly views: Iterable<ViewState>; readonly jobs: Iterable<JobState> }) => {
    for (const view of touched.views) {
      view.wake?.()
      if (view.wake !== undefined) {
        if (view.measuresLag && !view.signalled) signalBackPressure(view)
        if (!view.congested && !view.stalled)
          view.congested = view.ledger.exceeds(view.delivered, maxEvents / 2, maxBytes / 2)
      }
      const from = view.first
      const to = view.ledger.evict(maxEvents, maxBytes)
      if (to !== undefined) evicted.unsafeOffer({ _tag: "View", view, from, to })
    }
    for (const job of touched.jobs) {
      for (const follower of job.followers) follower()
      const seq = job.ledger.evict(maxEvents, maxBytes)
      if (seq !== undefined) evicted.unsafeOffer({ _tag: "Job", jobId: job.jobId, seq })
    }
  }

  const signalBackPressure = (view: ViewState) => {
    const lag = view.last - view.acked
    if (lag <= options.backPressureLag) return
    for (const job of view.observed) {
      if (job.ended) continue
      view.signalled = true
      const body = {
        phase: "back_pressure",
        message: "events are not acknowledged as fast as they come",
        lag
      }
      const payload = eventPayload("status", timestamp(clock.unsafeCurrentTimeMillis()), JSON.stringify(body))
      const event: NewEvent = { type: "job.event", kind: "status", audience: view.sessionId, payload }
      committer.enqueue({ _tag: "Append", job, event, done: undefined })
      return
    }
  }

  const report = ({ currency, remaining }: Report): NewEvent => ({
    type: "job.event",
    kind: "metric",
    payload: eventPayload(
      "metric",
      timestamp(clock.unsafeCurrentTimeMillis()),
      `{"name":"cost.budget.remaining","value":${Budget.format(remaining)},"unit":${JSON.stringify(currency)}}`
    )
  })

  const committer = yield* Committer.make(store, tail, report, published)

  const commit = (ops: ReadonlyArray<Op>) =>
    committer.change((tx) => {
      tx.ops.push(...ops)
    })

  /** A job's log by id: the live one, else as the store has it, which then never changes again. */
  const jobById = (jobId: string): Effect.Effect<JobState, StoreError> =>
    Effect.suspend(() => {
      const live = jobs.get(jobId)
      if (live !== undefined) return Effect.succeed(live)
      return store
        .job(jobId)
        .pipe(
          Effect.flatMap((record) =>
            record === undefined
              ? Effect.fail(new StoreError({ message: `job ${jobId} is no longer retained` }))
              : stored(record)
          )
        )
    })

  const stored = (record: JobRecord) =>
    Effect.map(store.bounds(record.jobId), ({ first, last }) => {
      const job = new JobState(record.jobId, record.traceId, record.sessionId, {
        first,
        last,
        lastEventSeq: record.lastEventSeq,
        ended: record.endedAt !== undefined
      })
      job.selective = true
      return job
    })

  const loadView = (session: { sessionId: string; version: "1" | "1.0" | "1.1"; acked: number }) =>
    Effect.suspend(() => {
      const live = views.get(session.sessionId)
      if (live !== undefined) return Effect.succeed(live)
      return Effect.all([store.lastRun(session.sessionId), store.runs(session.sessionId, 1, 1)]).pipe(
        Effect.map(([newest, oldest]) => {
          const view = new ViewState(session.sessionId, session.version, {
            first: oldest[0]?.eventSeq ?? 1,
            last: newest === undefined ? 0 : newest.eventSeq + newest.count - 1,
            acked: session.acked
          })
          views.set(session.sessionId, view)
          return view
        })
      )
    })

  /** A job that was live when the last process ended: with its observers, so that its end reaches them. */
  const loadJob = (record: JobRecord) =>
    Effect.gen(function* () {
      const live = jobs.get(record.jobId)
      if (live !== undefined) return live
      const job = yield* stored(record)
      if (job.ended) return job
      for (const sessionId of yield* store.observers(record.jobId)) {
        const session = yield* store.session(sessionId)
        if (session === undefined) continue
        job.addObserver(yield* loadView(session))
      }
      const newest = (yield* store.events(job.jobId, job.last, 1))[0]
      if (newest !== undefined) job.lastEventSeq = newest.ownerSeq
      jobs.set(job.jobId, job)
      return job
    })

  const reader = Reader.make(store, jobById, options)

  /** The first `seq` whose number in the owner's view is greater than `eventSeq`. */
  const firstAfter = (job: JobState, eventSeq: number) =>
    Effect.gen(function* () {
      let low = job.ledger.first
      let high = job.last + 1
      while (low < high) {
        const middle = (low + high) >> 1
        const event = job.event(middle) ?? (yield* store.events(job.jobId, middle, 1))[0]
        if (event !== undefined && event.seq === middle && event.ownerSeq > eventSeq) high = middle
        else low = middle + 1
      }
      return low
    })

  /** Which of a job's events `from` … `to` a view gets, as ascending ranges. */
  const visible = (view: ViewState, job: JobState, from: number, to: number) =>
    Effect.gen(function* () {
      const ranges: Array<[number, number]> = []
      for (let seq = from; seq <= to; ) {
        const limit = Math.min(scanPage, to - seq + 1)
        const events = fromTail(job, seq, limit) ?? (yield* store.events(job.jobId, seq, limit))
        if (events.length === 0) break
        addVisible(ranges, view, events)
        seq = (events[events.length - 1] as StoredEvent).seq + 1
      }
      return ranges
    })

  /**
   * Holds an emitter whose owner reads, but more slowly than the events come, before what is not yet read
   * would be evicted. Only the owner sets the pace, and only while it gets on: a stalled reader does not
   * hold its jobs for longer than `patience`, and nobody else's at all.
   */
  const paced = (view: ViewState) =>
    Effect.async<void>((resume) => view.onRelief(() => resume(Effect.void))).pipe(
      Effect.timeoutTo({
        duration: patience,
        onSuccess: () => {},
        onTimeout: () => {
          view.stalled = true
          view.relieve()
        }
      })
    )

  const append = (log: JobLog, event: NewEvent) =>
    Effect.suspend(() => {
      const job = log as JobState
      if (job.ended) return Effect.void
      const committed = enqueue(job, event)
      const view = job.ownerView
      return view?.congested === true ? Effect.zipRight(committed, paced(view)) : committed
    })

  const enqueue = (job: JobState, event: NewEvent): Effect.Effect<void, InternalError> => {
    // Whoever asks for the budget right after a cost must see it counted.
    if (!volatile || event.cost !== undefined)
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
  let queuedBytes = 0

  const trim = (eviction: Eviction) =>
    Effect.gen(function* () {
      if (eviction._tag === "Job")
        return yield* commit([Op.TrimJob({ jobId: eviction.jobId, seq: eviction.seq })])
      const { view, from, to } = eviction
      if (view.dropped) return
      const floors = new Map<string, number>()
      for (let seq = from; seq < to; ) {
        const page = yield* store.runs(view.sessionId, seq, scanPage)
        if (page.length === 0) break
        for (const run of page) {
          if (run.eventSeq >= to) break
          floors.set(run.jobId, run.jobSeq + Math.min(run.count, to - run.eventSeq))
        }
        const last = page[page.length - 1] as Run
        seq = last.eventSeq + last.count
      }
      const ops: Array<Op> = [Op.TrimSession({ sessionId: view.sessionId, eventSeq: to })]
      for (const [jobId, floor] of floors) {
        const job = jobs.get(jobId)
        // Of a job that nobody appends to any more the events stay until it is dropped, or its owner trims them.
        if (job === undefined) ops.push(Op.TrimJob({ jobId, seq: floor }))
        else {
          view.floors.set(job, floor)
          let seq = floor
          for (const other of job.observers)
            if (!other.dropped) seq = Math.min(seq, other.floors.get(job) ?? 1)
          if (seq > 1) ops.push(Op.TrimJob({ jobId, seq }))
        }
      }
      yield* commit(ops)
    }).pipe(
      Effect.catchAll((error) =>
        Effect.logWarning("could not evict old events; will try again later", error.message)
      )
    )

  yield* evicted.take.pipe(Effect.flatMap(trim), Effect.forever, Effect.ignore, Effect.forkScoped)

  /** Reads a job from its first retained event, a page at a time, and waits for more until it is closed. */
  const follow = (job: JobState): Stream.Stream<StoredEvent, InternalError> =>
    Stream.paginateChunkEffect(job.ledger.first, (from) =>
      storage(
        Effect.gen(function* () {
          if (from > job.last && !job.closed) yield* appended(job)
          const count = Math.min(scanPage, job.last - from + 1)
          const events =
            count <= 0 ? [] : (fromTail(job, from, count) ?? (yield* store.events(job.jobId, from, count)))
          const next = (events[events.length - 1]?.seq ?? from - 1) + 1
          return [
            Chunk.fromIterable(events.filter((event) => event.audience === undefined)),
            job.closed && (next > job.last || events.length === 0) ? Option.none() : Option.some(next)
          ] as const
        })
      )
    )

  const appended = (job: JobState) =>
    Effect.async<void>((resume) => {
      const wake = () => {
        job.followers.delete(wake)
        resume(Effect.void)
      }
      job.followers.add(wake)
      return Effect.sync(() => job.followers.delete(wake))
    })

  const storage = <A, E>(effect: Effect.Effect<A, E | StoreError>) =>
    Effect.mapError(effect, (error) =>
      error instanceof StoreError
        ? new InternalError({
            message: `the log could not be read: ${error.message}`,
            details: { reason: "storage" }
          })
        : error
    ) as Effect.Effect<A, Exclude<E, StoreError> | InternalError>

  return EventLog.of({
    commit,

    openView: (session) => {
      const view = new ViewState(session.sessionId, session.version, { first: 1, last: 0, acked: 0 })
      return committer
        .change((tx) => {
          tx.ops.push(Op.PutSession({ session }))
          tx.onApply(() => views.set(session.sessionId, view))
        })
        .pipe(Effect.as(view))
    },
    loadView: (session) => storage(loading.withPermits(1)(loadView(session))),
    dropView: (view) =>
      committer.change((tx) => {
        tx.ops.push(Op.DropSession({ sessionId: view.sessionId }))
        tx.onApply(() => {
          const state = view as ViewState
          state.dropped = true
          for (const job of state.observed) job.removeObserver(state)
          views.delete(view.sessionId)
          state.relieve()
        })
      }),
    attach: (view, { features, wake }) =>
      Effect.sync(() => {
        const state = view as ViewState
        state.setFeatures(features)
        state.wake = wake
        state.delivered = 0
        state.stalled = false
      }),
    detach: (view) =>
      Effect.sync(() => {
        const state = view as ViewState
        state.wake = undefined
        state.relieve()
      }),
    ack: (view, eventSeq) =>
      Effect.sync(() => {
        const state = view as ViewState
        state.acked = Math.max(state.acked, eventSeq)
        if (state.last - state.acked <= options.backPressureLag / 2) state.signalled = false
      }),
    read: (view, after) =>
      Effect.suspend(() => {
        const state = view as ViewState
        state.delivered = Math.max(state.delivered, after)
        state.stalled = false
        if (state.congested && !state.ledger.exceeds(after, maxEvents / 4, maxBytes / 4)) state.relieve()
        return reader.read(state, after)
      }),

    openJob: (record, owner, { parent, event, ops = [], onCommit } = {}) =>
      Effect.suspend(() => {
        const view = owner as ViewState
        const job = new JobState(record.jobId, record.traceId, record.sessionId, {
          first: 1,
          last: 0,
          lastEventSeq: 0,
          ended: false
        })
        const above = parent as JobState | undefined
        job.depth = above === undefined ? 0 : above.depth + 1
        if (above?.account !== undefined || record.lease["cost.budget"] !== undefined)
          job.account = new Account(job, record, above?.account)
        return committer
          .change((tx: Transaction) => {
            jobs.set(job.jobId, job)
            if (!view.dropped) job.addObserver(view)
            if (event === undefined) {
              tx.ops.push(Op.PutJob({ job: tx.withBudget(job, record) }))
              if (!view.dropped) tx.ops.push(Op.Observe({ sessionId: owner.sessionId, jobId: job.jobId }))
            } else {
              job.ended = true
              tx.append(job, [event])
              tx.ops.push(Op.PutJob({ job: { ...record, lastEventSeq: tx.lastEventSeqOf(job) } }))
              tx.onApply(() => job.close())
            }
            tx.ops.push(...ops)
            if (onCommit !== undefined) tx.onApply(() => onCommit(job))
            return () => {
              jobs.delete(job.jobId)
              job.removeObserver(view)
            }
          })
          .pipe(Effect.as(job))
      }),
    loadJob: (record) => storage(loading.withPermits(1)(loadJob(record))),
    append,
    end: (job, event, record) =>
      Effect.async((resume) => {
        const state = job as JobState
        state.ended = true
        committer.enqueue({
          _tag: "Append",
          job: state,
          event,
          record: (tx) => Op.PutJob({ job: tx.withBudget(state, record(tx.lastEventSeqOf(state))) }),
          done: resume
        })
      }),

    observe: (view, job, { history, fromEventSeq, ops = [], onCommit }) => {
      const state = view as ViewState
      const log = job as JobState
      return storage(
        Effect.gen(function* () {
          let from = log.last + 1
          if (history)
            from = fromEventSeq === undefined ? log.ledger.first : yield* firstAfter(log, fromEventSeq)
          // What is already stored does not change, so it is looked through before the commit; what comes
          // until then is in the tail and looked at inside it.
          const seen = log.selective && history ? log.last : from - 1
          const ranges = yield* visible(state, log, from, seen)
          yield* committer.change((tx) => {
            const last = tx.lastSeqOf(log)
            const before = tx.lastOf(state)
            const observing = state.observed.has(log)
            const start = log.closed && !history ? last : history ? from : last + 1
            if (!log.selective) tx.replay(state, log, start, last)
            else {
              const all = [...ranges]
              const rest = Math.max(start, seen + 1)
              addVisible(all, state, fromTail(log, rest, last - rest + 1) ?? [])
              if (log.closed && !history) all.push([last, last])
              for (const [a, b] of coalesce(all)) tx.replay(state, log, a, b)
            }
            if (!log.closed && !observing) {
              log.addObserver(state)
              tx.ops.push(Op.Observe({ sessionId: state.sessionId, jobId: log.jobId }))
            }
            tx.ops.push(...ops)
            tx.onApply(() => onCommit(before))
            return () => {
              if (observing || log.closed) return
              log.removeObserver(state)
            }
          })
        })
      )
    },
    events: (job) => follow(job as JobState),
    streamedResult: (job) => storage(reader.streamedResult(job as JobState)),
    unobserve: (view, jobId) =>
      Effect.suspend(() => {
        const state = view as ViewState
        const job = jobs.get(jobId)
        if (job === undefined || !state.observed.has(job)) return Effect.void
        return committer.change((tx) => {
          tx.ops.push(Op.Unobserve({ sessionId: state.sessionId, jobId }))
          job.removeObserver(state)
          return () => job.addObserver(state)
        })
      }),
    adopt: (view, job, record) =>
      committer.change((tx) => {
        const state = view as ViewState
        const log = job as JobState
        // It has ended since the record was read: what is stored of its end stands.
        if (log.closed && record.endedAt === undefined) return
        const owner = log.owner
        log.owner = state.sessionId
        log.ownerView = log.observers.has(state) ? state : undefined
        const back = putRecord(tx, log, record)
        return () => {
          log.owner = owner
          back()
        }
      }),
    amend: (job, record, onCommit) =>
      committer.change((tx) => {
        const log = job as JobState
        tx.onApply(onCommit)
        if (!log.closed) return putRecord(tx, log, record)
      })
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

type Eviction =
  | { readonly _tag: "View"; readonly view: ViewState; readonly from: number; readonly to: number }
  | { readonly _tag: "Job"; readonly jobId: string; readonly seq: number }

/** Events `from` … of a job out of the tail, `undefined` when it does not hold all of them. */
const fromTail = (job: JobState, from: number, count: number): ReadonlyArray<StoredEvent> | undefined => {
  const events: Array<StoredEvent> = []
  for (let seq = from; seq < from + count; seq++) {
    const event = job.event(seq)
    if (event === undefined) return undefined
    events.push(event)
  }
  return events
}

const addVisible = (ranges: Array<[number, number]>, view: ViewState, events: ReadonlyArray<StoredEvent>) => {
  for (const event of events) {
    if (!view.sees(event)) continue
    const newest = ranges[ranges.length - 1]
    if (newest !== undefined && newest[1] + 1 === event.seq) newest[1] = event.seq
    else ranges.push([event.seq, event.seq])
  }
}

/** Ascending, without what an earlier range covers. */
const coalesce = (ranges: ReadonlyArray<[number, number]>): ReadonlyArray<[number, number]> => {
  let last = 0
  return ranges.flatMap(([from, to]) => {
    const start = Math.max(from, last + 1)
    last = Math.max(last, to)
    return start <= to ? [[start, to] as [number, number]] : []
  })
}

/** The log over the `Store` in context. */
export const layer: Layer.Layer<EventLog, never, Store | RuntimeOptions> = Layer.scoped(EventLog, make)

export * from "../../services/log/EventLog.js"
