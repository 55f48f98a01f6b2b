/**
 * What a runtime counts and measures: the one place of the names, of `effect/Metric`. A runtime that finds `Metrics` in its
 * context keeps them, as it uses a tracer that it finds; one without it pays a comparison where it would have counted.
 *
 * Values of labels are bounded, in their number and in their length: names of agents are those that are registered, capabilities
 * those of the protocol, reasons and outcomes the runtime's own, currencies those of ISO 4217 and of budgets. No principal, session or
 * job is a label. Whatever is none of these is `other`.
 */
import * as BigDecimal from "effect/BigDecimal"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import * as Budget from "../../protocol/Budget.js"

/** A metric of one set of labels. */
type Series = Metric.Metric.Counter<number> | Metric.Metric.Gauge<number> | Metric.Metric.Histogram<number>

/** Sets of labels of one family at the most; what comes after is counted as `other`. */
const maxSeries = 1000

/** Characters of the value of a label at the most, as many as the name of an agent may have. */
const maxLabel = 256

/** What stands for a label whose value is not one of those that are counted apart. */
export const other = "other"

/** The metrics of one name, by the values of its labels. */
export class Family {
  private readonly series = new Map<string, Series>()

  constructor(
    readonly kind: "counter" | "gauge" | "histogram",
    readonly name: string,
    readonly help: string,
    readonly labels: ReadonlyArray<string> = [],
    private readonly boundaries: ReadonlyArray<number> = []
  ) {}

  private make(values: ReadonlyArray<string>): Series {
    const { help: description, name } = this
    const labels = this.labels.map((label, i) => MetricLabel.make(label, values[i] ?? other))
    switch (this.kind) {
      case "counter":
        return Metric.fromMetricKey(
          MetricKey.taggedWithLabels(MetricKey.counter(name, { description, incremental: true }), labels)
        )
      case "gauge":
        return Metric.fromMetricKey(
          MetricKey.taggedWithLabels(MetricKey.gauge(name, { description }), labels)
        )
      case "histogram":
        return Metric.fromMetricKey(
          MetricKey.taggedWithLabels(
            MetricKey.histogram(name, MetricBoundaries.fromIterable(this.boundaries), description),
            labels
          )
        )
    }
  }

  /** Returns the metric of these values of the labels, in their order. */
  of(...given: ReadonlyArray<string>): Series {
    const values = given.map((value) => (value.length > maxLabel ? other : value))
    const key = values.join("\0")
    const found = this.series.get(key)
    if (found !== undefined) return found
    const isFull = values.length > 0 && this.series.size >= maxSeries
    const others = values.map(() => other)
    if (isFull && values.some((value) => value !== other)) return this.of(...others)
    const made = this.make(values)
    this.series.set(key, made)
    return made
  }
  /** Adds to a counter, sets a gauge, or puts a value into a histogram. */
  update(value: number, ...values: ReadonlyArray<string>): void {
    this.of(...values).unsafeUpdate(value, noTags)
  }
}

/** One and the same, or the metric looks for itself at each call. */
const noTags: Array<MetricLabel.MetricLabel> = []

const nothing = BigDecimal.make(0n, 0)

/** A counter of amounts. The sum is kept as a decimal: floats that are added up drift from what budgets say. */
export class Amounts extends Family {
  private readonly sums = new Map<Series, BigDecimal.BigDecimal>()

  /** Adds an amount. */
  add(amount: BigDecimal.BigDecimal, ...values: ReadonlyArray<string>): void {
    const series = this.of(...values)
    const before = this.sums.get(series) ?? nothing
    const sum = BigDecimal.sum(before, amount)
    this.sums.set(series, sum)
    const from = Budget.toNumber(before)
    const to = Budget.toNumber(sum)
    // A counter only adds, and rounds. The difference of floats is exact when the larger is no more than twice the smaller, so
    // the counter goes most of the way first, and then arrives.
    const most = (to - from) * 0.75
    series.unsafeUpdate(most, noTags)
    series.unsafeUpdate(to - (from + most), noTags)
  }
}

const counter = (name: string, help: string, ...labels: ReadonlyArray<string>) =>
  new Family("counter", name, help, labels)
const gauge = (name: string, help: string, ...labels: ReadonlyArray<string>) =>
  new Family("gauge", name, help, labels)

/** Seconds that a commit takes: from that of a store in memory to that of a disk that fails. */
const commitSeconds = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10
]
const jobSeconds = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3_600, 14_400, 86_400]
const batches = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]

/** All families, of which the documentation is made. */
export const families = {
  sessions: gauge("arcp_sessions", "sessions by state: attached, detached or opening", "state"),
  sessionsOpened: counter("arcp_sessions_opened_total", "sessions that were opened"),
  resumes: counter(
    "arcp_resumes_total",
    "resumes by outcome: resumed, expired, refused or failed",
    "outcome"
  ),
  loginsRefused: counter(
    "arcp_logins_refused_total",
    "logins that were refused, in hellos and HTTP requests, by reason",
    "reason"
  ),

  connectionsClosed: counter(
    "arcp_connections_closed_total",
    "connections that have ended, by transport and close code: those of §4 and of WebSockets, else other",
    "transport",
    "code"
  ),
  bytesSent: counter("arcp_sent_bytes_total", "bytes of frames that were written to WebSockets of clients"),

  jobs: gauge(
    "arcp_jobs",
    "jobs that have not ended, by agent and status: running, pending (not begun), waiting (for a time or an answer) or parked (its agent is not here)",
    "agent",
    "status"
  ),
  jobsAccepted: counter("arcp_jobs_accepted_total", "jobs that were accepted, delegated ones too", "agent"),
  jobsEnded: counter(
    "arcp_jobs_ended_total",
    "jobs that have ended, by agent and final status",
    "agent",
    "status"
  ),
  jobSeconds: new Family(
    "histogram",
    "arcp_job_duration_seconds",
    "time from the acceptance of a job to its end",
    ["agent"],
    jobSeconds
  ),
  recoveries: counter(
    "arcp_recoveries_total",
    "jobs that the last process left open, by outcome: rerun, ended or failed",
    "outcome"
  ),
  node: gauge("arcp_node_info", "1, with the name of this node of a cluster", "node"),
  nodes: gauge("arcp_nodes", "nodes of the cluster, as this one sees them: alive or gone", "state"),
  jobsTaken: counter("arcp_jobs_taken_total", "jobs that were taken over from nodes that are gone"),
  wakes: counter("arcp_wakes_total", "wakes between nodes: told to others, or heard from them", "direction"),

  events: counter("arcp_events_total", "events that were committed"),
  eventBytes: counter(
    "arcp_event_bytes_total",
    "bytes of events that were committed, as the retention counts them"
  ),
  eventsSent: counter("arcp_events_sent_total", "events that were given to the connections of sessions"),
  commitSeconds: new Family(
    "histogram",
    "arcp_commit_duration_seconds",
    "time that the store takes for a commit",
    [],
    commitSeconds
  ),
  commitEvents: new Family("histogram", "arcp_commit_events", "events in a commit that has any", [], batches),
  commitsFailed: counter("arcp_commits_failed_total", "commits that the store did not take"),
  queued: gauge("arcp_commit_queue_items", "items that wait to be committed"),
  uncommitted: gauge("arcp_uncommitted_bytes", "bytes of events that were emitted and are not committed"),
  congested: gauge("arcp_emitters_waiting", "jobs whose emits wait until there is room"),
  lag: gauge(
    "arcp_delivery_lag_events",
    "events that attached sessions have not been sent, of all of them and of the one that is furthest behind",
    "of"
  ),
  retainedEvents: gauge("arcp_retained_events", "events in the store"),
  retainedBytes: gauge(
    "arcp_retained_bytes",
    "bytes of the events in the store, as the retention counts them"
  ),
  storeMemory: gauge("arcp_store_memory_bytes", "bytes of memory that a store in memory takes, roughly"),

  leaseDenials: counter(
    "arcp_lease_denials_total",
    "operations that a lease did not allow, by capability and code",
    "capability",
    "code"
  ),
  spend: new Amounts("counter", "arcp_spend_total", "costs that jobs have told, by currency", ["currency"]),
  hookCalls: counter("arcp_hook_calls_total", "calls of hooks, by outcome: succeeded or given_up", "outcome"),
  credentialsOutstanding: gauge(
    "arcp_credentials_outstanding",
    "credentials that are no longer wanted and not known to be revoked"
  ),
  credentialsFailed: counter(
    "arcp_credentials_revoke_failures_total",
    "revocations of credentials that were given up"
  ),

  build: gauge("arcp_build_info", "1, with the version of this package", "version"),
  cpu: counter("process_cpu_seconds_total", "CPU time of the process, user and system"),
  resident: gauge("process_resident_memory_bytes", "resident memory of the process"),
  started: gauge("process_start_time_seconds", "when the process began, in seconds since 1970"),
  files: gauge("process_open_fds", "open file descriptors; on Linux"),
  heapUsed: gauge("nodejs_heap_size_used_bytes", "heap of V8 in use"),
  heapTotal: gauge("nodejs_heap_size_total_bytes", "heap of V8"),
  external: gauge("nodejs_external_memory_bytes", "memory outside of the heap, array buffers too"),
  resources: gauge(
    "nodejs_active_resources",
    "what keeps the event loop alive: sockets, timers and requests"
  ),
  loopDelay: gauge(
    "nodejs_eventloop_delay_seconds",
    "how late the event loop was since the last reading: p50, p99 or max",
    "of"
  )
} as const satisfies Record<string, Family>

/**
 * Counters of which the values of labels are known, and that are 0 before there is anything to count: Prometheus sees an increase from
 * one reading to the next only, so the first of what is not there yet would be none.
 */
export const fromZero: ReadonlyArray<readonly [family: Family, ...labels: ReadonlyArray<string>]> = [
  [families.sessionsOpened],
  ...["resumed", "expired", "refused", "failed"].map((outcome) => [families.resumes, outcome] as const),
  ...["unauthenticated", "failed_logins"].map((reason) => [families.loginsRefused, reason] as const),
  ...["rerun", "ended", "failed"].map((outcome) => [families.recoveries, outcome] as const),
  [families.bytesSent],
  [families.jobsTaken],
  [families.events],
  [families.eventBytes],
  [families.eventsSent],
  [families.commitsFailed],
  ...["succeeded", "given_up"].map((outcome) => [families.hookCalls, outcome] as const),
  [families.credentialsFailed]
]

/** A value of a gauge now. */
export type Sample = readonly [family: Family, value: number, ...labels: ReadonlyArray<string>]
/** Tells the values of gauges; asked whenever metrics are read. */
export type Source = Effect.Effect<ReadonlyArray<Sample>>

/** What keeps the metrics. */
export interface MetricsService {
  /** Names of agents that are counted apart; others are `other`. A version is no part of a label. */
  readonly know: (agents: Iterable<string>) => void
  /** Returns the label of an agent, `name` or `name@version`. */
  readonly agent: (ref: string) => string
  /**
   * Returns the label of a currency: those of ISO 4217 are counted apart, and of others so many, if a budget has them. What a job says
   * by itself takes no place from what others are given to spend.
   */
  readonly currency: (code: string, isBudgeted: boolean) => string
  /**
   * Has gauges told by `source` for as long as the scope. What several sources tell of one gauge is added up, and what is
   * told no more is 0.
   */
  readonly watch: (source: Source) => Effect.Effect<void, never, Scope>
  /** Asks all sources, at most one reading at a time; sources that take long are waited for no longer than a second. */
  readonly refresh: Effect.Effect<void>
}

/** Keeps the metrics of the runtimes that have it in their context. */
export class Metrics extends Context.Tag("arcp/services/Metrics")<Metrics, MetricsService>() {}

/** What keeps metrics here; nothing where nobody wants any. */
export const here: Effect.Effect<MetricsService | undefined> = /* @__PURE__ */ Effect.map(
  Effect.serviceOption(Metrics),
  Option.getOrUndefined
)
