/**
 * The sessions, each once: its record, its view, its scope, and what state it is in.
 *
 *     Opening ──commit──▶ Attached(epoch) ──transport ends──▶ Detached(until)
 *        ▲                      │                                   │
 *        └──────── resume ──────┴───────────── resume ──────────────┘
 *
 * States are values, and a transition names the one that it starts from: one that is no longer the state changes
 * nothing. So the end of a transport never undoes the resume that took its place, and nobody drops what is being
 * resumed. To drop a session is to close its scope; that is the only way.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"
import { Signal } from "../../services/runtime/Signal.js"
import type { SessionRecord } from "../../services/store/Store.js"
import type { Attachment, Session } from "./Session.js"

/** A hello is being committed; what it was before comes back when that fails. */
export interface SessionOpening {
  readonly _tag: "Opening"
  previous: SessionAttached | SessionDetached | undefined
  readonly settled: Deferred.Deferred<void>
}
/** A transport is attached. */
export interface SessionAttached {
  readonly _tag: "Attached"
  readonly epoch: number
  readonly attachment: Attachment
}
/** No transport is attached; the session can be resumed for a while. */
export interface SessionDetached {
  readonly _tag: "Detached"
  /** Milliseconds of the monotonic clock. */
  readonly until: number
}
/** Where a session is between its hello and its end. */
export type SessionState = SessionOpening | SessionAttached | SessionDetached

/** One session of the table: its record, its state, and the scope that it ends with. */
export class SessionEntry {
  /** Numbers the transports of this session. */
  epoch = 0
  /** From the first hello in this process: the view is loaded, and jobs may hold it. */
  session: Session | undefined
  /** It ends with its transport: nobody may come back to it. */
  isLast = false
  /** Another process has taken it. */
  isTaken = false

  constructor(
    public record: SessionRecord,
    public state: SessionState,
    readonly scope: Scope.CloseableScope
  ) {}

  get attachment(): Attachment | undefined {
    const state = this.state._tag === "Opening" ? this.state.previous : this.state
    return state?._tag === "Attached" ? state.attachment : undefined
  }
}

const assert = (holds: boolean, sentence: string): void => {
  if (!holds) throw new Error(`session table: ${sentence}`)
}

/** Owns every session of this runtime: who is attached, who may still resume, who is gone. */
export class SessionTable {
  private readonly entries = new Map<string, SessionEntry>()
  private readonly byPrincipal = new Map<string, Set<SessionEntry>>()
  /** In the order in which they were detached, which is that of their `until`: the window is one for all. */
  private readonly detached = new Set<SessionEntry>()
  /** Records that changed since they were stored. */
  private readonly changed = new Set<SessionEntry>()
  /** Given when a record is to be stored at some time. */
  readonly touched = new Signal()
  /** Given when a session was detached. */
  readonly left = new Signal()

  get size(): number {
    return this.entries.size
  }
  get(sessionId: string): SessionEntry | undefined {
    return this.entries.get(sessionId)
  }
  holds(entry: SessionEntry): boolean {
    return this.entries.get(entry.record.sessionId) === entry
  }
  countOf(principal: string): number {
    return this.byPrincipal.get(principal)?.size ?? 0
  }
  attachments(): ReadonlyArray<readonly [Session, Attachment]> {
    return [...this.entries.values()].flatMap(({ session, attachment }) =>
      session === undefined || attachment === undefined ? [] : [[session, attachment] as const]
    )
  }

  /** Returns the sessions of these principals, in the order in which they were put in. */
  of(principals: ReadonlyArray<string> | "everyone"): ReadonlyArray<SessionEntry> {
    return principals === "everyone"
      ? [...this.entries.values()]
      : [...new Set(principals)].flatMap((principal) => [...(this.byPrincipal.get(principal) ?? [])])
  }

  /** Returns how many sessions are in each state. */
  counts(): Readonly<Record<SessionState["_tag"], number>> {
    const counts = { Opening: 0, Attached: 0, Detached: 0 }
    for (const { state } of this.entries.values()) counts[state._tag]++
    return counts
  }

  /** Puts a session in. What is to happen when it is dropped is added to its scope by the caller. */
  readonly add = (
    record: SessionRecord,
    state: SessionOpening | SessionDetached
  ): Effect.Effect<SessionEntry> =>
    Effect.gen(this, function* () {
      const entry = new SessionEntry(record, state, yield* Scope.make())
      assert(!this.entries.has(record.sessionId), "an id is used once")
      this.entries.set(record.sessionId, entry)
      const own = this.byPrincipal.get(record.principal)
      if (own === undefined) this.byPrincipal.set(record.principal, new Set([entry]))
      else own.add(entry)
      if (state._tag === "Detached") this.awaitResume(entry)
      return entry
    })

  private awaitResume(entry: SessionEntry): void {
    this.detached.add(entry)
    this.left.give()
  }

  private forget(entry: SessionEntry): void {
    const { sessionId, principal } = entry.record
    this.entries.delete(sessionId)
    this.detached.delete(entry)
    this.changed.delete(entry)
    const own = this.byPrincipal.get(principal)
    own?.delete(entry)
    if (own?.size === 0) this.byPrincipal.delete(principal)
    if (entry.state._tag === "Opening") Deferred.unsafeDone(entry.state.settled, Effect.void)
  }

  /** Drops a session unless its state is another one than `seen`. */
  readonly drop = (entry: SessionEntry, seen: SessionOpening | SessionDetached): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (entry.state !== seen || !this.holds(entry)) return Effect.void
      // At once, so that nobody can claim it while its scope closes.
      this.forget(entry)
      return Scope.close(entry.scope, Exit.void)
    })

  /** Forgets a session that another process has taken, whatever its state. Returns the transport that it had. */
  supersede(entry: SessionEntry): Attachment | undefined {
    const { attachment } = entry
    if (!this.holds(entry)) return undefined
    entry.isTaken = true
    this.forget(entry)
    return attachment
  }

  /** Begins a resume: until it is settled nobody else resumes, detaches or drops the session. */
  claim(entry: SessionEntry, seen: SessionAttached | SessionDetached): SessionOpening {
    assert(entry.state === seen, "a session is claimed from the state that was looked at")
    const opening = unsettled(seen)
    entry.state = opening
    return opening
  }

  /** Gives back a session whose resume came to nothing: it is as it was before, or as it became meanwhile. */
  release(entry: SessionEntry, opening: SessionOpening): void {
    // What another process has taken meanwhile is nobody's here.
    if (entry.state !== opening || opening.previous === undefined || !this.holds(entry)) return
    entry.state = opening.previous
    // One that was detached has kept its place in the order.
    if (opening.previous._tag === "Detached") this.awaitResume(entry)
    Deferred.unsafeDone(opening.settled, Effect.void)
  }

  /** Makes the transport the session's, once the hello is committed. Returns its epoch, and whom it supersedes. */
  attach(
    entry: SessionEntry,
    opening: SessionOpening,
    attachment: Attachment
  ): { readonly epoch: number; readonly superseded: Attachment | undefined } {
    assert(entry.state === opening, "a session is attached by whoever opened it")
    const superseded = entry.attachment
    const epoch = ++entry.epoch
    this.detached.delete(entry)
    entry.state = { _tag: "Attached", epoch, attachment }
    Deferred.unsafeDone(opening.settled, Effect.void)
    return { epoch, superseded }
  }

  /** Lets go of the transport of `epoch`, which is gone. Returns whether it was still the session's. */
  detach(entry: SessionEntry, epoch: number, until: number, seenAt: number): boolean {
    const { state } = entry
    const current = state._tag === "Opening" ? state.previous : state
    if (current?._tag !== "Attached" || current.epoch !== epoch || !this.holds(entry)) return false
    const detached: SessionDetached = { _tag: "Detached", until }
    if (state._tag === "Opening") state.previous = detached
    else {
      entry.state = detached
      this.awaitResume(entry)
    }
    entry.record = { ...entry.record, attached: false, lastSeenAt: seenAt }
    this.changed.add(entry)
    return true
  }

  /** Waits until nobody is opening the session. */
  readonly settled = (entry: SessionEntry): Effect.Effect<void> =>
    Effect.suspend(() =>
      entry.state._tag === "Opening" && this.holds(entry)
        ? Effect.zipRight(Deferred.await(entry.state.settled), this.settled(entry))
        : Effect.void
    )

  /** Has the record stored again, with the next of {@link takeChanged}. */
  touch(entry: SessionEntry): void {
    if (!this.holds(entry)) return
    this.changed.add(entry)
    this.touched.give()
  }

  /** Whether there are records to be stored. */
  get hasChanged(): boolean {
    return this.changed.size > 0
  }

  /** Takes up to `limit` sessions whose records are to be stored; one that is being resumed is stored by that. */
  takeChanged(limit: number): ReadonlyArray<SessionEntry> {
    const taken: Array<SessionEntry> = []
    for (const entry of this.changed) {
      if (taken.length >= limit) break
      if (entry.state._tag === "Opening") continue
      this.changed.delete(entry)
      taken.push(entry)
    }
    return taken
  }

  /** Returns when the next window passes; nothing when no session is detached. */
  get nextUntil(): number | undefined {
    for (const { state } of this.detached) if (state._tag === "Detached") return state.until
    return undefined
  }

  /** Sessions whose window has passed, those that passed first, at most `limit`. */
  expired(now: number, limit: number): ReadonlyArray<readonly [SessionEntry, SessionDetached]> {
    const over: Array<readonly [SessionEntry, SessionDetached]> = []
    for (const entry of this.detached) {
      const { state } = entry
      if (state._tag !== "Detached") continue
      if (state.until > now || over.length >= limit) break
      over.push([entry, state])
    }
    return over
  }

  /** Returns the principal's session that is detached and has been gone longest, among those that `may` be dropped. */
  longestGone(
    principal: string,
    may: (sessionId: string) => boolean
  ): readonly [SessionEntry, SessionDetached] | undefined {
    let oldest: readonly [SessionEntry, SessionDetached] | undefined
    for (const entry of this.byPrincipal.get(principal) ?? []) {
      const { state } = entry
      if (state._tag !== "Detached" || (oldest !== undefined && oldest[1].until <= state.until)) continue
      if (may(entry.record.sessionId)) oldest = [entry, state]
    }
    return oldest
  }
}

/** Returns the state of a session whose hello is being committed. */
export const unsettled = (previous?: SessionAttached | SessionDetached): SessionOpening => ({
  _tag: "Opening",
  previous,
  settled: Deferred.unsafeMake(FiberId.none)
})
