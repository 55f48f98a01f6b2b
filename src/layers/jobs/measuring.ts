/** What jobs tell of themselves to whoever keeps metrics. */
import type * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import { reserved as reservedNames } from "../../protocol/LeaseGrammar.js"
import type { JobStatus } from "../../protocol/Message.js"
import {
  families,
  type MetricsService,
  other,
  type Sample,
  type Source
} from "../../services/runtime/Metrics.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import type { JobRecord } from "../../services/store/Store.js"
import { CountByKey } from "./CountByKey.js"
import type { JobParts } from "./JobParts.js"

const reserved: ReadonlySet<string> = new Set(reservedNames)

/** A job was accepted. */
export const accepted = (metrics: MetricsService, agent: string): void =>
  families.jobsAccepted.update(1, metrics.agent(agent))

/** A job has ended. */
export const ended = (
  metrics: MetricsService,
  { agent, createdAt }: JobRecord,
  status: JobStatus,
  endedAt: number
): void => {
  const label = metrics.agent(agent)
  families.jobsEnded.update(1, label, status)
  families.jobSeconds.update(Math.max(0, endedAt - createdAt) / 1_000, label)
}

/** An operation was refused by the lease of its job. */
export const denied = (capability: string, code: string): void =>
  families.leaseDenials.update(1, reserved.has(capability) ? capability : other, code.toLowerCase())

/** A cost was counted. */
export const spent = (
  metrics: MetricsService,
  currency: string | undefined,
  amount: BigDecimal.BigDecimal,
  isBudgeted: boolean
): void => families.spend.add(amount, currency === undefined ? other : metrics.currency(currency, isBudgeted))

/** Jobs by agent and status. */
class Counts {
  private readonly counts = new CountByKey()

  constructor(private readonly metrics: MetricsService) {}

  add(agent: string, status: "pending" | "running" | "waiting" | "parked"): void {
    this.counts.add(`${this.metrics.agent(agent)}\0${status}`, 1)
  }
  get samples(): ReadonlyArray<Sample> {
    return Array.from(this.counts.all, ([key, count]) => [families.jobs, count, ...key.split("\0")] as const)
  }
}

/** Counts the jobs that are in memory. */
const inMemory = ({ running }: JobParts, metrics: MetricsService): Source =>
  Effect.sync(() => {
    const counts = new Counts(metrics)
    for (const { live } of running.all) {
      const { record, rests } = live
      const isWaiting = rests !== undefined || live.presence?.isIdle === true
      counts.add(
        record.agent,
        record.survival?.parked !== undefined ? "parked" : isWaiting ? "waiting" : "running"
      )
    }
    for (const { record } of running.queue.all)
      counts.add(record.agent, record.queued.parked === undefined ? "pending" : "parked")
    return counts.samples
  })

/** Rows are counted again after so many milliseconds, and after so many times the time that it took. */
const countAgain = { ms: 15_000, times: 200 }
const page = 500

/** Counts the jobs that are rows of the store and nothing else, now and then. */
const rows = ({ clock, cluster, running, store, turn }: JobParts, metrics: MetricsService): Source => {
  const elapsed = monotonic(clock)
  let known: ReadonlyArray<Sample> = []
  let again = Number.NEGATIVE_INFINITY
  return Effect.gen(function* () {
    const began = elapsed()
    if (began < again) return known
    const counts = new Counts(metrics)
    for (let after: JobRecord | undefined; ; ) {
      const records: ReadonlyArray<JobRecord> = yield* store.jobs({
        principals: "everyone",
        waiting: "rows",
        // Each node tells of its own.
        node: cluster?.node,
        after,
        limit: page
      })
      for (const { agent, jobId, survival } of records)
        if (running.get(jobId) === undefined)
          counts.add(agent, survival?.parked === undefined ? "waiting" : "parked")
      after = records.at(-1)
      if (after === undefined || records.length < page) break
      yield* turn.next
    }
    again = elapsed() + Math.max(countAgain.ms, countAgain.times * (elapsed() - began))
    known = counts.samples
    return known
  }).pipe(
    // A store that fails is told by its commits.
    Effect.catchAll(() => Effect.succeed(known))
  )
}

/** Has the gauges of jobs told for as long as the scope, where somebody keeps metrics. */
export const start = (parts: JobParts): Effect.Effect<void, never, Scope> =>
  Effect.gen(function* () {
    const { metrics, registry } = parts
    if (metrics === undefined) return
    metrics.know(registry.inventory.map(({ name }) => name))
    yield* metrics.watch(inMemory(parts, metrics))
    yield* metrics.watch(rows(parts, metrics))
  })

/** Counts what becomes of a job that the last process left open. */
export const recovered =
  (outcome: string) =>
  <A, E>(recovery: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.onExit(recovery, (exit) =>
      Effect.sync(() => families.recoveries.update(1, exit._tag === "Success" ? outcome : "failed"))
    )
