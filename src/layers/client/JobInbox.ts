/**
 * What arrives for one handle: a lane of events, a lane of the result's chunks, what is only interesting as it is now
 * (Current.ts), and the end.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import type * as Stream from "effect/Stream"
import { type ArcpError, fromPayload, InvalidRequest, ResumeWindowExpired } from "../../protocol/Errors.js"
import type { EventPayload } from "../../protocol/Event.js"
import type * as Message from "../../protocol/Message.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { ClientError, Gap, JobEvent, ProtocolViolation } from "../../services/client/ArcpClient.js"
import { type ChunkBody, Chunks, concat, inlineBytes, type Place } from "./Chunks.js"
import { Current } from "./Current.js"
import { type Host, Lane } from "./Lane.js"
import { typed } from "./typed.js"
import { violation } from "./violation.js"

/** A frame that belongs to a job; `malformed` is one that could not be read, with what is then said of it. */
export type JobFrame = { readonly event_seq?: number | undefined } & (
  | { readonly type: "job.event"; readonly payload: EventPayload }
  | { readonly type: "job.result"; readonly payload: Message.JobResult }
  | { readonly type: "job.error"; readonly payload: Message.JobError }
  | { readonly type: "malformed"; readonly payload: ProtocolViolation }
)

const unread = "not read in time"
export const sessionLost = "session lost"

const readAsChunks = new InvalidRequest({
  message: "use result or chunks"
})

/** Takes the frames of one job, and gives its events, its output and its end to those who read them. */
export class JobInbox {
  declare readonly events: Lane<JobEvent, unknown>
  readonly #chunkLane: Lane<ChunkBody, Message.JobResult>
  readonly current = new Current()
  /** After which event the chunks begin. */
  #chunksAfter: number | undefined
  readonly #end = Deferred.unsafeMake<Message.JobResult, ClientError>(FiberId.none)
  /** The `chunk_seq` after the last one that was taken in. */
  #nextChunk = 0
  #awaited: boolean | undefined
  /** The chunks are put together for `result`. */
  #collecting: boolean | undefined
  /** The newest that has come of the job, which a lane that is behind has not. */
  declare newest: number
  /** The job's end was seen here. */
  declare ended: boolean | undefined
  /** What it has for an end is not the job's. */
  declare failed: boolean | undefined
  /** When the job has ended, as its end says. */
  declare completedAt: string | undefined
  /** What the end says of a result whose last chunk was read. */
  declare summary: string | undefined
  /** The handle is no longer used. */
  declare released: boolean | undefined
  /** Its session is gone, and it does not go on in another one: its numbers are those of the one that is gone. */
  declare lost: boolean | undefined
  /** What comes of looking for it in another session, while that is to be done. */
  declare found: Deferred.Deferred<void, ClientError> | undefined
  /**
   * It has gone on in another session than it began in: chunks may come twice, or be missing, and its numbers are perhaps not
   * those in which replays are asked for. Those are its owner's, which nothing says that this session is, also when it has asked
   * to be: the one before may be there still, and only have lost its backlog.
   */
  declare rebased: boolean | undefined
  /** The event after which it goes on there; -1 where it has not. */
  #goneOnAfter = -1

  /** An earlier process has left chunks to be read. */
  readonly #restored: boolean
  readonly #host: Host

  /** Begins after `events`; of a job continued from another process, what came before `from` is fetched again. */
  constructor(
    host: Host,
    after: {
      readonly events: number
      readonly chunks?: number | undefined
      readonly from?: number | undefined
    } = { events: 0 }
  ) {
    this.#host = host

    const { events, chunks = events, from = 0 } = after
    this.#restored = chunks < events
    this.events = new Lane(host, events)
    this.#chunkLane = new Lane(host, chunks)
    for (const lane of this.#lanes) if (lane.position < from) lane.fallBehind()
    this.newest = events
  }

  get #lanes() {
    return [this.events, this.#chunkLane] as const
  }

  /** What came for it was left out, beyond what it has: that is fetched when it is read. */
  cut(): void {
    for (const lane of this.#lanes) lane.fallBehind()
  }

  /** Takes a frame in, `bytes` long. */
  offer(frame: JobFrame, bytes: number): void {
    const seq = frame.event_seq
    const isNew = (seq ?? Infinity) > this.newest
    // Without a number it is newer than what came before, and says that something has come.
    if (isNew) this.newest = seq ?? (this.newest || 1)
    if (frame.type === "job.event") return this.#event(seq, frame.payload, bytes, isNew)
    if (frame.type === "malformed") return this.fail(frame.payload)
    const end: Exit.Exit<Message.JobResult, ArcpError> =
      frame.type === "job.result" ? Exit.succeed(frame.payload) : Exit.fail(fromPayload(frame.payload))
    this.events.finish(seq, Exit.void)
    this.#chunkLane.finish(seq, end)
    if (this.ended) return
    this.ended = true
    this.completedAt = frame.payload.completed_at
    this.current.end()
    // A streamed result is there when its chunks are.
    if (frame.type === "job.error" || frame.payload.result_id === undefined) this.#settle(end)
    else if (!this.#collecting && this.#chunkLane.opened) this.#settle(Exit.fail(readAsChunks))
  }

  /** The session, or the subscription, is over before the job was. */
  fail(error: ClientError): void {
    this.ended = this.failed = true
    this.events.fail(error)
    this.#chunkLane.fail(error)
    this.current.end()
    this.#settle(Exit.fail(error))
    this.looked()
  }

  /** Nothing of the job is to come any more, for any reader. */
  get complete(): boolean {
    return this.#lanes.every((lane) => lane.complete)
  }
  /** Where a reader waits for what was skipped; `Infinity`: none does. */
  get rewindTo(): number {
    return Math.min(...this.#lanes.filter((lane) => lane.starves).map((lane) => lane.position))
  }
  rewound(from: number): void {
    for (const lane of this.#lanes) if (lane.starves) lane.rewound(from)
  }
  /**
   * What a reader waits for is no longer retained, whether it was skipped or not yet there again: it goes on after the newest
   * event that has come. (What comes without a number counts as 1 where something has come.)
   */
  evicted(): void {
    for (const lane of this.#lanes) if (Math.max(lane.position, 1) < this.newest) lane.fallBehind()
    if (this.events.starves) {
      this.events.skipTo(this.newest, this.#gap(this.events.position, "evicted", false, unread))
      if (this.ended) this.events.finish(undefined, Exit.void)
    }
    if (this.#chunkLane.starves)
      this.#chunkLane.fail(
        new ResumeWindowExpired({
          message: unread
        })
      )
  }
  /**
   * Where replays in another session have to begin, in the numbering of the session that submitted the job: that of the events,
   * and that of the chunks, which is earlier when their reader has left behind what that of the events has had. Unknown once
   * the job has been followed from another one.
   */
  get replayAfter(): { readonly events: number; readonly chunks: number } | undefined {
    if (this.rebased) return undefined
    const { position } = this.events
    const { complete, opened, position: chunks } = this.#chunkLane
    // Nobody is waiting for those of one that was never opened: the rest comes again if that is. Of one that an earlier process has left
    // nothing is here.
    return { events: position, chunks: (opened || this.#restored) && !complete ? chunks : position }
  }
  /** The session is gone. What has all come is not looked for; its numbers are those of that session still. */
  lose(): void {
    this.lost = true
    if (!this.complete) this.found ??= Deferred.unsafeMake(FiberId.none)
    for (const lane of this.#lanes) lane.lost = true
  }
  /** It is not looked for any more. */
  looked(): void {
    if (this.found) Deferred.unsafeDone(this.found, Exit.void)
    this.found = undefined
  }
  /** It was looked for, and is to be again. */
  refused(error: ClientError): void {
    const { found } = this
    if (!found) return
    this.found = Deferred.unsafeMake(FiberId.none)
    Deferred.unsafeDone(found, Exit.fail(error))
  }
  /** The handle is no longer used. */
  release(): void {
    this.released = true
    this.looked()
  }
  /**
   * Goes on in another session, after its event `after`: the chunks with the first replay, the events with the one of which it
   * is said whether they are `replayed`, from `replayAfter`, or not at all.
   */
  rebase(after: number, replayed?: boolean): void {
    this.rebased = true
    if (this.#chunkLane.lost) {
      // Chunks that the replay repeats are known by their numbers; what is missing fails the result.
      this.#chunkLane.rebase(after, undefined)
      // Those that have come are not in this session.
      if (this.#chunksAfter !== undefined) this.#chunksAfter = after
    }
    if (replayed !== undefined) {
      this.#goneOnAfter = after
      this.events.rebase(after, this.#gap(after, "session_lost", replayed, sessionLost))
      this.lost = false
      this.looked()
    }
    this.newest = after
  }
  /** Something may be missing here. What else is to come of the time before comes after this, which has no number. */
  missed(reason: Gap["body"]["reason"], message: string): void {
    this.rebased = true
    this.#goneOnAfter = this.events.position
    this.events.note(this.#gap(this.#goneOnAfter, reason, false, message))
  }

  get #inUse(): boolean | undefined {
    return this.#awaited || this.events.opened || this.#chunkLane.opened
  }
  /**
   * The oldest event that may not be acknowledged yet. A lane that nobody has opened holds nothing back once
   * something else of the handle is in use. `Infinity`: all may be.
   */
  get unacknowledged(): number {
    const holding = this.#lanes.filter((lane) => !this.released && (lane.opened || !this.#inUse))
    return Math.min(...holding.map((lane) => lane.unread))
  }
  /**
   * Where another process would have to go on: after the last event read, and before the first chunk. What a lost session has
   * left unread is in none that could be asked for it: a `gap` that was not read either is all that there is of it.
   */
  get readTo(): {
    readonly eventsAfter: number
    readonly chunksAfter: number
    readonly gap: boolean | undefined
  } {
    const { position, unread } = this.events
    return {
      // A gap has the number of the event before it, if there is one.
      eventsAfter: Math.max(0, this.#goneOnAfter, Math.min(unread - 1, position)),
      chunksAfter: this.#chunksAfter ?? this.#chunkLane.position,
      gap: unread <= this.#goneOnAfter || undefined
    }
  }
  /** The application has what it wanted: the job's end, and what it has opened read up to there. */
  get readWhole(): boolean | undefined {
    return this.complete && this.#inUse && this.unacknowledged === Infinity
  }
  /** Will hold nothing back any more. */
  get settled(): boolean {
    return this.released || (this.complete && this.unacknowledged === Infinity)
  }

  /** The job's end, with the value inline: text of `utf8` chunks, bytes of `base64` ones. */
  readonly result: Effect.Effect<Message.JobResult, ClientError> = Effect.suspend(() => {
    this.#awaited = true
    if (!this.#collecting && !this.#chunkLane.opened) this.#collect()
    return Deferred.await(this.#end)
  })

  #settle(end: Exit.Exit<Message.JobResult, ClientError>): void {
    Deferred.unsafeDone(this.#end, end)
  }
  #collect(): void {
    this.#collecting = true
    const chunks = new Chunks(() => this.rebased)
    const bytes: Array<Uint8Array> = []
    const texts: Array<string> = []
    this.#chunkLane.drainTo({
      item: (chunk) => {
        const part = chunks.decode(chunk)
        if (!(part instanceof Uint8Array)) this.#settle(Exit.fail(part))
        else if (chunk.encoding === "utf8") texts.push(chunk.data)
        else bytes.push(part)
      },
      end: (end) => {
        if (!Exit.isSuccess(end) || end.value.result_id === undefined) return this.#settle(end)
        const checked = chunks.check(end.value)
        if (checked) return this.#settle(Exit.fail(checked))
        const text = texts.join("")
        try {
          const result: unknown =
            end.value[Vendor.encoding] === "json"
              ? JSON.parse(text)
              : chunks.encoding === "utf8"
                ? text
                : concat(bytes, chunks.size)
          this.#settle(Exit.succeed({ ...end.value, result }))
        } catch {
          this.#settle(Exit.fail(violation("chunks are no JSON")))
        }
      }
    })
  }

  /** The result's bytes, checked, in a `place` of the reader's. */
  chunks(place?: Place): Stream.Stream<Uint8Array, ClientError> {
    return this.#chunkLane.reader((next, whatEnded) => {
      if (this.#collecting) return () => readAsChunks
      if (this.ended) this.#settle(Exit.fail(readAsChunks))
      const chunks = new Chunks(() => this.rebased)
      let result: Message.JobResult | undefined
      return () => {
        if (result) return undefined
        const found = next()
        if (Effect.isEffect(found)) return found
        if (found) {
          const bytes = chunks.decode(found[0], place)
          // The last one is often there only to say that it is.
          return !(bytes instanceof Uint8Array) ? bytes : bytes.length > 0 ? [bytes] : Effect.void
        }
        result = whatEnded()
        this.summary = result.summary
        return result.result_id === undefined ? [inlineBytes(result.result)] : chunks.check(result)
      }
    })
  }

  #event(seq: number | undefined, payload: EventPayload, bytes: number, isNew: boolean): void {
    const event = typed(seq ?? this.events.position, payload)
    if (isNew) this.current.notice(event)
    this.events.offer(seq, bytes, event)
    if (payload.kind !== "result_chunk") return this.#chunkLane.offer(seq, 0, undefined)
    if (event.kind !== "result_chunk") {
      const problem = event.kind === "other" ? event.problem : undefined
      return this.fail(violation(`bad result_chunk: ${problem}`))
    }
    this.#chunksAfter ??= this.#chunkLane.position
    const repeated = this.rebased && event.body.chunk_seq < this.#nextChunk
    if (!this.#chunkLane.behind && (seq ?? Infinity) > this.#chunkLane.position && !repeated)
      this.#nextChunk = event.body.chunk_seq + 1
    this.#chunkLane.offer(seq, bytes, repeated ? undefined : event.body)
  }

  #gap(eventSeq: number, reason: Gap["body"]["reason"], replayed: boolean, message: string): JobEvent {
    const ts = new Date(this.#host.options.now()).toISOString()
    return { kind: "gap", ts, body: { reason, replayed, message }, eventSeq }
  }
}
