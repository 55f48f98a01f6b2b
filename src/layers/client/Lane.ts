/**
 * What has come of a job for one reader, up to a limit. Beyond it the lane overflows: what comes is left in the
 * runtime's log, and when its reader has caught up with what is held the session rewinds to where the lane is.
 * So an unread stream takes bounded memory and slows nobody, and loses nothing.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Stream from "effect/Stream"
import { InvalidRequest } from "../../protocol/Errors.js"
import type { ClientError } from "../../services/client/ArcpClient.js"
import { called } from "../../services/runtime/called.js"
import { type Pull, stream } from "./pull.js"

/** The session, as its lanes see it. Called synchronously. */
export interface Host {
  readonly options: {
    readonly maxHeld: { readonly events: number; readonly bytes: number }
    /** Epoch ms. */
    readonly now: () => number
  }
  /** Lanes that hold much: give their readers a moment, else let them overflow. */
  readonly crowded: Set<AnyLane>
  /** Its reader has got over with something. */
  readonly read: () => void
  /** Its reader wants what was skipped: rewind. */
  readonly starved: () => void
}

/** A lane whatever it holds. */
export type AnyLane = Lane<never, never>

interface HeldItem<A> {
  readonly seq: number
  readonly item: A
  readonly bytes: number
}

/** Takes what comes at once, and the end. */
export interface Sink<A, End> {
  readonly item: (item: A) => void
  readonly end: (end: Exit.Exit<End, ClientError>) => void
}

const busy = new InvalidRequest({ message: "it is being read" })

/** `A` are its items, `End` is what the job's end says. */
export class Lane<in out A, in out End> {
  /** The newest event of the job that this lane has taken in or passed over. */
  declare position: number
  /** Set when the lane fell behind, before its end: frames are skipped until the session resumes from `position`. */
  declare behind: boolean | undefined
  /** Set when its session is gone, until it goes on in another one: what comes there before is not for it. */
  declare lost: boolean | undefined
  /** Somebody reads it. */
  declare reading: boolean | undefined
  /** Somebody has ever read it. */
  declare opened: boolean | undefined
  #held: Array<HeldItem<A>> = []
  #head = 0
  #bytes = 0
  /** The item that the reader was given last and may still be working on. */
  #handed: number | undefined
  #end: Exit.Exit<End, ClientError> | undefined
  #sink: Sink<A, End> | undefined
  #wake: (() => void) | undefined
  #roomy: (() => void) | undefined
  /** Its reader was waited for, and has not made room since. */
  declare stuck: boolean | undefined

  readonly #host: Host
  constructor(host: Host, after: number) {
    this.#host = host
    this.position = after
  }

  /** What is held. */
  get #left(): Array<HeldItem<A>> {
    return this.#held.slice(this.#head)
  }

  /** Whether what has this number is taken in, which then is where the lane has got to. What has none is where it came. */
  #takes(seq: number | undefined): boolean {
    if (this.behind || this.lost || this.#end || (seq ?? Infinity) <= this.position) return false
    this.position = seq ?? this.position
    return true
  }

  /** An event of the job; `item` is what this lane makes of it, if anything. */
  offer(seq: number | undefined, bytes: number, item: A | undefined): void {
    if (!this.#takes(seq) || item === undefined) return
    if (this.#sink) return this.#sink.item(item)
    this.#hold(this.position, item, bytes)
    // Text that waits for a disk is better left in the network than moved to where the collector seldom looks.
    if (this.#fills(1, 8)) this.#host.crowded.add(this as unknown as AnyLane)
    this.#ring()
  }

  #hold(seq: number, item: A, bytes: number): void {
    this.#held.push({ seq, item, bytes })
    this.#bytes += bytes
  }

  /** The job's end, at its place after the events. */
  finish(seq: number | undefined, end: Exit.Exit<End, ClientError>): void {
    if (!this.#takes(seq)) return
    this.#end = end
    this.#sink?.end(end)
    this.#ring()
  }

  /** Ends here, whatever may have been to come: what is held can still be read. */
  fail(error: ClientError): void {
    this.behind = this.lost = false
    this.finish(undefined, Exit.fail(error))
  }

  /** The end was seen: nothing more is to come for it. */
  get complete(): boolean {
    return this.#end !== undefined
  }
  get full(): boolean {
    return this.#fills(1, 1)
  }
  /** From now on what comes is skipped. After its end nothing comes, and nothing has to be asked for again. */
  fallBehind(): void {
    this.behind = !this.#end
  }
  /** Whether so many times its events, or so many times its bytes, would be all that it may hold. */
  #fills(eventTimes: number, byteTimes: number): boolean {
    const { bytes, events } = this.#host.options.maxHeld
    return (this.#held.length - this.#head) * eventTimes >= events || this.#bytes * byteTimes >= bytes
  }
  /** Its reader wants what was skipped, and the session may have it. */
  get starves(): boolean | undefined {
    return this.behind && this.reading && !this.lost
  }
  /** The session has rewound so far that everything after `from` comes again. */
  rewound(from: number): void {
    if (from <= this.position) this.behind = false
  }
  /** What it skipped cannot be had any more: goes on after `seq`, with `gap` in its place. */
  skipTo(seq: number, gap: A): void {
    this.behind = false
    this.#hold(this.position, gap, 0)
    this.position = seq
    this.#ring()
  }
  /** Something to be read after what is held. */
  note(item: A): void {
    if (this.#end) return
    this.#hold(this.position, item, 0)
    this.#ring()
  }
  /** Goes on in another session's numbering. */
  rebase(after: number, gap: A | undefined): void {
    this.behind = this.lost = false
    if (gap && !this.#end) this.#hold(after, gap, 0)
    this.#held = this.#left.map((held) => ({ ...held, seq: after }))
    this.#head = 0
    if (this.#handed !== undefined) this.#handed = after
    this.position = after
    this.#ring()
  }
  /** From now on everything goes to `sink`, in place of a reader: nothing is held any more. */
  drainTo(sink: Sink<A, End>): void {
    this.reading = this.opened = true
    this.#sink = sink
    for (const { item } of this.#left) sink.item(item)
    this.#held = []
    this.#head = this.#bytes = 0
    this.#handed = undefined
    this.#host.read()
    this.#checkRoom()
    if (this.starves) this.#host.starved()
    else if (this.#end) sink.end(this.#end)
  }
  /** The oldest event that its reader has not got over with; all that follows it is unread too. `Infinity`: none. */
  get unread(): number {
    return this.#handed ?? this.#held[this.#head]?.seq ?? (this.behind ? this.position + 1 : Infinity)
  }

  /** Calls back once when it holds less than half of what makes that its reader is waited for. */
  onRoom(resume: () => void): void {
    this.#roomy = resume
    this.#checkRoom()
  }

  /** Item by item, so that a reader which stops leaves the rest for the next one. Ends with the lane. */
  readonly #next: Pull<A, ClientError> = () => {
    if (this.#handed !== undefined) {
      this.#handed = undefined
      this.#host.read()
    }
    const held = this.#held[this.#head]
    if (held) {
      this.#handed = held.seq
      this.#take(held)
      return [held.item]
    }
    if (this.starves) this.#host.starved()
    // The host may have filled or ended it already.
    if (this.#held.length > this.#head) return this.#next()
    if (this.#end) return Exit.isSuccess(this.#end) ? undefined : this.#end
    return called((back) => {
      this.#wake = back
      // A fiber may have let others go first on its way here.
      if (this.#held.length > this.#head || this.#end) back()
    })
  }

  /** One reader: a stream of its items, which `read` may make something else of, and of their end. */
  reader<B>(
    read: (next: Pull<A, ClientError>, end: () => End) => Pull<B, ClientError>
  ): Stream.Stream<B, ClientError> {
    let mine = false
    return stream(
      () => {
        if (this.reading) return () => busy
        mine = this.reading = this.opened = true
        return read(this.#next, () => (this.#end as Exit.Success<End, ClientError>).value)
      },
      Effect.sync(() => {
        if (!mine) return
        this.reading = mine = false
        this.#roomy?.()
      })
    )
  }
  readonly items: Stream.Stream<A, ClientError> = this.reader((next) => next)

  #take(held: HeldItem<A>): void {
    this.#bytes -= held.bytes
    this.#held[this.#head++] = undefined as never
    if (this.#head === this.#held.length || this.#head > 1024) {
      this.#held = this.#left
      this.#head = 0
    }
    this.#checkRoom()
  }

  #checkRoom(): void {
    if (this.#fills(2, 16)) return
    this.stuck = false
    this.#roomy?.()
  }

  #ring(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }
}
