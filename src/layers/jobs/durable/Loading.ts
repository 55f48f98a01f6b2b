/**
 * The one place that decides which jobs are loaded that wait unloaded: those that are due, in the order in which they are, and
 * at most so many at once. There is one timer, for the next that is due; which jobs are due is asked of the store, a page at a
 * time.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberId from "effect/FiberId"
import type { Scope } from "effect/Scope"
import type { InternalError } from "../../../protocol/Errors.js"
import { dueAt, type JobRecord, never } from "../../../services/store/Store.js"
import * as Faults from "../Faults.js"
import type { JobParts } from "../JobParts.js"
import * as Limits from "../Limits.js"
import type { Hold } from "../Reservations.js"
import type { Reopen } from "./Reopening.js"
import * as Rerun from "./Rerun.js"
import * as Resting from "./Resting.js"

/** Rows that are read at once, and jobs that are loaded at the same time. */
const page = 256
const atOnce = 16

/** Between two looks when the store could not be read, or a job not loaded. */
const again = "1 second"

/** Loads a job, unless it runs already, or has ended. Its place is given back by whatever it comes to. */
const load = (
  parts: JobParts,
  reopen: Reopen,
  jobId: string,
  leave: () => void
): Effect.Effect<void, InternalError> =>
  Effect.suspend(() => {
    const { running, store, waits } = parts
    let isPassedOn = false
    const loaded = Effect.gen(function* () {
      const resting = running.get(jobId)
      if (running.stopping || (resting !== undefined && resting.live.rests === undefined)) return
      const record = Resting.survivor(resting?.live.record ?? (yield* Faults.storage(store.job(jobId))))
      if (record === undefined || dueAt(record) === undefined) return
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
      const { registry, waits } = parts
      const record = Resting.survivor(live.record)
      if (record === undefined) return false
      if (Either.isLeft(yield* Effect.either(Rerun.resolve(registry, record.agent)))) return false
      const keep = () => waits.over(record.principal)
      yield* Rerun.rerun(parts, reopen, record, [], {
        loaded: { resting: live, keep },
        settling: { terminal, over: Deferred.unsafeMake(FiberId.none) }
      })
      return true
    })

/** Does what is due with a job: ends it, or loads it. */
const attend = (parts: JobParts, reopen: Reopen, record: JobRecord): Effect.Effect<void, InternalError> =>
  Effect.gen(function* () {
    const { now, unsettled, waits } = parts
    const { jobId, parentJobId } = record
    yield* unsettled.settled(jobId)
    const ending = Limits.over(record, now())
    if (ending !== undefined)
      return yield* Resting.ending(parts, jobId, (job) => Effect.sync(() => job?.live.end(ending)))
    // A parent waits for what it has delegated to, and must not do so for its own place.
    if (parentJobId !== undefined) return yield* load(parts, reopen, jobId, () => {})
    yield* waits.place
    yield* load(parts, reopen, jobId, () => waits.leave())
  })

/** Attends to jobs; returns whether it could to all of them. */
const attendAll = (
  parts: JobParts,
  reopen: Reopen,
  records: ReadonlyArray<JobRecord>
): Effect.Effect<boolean> =>
  Effect.map(
    Effect.forEach(
      records,
      (record) =>
        attend(parts, reopen, record).pipe(
          Effect.as(true),
          Effect.catchAllCause((cause) =>
            Effect.as(Effect.logWarning(`${record.jobId} could not be loaded, and will be`, cause), false)
          )
        ),
      { concurrency: atOnce }
    ),
    (done) => done.every((one) => one)
  )

/** Attends to all jobs that are due by now; returns when to look again, in epoch ms. */
const look = (parts: JobParts, reopen: Reopen): Effect.Effect<number | undefined, InternalError> =>
  Effect.gen(function* () {
    const { now, running, store, turn, waits } = parts
    const by = now()
    waits.looking()
    let isDone = true
    let after: { readonly dueAt: number; readonly jobId: string } | undefined
    for (;;) {
      const records = yield* Faults.storage(store.due({ by, after, limit: page }))
      // Of one that is being loaded the row is still there.
      const due = records.filter(
        ({ jobId }) => running.get(jobId)?.live.rests !== undefined || running.get(jobId) === undefined
      )
      isDone = (yield* attendAll(parts, reopen, due)) && isDone
      const last = records.at(-1)
      if (last === undefined || records.length < page || running.stopping) break
      after = { dueAt: dueAt(last) ?? by, jobId: last.jobId }
      yield* turn.next
    }
    if (!isDone) return undefined
    const [next] = yield* Faults.storage(
      store.due({ by: never - 1, after: { dueAt: by, jobId: "\u{10ffff}" }, limit: 1 })
    )
    return next === undefined ? never : (dueAt(next) ?? never)
  })

/** Loads jobs that are parked, and whose agents are here again. */
const unpark = (parts: JobParts, reopen: Reopen): Effect.Effect<void, InternalError> =>
  Effect.gen(function* () {
    let after: JobRecord | undefined
    for (;;) {
      const records: ReadonlyArray<JobRecord> = yield* Faults.storage(
        parts.store.jobs({ principals: "everyone", waiting: "rows", after, limit: page })
      )
      const back: Array<JobRecord> = []
      for (const record of records)
        if (
          record.survival?.parked !== undefined &&
          Either.isRight(yield* Effect.either(Rerun.resolve(parts.registry, record.agent)))
        )
          back.push(record)
      yield* attendAll(parts, reopen, back)
      after = records.at(-1)
      if (after === undefined || records.length < page || parts.running.stopping) return
      yield* parts.turn.next
    }
  })

/** Counts the jobs that wait unloaded. */
export const count = ({ store, waits }: JobParts): Effect.Effect<void, InternalError> =>
  Effect.map(Faults.storage(store.waitingCounts), (counts) => waits.begin(counts))

/** Attends to jobs when they are due, for as long as the scope is open. */
export const start = (parts: JobParts, reopen: Reopen): Effect.Effect<void, never, Scope> =>
  Effect.gen(function* () {
    const { running, waits } = parts
    waits.undo = undo(parts, reopen)
    const next = Effect.gen(function* () {
      if (running.stopping) return yield* Effect.never
      const at = yield* look(parts, reopen)
      if (at === undefined) yield* Effect.sleep(again)
      waits.found(at ?? 0)
    }).pipe(
      Effect.catchAll((error) =>
        Effect.logWarning("jobs that are due could not be found; looking again", error).pipe(
          Effect.zipRight(Effect.sleep(again)),
          Effect.zipRight(Effect.sync(() => waits.found(0)))
        )
      )
    )
    const due = Effect.suspend(() =>
      waits.nextDue === never
        ? waits.waking.wait
        : Effect.raceFirst(Limits.sleepUntil(waits.nextDue), waits.waking.wait)
    )
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(next, due)))
    yield* Effect.forkScoped(
      Effect.catchAllCause(unpark(parts, reopen), (cause) =>
        Effect.logError("jobs that are parked could not be looked at", cause)
      )
    )
  })
