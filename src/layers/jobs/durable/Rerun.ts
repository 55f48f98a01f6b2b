/**
 * Running a job again that was open when its process ended, or was unloaded: from the start of its handler, over what its
 * journal has. Its attempt is counted where the handler begins, so that neither a pause, nor a job that is parked or loaded, counts as one.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as AgentRef from "../../../protocol/AgentRef.js"
import {
  AgentNotAvailable,
  type AgentVersionNotAvailable,
  type ArcpError,
  InternalError
} from "../../../protocol/Errors.js"
import { timestamp } from "../../../protocol/EventText.js"
import type { Registered } from "../../../services/agents/Agent.js"
import type { JobLog, NewEvent } from "../../../services/log/EventLog.js"
import * as Tracing from "../../../services/runtime/Tracing.js"
import { never } from "../../../services/store/dueAt.js"
import type { JobRecord } from "../../../services/store/Store.js"
import type { Candidate } from "../Candidate.js"
import * as Faults from "../Faults.js"
import type { JobParts } from "../JobParts.js"
import * as Limits from "../Limits.js"
import type { LiveJob } from "../LiveJob.js"
import * as Terminal from "../Terminal.js"
import * as Enduring from "./Enduring.js"
import { Journal } from "./Journal.js"
import { absentOwner } from "./Owners.js"
import type { Loaded, Reopen } from "./Reopening.js"
import type { Survivor } from "./Resting.js"
import * as Resting from "./Resting.js"
import type { Settling } from "./Settling.js"
import * as Survivals from "./Survival.js"

const recovered = (at: number, attempt: number): NewEvent => ({
  type: "job.event",
  kind: "status",
  payload: JSON.stringify({ kind: "status", ts: timestamp(at), body: { phase: "recovered", attempt } })
})

/**
 * Writes the record of a job in place of the one that is stored. It is asked for at the commit, also what has been decided since: that it is
 * to be cancelled, above all.
 */
type Write = (recordNow: () => JobRecord) => Effect.Effect<void, InternalError>

/** Stores what has become of a job's survival, as often as it takes. */
const put = (
  parts: JobParts,
  job: JobLog,
  record: Survivor,
  write: Write = (recordNow) => parts.log.amend(job, recordNow(), () => {})
): Effect.Effect<void> =>
  Terminal.untilStored(
    Effect.suspend(() => {
      const live = parts.running.get(record.jobId)?.live
      // How it ends may have been decided, when only what undoes it is left.
      const { ended } = live?.record.survival ?? {}
      const survival = ended === undefined ? record.survival : { ...record.survival, ended }
      const current = { ...(live?.record ?? record), survival }
      if (live !== undefined) live.record = current
      return write(() => live?.record ?? current)
    }),
    parts.running
  ).pipe(Effect.ignore)

/** Returns the record of a job whose handler is not there. */
const parked = (record: Survivor, { code }: ArcpError): Survivor => ({
  ...record,
  survival: { ...record.survival, left: true, parked: code.toLowerCase() }
})

/**
 * Returns what stores that a job is parked, whose record was this one, in one commit with the event and the hook that tell so, once for
 * as long as it is: a commit that fails leaves nothing of it, and all of it is tried again.
 */
const writingParked =
  (
    { hooks, log, now }: JobParts,
    job: JobLog,
    before: Survivor,
    { code, message }: ArcpError,
    onCommit: () => void = () => {}
  ): Write =>
  (recordNow) => {
    const reason = code.toLowerCase()
    if (before.survival.parked === reason) return log.amend(job, recordNow(), onCommit)
    const at = now()
    return log.append(job, {
      type: "job.event",
      kind: "status",
      payload: JSON.stringify({ kind: "status", ts: timestamp(at), body: { phase: "parked", message } }),
      hook: hooks.parked(before, at, reason),
      awaited: true,
      record: recordNow,
      onCommit
    })
  }

const sayParked = ({ message }: ArcpError) => Effect.logWarning(`job parked: ${message}`)

/** What is run in the place of a handler that is not there, of a job for which others are in memory: nothing. */
const park = (parts: JobParts, job: JobLog, record: Survivor, why: ArcpError): Effect.Effect<never> =>
  put(parts, job, parked(record, why), writingParked(parts, job, record, why)).pipe(
    Effect.zipRight(sayParked(why)),
    Effect.zipRight(Effect.never)
  )

/** Stores that a job waits for its handler, of which nothing is in memory until that is back at a start, or on another node. */
const parkUnloaded = (
  parts: JobParts,
  record: Survivor,
  why: ArcpError,
  resting: LiveJob | undefined
): Effect.Effect<void, InternalError> =>
  Effect.gen(function* () {
    const { cluster, log, waits } = parts
    const { survival } = record
    const dueAt = Math.min(never, Limits.endsAt(record))
    const waiting = { ...survival.waiting, dueAt }
    const unloaded = parked({ ...record, survival: { ...survival, waiting } }, why)
    // What was decided of it since stays: that it is to be cancelled, above all.
    const recordNow = () =>
      resting === undefined
        ? unloaded
        : { ...resting.record, survival: { ...resting.record.survival, ...unloaded.survival } }
    // Nothing that can fail comes after the commit, or it would be told again.
    const owner =
      record.parentJobId !== undefined && resting === undefined
        ? yield* Resting.ownerOf(parts, unloaded)
        : undefined
    yield* log.holding(unloaded, (job) => {
      const write = writingParked(parts, job, record, why, () => {
        if (resting !== undefined) resting.record = recordNow()
        if (survival.waiting === undefined) waits.rests(record.principal, dueAt)
        else waits.due(dueAt)
        if (cluster !== undefined && record.parentJobId === undefined) waits.parked.add(record.jobId)
      })
      const written = write(recordNow)
      return owner === undefined
        ? written
        : Effect.zipRight(written, Resting.place(parts, unloaded, job, owner))
    })
    yield* sayParked(why)
  })

/** Waits for its pause, counts the attempt, and says so. */
const begin = (
  parts: JobParts,
  job: JobLog,
  record: Survivor,
  { lastOutcome, onlyWaits }: Pick<Journal, "lastOutcome" | "onlyWaits">
): Effect.Effect<void, ArcpError> =>
  Effect.gen(function* () {
    const { log, now, options } = parts
    const { parked, waiting } = record.survival
    // One that was unloaded goes on as though it had been in memory all the time.
    const goesOn = waiting !== undefined && parked === undefined
    const survival = goesOn
      ? Survivals.loaded(record.survival, lastOutcome)
      : Survivals.again(record.survival, lastOutcome, record.survival.left !== true)
    // Whatever ends the process over and over, it is none that only waits: it has the pauses, and no end.
    const loop = goesOn || onlyWaits ? undefined : Survivals.crashLoop(survival, options)
    if (loop !== undefined) return yield* loop
    if (!goesOn) yield* Effect.sleep(Survivals.pauseBefore(survival, options))
    yield* put(parts, job, { ...record, survival })
    if (!goesOn) yield* log.append(job, recovered(now(), survival.attempt))
  })

/** Returns the handler with the input that is stored. */
const handlerOf = (
  parts: JobParts,
  record: Survivor,
  agent: Registered
): Effect.Effect<Candidate["run"], ArcpError> =>
  Effect.gen(function* () {
    const input = yield* Enduring.whileAway(Faults.storage(parts.store.input(record.jobId)), parts)
    if (input === undefined)
      return yield* new InternalError({ message: "the input of the job is not stored" })
    return yield* agent.prepare(JSON.parse(input))
  })

/**
 * Returns the log of the next job above one that runs: it pays for what is spent below it, also where what was between them
 * was lost with its process.
 */
const nextAbove = (
  { running, store }: JobParts,
  { parentJobId }: JobRecord
): Effect.Effect<JobLog | undefined, InternalError> =>
  Effect.gen(function* () {
    // What has ended may be damaged so that it is above itself.
    const seen = new Set<string>()
    for (let jobId = parentJobId; jobId !== undefined && !seen.has(jobId); ) {
      const found = running.get(jobId)
      if (found !== undefined) return found.log
      seen.add(jobId)
      jobId = (yield* Faults.storage(store.job(jobId)))?.parentJobId
    }
    return undefined
  })

/** Returns the agent of a stored job, as it was when the job began. */
export const resolve = (
  registry: JobParts["registry"],
  agent: string
): Effect.Effect<Registered, AgentNotAvailable | AgentVersionNotAvailable> =>
  Option.match(AgentRef.parse(agent), {
    onNone: () => Effect.fail(new AgentNotAvailable({ message: `${agent} is no agent` })),
    onSome: registry.resolve
  })

/** Why a job is run again, other than that its process has ended. */
export interface RerunOptions {
  readonly loaded?: Loaded | undefined
  /** It has ended, but for what undoes what it has done. */
  readonly settling?: Settling | undefined
}

/**
 * Makes a job what it was, with the children that were open with it, and runs its handler again, or what undoes what it has
 * done.
 */
export const rerun = (
  parts: JobParts,
  reopen: Reopen,
  record: Survivor,
  children: ReadonlyArray<string>,
  { loaded, settling }: RerunOptions = {}
): Effect.Effect<void, InternalError> =>
  Effect.gen(function* () {
    const { log, options, owners, registry, running, store, turn, unsettled } = parts
    const found = yield* Effect.either(resolve(registry, record.agent))
    if (Either.isLeft(found) && children.length === 0 && settling === undefined)
      return yield* parkUnloaded(parts, record, found.left, loaded?.resting)
    const parent = record.parentJobId === undefined ? undefined : running.get(record.parentJobId)
    const absent = loaded?.resting?.owner ?? (yield* absentOwner(parts, record, record.survival))
    const journal = yield* Faults.storage(Journal.load(record.jobId, store, turn, options))
    // As the last process has left it.
    const { lastOutcome, onlyWaits } = journal
    const job = yield* log.reopenJob(record, { parent: parent?.log ?? (yield* nextAbove(parts, record)) })
    const run = Either.match(found, {
      onLeft: (why): Candidate["run"] => why,
      onRight: (agent) => Effect.flatten(handlerOf(parts, record, agent))
    })
    // What is not there cannot undo either: that is not waited for.
    const isParked = Either.isLeft(found) && settling === undefined
    yield* reopen({
      candidate: {
        session: owners.session(record.sessionId) ?? absent,
        submitter: Survivals.submitter(record, record.survival),
        record,
        run,
        begin: isParked
          ? park(parts, job, record, found.left)
          : begin(parts, job, record, { lastOutcome, onlyWaits }),
        agent: Either.getOrElse(found, () => ({ awaitEmits: false, restart: record.survival.restart })),
        journal,
        settled: settling?.terminal,
        input: undefined,
        parent,
        parentSpan: Tracing.submitter(record)
      },
      job,
      runs: Either.isRight(found),
      below: Effect.forEach(children, (jobId) => unsettled.settled(jobId), { discard: true }),
      loaded,
      over: settling?.over
    })
  })
