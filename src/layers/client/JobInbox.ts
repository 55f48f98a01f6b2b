/**
 * What arrives for one handle: a lane of events, a lane of the result's chunks, the newest of what is only
 * interesting as it is now, and the end.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Redacted from "effect/Redacted"
import type * as Stream from "effect/Stream"
import { type ArcpError, fromPayload, InvalidRequest, ResumeWindowExpired } from "../../protocol/Errors.js"
import type { Body, EventPayload } from "../../protocol/Event.js"
import type * as Message from "../../protocol/Message.js"
import * as Vendor from "../../protocol/Vendor.js"
import type {
  ClientError,
  Gap,
  InputRequest,
  JobCredential,
  JobEvent,
  ProtocolViolation
} from "../../services/client/ArcpClient.js"
import { Cell } from "./Cell.js"
import { type ChunkBody, Chunks, concat, inlineBytes, type Place } from "./Chunks.js"
import { type Host, Lane } from "./Lane.js"
import { remember, trim } from "./Requests.js"
import { credential, inputRequest, isNumeric, typed } from "./typed.js"
import { violation } from "./violation.js"

/** A frame that belongs to a job; `malformed` is one that could not be read, with what is then said of it. */
export type JobFrame = { readonly event_seq?: number | undefined } & (
  | { readonly type: "job.event"; readonly payload: EventPayload }
  | { readonly type: "job.result"; readonly payload: Message.JobResult }
  | { readonly type: "job.error"; readonly payload: Message.JobError }
  | { readonly type: "malformed"; readonly payload: ProtocolViolation }
)

/** What `job.accepted` and `job.subscribed` both say of a job. */
export interface About {
  readonly job_id: string
  readonly agent: string
  readonly trace_id?: string | undefined
  readonly lease: Message.Accepted["lease"]
  readonly lease_constraints?: Message.Accepted["lease_constraints"] | undefined
  readonly budget?: unknown
  readonly credentials?: unknown
  /** Of an accept. */
  readonly accepted_at?: string | undefined
  /** The same, of the answer to a subscribe. */
  readonly [Vendor.createdAt]?: string | undefined
}

const unread = "not read in time"

/** Currencies of one budget. */
const maxCurrencies = 100

/** Questions of one job that are open: whoever has not read older ones does not see them. */
const maxOpen = 1000

const readAsChunks = new InvalidRequest({
  message: "use result or chunks"
})

/** Takes the frames of one job, and gives its events, its output and its end to those who read them. */
export class JobInbox {
  declare readonly events: Lane<JobEvent, unknown>
  readonly #chunkLane: Lane<ChunkBody, Message.JobResult>
  readonly progress = new Cell<Body<"progress"> | undefined>(undefined)
  readonly budget = new Cell<ReadonlyMap<string, number>>(new Map())
  readonly credentials = new Cell<ReadonlyArray<JobCredential>>([])
  /** What the job has asked and waits for, by id. */
  readonly #asked = new Cell(new Map<unknown, InputRequest>())
  /** What it waits for no more: a replay in another session tells of it again. */
  readonly #answered = new Set<unknown>()
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
  /** When the job has ended, as its end says. */
  declare completedAt: string | undefined
  /** What the end says of a result whose last chunk was read. */
  declare summary: string | undefined
  /** The handle is no longer used. */
  declare released: boolean | undefined

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
    this.events.behind = events < from
    this.#chunkLane.behind = chunks < from
    this.newest = events
  }

  accept(about: About): void {
    this.budget.set(new Map(Object.entries(Object(about.budget) as object).filter(isNumeric)))
    if (Array.isArray(about.credentials)) this.credentials.set(about.credentials.flatMap(credential))
  }

  get #lanes() {
    return [this.events, this.#chunkLane] as const
  }

  /** What came for it was left out, beyond what it has: that is fetched when it is read. */
  cut(): void {
    for (const lane of this.#lanes) lane.behind = !lane.complete
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
    this.#settleLatest()
    // A streamed result is there when its chunks are.
    if (frame.type === "job.error" || frame.payload.result_id === undefined) this.#settle(end)
    else if (!this.#collecting && this.#chunkLane.opened) this.#settle(Exit.fail(readAsChunks))
  }

  /** The session, or the subscription, is over before the job was. */
  fail(error: ClientError): void {
    this.ended = true
    this.events.fail(error)
    this.#chunkLane.fail(error)
    this.#settleLatest()
    this.#settle(Exit.fail(error))
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
    for (const lane of this.#lanes) lane.behind ||= Math.max(lane.position, 1) < this.newest && !lane.complete
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
    if (this.#rebased) return undefined
    const { position } = this.events
    const { complete, opened, position: chunks } = this.#chunkLane
    // Nobody is waiting for those of one that was never opened: the rest comes again if that is. Of one that an earlier process has left
    // nothing is here.
    return { events: position, chunks: (opened || this.#restored) && !complete ? chunks : position }
  }
  /** The session is gone; `rebased`: the job had been followed from another one than submitted it. */
  lose(rebased?: boolean): void {
    this.#rebased ||= rebased
    for (const lane of this.#lanes) lane.lost = true
  }
  /** It does not go on in another session yet. */
  get lost(): boolean {
    return this.#lanes.some((lane) => lane.lost && !lane.complete)
  }
  /**
   * Goes on in another session, after its event `after`: the chunks with the first replay, the events with the one of which it
   * is said whether they are `replayed`, from `replayAfter`, or not at all.
   */
  rebase(after: number, replayed?: boolean): void {
    this.#rebased = true
    // Chunks that the replay repeats are known by their numbers; what is missing fails the result.
    if (this.#chunkLane.lost) this.#chunkLane.rebase(after, undefined)
    if (replayed !== undefined)
      this.events.rebase(after, this.#gap(after, "session_lost", replayed, "session lost"))
    this.newest = after
  }
  /** Perhaps it was not subscribed to for a while. What else is to come of the time before comes after this, which has no number. */
  missed(): void {
    this.#rebased = true
    this.events.note(
      this.#gap(this.events.position, "unsubscribed", false, "subscribed to again; events may be missing")
    )
  }
  #rebased: boolean | undefined

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
  /** Where another process would have to go on: after the last event read, and before the first chunk. */
  get readTo(): { readonly eventsAfter: number; readonly chunksAfter: number } {
    const { position, unread } = this.events
    return {
      eventsAfter: Math.min(unread - 1, position),
      chunksAfter: this.#chunksAfter ?? this.#chunkLane.position
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
    const chunks = new Chunks(() => this.#rebased)
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
      const chunks = new Chunks(() => this.#rebased)
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
    if (isNew) this.#notice(event)
    this.events.offer(seq, bytes, event)
    if (payload.kind !== "result_chunk") return this.#chunkLane.offer(seq, 0, undefined)
    if (event.kind !== "result_chunk") {
      const problem = event.kind === "other" ? event.problem : undefined
      return this.fail(violation(`bad result_chunk: ${problem}`))
    }
    this.#chunksAfter ??= (seq ?? this.#chunkLane.position + 1) - 1
    const repeated = this.#rebased && event.body.chunk_seq < this.#nextChunk
    if (!this.#chunkLane.behind && (seq ?? Infinity) > this.#chunkLane.position && !repeated)
      this.#nextChunk = event.body.chunk_seq + 1
    this.#chunkLane.offer(seq, bytes, repeated ? undefined : event.body)
  }

  #gap(eventSeq: number, reason: Gap["body"]["reason"], replayed: boolean, message: string): JobEvent {
    const ts = new Date(this.#host.options.now()).toISOString()
    return { kind: "gap", ts, body: { reason, replayed, message }, eventSeq }
  }

  /** What the job asks, each once for each reader, while it is open. */
  readonly inputs: Stream.Stream<InputRequest> = this.#asked.reader(() => {
    const given = new WeakSet()
    return (asked) => {
      for (const request of asked.values())
        if (!given.has(request)) {
          given.add(request)
          return [request]
        }
      return undefined
    }
  })

  /** What is interesting as it is now. */
  #notice(event: JobEvent): void {
    if (event.kind === "progress") this.progress.set(event.body)
    else if (event.kind === "metric" && event.body.name === "cost.budget.remaining") {
      const { unit, value } = event.body
      // Each change is another map: of a runtime that makes up currencies they would be ever larger.
      if (unit !== undefined)
        this.budget.set(new Map([...this.budget.current, [unit, value] as const].slice(-maxCurrencies)))
    } else if (event.kind === Vendor.inputRequest) {
      const asked = this.#asked.current
      const request = inputRequest(event.body, "")
      if (!request || asked.has(request.input_id) || this.#answered.has(request.input_id)) return
      trim(asked.set(request.input_id, request), maxOpen)
      this.#asked.set(asked)
    } else if (event.kind === Vendor.inputClosed) {
      const { input_id: id } = Object(event.body) as Partial<InputRequest>
      this.#asked.current.delete(id)
      remember(this.#answered, id)
    } else if (event.kind === "status" && event.body.phase === "credential_rotated") {
      const { id, value } = event.body as { readonly id?: unknown; readonly value?: unknown }
      if (typeof value === "string")
        this.credentials.set(
          this.credentials.current.map((known) =>
            known.id === id ? { ...known, value: Redacted.make(value) } : known
          )
        )
    }
  }

  #settleLatest(): void {
    for (const latest of [this.progress, this.budget, this.credentials, this.#asked]) latest.end()
  }
}
