/**
 * What a job asks and has not been answered: the one place that opens a question and closes it, by an answer, its expiry or
 * the end of the wait, whichever takes it first. Taking is synchronous; the event, the journal's entries and the record are
 * one commit, and nobody is told before it.
 *
 * A question is two entries of the journal: `input` under the handler's key, whose value is the outcome, and `request`
 * under the id that whoever answers knows it by.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import { InternalError, type InvalidRequest } from "../../../protocol/Errors.js"
import { eventPayload, timestamp } from "../../../protocol/EventText.js"
import * as Vendor from "../../../protocol/Vendor.js"
import type { JsonSchema } from "../../../services/agents/JsonSchema.js"
import type { EventLog, JobLog } from "../../../services/log/EventLog.js"
import type { JobRecord } from "../../../services/store/Store.js"
import * as Faults from "../Faults.js"
import type { HookCalls } from "../hooks/HookCalls.js"
import * as Appending from "./appending.js"
import type { About, Journal, Known } from "./Journal.js"
import { isOpenInput } from "./Known.js"
import * as Survival from "./Survival.js"

/** A question as the journal keeps it under its id. */
export interface StoredRequest {
  readonly key: string
  /** When it expires, in epoch ms. */
  readonly until?: number | undefined
  /** SHA-256 of what it is about, lower-case hex. */
  readonly digest?: string | undefined
  readonly schema?: JsonSchema | undefined
  /** Answers that are taken, as canonical JSON. */
  readonly choices?: ReadonlyArray<string> | undefined
  readonly tellValue?: boolean | undefined
  /** It is answered no more, and why. */
  readonly closed?: ClosingReason | undefined
}

/** Why a question is closed. */
export type ClosingReason = "answered" | "expired" | "cancelled"

/** How a question is closed. */
export type Closing =
  | {
      readonly reason: "answered"
      readonly by: string
      /** Canonical JSON. */
      readonly value: string
      /** The handler's own schema has taken it. */
      readonly checked: boolean
      readonly tellValue: boolean
    }
  | { readonly reason: "expired" | "cancelled" }

/** What an input has come to, as the journal keeps it. */
export type InputOutcome = { readonly ok: unknown } | { readonly expired: true }

/** Checks an answer; fails with what is wrong with it. */
export type CheckAnswer = (value: unknown) => Effect.Effect<void, InvalidRequest>

/** A question that is waited for, or is being closed. */
interface AskedInput {
  /** Set synchronously by whatever closes it: the first counts. */
  taken: boolean
  /** By the schema of the handler that waits. */
  check: CheckAnswer | undefined
  /** Its outcome as JSON text, if it has one, at the commit. */
  readonly outcome: Deferred.Deferred<string | undefined, InternalError>
}

/** Questions of one job that are open at once. */
const maxOpen = 100

/** Returns a record without a question that it waited for. */
const without = (record: JobRecord, inputId: string): JobRecord => {
  const { waitingFor = [], ...rest } = record
  const left = waitingFor.filter((id) => id !== inputId)
  return left.length === 0 ? rest : { ...rest, waitingFor: left }
}

/** Returns a record that waits for a question after all; of a job of which nothing runs, for as long as it did before. */
const reopened = (record: JobRecord, inputId: string, row: JobRecord | undefined): JobRecord => ({
  ...record,
  waitingFor: [...(record.waitingFor ?? []), inputId],
  survival: row === undefined ? record.survival : row.survival
})

/** Returns what is kept of a question that is closed: what the same answer again is known by. */
const closedRequest = ({ about, key }: Known, { reason }: Closing): StoredRequest => ({
  key,
  digest: about.digest,
  closed: reason
})

/** Returns the event that tells that a question is closed. */
const closedEvent = (
  at: number,
  inputId: string,
  closing: Closing,
  maxBytes: number = Number.POSITIVE_INFINITY
): string => {
  const by = closing.reason === "answered" ? `,"by":${JSON.stringify(closing.by)}` : ""
  const value =
    closing.reason === "answered" && closing.tellValue && closing.value.length * 3 < maxBytes
      ? `,"value":${closing.value}`
      : ""
  const body = `{"input_id":${JSON.stringify(inputId)},"reason":"${closing.reason}"${by}${value}}`
  return eventPayload(Vendor.inputClosed, timestamp(at), body)
}

/** What the questions of one job are kept in. */
export interface InputHome {
  readonly log: EventLog["Type"]
  readonly job: JobLog
  readonly journal: Journal
  /** Epoch ms. */
  readonly now: () => number
  readonly hooks: Pick<HookCalls, "waiting">
  /** Whose record says what is waited for. */
  readonly holder: { record: JobRecord }
  /** What an event may take, in bytes. */
  readonly maxEventBytes: number
  /**
   * Nothing of the job runs: with what closes a question it is due. Whoever closes one is told at once when the store does not take
   * it; of a job that runs that is tried again, as an emit is.
   */
  readonly rests: boolean
}

/** The questions of one job. */
export class Inputs {
  private readonly asked = new Map<string, AskedInput>()
  private sealed = false

  constructor(private readonly home: InputHome) {}

  get journal(): Journal {
    return this.home.journal
  }
  /** Whether nothing of the job runs. */
  get rests(): boolean {
    return this.home.rests
  }

  /** Ids of the questions that are open, and of which nobody has taken what closes them. */
  get open(): ReadonlyArray<string> {
    return this.openKnown.map(([inputId]) => inputId)
  }
  private get openKnown(): ReadonlyArray<readonly [inputId: string, known: Known]> {
    return this.journal.openInputs.filter(([inputId]) => this.asked.get(inputId)?.taken !== true)
  }
  /** Returns what is known of a question that is open, by its key. */
  known(inputId: string, key: string): Known | undefined {
    const known = this.journal.input(key)
    return known?.about.inputId === inputId && isOpenInput(known) ? known : undefined
  }

  /** Returns the question as it is waited for; what closes it settles its outcome. */
  of(inputId: string): AskedInput {
    let asked = this.asked.get(inputId)
    if (asked === undefined) {
      asked = { taken: false, check: undefined, outcome: Deferred.unsafeMake(FiberId.none) }
      this.asked.set(inputId, asked)
    }
    return asked
  }

  /** Returns the question when it is waited for, or is being closed. */
  current(inputId: string): AskedInput | undefined {
    return this.asked.get(inputId)
  }

  /** The handler waits no more. */
  leave(inputId: string): void {
    const asked = this.asked.get(inputId)
    if (asked?.taken === false) this.asked.delete(inputId)
    else if (asked !== undefined) asked.check = undefined
  }

  /** Tells of a new question. */
  tell(known: Known, about: About & { readonly inputId: string }, request: StoredRequest, body: string) {
    const { holder, hooks, journal, now, rests } = this.home
    return Effect.suspend(() =>
      Appending.begin(this.home, {
        type: "job.event",
        kind: Vendor.inputRequest,
        payload: eventPayload(Vendor.inputRequest, timestamp(now()), body),
        awaited: rests,
        record: () => holder.record,
        hook: hooks.waiting(holder.record, now(), about.inputId, request.until),
        makeJournal: () => {
          if (this.sealed) return endsFirst
          const full = journal.overLimit(known.key, 0)
          if (full !== undefined) return full
          const waitingFor = holder.record.waitingFor ?? []
          if (waitingFor.length >= maxOpen)
            return new InternalError({
              message: `at most ${maxOpen} inputs of a job are open at once`,
              details: { limit: "open_inputs" }
            })
          holder.record = { ...holder.record, waitingFor: [...waitingFor, about.inputId] }
          return [
            journal.entry(known, about),
            journal.note("request", about.inputId, JSON.stringify(request))
          ]
        }
      })
    )
  }

  /**
   * Closes a question that is open, and nobody has taken: it is taken when this is called. The effect, to be run at once,
   * returns when that is committed. It fails when it is not: also because the log of a job that has ended, or goes on in the
   * next process, takes nothing more.
   */
  close(
    inputId: string,
    known: Known,
    closing: Closing,
    onCommit: () => void = () => {}
  ): Effect.Effect<void, InternalError> {
    const { holder, job, journal, log, maxEventBytes, now, rests } = this.home
    const asked = this.of(inputId)
    asked.taken = true
    let committed = false
    /** As it was when what closes it took its place. */
    let before: JobRecord | undefined
    const { outcome, about } = closed(known, closing)
    const appended = Appending.append(this.home, {
      type: "job.event",
      kind: Vendor.inputClosed,
      payload: closedEvent(now(), inputId, closing, maxEventBytes),
      awaited: rests,
      ending: this.sealed,
      record: () => holder.record,
      makeJournal: () => {
        before = holder.record
        // What else is stored of it from here on says so too.
        holder.record = without(rests ? Survival.dueNow(before) : before, inputId)
        return [
          journal.entry(known, about, outcome),
          journal.note("request", inputId, JSON.stringify(closedRequest(known, closing)))
        ]
      },
      onCommit: () => {
        committed = true
        this.asked.delete(inputId)
        Deferred.unsafeDone(asked.outcome, Effect.succeed(outcome))
        onCommit()
      }
    })
    return appended.pipe(
      Effect.zipRight(Effect.tapError(log.flush(job), Faults.blamed)),
      Effect.zipRight(Effect.suspend(() => (committed ? Effect.void : closedLog))),
      Effect.tapError((error) => {
        if (before !== undefined) holder.record = reopened(holder.record, inputId, rests ? before : undefined)
        return Deferred.fail(asked.outcome, error)
      })
    )
  }

  /** The job ends: what is open is asked no more, and nothing is asked from now on. */
  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    this.sealed = true
    return Effect.forEach(
      this.openKnown,
      ([inputId, known]) =>
        Effect.suspend(() => Effect.ignore(this.close(inputId, known, { reason: "cancelled" }))),
      { concurrency: "unbounded", discard: true }
    )
  })
}

const endsFirst = new InternalError({ message: "the job is ending and asks no more" })

const closedLog = new InternalError({
  message: "the job takes no more answers here: it ends, or goes on when the runtime is started again",
  details: { reason: "shutdown" }
})

/** Returns what the journal knows of a question once it is closed. */
const closed = (
  { about }: Known,
  closing: Closing
): { readonly about: About; readonly outcome: string | undefined } => {
  switch (closing.reason) {
    case "answered":
      return { about: { ...about, checked: closing.checked }, outcome: `{"ok":${closing.value}}` }
    case "expired":
      return { about, outcome: `{"expired":true}` }
    case "cancelled":
      return { about: { ...about, withdrawn: true }, outcome: undefined }
  }
}

/** Tells that what a job waited for is asked no more, of one that ends without being loaded. */
export const endStored = (
  { log, now }: Pick<InputHome, "log" | "now">,
  job: JobLog,
  holder: { record: JobRecord }
): Effect.Effect<void> =>
  Effect.forEach(
    holder.record.waitingFor ?? [],
    (inputId) => {
      holder.record = without(holder.record, inputId)
      return Effect.ignore(
        log.append(job, {
          type: "job.event",
          kind: Vendor.inputClosed,
          payload: closedEvent(now(), inputId, { reason: "cancelled" }),
          ending: true,
          record: () => holder.record
        })
      )
    },
    { discard: true }
  )
