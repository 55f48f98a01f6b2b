/**
 * What a durable job has done, in memory: the one place that decides what is known of a key, and in which order outcomes
 * that were found are handed out. Values stay in the store until they are asked for.
 *
 * An entry is made in the step in which the event that it is committed with takes its place in the log, so its ordinal is its place
 * in the order of commits; see appending.ts.
 */
import * as Effect from "effect/Effect"
import { InternalError } from "../../../protocol/Errors.js"
import type { Body } from "../../../protocol/Event.js"
import { cut, isWellFormed, withArticle } from "../../../protocol/Text.js"
import { byteLength } from "../../../protocol/Utf8.js"
import type { TurnService } from "../../../services/runtime/Turn.js"
import {
  type JournalEntry,
  type JournalIndexEntry,
  journalOverhead,
  type StoreError,
  type StoreService
} from "../../../services/store/Store.js"
import * as Faults from "../Faults.js"
import { FoundOutcomes } from "./FoundOutcomes.js"
import { type About, isOpenInput, type KeyedKind, type Known } from "./Known.js"
import { readJournal } from "./readJournal.js"

export type { About, KeyedKind, Known } from "./Known.js"

/** What has been streamed of the job's result. */
export interface ResultProgress {
  readonly resultId: string
  /** Of the next chunk. */
  readonly chunkSeq: number
  /** Decoded bytes. */
  readonly size: number
  readonly ended: boolean
}

/** Limits of a journal, in bytes. */
export interface JournalLimits {
  readonly maxStepOutcomeBytes: number
  readonly maxJournalBytes: number
}

/** Returns the fault of a handler that is run again and does other things than before. */
export const nondeterministic = (message: string, keys: ReadonlyArray<string>): InternalError =>
  new InternalError({
    message: `the handler does other things than when it was run before: ${message}`,
    details: { reason: "nondeterministic", keys: keys.slice(0, 16) }
  })

/** What the journal has of an event that is logged once, however often its handler is run. */
export interface EventEntry {
  /** Tells whether the event was logged before; then it is passed over. */
  readonly isKnown?: (() => boolean) | undefined
  /** Makes the entry, when the event takes its place. An effect says why it takes none. */
  readonly make: () => JournalEntry | Effect.Effect<void, InternalError>
  /** Called when the log refuses the event before that, which it may not do when the handler is run again. */
  readonly refused?: (() => void) | undefined
}

/** The journal of one job that runs. */
export class Journal {
  private readonly known = new Map<string, Known>()
  /** Keys of events that were logged once. */
  private readonly keyed = new Set<string>()
  /** How many events the handler's own fiber has logged, by place. */
  private readonly placed = new Map<number, number>()
  private nextOrdinal = 1
  private bytes = 0
  /** Outcomes of the handler's own that were found and not asked for yet. */
  private unasked = 0
  /** What entries take that are no outcomes, by key. */
  private readonly notes = new Map<string, number>()
  /** Open when the handler is needed no more, whose job is only to be undone; `undefined`: it goes on as ever. */
  private halt: Effect.Latch | undefined
  private readonly found: FoundOutcomes
  /** What had been streamed of the result when this run of the handler began. */
  result: ResultProgress | undefined
  /** Newest ordinal of an outcome, as loaded; 0 without any. */
  lastOutcome = 0
  /** Where the handler's own fiber is: keys that it has passed, and what it has emitted since. */
  private here = { passed: 0, emitted: 0 }

  constructor(
    readonly jobId: string,
    private readonly store: Pick<StoreService, "journalValue">,
    turn: TurnService,
    private readonly limits: JournalLimits
  ) {
    this.found = new FoundOutcomes(turn)
  }

  /** Reads the journal of a job that is run again. */
  static load(
    jobId: string,
    store: Pick<StoreService, "journal" | "journalValue">,
    turn: TurnService,
    limits: JournalLimits
  ): Effect.Effect<Journal, StoreError> {
    return Effect.suspend(() => {
      const journal = new Journal(jobId, store, turn, limits)
      return Effect.as(
        readJournal(jobId, store, turn, (entry) => journal.add(entry)),
        journal
      )
    })
  }

  /**
   * Whether the job's handler has ended, or is run for its compensations only: it does nothing any more that it has not done,
   * and what it says is not logged.
   */
  get settling(): boolean {
    return this.halt !== undefined
  }
  /** The handler is only asked what undoes its steps, if it is run at all; returns what tells it that it is needed no more. */
  settle(): () => void {
    const halt = Effect.unsafeMakeLatch(false)
    this.halt = halt
    return () => halt.unsafeOpen()
  }
  /** Waits until the handler is needed no more: what it comes to that it has not done. */
  get halted(): Effect.Effect<void> {
    return this.halt?.await ?? Effect.void
  }

  /** Adds an entry that is stored, or will be before it is asked for. */
  add(entry: JournalIndexEntry): void {
    const { key, kind, ordinal, size } = entry
    this.bytes += sizeOf(entry, size)
    this.nextOrdinal = Math.max(this.nextOrdinal, ordinal + 1)
    const about: unknown = JSON.parse(entry.about)
    switch (kind) {
      case "emit":
        this.keyed.add(key)
        return
      case "emits":
        this.placed.set(Number(key), (about as { readonly count: number }).count)
        return
      case "result":
        this.result = about as ResultProgress
        return
      case "request":
        this.notes.set(key, sizeOf(entry, size))
        return
      default: {
        const known: Known = {
          kind: kind as KeyedKind,
          key,
          ordinal,
          about: about as About,
          size,
          isOld: true,
          isFresh: false,
          asked: false,
          running: false
        }
        this.known.set(key, known)
        if (size === undefined) return
        this.lastOutcome = Math.max(this.lastOutcome, ordinal)
        if (known.about.within === undefined) this.unasked++
      }
    }
  }

  /**
   * Takes a key for as long as it runs. Dies when it runs already; fails when it was of another kind before. Returns what
   * is known of it.
   */
  claim(kind: KeyedKind, key: string): Effect.Effect<Known, InternalError> {
    const problem = keyProblem(key)
    if (problem !== undefined)
      return Effect.die(new Error(`${kind} ${JSON.stringify(cut(key, 80))}: ${problem}`))
    let known = this.known.get(key)
    if (known === undefined) {
      known = {
        kind,
        key,
        ordinal: 0,
        about: { attempt: 0 },
        size: undefined,
        isOld: false,
        isFresh: false,
        asked: true,
        running: false
      }
      this.known.set(key, known)
    }
    if (known.kind !== kind)
      return nondeterministic(
        `${key} is the key of ${withArticle(kind)}, and was that of ${withArticle(known.kind)}`,
        [key]
      )
    if (known.running)
      return Effect.die(
        new Error(`the key ${key} is used twice at once: each step of a job needs a key of its own`)
      )
    known.running = true
    if (!known.asked) {
      known.asked = true
      if (known.size !== undefined && known.about.within === undefined) this.unasked--
    }
    return Effect.succeed(known)
  }

  /** Returns the entry that says what is known of a key from now on. Its outcome, if there is one, is `value`. */
  entry(known: Known, about: About, value?: string): JournalEntry {
    const entry = {
      kind: known.kind,
      key: known.key,
      ordinal: this.nextOrdinal++,
      about: JSON.stringify(about),
      value
    }
    const size = value === undefined ? undefined : byteLength(value)
    const before =
      known.ordinal === 0 ? 0 : sizeOf({ key: known.key, about: JSON.stringify(known.about) }, known.size)
    this.bytes += sizeOf(entry, size) - before
    // An answer may come before the handler has asked again: that is found too.
    if (!known.asked && known.size === undefined && value !== undefined && about.within === undefined)
      this.unasked++
    known.ordinal = entry.ordinal
    known.about = about
    known.size = size
    known.isFresh = value !== undefined
    return entry
  }

  /** Returns an entry that is found by its key alone, and is no outcome. */
  note(kind: "request", key: string, value: string): JournalEntry {
    const entry = { kind, key, ordinal: this.nextOrdinal++, about: "{}", value }
    const size = sizeOf(entry, byteLength(value))
    this.bytes += size - (this.notes.get(key) ?? 0)
    this.notes.set(key, size)
    return entry
  }

  /** Returns what is known of an input. */
  input(key: string): Known | undefined {
    const known = this.known.get(key)
    return known?.kind === "input" ? known : undefined
  }
  /** Forgets the answer to an input that its handler does not take: it is asked again. */
  forget(known: Known): void {
    this.bytes -= known.size ?? 0
    known.size = undefined
    known.about = { ...known.about, withdrawn: true }
  }
  /** Forgets an outcome that was not stored. */
  undo(known: Known): void {
    this.bytes -= known.size ?? 0
    known.size = undefined
  }
  /** The inputs that are open, by their ids. */
  get openInputs(): ReadonlyArray<readonly [inputId: string, known: Known]> {
    const open: Array<readonly [string, Known]> = []
    for (const known of this.known.values()) {
      const { inputId } = known.about
      if (inputId !== undefined && isOpenInput(known)) open.push([inputId, known])
    }
    return open
  }

  /** Whether what has no outcome are sleeps and questions only: a handler whose process ended then did nothing but wait. */
  get onlyWaits(): boolean {
    const open = [...this.known.values()].filter(
      ({ about, size }) => size === undefined && about.withdrawn !== true
    )
    return open.length > 0 && open.every(({ kind }) => kind === "sleep" || kind === "input")
  }

  /** Steps of the handler's own that can be undone, the newest outcomes first. */
  get compensable(): ReadonlyArray<Known> {
    return [...this.known.values()]
      .filter(({ about, size }) => about.compensate === true && size !== undefined)
      .sort((a, b) => b.ordinal - a.ordinal)
  }
  /** Returns what is known of a step. */
  step(key: string): Known | undefined {
    return this.known.get(key)
  }

  /**
   * Returns why there is no room for an outcome of so many bytes, if there is none; with 0 bytes, for what an emit or a delegation leaves,
   * or a step that begins.
   */
  overLimit(key: string, bytes: number): InternalError | undefined {
    const { maxJournalBytes, maxStepOutcomeBytes } = this.limits
    if (bytes > maxStepOutcomeBytes)
      return Faults.limited(
        "step_outcome_bytes",
        `the outcome of step ${key} may have ${maxStepOutcomeBytes} bytes`
      )
    // What undoes the steps of a job that has filled its journal has room all the same: it is as much as the steps.
    return !this.settling && this.bytes + bytes > maxJournalBytes
      ? Faults.limited("journal_bytes", `the journal of a job may have ${maxJournalBytes} bytes`)
      : undefined
  }

  /** Whether there are outcomes of an earlier run that the handler has not asked for. */
  get isReplaying(): boolean {
    return this.unasked > 0
  }

  /** Hands out what was found, in its turn. */
  handOut<A, E>(ordinal: number, read: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return this.found.handOut(ordinal, read)
  }

  /** Returns the outcome that was found. */
  value({ key, kind }: Known): Effect.Effect<string, StoreError> {
    return Effect.map(this.store.journalValue(this.jobId, kind, key), (value) => {
      if (value === undefined) throw new Error(`the ${kind} ${key} of ${this.jobId} has lost its outcome`)
      return value
    })
  }

  /** Returns why a handler that has returned did other things than before, if it did. */
  get leftOver(): InternalError | undefined {
    if (this.unasked === 0) return undefined
    const keys: Array<string> = []
    for (const { about, asked, key, size } of this.known.values())
      if (!asked && size !== undefined && about.within === undefined) keys.push(key)
    return nondeterministic(`it did not ask for ${keys.slice(0, 8).join(", ")}`, keys)
  }

  /** The handler's own fiber has come past a key: what it emits from here on is at another place. */
  pass(): void {
    this.here = { passed: this.here.passed + 1, emitted: 0 }
  }

  /** Returns the entry of an event of the handler's own fiber, which is where it is now, also when the event has to wait for its place. */
  place(): EventEntry {
    const { here } = this
    const { passed } = here
    const isKnown = () => {
      if (here.emitted >= (this.placed.get(passed) ?? 0)) return false
      here.emitted++
      return true
    }
    const make = () => {
      const key = String(passed)
      if (!this.placed.has(passed)) {
        const full = this.overLimit(key, 0)
        if (full !== undefined) return full
        this.bytes += journalOverhead
      }
      const count = ++here.emitted
      this.placed.set(passed, count)
      return { kind: "emits", key, ordinal: this.nextOrdinal++, about: JSON.stringify({ count }) } as const
    }
    // What comes after it has the next place, where it is known again.
    const refused = () => void here.emitted++
    return { isKnown, make, refused }
  }

  /** Returns the entry of a keyed event. */
  once(key: string): EventEntry {
    const isKnown = () => this.keyed.has(key)
    const make = () => {
      // Another one with this key may have taken its place meanwhile.
      if (isKnown()) return Effect.void
      const full = this.overLimit(key, 0)
      if (full !== undefined) return full
      this.keyed.add(key)
      this.bytes += journalOverhead + key.length
      return { kind: "emit", key, ordinal: this.nextOrdinal++, about: "{}" } as const
    }
    return { isKnown, make }
  }

  /** Returns the entry that says how far the result is streamed with this chunk. */
  streamed({ chunk_seq, more, result_id }: Body<"result_chunk">, size: number): JournalEntry {
    const progress: ResultProgress = { resultId: result_id, chunkSeq: chunk_seq + 1, size, ended: !more }
    return { kind: "result", key: "result", ordinal: this.nextOrdinal++, about: JSON.stringify(progress) }
  }
}

const sizeOf = ({ about, key }: Pick<JournalEntry, "about" | "key">, size = 0): number =>
  journalOverhead + key.length + about.length + size

const maxKey = 256

/** Returns why this is no key, or `undefined`. */
export const keyProblem = (key: string): string | undefined =>
  typeof key !== "string" || key.length === 0 || key.length > maxKey
    ? `a key has 1 to ${maxKey} characters`
    : /[\u0000-\u001f\u007f]/.test(key) || !isWellFormed(key)
      ? "a key has no control characters and no half surrogate pairs"
      : undefined
