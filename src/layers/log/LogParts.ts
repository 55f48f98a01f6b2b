/** The parts that the log is made of, put together once and shared by what works on them. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Budget from "../../protocol/Budget.js"
import { eventPayload, timestamp } from "../../protocol/EventText.js"
import * as Cluster from "../../services/cluster/Cluster.js"
import type { NewEvent } from "../../services/log/EventLog.js"
import * as Metrics from "../../services/runtime/Metrics.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { Turn } from "../../services/runtime/Turn.js"
import { Store, type StoreService } from "../../services/store/Store.js"
import { keeperOf } from "../cluster/keeper.js"
import type { Report } from "./Account.js"
import { maxBytes, maxItems } from "./CommitQueue.js"
import * as Committed from "./Committed.js"
import * as Committer from "./Committer.js"
import { EmitWindows, type WindowLimits } from "./EmitWindows.js"
import { granularityOf, type Limits } from "./Ledger.js"
import { LiveLogs } from "./Live.js"
import * as Measuring from "./measuring.js"
import * as Pace from "./Pace.js"
import * as Reader from "./Reader.js"
import * as Retention from "./Retention.js"
import { retentionLimits } from "./retention/Parts.js"
import * as Sequencer from "./Sequencer.js"
import { Tail } from "./Tail.js"
import type { Touched } from "./Transaction.js"
import * as Watchers from "./Watchers.js"

/** What the functions of the log work on. */
export interface LogParts {
  readonly store: StoreService
  readonly committer: Committer.Committer
  /** What keeps metrics, where somebody does. */
  readonly metrics: Metrics.MetricsService | undefined
  /** The views and the logs of jobs that are in memory. */
  readonly live: LiveLogs
  /** Where what is committed is published. */
  readonly publisher: Committed.Publisher
  readonly retention: Retention.Retention
  readonly pace: Pace.Pace
  readonly windows: EmitWindows
  readonly reader: Reader.Reader
  readonly sequencer: Sequencer.Sequencer
  /** Who watches jobs of this node from another; of a runtime that is alone nobody does. */
  readonly watchers: Watchers.Watchers | undefined
  /** Milliseconds that only go forward. */
  readonly elapsed: () => number
  /** The resume window, in milliseconds. */
  readonly windowMs: number
}

/**
 * What is emitted between two commits at the most. In memory a commit is short, so a turn of the event loop comes soon, and
 * others get theirs; otherwise one is worth more, and as much is emitted as it takes.
 */
const commitShares: Record<StoreService["kind"], Limits> = {
  memory: { events: 256, bytes: 256 * 1024 },
  durable: { events: maxItems, bytes: maxBytes }
}

/**
 * Returns how much may be emitted that is not committed: of one job, and of all jobs between two commits, no more than an
 * eighth of what a view retains. A reader is held to be too slow when it is half of that behind (Pace.ts), which is seen
 * after a commit; what comes until its emitters wait is then not enough to overrun it, whatever the limits are.
 */
const windowLimits = (
  kind: StoreService["kind"],
  options: RuntimeOptions["Type"],
  retained: Limits
): WindowLimits => {
  const eighthAtMost = ({ bytes, events }: Limits): Limits => ({
    events: Math.min(events, Math.ceil(retained.events / 8)),
    bytes: Math.min(bytes, Math.ceil(retained.bytes / 8))
  })
  return {
    ...eighthAtMost({ events: options.maxUncommittedEvents, bytes: options.maxUncommittedBytes }),
    bytesInAll: options.maxUncommittedBytesInAll,
    perCommit: eighthAtMost(commitShares[kind])
  }
}

/** Returns the event that tells what is left of a budget (§9.6). */
const budgetEvent = ({ currency, remaining }: Report, at: number): NewEvent => ({
  type: "job.event",
  kind: "metric",
  payload: eventPayload(
    "metric",
    timestamp(at),
    `{"name":"cost.budget.remaining","value":${Budget.format(remaining)},"unit":${JSON.stringify(currency)}}`
  )
})

/** Follows a commit: publishes it, wakes the readers, tells who lags, and looks at what is over the limits. */
const published = (
  { live, metrics, pace, publisher, retention, watchers }: LogParts,
  touched: Touched
): void => {
  for (const view of live.catchingUp)
    for (const [job, { events }] of touched.appended) view.noteAppended(job, events)
  for (const { jobId } of touched.jobs) live.changed(jobId)
  if (metrics !== undefined) Measuring.committed(touched)
  watchers?.appended(touched.appended.keys())
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

/** Puts the parts together over the store in context, and starts those that run. They end with the scope. */
export const make = Effect.gen(function* () {
  const store = yield* Store
  const options = yield* RuntimeOptions
  const turn = yield* Turn
  const metrics = yield* Metrics.here
  const cluster = yield* Cluster.here
  const clock = yield* Effect.clock
  const now = () => clock.unsafeCurrentTimeMillis()
  const elapsed = monotonic(clock)
  const publisher = Committed.publisherOf(yield* Committed.Committed)
  // After the committer's last commit: consumers get everything, and then their end.
  yield* Effect.addFinalizer(() => Effect.sync(() => publisher.end()))
  const windowMs = Duration.toMillis(options.resumeWindow)
  const limits = retentionLimits(store.kind, options)
  const tail = new Tail(options.tailBytes, (job) => {
    if (job.closed && live.jobs.get(job.jobId) === job) live.jobs.delete(job.jobId)
  })
  const live: LiveLogs = new LiveLogs(store, limits, tail, cluster?.node)
  const windows = new EmitWindows(windowLimits(store.kind, options, limits), elapsed)
  const committer = yield* Committer.make({
    store: metrics === undefined ? store : { commit: Measuring.timed(store, elapsed), died: store.died },
    windows,
    elapsed,
    now,
    patienceMs: Duration.toMillis(options.storagePatience),
    tail,
    report: (report) => budgetEvent(report, now()),
    maxRun: granularityOf(limits),
    published: (touched) => published(parts, touched),
    taken: (owner) => live.taken(owner)
  })
  const pace = Pace.make({ committer, windows, live, limits, backPressureLag: options.backPressureLag, now })
  const keeps = cluster && Effect.map(cluster.nodes.list, (all) => keeperOf(all) === cluster.node)
  const retention = Retention.make({
    store,
    committer,
    live,
    tail,
    options,
    turn,
    now,
    monotonic: elapsed,
    windowMs,
    keeps
  })
  const sequencer = yield* Sequencer.make({
    ...{ store, committer, live, tail, node: cluster?.node },
    tell: (node) => watchers?.begun(node)
  })
  const watchers =
    cluster === undefined ? undefined : yield* Watchers.make({ cluster, store, live, look: sequencer.look })
  const reader = Reader.make(store, (jobId) => live.jobs.get(jobId), options)
  const parts: LogParts = {
    store,
    committer,
    metrics,
    live,
    publisher,
    retention,
    pace,
    windows,
    reader,
    sequencer,
    watchers,
    elapsed,
    windowMs
  }
  yield* retention.start
  if (metrics !== undefined) yield* Measuring.watch(metrics, { ...parts, keeps })
  return parts
})
