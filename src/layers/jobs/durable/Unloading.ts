/**
 * Taking a job out of memory that only waits. To its handler that is a crash: the log is closed for this load first, so that
 * nothing of what its finalizers do is in it; then the handler is interrupted, and has the grace to let go of what it holds.
 * What the job waits for is stored last, and only with that commit is the job unloaded: until then whatever ends it takes the
 * place of the unloading, and a process that dies has died in a job that ran.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import { never } from "../../../services/store/dueAt.js"
import type { JobRecord } from "../../../services/store/Store.js"
import type { JobParts } from "../JobParts.js"
import * as Limits from "../Limits.js"
import type { Hold } from "../Reservations.js"
import type { RunningJob } from "../RunningJobs.js"
import type { Surroundings } from "../Surroundings.js"
import * as Terminal from "../Terminal.js"
import type { WaitsFor } from "./Presence.js"
import * as Resting from "./Resting.js"

/** Begins to unload a job, unless it does anything else meanwhile, or others depend on it. */
export const begin = ({ log, options, running, waits }: JobParts, jobId: string): void => {
  waits.idles(jobId, false)
  const job = running.get(jobId)
  if (job === undefined) return
  const { live } = job
  if (waits.isLocked(jobId)) return waits.putOff(jobId)
  const isWanted =
    live.presence?.isIdle !== true ||
    live.children.size > 0 ||
    live.handlersBelow > 0 ||
    live.ending !== undefined ||
    live.exit !== undefined
  if (isWanted) return
  if (waits.countOf(live.record.principal) >= options.maxWaitingJobsPerPrincipal) return waits.putOff(jobId)
  live.waitsFor = live.presence?.current
  waits.take(jobId)
  live.settled = () => {
    // Of a job that keeps its place below its parent the next load is another one's to lock.
    live.settled = () => {}
    waits.unlock(jobId)
  }
  log.leaveJob(job.log)
  live.end({ _tag: "Unload" })
}

/** Returns the record of a job that waits for something from now on, unloaded. */
const waiting = (
  record: JobRecord,
  { inputs, sleepingUntil, until }: WaitsFor,
  open: ReadonlyArray<string>
): JobRecord => {
  const { survival } = record
  if (survival === undefined) return record
  // Answered while it was unloaded.
  const isAnswered = inputs.some((inputId) => !open.includes(inputId))
  const dueAt = isAnswered ? 0 : Math.min(never, until, Limits.endsAt(record))
  return { ...record, survival: { ...survival, waiting: { sleepingUntil, dueAt } } }
}

/**
 * Stores that a job is unloaded, whose handler has been interrupted. When something else ends it meanwhile nothing of it runs
 * either: it is ended as one that is unloaded.
 */
export const finish = (
  parts: JobParts,
  job: RunningJob,
  hold: Hold,
  surroundings: Surroundings
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { log, running, waits } = parts
    const { live } = job
    const isUnloading = () => live.ending?._tag === "Unload"
    yield* Effect.ignore(log.flush(job.log))
    // Whatever else changes it from here on changes it as it is then.
    if (live.waitsFor !== undefined)
      live.record = waiting(live.record, live.waitsFor, live.inputs?.open ?? [])
    let unloaded = false
    const rest = (dueAt: number) => {
      unloaded = true
      hold.giveBackPlaces()
      waits.rests(live.record.principal, dueAt)
      return { over: hold.handOver(), resting: { live, log: log.letGo(job.log) } }
    }
    const onCommit = () => {
      if (!isUnloading()) return
      const { over, resting } = rest(live.record.survival?.waiting?.dueAt ?? never)
      if (live.parent === undefined) over()
      else Resting.rest(parts, resting, surroundings, over)
    }
    yield* Effect.suspend(() =>
      isUnloading() ? log.amend(job.log, live.record, onCommit) : Effect.void
    ).pipe(
      Effect.retry({ schedule: Terminal.pauses, while: () => !running.abandoned && isUnloading() }),
      Effect.ignoreLogged
    )
    if (unloaded) return surroundings.say("job unloaded: it only waits")
    const { ending } = live
    if (ending === undefined || ending._tag === "Unload") return
    const { over, resting } = rest(never)
    Resting.rest(parts, resting, surroundings, over)
    live.end(ending)
  })

/** How many jobs begin to be unloaded between two turns of the event loop. */
const atOnce = 64

/** Milliseconds to wait after a fault. */
const again = 1_000

/** Unloads jobs that have only waited for long enough, for as long as the scope is open: one timer for all. */
export const start = (parts: JobParts): Effect.Effect<void, never, Scope> => {
  const { options, turn, waits } = parts
  const unloadAfter = Duration.toMillis(options.unloadAfter)
  const next = Effect.suspend(() => {
    for (let begun = 0; begun < atOnce; begun++) {
      const next = waits.nextToUnload(unloadAfter)
      if (next === undefined) return waits.idling.wait
      if (next.inMs > 0) return Effect.raceFirst(Limits.sleepFor(next.inMs), waits.idling.wait)
      begin(parts, next.jobId)
    }
    return turn.next
  })
  // A turn later: what has just ended a wait has been seen by then.
  const turnOf = Effect.zipRight(turn.next, next).pipe(
    Effect.catchAllCause((cause) =>
      Effect.zipRight(
        Effect.logError("jobs that only wait could not be unloaded; going on", cause),
        Limits.sleepFor(again)
      )
    )
  )
  return Effect.asVoid(Effect.forkScoped(Effect.forever(turnOf)))
}
