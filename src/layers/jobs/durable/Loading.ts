/**
 * The one place that decides which jobs are loaded that wait unloaded: those that are due, in the order in which they are, and
 * at most so many at once. There is one timer, for the next that is due; which jobs are due is asked of the store, a page at a
 * time.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import type { InternalError } from "../../../protocol/Errors.js"
import { isOurs } from "../../../services/cluster/Cluster.js"
import { dueAt, never } from "../../../services/store/dueAt.js"
import type { JobRecord } from "../../../services/store/Store.js"
import * as Faults from "../Faults.js"
import type { JobParts } from "../JobParts.js"
import * as Limits from "../Limits.js"
import type { Hold } from "../Reservations.js"
import { damagedRest } from "./DamagedRows.js"
import type { Reopen } from "./Reopening.js"
import * as Rerun from "./Rerun.js"
import * as Resting from "./Resting.js"

/** Rows that are read at once, and jobs that are loaded at the same time. */
const page = 256
const atOnce = 16

/** Milliseconds between two looks when the store could not be read, or a job not loaded. */
const again = 1_000

/**
 * Milliseconds between two looks through all that is due while there is no room to load it: what is over its limits is ended,
 * and what others wait for is loaded, all the same.
 */
const thorough = 5_000

/** Loads a job, unless it runs already, or has ended. Its place is given back by whatever it comes to. */
const load = (
  parts: JobParts,
  reopen: Reopen,
  jobId: string,
  leave: () => void
): Effect.Effect<void, InternalError> =>
  Effect.suspend(() => {
    const { cluster, running, store, waits } = parts
    let isPassedOn = false
    const loaded = Effect.gen(function* () {
      const resting = running.get(jobId)
      if (running.stopping || (resting !== undefined && resting.live.rests === undefined)) return
      // With what is left of its budget.
      const record = Resting.survivor(
        resting === undefined ? yield* Faults.storage(store.job(jobId)) : running.current(resting.live.record)
      )
      if (record === undefined || dueAt(record) === undefined || !isOurs(cluster, record)) return
      const keep = (hold: Hold) => {
        isPassedOn = true
        waits.over(record.principal)
        hold.keepPlace(leave)
      }
      yield* Rerun.rerun(parts, reopen, record, [], { loaded: { resting: resting?.live, keep } })
    })
    return waits.locked(jobId, Effect.uninterruptible(loaded)).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          if (!isPassedOn) leave()
        })
      )
    )
  })

/** Loads a job for what undoes what it has done, if its agent is here. */
const undo =
  (parts: JobParts, reopen: Reopen): JobParts["waits"]["undo"] =>
  ({ live }, terminal) =>
    Effect.gen(function* () {
      const { registry, running, waits } = parts
      const record = Resting.survivor(running.current(live.record))
      if (record === undefined) return false
      if (Either.isLeft(yield* Effect.either(Rerun.resolve(registry, record.agent)))) return false
      const keep = () => waits.over(record.principal)
      yield* Rerun.rerun(parts, reopen, record, [], {
        loaded: { resting: live, keep },
        settling: { terminal, over: Deferred.unsafeMake(FiberId.none) }
      })
      return true
    })

/** What has become of a job that was due. */
type Attended = "done" | "failed" | "damaged" | "no room"

/** Does what is due with a job: ends it, or loads it if `enter` gives it a place. */
const attend = (
  parts: JobParts,
  reopen: Reopen,
  record: JobRecord,
  enter: Effect.Effect<boolean>
): Effect.Effect<Attended, InternalError> =>
  Effect.gen(function* () {
    const { now, unsettled, waits } = parts
    const { jobId, parentJobId } = record
    yield* unsettled.settled(jobId)
    const ending = Limits.over(record, now())
    if (ending !== undefined)
      yield* Resting.ending(parts, jobId, (job) => Effect.sync(() => job?.live.end(ending)))
    // A parent waits for what it has delegated to, and must not do so for its own place.
    else if (parentJobId !== undefined) yield* load(parts, reopen, jobId, () => {})
    else if (yield* enter) yield* load(parts, reopen, jobId, () => waits.leave())
    else return "no room"
    waits.damaged.delete(jobId)
    return "done"
  })

/** Says why a job could not be loaded: of what is damaged once. */
const failed = (
  { now, waits }: JobParts,
  { jobId }: JobRecord,
  cause: Cause.Cause<InternalError>
): Effect.Effect<Attended> =>
  Effect.suspend(() => {
    if (!Option.exists(Cause.failureOption(cause), Faults.isDamage))
      return Effect.as(Effect.logWarning(`${jobId} could not be loaded, and will be`, cause), "failed")
    const said = waits.damaged.add(jobId, now())
      ? Effect.logError(`${jobId} cannot be loaded: it is tried again once a minute`, cause)
      : Effect.void
    return Effect.as(said, "damaged")
  })

/** Attends to jobs; returns what has become of them. */
const attendAll = (
  parts: JobParts,
  reopen: Reopen,
  records: ReadonlyArray<JobRecord>,
  enter: Effect.Effect<boolean>
): Effect.Effect<ReadonlySet<Attended>> =>
  Effect.map(
    Effect.forEach(
      records,
      (record) =>
        attend(parts, reopen, record, enter).pipe(
          Effect.catchAllCause((cause) => failed(parts, record, cause))
        ),
      { concurrency: atOnce }
    ),
    (all) => new Set(all)
  )

/**
 * Attends to the jobs that are due by now, in the order in which they are: to all of them, or, when there is no room and it is
 * not to be thorough, to the first. Returns when to look again, in epoch ms.
 */
const look = (parts: JobParts, reopen: Reopen, isThorough: boolean): Effect.Effect<number, InternalError> =>
  Effect.gen(function* () {
    const { cluster, now, running, store, turn, waits } = parts
    const node = cluster?.node
    const by = now()
    waits.looking()
    const came = new Set<Attended>()
    let restsUntil = never
    // Whoever comes later has no place before whoever found none.
    const enter = Effect.sync(() => !waits.isCrowded && waits.enter())
    let after: { readonly dueAt: number; readonly jobId: string } | undefined
    for (;;) {
      const records = yield* Faults.storage(store.due({ by, after, node, limit: page }))
      // Of one that is being loaded the row is still there.
      const due = records.filter(({ jobId }) => {
        const until = waits.damaged.restsUntil(jobId, by)
        if (until !== undefined) restsUntil = Math.min(restsUntil, until)
        const job = running.get(jobId)
        return until === undefined && (job === undefined || job.live.rests !== undefined)
      })
      for (const one of yield* attendAll(parts, reopen, due, enter)) came.add(one)
      const last = records.at(-1)
      if (last === undefined || records.length < page || running.stopping) break
      if (waits.isCrowded && !isThorough) break
      after = { dueAt: dueAt(last) ?? by, jobId: last.jobId }
      yield* turn.next
    }
    if (came.has("failed")) return by + again
    if (waits.isCrowded) return by + thorough
    const [next] = yield* Faults.storage(
      store.due({ by: never - 1, after: { dueAt: by, jobId: "\u{10ffff}" }, node, limit: 1 })
    )
    const nextAt = (next && dueAt(next)) ?? never
    return Math.min(nextAt, restsUntil, came.has("damaged") ? now() + damagedRest : never)
  })

/** Loads jobs that are parked, and whose agents are here again; returns whether all of those could be. */
const unpark = (parts: JobParts, reopen: Reopen): Effect.Effect<boolean, InternalError> =>
  Effect.gen(function* () {
    let isDone = true
    let after: JobRecord | undefined
    for (;;) {
      const records: ReadonlyArray<JobRecord> = yield* Faults.storage(
        parts.store.jobs({
          principals: "everyone",
          waiting: "parked",
          damaged: "left out",
          node: parts.cluster?.node,
          after,
          limit: page
        })
      )
      const back: Array<JobRecord> = []
      for (const record of records)
        if (
          record.survival?.parked !== undefined &&
          Either.isRight(yield* Effect.either(Rerun.resolve(parts.registry, record.agent)))
        )
          back.push(record)
      if ((yield* attendAll(parts, reopen, back, Effect.as(parts.waits.place, true))).has("failed"))
        isDone = false
      after = records.at(-1)
      if (after === undefined || records.length < page || parts.running.stopping) return isDone
      yield* parts.turn.next
    }
  })

/** Counts the jobs that wait unloaded. */
export const count = ({ cluster, store, waits }: JobParts): Effect.Effect<void, InternalError> =>
  Effect.map(Faults.storage(store.waitingCounts(cluster?.node)), (counts) => waits.begin(counts))

/** Attends to jobs when they are due, for as long as the scope is open. */
export const start = (parts: JobParts, reopen: Reopen): Effect.Effect<void, never, Scope> =>
  Effect.gen(function* () {
    const { running, waits } = parts
    waits.undo = undo(parts, reopen)
    let thoroughAt = 0
    const next = Effect.gen(function* () {
      if (running.stopping) return yield* Effect.never
      const at = parts.now()
      // Also when the clock was put back.
      const isThorough = at >= thoroughAt || at < thoroughAt - thorough
      if (isThorough) thoroughAt = at + thorough
      waits.found(yield* look(parts, reopen, isThorough))
    }).pipe(
      // A defect too: without this nothing that waits would be loaded any more.
      Effect.catchAllCause((cause) =>
        Effect.logWarning("jobs that are due could not be found; looking again", cause).pipe(
          Effect.zipRight(Effect.sync(() => waits.found(parts.now() + again)))
        )
      )
    )
    const due = Effect.suspend(() =>
      waits.nextDue === never
        ? waits.waking.wait
        : Effect.raceFirst(Limits.sleepUntil(waits.nextDue), waits.waking.wait)
    )
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(next, due)))
    const unparking = Effect.catchAllCause(unpark(parts, reopen), (cause) =>
      Effect.as(Effect.logWarning("jobs that are parked could not be looked at; looking again", cause), false)
    )
    const { came } = waits.parked
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.flatMap(unparking, (isDone) =>
          isDone ? came.wait : Effect.raceFirst(came.wait, Effect.sleep(again))
        )
      )
    )
  })
