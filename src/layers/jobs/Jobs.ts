/**
 * Jobs over the log, the registry and the policy. Submit.ts decides which may run, Opening.ts opens one, Runner.ts runs
 * it; this module puts the parts together.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { type ArcpError, InternalError } from "../../protocol/Errors.js"
import { Registry } from "../../services/agents/Registry.js"
import { Policy } from "../../services/auth/Policy.js"
import * as Cluster from "../../services/cluster/Cluster.js"
import { Credentials } from "../../services/credentials/Credentials.js"
import { Admission } from "../../services/jobs/Admission.js"
import { Hooks } from "../../services/jobs/Hooks.js"
import { Jobs } from "../../services/jobs/Jobs.js"
import { EventLog } from "../../services/log/EventLog.js"
import { IdGenerator } from "../../services/runtime/IdGenerator.js"
import * as Metrics from "../../services/runtime/Metrics.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { Secrets } from "../../services/runtime/Secrets.js"
import { Turn } from "../../services/runtime/Turn.js"
import { TurnShare } from "../../services/runtime/TurnShare.js"
import { inRealTime, within } from "../../services/runtime/within.js"
import { firstEpoch, Store } from "../../services/store/Store.js"
import * as Cancel from "./Cancel.js"
import * as Deleting from "./Deleting.js"
import * as Answering from "./durable/Answering.js"
import * as Loading from "./durable/Loading.js"
import { Owners } from "./durable/Owners.js"
import * as Reopening from "./durable/Reopening.js"
import * as Resting from "./durable/Resting.js"
import * as Survival from "./durable/Survival.js"
import * as Unloading from "./durable/Unloading.js"
import { Unsettled } from "./durable/Unsettled.js"
import { Waits } from "./durable/Waits.js"
import * as Elsewhere from "./Elsewhere.js"
import * as Faults from "./Faults.js"
import * as Foreign from "./Foreign.js"
import * as HookCalls from "./hooks/HookCalls.js"
import type { JobParts } from "./JobParts.js"
import * as Lookup from "./Lookup.js"
import * as Measuring from "./measuring.js"
import * as Offering from "./Offering.js"
import * as Opening from "./Opening.js"
import * as Ownership from "./Ownership.js"
import * as Recovery from "./Recovery.js"
import { RunningJobs } from "./RunningJobs.js"
import * as Submit from "./Submit.js"
import * as Sweeping from "./Sweeping.js"
import * as Scheduler from "./scheduling/Scheduler.js"
import * as SubmitRate from "./scheduling/SubmitRate.js"
import * as Takeover from "./Takeover.js"
import { Underway } from "./Underway.js"
import * as Asking from "./wishes/Asking.js"
import * as Granting from "./wishes/Granting.js"

/** What the ends of jobs get to be stored when the runtime shuts down, beyond the handlers' last grace. */
const storing = Duration.seconds(5)

/** What is underway; what cannot be stored does not keep the runtime from closing for ever. */
const supervision = Effect.acquireRelease(
  Effect.sync(() => new Underway()),
  ({ none }) => within(none, storing)
)

const resolveParts = Effect.gen(function* () {
  const options = yield* RuntimeOptions
  const clock = yield* Effect.clock
  const now = () => clock.unsafeCurrentTimeMillis()
  const log = yield* EventLog
  const store = yield* Store
  const cluster = yield* Cluster.here
  const node = cluster?.node
  const ids = yield* IdGenerator
  const unsettled = new Unsettled()
  const parts: JobParts = {
    log,
    store,
    registry: yield* Registry,
    policy: yield* Policy,
    admission: SubmitRate.limiting(yield* Admission, options, store, clock),
    ids,
    secrets: yield* Secrets,
    credentials: yield* Credentials,
    options,
    metrics: yield* Metrics.here,
    cluster,
    asking: yield* Asking.make({ cluster, ids, now, store, unsettled }),
    clock,
    now,
    hooks: yield* HookCalls.make({
      hooks: yield* Hooks,
      log,
      store,
      node,
      options,
      now,
      elapsed: monotonic(clock)
    }),
    turn: yield* Turn,
    share: yield* TurnShare,
    running: new RunningJobs(options, yield* Elsewhere.make(cluster, store)),
    owners: new Owners(),
    unsettled,
    waits: new Waits(monotonic(clock), options.maxWokenJobs),
    underway: yield* supervision
  }
  return parts
})

/** What the handlers of jobs that others go on with get to let go of what they hold, before others do. */
const lettingGo = Duration.seconds(1)

/** Leaves what others can go on with, which need not wait for the rest. What is not left in time they find when this node is gone. */
const leaveToOthers = (parts: JobParts) => {
  const { running } = parts
  const left = Survival.leaveAll(parts)
  const isOver = () => left.every(({ record }) => running.get(record.jobId) === undefined)
  return Effect.suspend(() => (isOver() ? Effect.void : Effect.fail("not yet"))).pipe(
    Effect.retry(Schedule.spaced("20 millis")),
    Effect.timeoutOption(lettingGo),
    Effect.ignore,
    Effect.interruptible,
    inRealTime,
    Effect.zipRight(within(Effect.ignoreLogged(Takeover.handOver(parts)), storing))
  )
}

/**
 * Takes nothing new, lets running jobs finish within the shutdown grace, and ends the rest. When the log has stopped
 * nothing of what they do can be stored: then it waits only for what they have to let go of.
 */
const shutdownOf = (parts: JobParts) =>
  Effect.gen(function* () {
    const { log, options, running, store, underway } = parts
    if (running.stopping) return
    running.stopping = true
    // What only waits has nothing to finish.
    for (const jobId of parts.waits.allIdle) Unloading.begin(parts, jobId)
    if (parts.cluster !== undefined) yield* leaveToOthers(parts)
    const { none } = underway
    // As a finalizer this runs uninterruptibly, and a time-out could not end the wait.
    const noneIn = (limit: Duration.Duration) =>
      Effect.interruptible(Effect.raceFirst(none, Effect.ignore(log.stopped))).pipe(
        Effect.timeoutOption(limit),
        inRealTime
      )
    yield* noneIn(options.shutdownGrace)
    running.graceOver = true
    // In memory nobody begins them later.
    if (store.kind === "memory") yield* Scheduler.endAll(parts, { _tag: "Shutdown" })
    Survival.endAll(parts)
    if (parts.store.kind === "memory")
      yield* within(Effect.ignoreLogged(Resting.endRows(parts, () => true, { _tag: "Shutdown" })), storing)
    yield* noneIn(storing)
    if (underway.size === 0) return
    running.abandoned = true
    yield* Effect.logError("the store does not take the ends of jobs; the next start will end them")
    yield* within(none, storing)
  }).pipe(
    // Whoever asked has waited as long as it may. Nobody does the rest later: jobs are ended, and the store is given up, now.
    Effect.onInterrupt(() =>
      Effect.sync(() => {
        const { running } = parts
        running.graceOver = true
        Survival.endAll(parts)
        running.abandoned = true
      })
    )
  )

/** Fails with `InternalError` only: whatever else a submit fails with has been stored as its refusal. */
const toInternal = (error: ArcpError): InternalError =>
  error._tag === "InternalError" ? error : new InternalError({ message: error.message })

/** Makes the jobs of a runtime over the services in context, and ends those that the last process left. */
export const make = Effect.gen(function* () {
  const parts = yield* resolveParts
  yield* Measuring.start(parts)
  const reopen = Reopening.make(parts)
  yield* Loading.count(parts)
  const recovery = yield* Recovery.make(parts, reopen)
  yield* Scheduler.make(parts, reopen, recovery.rerun)
  yield* Unloading.start(parts)
  yield* Loading.start(parts, reopen)
  yield* Takeover.start(parts, recovery)
  yield* Offering.start(parts)
  yield* Sweeping.start(parts)
  const ownership = Ownership.make(parts)
  const lookup = Lookup.make(parts, ownership, recovery)
  const foreign = Foreign.make(parts, lookup)
  const { cancel, cancelAll, ...cancels } = Cancel.make(parts, ownership, lookup)
  const { answer, ...answers } = Answering.make(parts, lookup)
  const deleting = Deleting.make(parts, lookup)
  const { refuse, submit } = Submit.make(parts, Opening.make(parts), ownership, recovery)
  parts.log.onSlow((job, sessionId, slow) => parts.asking.note(job, { kind: "pace", sessionId, slow }))
  yield* Granting.start(parts, (jobId, want) => {
    switch (want.kind) {
      case "cancel":
        return cancels.grant(jobId, want)
      case "answer":
        return answers.grant(jobId, want)
      case "adopt":
        return ownership.grant(jobId, want)
      case "pace":
        return parts.log.slow(jobId, want.sessionId, want.slow)
    }
  })
  const shutdown = shutdownOf(parts)
  yield* Effect.addFinalizer(() => shutdown)

  return Jobs.of({
    submit: (session, request) =>
      Effect.catchAllCause(submit(session, request), (cause) =>
        Effect.failCause(cause).pipe(Faults.contained("a submit was answered"), Effect.mapError(toInternal))
      ),
    refuse: (session, request, error) =>
      refuse(session, request, error).pipe(
        Faults.contained("a submit was refused"),
        Effect.mapError(toInternal)
      ),
    cancel: (session, request) => cancel(session, request).pipe(Faults.contained("a cancel was decided")),
    cancelAll,
    answer: (session, request) => answer(session, request).pipe(Faults.contained("an answer was decided")),
    entry: (identity, jobId) => lookup.entry(identity, jobId).pipe(Faults.contained("a job was looked up")),
    follow: (identity, jobId) =>
      lookup.follow(identity, jobId).pipe(Faults.contained("a job was to be followed")),
    delete: (identity, deletion) =>
      deleting(identity, deletion).pipe(Faults.contained("jobs were to be deleted")),
    list: (session, request) => lookup.list(session, request).pipe(Faults.contained("jobs were listed")),
    subscribe: (session, request) =>
      foreign
        .ended(session)
        .pipe(
          Effect.zipRight(lookup.subscribe(session, request)),
          Faults.contained("a subscription was decided")
        ),
    unsubscribe: (session, jobId) => parts.log.unobserve(session.view, jobId),
    unsubscribeForeign: foreign.end,
    attached: (session) => {
      parts.owners.attach(session)
      parts.running.queue.attach(session)
      if (session.view.epoch === firstEpoch) return
      // It was another node's, and its jobs have run on here.
      for (const { live } of parts.running.all)
        if (live.owner.sessionId === session.sessionId) live.owner = session
      for (const job of parts.running.queue.all)
        if (job.record.sessionId === session.sessionId) job.session = session
    },
    dropped: (sessionId) => {
      parts.owners.drop(sessionId)
      foreign.dropped(sessionId)
    },
    hasRunning: ({ sessionId, view }) =>
      parts.running.ofSession(sessionId) > 0 || parts.log.ownsElsewhere(view),
    accepted: (session, jobId) =>
      Effect.flatMap(lookup.job(jobId), (record) =>
        record === undefined
          ? Effect.succeed(undefined)
          : Effect.map(ownership.accept(session, record), (told) => told())
      ),
    liveOwners: (principal) =>
      Effect.map(Faults.storage(parts.store.waitingOwners(principal)), (waiting) => {
        const { queue } = parts.running
        const owners = new Set(waiting)
        for (const { live } of parts.running.all) owners.add(live.owner.sessionId)
        for (const { record } of queue.all) owners.add(record.sessionId)
        return owners
      }),
    shutdown
  })
})

/** Provides `Jobs` over the services in context. Its end ends every job. */
export const layer = () => Layer.scoped(Jobs, make)

export * from "../../services/jobs/Jobs.js"
