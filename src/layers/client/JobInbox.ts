/** What has arrived for one job: events for the stream, chunks and the end for the result. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Mailbox from "effect/Mailbox"
import { type ArcpError, fromPayload } from "../../protocol/Errors.js"
import type { EventPayload } from "../../protocol/Event.js"
import type * as Message from "../../protocol/Message.js"
import {
  type ClientError,
  EventsOverflowed,
  type JobEvent,
  ProtocolViolation
} from "../../services/ArcpClient.js"

/** Events held for a stream that nobody reads. */
const maxHeld = 100_000

interface Chunk {
  readonly result_id: string
  readonly chunk_seq: number
  readonly data: string
  readonly encoding: "utf8" | "base64"
  readonly more: boolean
}

/** A frame that belongs to a job. */
export type JobFrame =
  | { readonly type: "job.event"; readonly event_seq: number; readonly payload: EventPayload }
  | { readonly type: "job.result"; readonly event_seq: number; readonly payload: Message.JobResult }
  | { readonly type: "job.error"; readonly event_seq: number; readonly payload: Message.JobError }

export class JobInbox {
  readonly ended = Deferred.unsafeMake<Message.JobResult, ClientError>(undefined as never)
  private held = 0
  private overflowed = false
  private chunks: Array<Chunk> = []

  constructor(readonly events: Mailbox.Mailbox<JobEvent, ClientError | EventsOverflowed>) {}

  static readonly make = Effect.map(
    Mailbox.make<JobEvent, ClientError | EventsOverflowed>(),
    (events) => new JobInbox(events)
  )

  /** Takes a frame in. */
  offer(frame: JobFrame): void {
    switch (frame.type) {
      case "job.event":
        if (frame.payload.kind === "result_chunk") this.chunks.push(frame.payload.body as Chunk)
        if (this.overflowed) return
        if (this.held >= maxHeld) {
          this.overflowed = true
          this.events.unsafeDone(
            Exit.fail(new EventsOverflowed({ message: `more than ${maxHeld} events were not taken` }))
          )
          return
        }
        this.held++
        this.events.unsafeOffer({ ...frame.payload, eventSeq: frame.event_seq })
        return
      case "job.result":
        return this.end(this.assemble(frame.payload))
      case "job.error":
        return this.end(Exit.fail(fromPayload(frame.payload)))
    }
  }
  /** Events were taken out. */
  taken(count: number): void {
    this.held -= count
  }
  /** The session is over before the job was. */
  fail(error: ClientError): void {
    Deferred.unsafeDone(this.ended, Exit.fail(error))
    this.events.unsafeDone(Exit.fail(error))
  }

  private end(exit: Exit.Exit<Message.JobResult, ArcpError | ProtocolViolation>): void {
    Deferred.unsafeDone(this.ended, exit)
    this.events.unsafeDone(Exit.void)
  }

  private assemble(result: Message.JobResult): Exit.Exit<Message.JobResult, ProtocolViolation> {
    if (result.result_id === undefined) return Exit.succeed(result)
    const chunks = this.chunks.filter((chunk) => chunk.result_id === result.result_id)
    const ordered = chunks.every((chunk, i) => chunk.chunk_seq === i && chunk.more === i < chunks.length - 1)
    if (!ordered || chunks.length === 0) return violation("chunks of the result are missing or out of order")
    const text = chunks[0]?.encoding === "utf8"
    const bytes = chunks.map((chunk) =>
      chunk.encoding === "utf8" ? new TextEncoder().encode(chunk.data) : fromBase64(chunk.data)
    )
    const size = bytes.reduce((total, part) => total + part.length, 0)
    if (result.result_size !== undefined && size !== result.result_size)
      return violation(`the result has ${size} bytes, not ${result.result_size}`)
    return Exit.succeed({
      ...result,
      result: text ? chunks.map((chunk) => chunk.data).join("") : concat(bytes, size)
    })
  }
}

const violation = (message: string) => Exit.fail(new ProtocolViolation({ message }))

const fromBase64 = (text: string): Uint8Array => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))

const concat = (parts: ReadonlyArray<Uint8Array>, size: number): Uint8Array => {
  const whole = new Uint8Array(size)
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
