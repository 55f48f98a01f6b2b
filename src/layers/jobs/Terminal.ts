/** How a job ends: its one terminal message, and the writing of it (§5.3 of the protocol page). */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import {
  type ArcpError,
  Cancelled,
  type ErrorPayload,
  fromPayload,
  InternalError,
  LeaseExpired,
  Timeout,
  toPayload
} from "../../protocol/Errors.js"
import { json, timestamp } from "../../protocol/EventText.js"
import { exceeds } from "../../protocol/Utf8.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { JobSession } from "../../services/jobs/Jobs.js"
import type { JobLog } from "../../services/log/EventLog.js"
import { takenAway } from "../../services/log/taken.js"
import { type Errand, exitOf } from "../../services/runtime/Pending.js"
import type { JobRecord, StoredEnd } from "../../services/store/Store.js"
import * as Faults from "./Faults.js"
import { bounded, envelopeBytes } from "./fitting.js"
import type { JobParts } from "./JobParts.js"
import { deleted, type Ending, type TerminalMessage } from "./LiveJob.js"
import * as Measuring from "./measuring.js"
import type { Streamed } from "./ResultWriter.js"
import type { RunningJobs } from "./RunningJobs.js"

const firstPause = Duration.millis(20)

/** Pauses between tries: short at first, then 5 s. */
export const pauses = Schedule.union(Schedule.exponential(firstPause), Schedule.spaced("5 seconds"))

/**
 * Tries again until it is stored, or another process has taken what it is of, or until a runtime that shuts down has abandoned
 * what its store does not take. What is damaged is so at every try, and fails at once: whoever waits behind it goes on.
 */
export const untilStored = <A, E>(effect: Effect.Effect<A, E>, running: RunningJobs): Effect.Effect<A, E> =>
  Effect.retry(effect, {
    schedule: pauses,
    while: (error) => !running.abandoned && error !== takenAway && !Faults.isDamage(error)
  })

/**
 * Writes the terminal message, as often as it takes; tells the owner when it does not get through. Which one it is, is asked
 * at each try: the job may break meanwhile. Returns the one that was tried last.
 */
export function* write(
  { hooks, log, metrics, running }: Pick<JobParts, "hooks" | "log" | "metrics" | "running">,
  job: JobLog,
  owner: Pick<JobSession, "send">,
  terminalNow: () => TerminalMessage,
  endedAt: number,
  /** The job's record at the moment of the commit. */
  record: () => JobRecord,
  /** It is stored, by this process or, of what another has taken, perhaps by that. */
  onCommit?: (isOurs: boolean) => void
): Errand<TerminalMessage> {
  let terminal = terminalNow()
  const last = (lastEventSeq: number): JobRecord => ({
    ...record(),
    status: terminal.status,
    endedAt,
    lastEventSeq,
    ...(terminal.keyFreed === true ? { keyFreed: true } : {})
  })
  const stored = (isOurs: boolean) => {
    if (isOurs && metrics !== undefined) Measuring.ended(metrics, record(), terminal.status, endedAt)
    onCommit?.(isOurs)
  }
  const ending = () => {
    terminal = terminalNow()
    const hook = hooks.ended(record, endedAt, terminal)
    return log.end(job, hook === undefined ? terminal : { ...terminal, hook }, last, stored)
  }
  const ended = yield* exitOf(ending())
  if (Exit.isSuccess(ended)) return terminal
  const failure = Cause.failureOrCause(ended.cause)
  if (Either.isRight(failure)) return yield* Effect.failCause(failure.right)
  const error = failure.left
  owner.send({ type: "session.error", payload: toPayload(error, { job_id: job.jobId }) })
  yield* Effect.logError(`the end of ${job.jobId} could not be stored; trying again`, error.message)
  if (!running.abandoned)
    yield* Effect.ignore(Effect.delay(untilStored(Effect.suspend(ending), running), firstPause))
  return terminal
}

/** Returns the end of a job that failed; its frame has at most `maxBytes`. */
export const failed = (
  error: ArcpError,
  finalStatus: "error" | "cancelled" | "timed_out",
  at: number,
  maxBytes: number,
  more: {
    readonly details?: Record<string, unknown> | undefined
    readonly keyFreed?: boolean | undefined
  } = {}
): TerminalMessage => ({
  type: "job.error",
  kind: "",
  status: finalStatus,
  outcome: Exit.fail(error),
  payload: Either.getOrThrow(
    json(
      {
        ...bounded(toPayload(error, more.details), maxBytes),
        final_status: finalStatus,
        completed_at: timestamp(at)
      },
      ""
    )
  ),
  ...(more.keyFreed === true ? { keyFreed: true } : {})
})

/** Returns what ends a job other than its handler, as an error. */
export const errorOf = (ending: Ending, record: JobRecord): ArcpError => {
  switch (ending._tag) {
    case "Cancel":
      return new Cancelled({
        message:
          ending.reason === undefined ? "the job was cancelled" : `the job was cancelled: ${ending.reason}`,
        // Soon there is no such job: whoever is told need not submit it again. Of a cancel, another node is told the reason alone.
        ...(ending.reason === deleted.reason ? { details: { reason: "deleted" } } : {})
      })
    case "Timeout":
      return new Timeout({ message: `the job ran longer than ${record.maxRuntimeSec} s` })
    case "LeaseExpired":
      return new LeaseExpired({ message: `the lease expired at ${record.leaseConstraints?.expires_at}` })
    case "Shutdown":
    case "Leave":
    case "Unload":
      return shutDown
    case "Broken":
      return ending.error
    case "Restart":
      return restarted
  }
}

/** The end of a job that something other than its handler ended. */
export const ended = (ending: Ending, record: JobRecord, at: number, maxBytes: number): TerminalMessage => {
  const error = errorOf(ending, record)
  switch (ending._tag) {
    case "Cancel":
      return failed(error, "cancelled", at, maxBytes)
    case "Timeout":
      return failed(error, "timed_out", at, maxBytes)
    case "LeaseExpired":
      return failed(error, "error", at, maxBytes)
    default:
      return failed(error, "error", at, maxBytes, { keyFreed: true })
  }
}

/** Returns how a job ends of which steps have not been undone: it says which, and keeps its key. */
export const notUndone = (
  terminal: TerminalMessage,
  { left }: { readonly left: () => ReadonlyArray<string> }
): TerminalMessage => {
  const keys = terminal.type === "job.result" ? [] : left()
  if (keys.length === 0) return terminal
  const payload = JSON.parse(terminal.payload) as ErrorPayload
  const details = { ...payload.details, not_undone: keys.slice(0, maxKeysTold) }
  return { ...terminal, keyFreed: false, payload: JSON.stringify({ ...payload, details }) }
}

/** Returns an end as it is stored until compensations have been run; only a failure has such. */
export const toStored = ({ keyFreed, payload, status }: TerminalMessage): StoredEnd => ({
  status,
  payload,
  keyFreed: keyFreed === true
})

export const ofStored = ({ keyFreed, payload, status }: StoredEnd): TerminalMessage => ({
  type: "job.error",
  kind: "",
  status,
  payload,
  keyFreed,
  outcome: Exit.fail(fromPayload(JSON.parse(payload) as ErrorPayload))
})

/** Keys that an end names. */
const maxKeysTold = 16

const shutDown = new InternalError({
  message: "the runtime shut down before the job ended; submit it again",
  details: { reason: "runtime_restart" }
})
const restarted = new InternalError({
  message: "the runtime restarted while the job ran; submit it again",
  details: { reason: "runtime_restart" }
})

/** Returns the end of a job that succeeded; its frame has at most `maxBytes`. */
export const succeeded = (
  output: unknown,
  streamed: Streamed | undefined,
  at: number,
  maxBytes: number
): TerminalMessage => {
  const { summary } = streamed ?? {}
  const result =
    streamed === undefined
      ? { result: output }
      : "inline" in streamed
        ? { result: streamed.inline }
        : {
            result_id: streamed.resultId,
            result_size: streamed.size,
            ...(streamed.encoding === undefined ? {} : { [Vendor.encoding]: streamed.encoding })
          }
  const end = { final_status: "success", ...result, ...(summary === undefined ? {} : { summary }) }
  const payload = json({ ...end, completed_at: timestamp(at) }, "")
  if (Either.isLeft(payload)) {
    const message = `the agent's output cannot be written as JSON: ${payload.left}`
    return failed(new InternalError({ message }), "error", at, maxBytes)
  }
  if (exceeds(payload.right, maxBytes - envelopeBytes)) return failed(tooLarge, "error", at, maxBytes)
  const inline = "result" in result
  return {
    type: "job.result",
    kind: inline ? "" : "streamed",
    status: "success",
    outcome: Exit.succeed(inline ? result.result : output),
    // What was streamed because it is large is still here.
    streamed: !inline && streamed?.encoding === undefined && !streamed?.returned,
    payload: payload.right
  }
}

const tooLarge = new InternalError({
  message: "the result is too large for one frame, and result_chunk was not negotiated",
  details: { limit: "outbound_frame_bytes" }
})
