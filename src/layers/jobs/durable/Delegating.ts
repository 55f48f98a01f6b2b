/** A delegation of a durable job is a step: the child is found again, and not started twice. */
import * as Effect from "effect/Effect"
import * as CanonicalJson from "../../../protocol/CanonicalJson.js"
import {
  type ArcpError,
  type ErrorPayload,
  fromPayload,
  InternalError,
  InvalidRequest
} from "../../../protocol/Errors.js"
import type { JobResult } from "../../../protocol/Message.js"
import type { Delegated, DelegateOptions } from "../../../services/jobs/Job.js"
import { inTurns } from "../../../services/runtime/inTurns.js"
import {
  delegationKind,
  type JobRecord,
  type JournalEntry,
  type StoreError
} from "../../../services/store/Store.js"
import * as Child from "../Child.js"
import * as Faults from "../Faults.js"
import type { JobParts } from "../JobParts.js"
import type { Durable } from "./Durable.js"
import * as Enduring from "./Enduring.js"
import { type About, type EventEntry, type Known, nondeterministic } from "./Journal.js"
import * as Outcome from "./Outcome.js"

/** What of a delegation is in the journal of its job. */
export interface Journaled {
  readonly delegateId: string
  /** Of the event that tells of it; `told`: that was told before. */
  readonly begun: EventEntry | "told"
  /** Tells whether that event has its place: a log that has ended takes none. */
  readonly isBegun: () => boolean
  /** Made when the child is opened, and stored with it. */
  readonly opened: (jobId: string) => JournalEntry
  /** The child could not be stored, and nothing of it is. */
  readonly unopened: () => void
  /** Of the event that tells that it is refused. */
  readonly refused: (error: ArcpError) => EventEntry | undefined
}

type Handle = Delegated<unknown, never>

/** Reads for a handler that is run again, for as long as it takes. */
const read = <A>(parts: JobParts, reading: Effect.Effect<A, StoreError>): Effect.Effect<A, InternalError> =>
  Enduring.whileAway(Faults.storage(reading), parts)

/** Returns how a child that has ended has ended, as its log has it. */
const endOf = (parts: JobParts, record: JobRecord): Effect.Effect<unknown, ArcpError> =>
  Effect.gen(function* () {
    const { log, store } = parts
    const { jobId } = record
    const last = (yield* read(parts, store.boundsOf([jobId]))).get(jobId)?.last ?? 0
    const [end] = yield* read(parts, store.events(jobId, last, 1))
    if (end?.type === "job.error")
      return yield* Effect.fail(fromPayload(JSON.parse(end.payload) as ErrorPayload))
    if (end?.type !== "job.result") return yield* new InternalError({ message: `${jobId} has not ended` })
    if (end.kind === "streamed")
      return yield* Enduring.whileAway(Effect.flatMap(log.loadJob(record), log.streamedResult), parts)
    return (JSON.parse(end.payload) as JobResult).result
  })

/** A child that was found in the journal: it runs, or has ended. */
interface Found {
  readonly handle: Handle
  /** It did not survive its process. */
  readonly isLost: Effect.Effect<boolean>
}

const find = (parts: JobParts, jobId: string): Effect.Effect<Found, InternalError> =>
  Effect.gen(function* () {
    const { log, running, store, unsettled } = parts
    yield* unsettled.settled(jobId)
    const child = running.get(jobId)
    if (child?.live.awaited !== undefined) {
      const { live, log } = child
      const accepted = { live, log, awaited: child.live.awaited, record: live.record }
      return { handle: Child.handleOf(parts, accepted), isLost: Effect.succeed(false) }
    }
    const record = yield* read(parts, store.job(jobId))
    if (record === undefined)
      return yield* new InternalError({ message: `the delegated job ${jobId} has been dropped` })
    const end = endOf(parts, record)
    return {
      handle: Child.handle(
        parts,
        { record, log: yield* Enduring.whileAway(log.loadJob(record), parts) },
        { await: end, cancel: Effect.void }
      ),
      isLost: Effect.match(end, {
        onFailure: ({ details }) => details?.["reason"] === "runtime_restart",
        onSuccess: () => false
      })
    }
  })

/** Returns what a delegation writes into the journal: a new one, or one that a crash has cut off. */
const journaling = (
  { ids }: JobParts,
  { journal }: Durable,
  known: Known,
  first: Pick<About, "agent" | "digest" | "within">,
  isNew: boolean
): Journaled => {
  const attempt = isNew ? known.about.attempt + 1 : known.about.attempt
  const delegateId = (isNew ? undefined : known.about.delegateId) ?? ids.unsafeMake("del")
  const about: About = { ...first, attempt, delegateId }
  const entry = (value?: string, more: Partial<About> = {}): JournalEntry =>
    journal.entry(known, { ...about, ...more }, value)
  return {
    delegateId,
    begun: isNew ? { make: () => entry() } : "told",
    isBegun: () => known.about.delegateId === delegateId,
    opened: (jobId) => entry(JSON.stringify({ ok: jobId }), { jobId }),
    unopened: () => journal.undo(known),
    // A fault of the runtime's may be gone the next time.
    refused: (error) => {
      if (error._tag !== "InternalError" || error.details?.["limit"] !== undefined)
        return { make: () => entry(Outcome.ofError(error).text) }
      journal.undo(known)
      return undefined
    }
  }
}

/** What delegates. */
interface Delegations {
  /** Starts a child. */
  readonly begin: (journaled: Journaled) => Effect.Effect<Handle, ArcpError>
  /** Returns when a child is not being opened any more. */
  readonly opening: (jobId: string) => Effect.Effect<void>
}

/** Delegates once in the life of a durable job. */
export const delegate = (
  parts: JobParts,
  durable: Durable,
  { agent, input }: { readonly agent: string; readonly input: unknown },
  { key, retries = 0 }: DelegateOptions,
  { begin, opening }: Delegations
): Effect.Effect<Handle, ArcpError> => {
  if (key === undefined)
    return new InvalidRequest({
      message: "a durable job delegates with a { key }: the child is found again by it"
    })
  const { journal } = durable
  return Effect.gen(function* () {
    const digest = yield* parts.secrets.digest(
      yield* inTurns(() => CanonicalJson.stringifying([agent, input ?? null]))
    )
    return yield* durable.keyed(delegationKind, key, (known, within) =>
      Effect.gen(function* () {
        if (known.about.digest !== undefined && known.about.digest !== digest)
          return yield* nondeterministic(`${key} delegates to another agent, or with another input`, [key])
        // Whoever has delegated by this key before, and does not wait any more, has left it to be opened.
        if (known.size !== undefined && known.about.jobId !== undefined) yield* opening(known.about.jobId)
        const first = { agent, digest, within: within?.key }
        if (known.size === undefined) {
          const isNew = known.about.delegateId === undefined
          if (isNew) yield* durable.afterFound
          const full = journal.overLimit(key, 0)
          if (full !== undefined) return yield* full
          return yield* begin(journaling(parts, durable, known, first, isNew))
        }
        const text = yield* durable.handedOut(known)
        const jobId = yield* Outcome.found<string, string, never, never>(key, text, {})
        const { handle, isLost } = yield* find(parts, jobId)
        return !journal.settling && known.about.attempt <= retries && (yield* isLost)
          ? yield* begin(journaling(parts, durable, known, first, true))
          : handle
      })
    )
  })
}
