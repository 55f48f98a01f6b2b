/**
 * A submit that goes on from another job (§12.1): it takes over the steps that are committed before a key, and whatever of
 * the submit is left out is as it was there. Without a key it is the other job once more.
 *
 * Taken over are outcomes of steps, of sleeps, and of delegations whose jobs have ended. What people were asked is asked
 * again, since an answer is one about its own job; emits and streamed results are those of the new job's own log.
 */
import * as Effect from "effect/Effect"
import {
  type ArcpError,
  InvalidRequest,
  JobNotFound,
  LeaseSubsetViolation,
  PermissionDenied
} from "../../../protocol/Errors.js"
import { membersOf, parseJson } from "../../../protocol/Json.js"
import { comparing, type Lease, withModelsOf } from "../../../protocol/Lease.js"
import type * as Message from "../../../protocol/Message.js"
import { byteLength } from "../../../protocol/Utf8.js"
import type { Registered } from "../../../services/agents/Agent.js"
import type { Identity } from "../../../services/auth/Auth.js"
import { coversJob } from "../../../services/auth/Policy.js"
import { inTurns } from "../../../services/runtime/inTurns.js"
import {
  type JobRecord,
  type JournalEntry,
  type JournalIndexEntry,
  Op,
  type StoreService
} from "../../../services/store/Store.js"
import type { Candidate } from "../Candidate.js"
import * as Faults from "../Faults.js"
import type { JobParts } from "../JobParts.js"
import { Compensations } from "./Compensations.js"
import { type About, Journal, keyProblem } from "./Journal.js"
import { readJournal } from "./readJournal.js"

/** What a submit names. */
interface Fork {
  readonly jobId: string
  /** Key of the step before which it goes on; `undefined`: from the start. */
  readonly at: string | undefined
}

/** The job that a submit goes on from. */
export interface Origin extends Fork {
  readonly record: JobRecord
}

/** What a candidate has of the job that it goes on from. */
type Begun = Pick<Candidate, "forked" | "journal" | "ops">

const extension = "extensions: x-vendor.effect-arcp.fork"

const invalid = (reason: string, message: string, details: Record<string, unknown> = {}) =>
  new InvalidRequest({ message, details: { reason, ...details } })

const read = (value: unknown): Effect.Effect<Fork, InvalidRequest> => {
  const { at, job_id: jobId } = membersOf(value)
  return typeof jobId !== "string" ||
    (at !== undefined && (typeof at !== "string" || keyProblem(at) !== undefined))
    ? new InvalidRequest({
        message: `${extension} is {job_id, at?}, with the id of a job and the key of a step`
      })
    : Effect.succeed({ jobId, at })
}

/** Finds the job that a submit goes on from; what that came to is the submitter's to see. */
export const originOf = (
  { running, store, unsettled }: JobParts,
  identity: Identity,
  fork: unknown
): Effect.Effect<Origin, ArcpError> =>
  Effect.gen(function* () {
    const { at, jobId } = yield* read(fork)
    yield* unsettled.settled(jobId)
    const stored = yield* Faults.storage(store.job(jobId))
    if (stored === undefined || stored.rejected || stored.principal !== identity.principal)
      return yield* noSuchJob
    const record = running.current(stored)
    if (!(yield* coversJob(identity, record)))
      return yield* new PermissionDenied({
        message: `${jobId} had another agent, or more authority, than this identity may have; what it came to is not to be taken over`
      })
    return { jobId, at, record }
  })

const noSuchJob = new JobNotFound({ message: "no such job" })

/** Returns the submit with what it leaves out as it was in the job that it goes on from. */
export const filled = (
  { now, options, store }: Pick<JobParts, "now" | "options" | "store">,
  { jobId, record }: Origin,
  payload: Message.Submit
): Effect.Effect<Message.Submit, ArcpError> =>
  Effect.gen(function* () {
    const { lease, leaseConstraints, maxRuntimeSec } = record
    const end = leaseConstraints?.expires_at
    if (payload.lease_constraints === undefined && end !== undefined && Date.parse(end) <= now())
      return yield* invalid(
        "lease_expired",
        `the lease of ${jobId} ended at ${end}: say lease_constraints, with another expires_at`
      )
    const whole = {
      ...payload,
      lease_request: withModelsOf(payload.lease_request ?? lease, lease, options.allowModelsWithoutLease),
      lease_constraints: payload.lease_constraints ?? leaseConstraints,
      max_runtime_sec: payload.max_runtime_sec ?? maxRuntimeSec
    }
    if (payload.input !== undefined) return whole
    const text = yield* Faults.storage(store.input(jobId))
    if (text === undefined)
      return yield* invalid(
        "input_unknown",
        `the input of ${jobId} is not stored${record.inputDigest === undefined ? "" : ", only its SHA-256: it was too large"}; say it again`
      )
    return { ...whole, input: parseJson(text) }
  })

/** Refuses a submit that is not one of the same agent, or asks for more than the other job had. */
export const check = (
  { options }: Pick<JobParts, "options">,
  { at, jobId, record }: Origin,
  agent: Registered,
  lease: Lease
): Effect.Effect<void, ArcpError> =>
  Effect.gen(function* () {
    const asked = `${agent.name}@${agent.version}`
    if (agent.name !== record.agent.split("@")[0])
      return yield* invalid(
        "agent",
        `${jobId} is a job of ${record.agent}, and not of ${asked}: submit to that`
      )
    if (at !== undefined) {
      if (asked !== record.agent)
        return yield* invalid(
          "agent_version",
          `${jobId} ran ${record.agent}, and its steps are those of that version: submit to it, or without "at" to ${asked}`
        )
      if (record.survival?.restart !== "steps" || agent.restart !== "steps")
        return yield* invalid(
          "not_durable",
          `${record.agent} is not durable: its jobs have no steps to take over`
        )
    }
    const problem = yield* inTurns(() =>
      comparing(lease, record.lease, options.maxLeaseSteps, "the job that this one goes on from")
    )
    if (problem !== undefined)
      return yield* new LeaseSubsetViolation({ message: `payload.lease_request: ${problem}` })
  })

const keyedKinds: ReadonlySet<string> = new Set(["step", "sleep", "delegate", "input"])
const takenKinds: ReadonlySet<string> = new Set(["step", "sleep", "delegate"])

const aboutOf = ({ about }: JournalIndexEntry): About => JSON.parse(about) as About

/** Reads the keys of a job; again when the outcome of `at` was committed meanwhile: others may rest upon it. */
const keysOf = (
  { store, turn }: Pick<JobParts, "store" | "turn">,
  { at, jobId }: Origin
): Effect.Effect<
  { readonly keys: ReadonlyMap<string, JournalIndexEntry>; readonly place: JournalIndexEntry | undefined },
  ArcpError
> =>
  Effect.gen(function* () {
    for (;;) {
      const keys = new Map<string, JournalIndexEntry>()
      yield* Faults.storage(
        readJournal(jobId, store, turn, (entry) => {
          // What undoes is no part of what its handler does.
          if (keyedKinds.has(entry.kind) && !Compensations.isKey(entry.key)) keys.set(entry.key, entry)
        })
      )
      const place = keys.get(at ?? "")
      if (place === undefined || place.size !== undefined) return { keys, place }
      if ((yield* Faults.storage(store.journalValue(jobId, place.kind, place.key))) === undefined)
        return { keys, place }
    }
  })

/** Tells whether an entry is inside a step, at whatever depth. */
const isWithin = (
  entry: JournalIndexEntry,
  step: string,
  keys: ReadonlyMap<string, JournalIndexEntry>
): boolean => {
  for (let key = aboutOf(entry).within, depth = 0; key !== undefined && depth <= keys.size; depth++) {
    if (key === step) return true
    const above = keys.get(key)
    key = above === undefined ? undefined : aboutOf(above).within
  }
  return false
}

/**
 * Returns the entries with an outcome that was committed before that of a step: what none of them can rest upon. The
 * parts of the step itself are done again with it.
 */
const before = (
  place: JournalIndexEntry,
  keys: ReadonlyMap<string, JournalIndexEntry>
): ReadonlyArray<JournalIndexEntry> => {
  const end = place.size === undefined ? Number.POSITIVE_INFINITY : place.ordinal
  return [...keys.values()].filter(
    (entry) =>
      takenKinds.has(entry.kind) &&
      entry.key !== place.key &&
      entry.size !== undefined &&
      entry.ordinal < end &&
      !isWithin(entry, place.key, keys)
  )
}

/** Refuses to take over a delegation whose job has not ended, or is gone: what it came to is read from that job. */
const checkDelegation = (
  { store, unsettled }: Pick<JobParts, "store" | "unsettled">,
  entry: JournalIndexEntry
): Effect.Effect<void, ArcpError> =>
  Effect.gen(function* () {
    const { jobId } = aboutOf(entry)
    // Refused: that is its outcome.
    if (jobId === undefined) return
    yield* unsettled.settled(jobId)
    const child = yield* Faults.storage(store.job(jobId))
    const instead = `at ${JSON.stringify(entry.key)}, or before it`
    if (child === undefined)
      return yield* invalid(
        "delegation_dropped",
        `${JSON.stringify(entry.key)} delegated to ${jobId}, which is no longer kept: fork ${instead}`,
        { keys: [entry.key] }
      )
    if (child.endedAt === undefined)
      return yield* invalid(
        "delegation_running",
        `${JSON.stringify(entry.key)} delegated to ${jobId}, which still runs, and for the other job: wait for its end, or fork ${instead}`,
        { keys: [entry.key] }
      )
  })

const named = (keys: ReadonlyArray<string>): string =>
  keys.length === 0 ? "it has none" : `it has ${keys.map((key) => JSON.stringify(key)).join(", ")}`

/** Keys that a refusal names. */
const maxNamed = 16
/** Outcomes that are read between two turns of the event loop. */
const atOnce = 64

const valuesOf = (
  { store, turn }: { readonly store: Pick<StoreService, "journalValue">; readonly turn: JobParts["turn"] },
  jobId: string,
  index: ReadonlyArray<JournalIndexEntry>
): Effect.Effect<ReadonlyArray<JournalEntry>, ArcpError> =>
  Effect.gen(function* () {
    const entries: Array<JournalEntry> = []
    for (const { about, key, kind, ordinal } of index) {
      const value = yield* Faults.storage(store.journalValue(jobId, kind, key))
      // It was dropped meanwhile.
      if (value === undefined) return yield* noSuchJob
      // What the other job has done is not this one's to undo.
      const { compensate: _, ...taken } = JSON.parse(about) as About
      entries.push({ kind, key, ordinal, about: JSON.stringify(taken), value })
      if (entries.length % atOnce === 0) yield* turn.next
    }
    return entries
  })

/** Returns what makes a candidate begin with what it takes over, which is stored in the commit that opens it. */
const begun = (
  { options, store, turn }: JobParts,
  origin: Fork,
  jobId: string,
  entries: ReadonlyArray<JournalEntry>
): Begun => {
  const journal = new Journal(jobId, store, turn, options)
  for (const { value, ...entry } of entries)
    journal.add({ ...entry, size: value === undefined ? undefined : byteLength(value) })
  return {
    forked: {
      phase: "forked",
      message: `took over ${entries.length} steps of ${origin.jobId}, before ${origin.at}`
    },
    journal,
    ops: () => (entries.length === 0 ? [] : [Op.PutJournal({ jobId, entries })])
  }
}

/** Reads what a job takes over, to begin with it. Of one that begins anew that is nothing. */
export const take = (
  parts: JobParts,
  origin: Origin,
  forkId: string
): Effect.Effect<Begun | undefined, ArcpError> =>
  Effect.gen(function* () {
    const { at, jobId } = origin
    if (at === undefined) return undefined
    const { keys, place } = yield* keysOf(parts, origin)
    if (place === undefined) {
      const known = [...keys.values()].sort((a, b) => a.ordinal - b.ordinal).map(({ key }) => key)
      return yield* invalid(
        "unknown_step",
        `${jobId} has no step ${JSON.stringify(at)}; ${named(known.slice(-maxNamed))}`,
        { keys: known.slice(-maxNamed) }
      )
    }
    const index = before(place, keys)
    const { maxForkBytes } = parts.options
    const bytes = index.reduce((sum, { size = 0 }) => sum + size, 0)
    if (bytes > maxForkBytes)
      return yield* new InvalidRequest({
        message: `what the steps before ${JSON.stringify(at)} came to is ${bytes} bytes, and at most ${maxForkBytes} are taken over: fork before it`,
        details: { limit: "fork_bytes" }
      })
    for (const entry of index) if (entry.kind === "delegate") yield* checkDelegation(parts, entry)
    return begun(parts, origin, forkId, yield* valuesOf(parts, jobId, index))
  })
