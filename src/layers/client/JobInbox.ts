/** What has arrived for one handle: events for the stream, chunks and the end for the result. */
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Mailbox from "effect/Mailbox"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { fromPayload } from "../../protocol/Errors.js"
import { type EventPayload, problem } from "../../protocol/Event.js"
import type * as Message from "../../protocol/Message.js"
import {
  type ClientError,
  EventsOverflowed,
  type JobEvent,
  ProtocolViolation
} from "../../services/ArcpClient.js"
import { assemble, type ResultChunk } from "./assemble.js"

/** Events held for a stream that nobody reads. */
const maxHeld = 100_000

/** A frame that belongs to a job. */
export type JobFrame =
  | { readonly type: "job.event"; readonly event_seq: number; readonly payload: EventPayload }
  | { readonly type: "job.result"; readonly event_seq: number; readonly payload: Message.JobResult }
  | { readonly type: "job.error"; readonly event_seq: number; readonly payload: Message.JobError }

export class JobInbox {
  private readonly end = Deferred.unsafeMake<Message.JobResult, ClientError>(undefined as never)
  private ended = false
  /** Somebody reads the events; somebody waits for the result. */
  private reading = false
  private awaited = false
  private held = 0
  /** Of these, how many the consumer has been given and may still be working on. */
  private handed = 0
  /** The oldest event that the consumer has not got over with. */
  private oldest: number | undefined
  private overflowed = false
  private chunks: Array<ResultChunk> = []

  private constructor(private readonly mailbox: Mailbox.Mailbox<JobEvent, ClientError | EventsOverflowed>) {}

  static readonly make = Effect.map(
    Mailbox.make<JobEvent, ClientError | EventsOverflowed>(),
    (mailbox) => new JobInbox(mailbox)
  )

  /** Takes a frame in. */
  offer(frame: JobFrame): void {
    if (this.ended) return
    switch (frame.type) {
      case "job.event":
        return this.event({ ...frame.payload, eventSeq: frame.event_seq })
      case "job.result": {
        const result = assemble(frame.payload, this.chunks)
        return this.finish(result, Exit.void)
      }
      case "job.error":
        return this.finish(Exit.fail(fromPayload(frame.payload)), Exit.void)
    }
  }

  /** The session, or the subscription, is over before the job was. */
  fail(error: ClientError): void {
    this.finish(Exit.fail(error), Exit.fail(error))
  }

  /**
   * The oldest event that may not be acknowledged yet. A handle of which only the result is awaited, or whose
   * events nobody reads when its job ends, holds nothing back.
   */
  get unacknowledged(): number | undefined {
    return this.reading || !(this.ended || this.awaited || this.overflowed) ? this.oldest : undefined
  }
  /** Will hold nothing back any more. */
  get settled(): boolean {
    return this.ended && !this.reading
  }

  readonly result: Effect.Effect<Message.JobResult, ClientError> = Effect.suspend(() => {
    this.awaited = true
    return Deferred.await(this.end)
  })

  /** An event counts as taken when the consumer asks for what follows it. */
  private readonly next = Effect.suspend(() => {
    this.held -= this.handed
    this.handed = 0
    if (this.held === 0) this.oldest = undefined
    return Effect.mapError(this.mailbox.takeAll, Option.some)
  }).pipe(
    Effect.flatMap(([events]) => {
      if (Chunk.isEmpty(events)) return Effect.fail(Option.none())
      this.handed = events.length
      this.oldest = Chunk.unsafeHead(events).eventSeq
      return Effect.succeed(events)
    })
  )

  readonly events: Stream.Stream<JobEvent, ClientError | EventsOverflowed> = Stream.unwrapScoped(
    Effect.acquireRelease(
      Effect.sync(() => {
        this.reading = true
      }),
      () =>
        Effect.sync(() => {
          this.reading = false
        })
    ).pipe(Effect.map(() => Stream.repeatEffectChunkOption(this.next)))
  )

  private event(event: JobEvent): void {
    if (event.kind === "result_chunk") {
      const bad = problem(event.kind, event.body)
      if (bad !== undefined) return this.fail(new ProtocolViolation({ message: bad }))
      this.chunks.push(event.body as ResultChunk)
    }
    if (this.overflowed) return
    if (this.held >= maxHeld) {
      this.overflowed = true
      this.mailbox.unsafeDone(
        Exit.fail(new EventsOverflowed({ message: `more than ${maxHeld} events were not taken` }))
      )
      return
    }
    this.held++
    this.oldest ??= event.eventSeq
    this.mailbox.unsafeOffer(event)
  }

  private finish(result: Exit.Exit<Message.JobResult, ClientError>, events: Exit.Exit<void, ClientError>) {
    this.ended = true
    this.chunks = []
    Deferred.unsafeDone(this.end, result)
    this.mailbox.unsafeDone(events)
  }
}
