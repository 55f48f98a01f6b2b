/** Server-sent events as bytes: whole ones, of a bounded size, and what is said after the last. */
import { Pace } from "./Pace.js"

const lineFeed = 0x0a
const carriageReturn = 0x0d

/** Cuts bytes after each whole event, and holds no more than one that is not whole yet. */
class EventCutter {
  /** What came of the event that is not whole yet. */
  private held: Array<Uint8Array> = []
  private heldBytes = 0
  /** That event is too large: the rest of it is passed over. */
  private passing = false
  /** Nothing has come of the line. */
  private empty = true
  /** The last byte was a carriage return, of which a line feed may be a part. */
  private afterReturn = false
  private whole: Array<Buffer> = []
  private tooLarge = false

  constructor(private readonly max: number) {}

  /** Returns the events that are whole with these bytes, and whether there was one of more than `max` bytes. */
  push(chunk: Uint8Array): { readonly events: ReadonlyArray<Buffer>; readonly tooLarge: boolean } {
    this.whole = []
    this.tooLarge = false
    let from = 0
    const lineEnds = (at: number) => {
      if (this.empty) {
        this.hold(chunk.subarray(from, at))
        this.cut()
        from = at
      }
      this.empty = true
    }
    for (const [i, byte] of chunk.entries()) {
      const returned = this.afterReturn
      this.afterReturn = byte === carriageReturn
      if (returned && byte !== lineFeed) lineEnds(i)
      if (byte === lineFeed) lineEnds(i + 1)
      else if (byte !== carriageReturn) this.empty = false
    }
    this.hold(chunk.subarray(from))
    return { events: this.whole, tooLarge: this.tooLarge }
  }

  private hold(part: Uint8Array): void {
    this.heldBytes += part.length
    if (!this.passing && this.heldBytes > this.max) {
      this.passing = true
      this.tooLarge = true
      this.held = []
    }
    if (!this.passing) this.held.push(part)
  }

  private cut(): void {
    if (this.held.length > 0) this.whole.push(Buffer.concat(this.held))
    this.held = []
    this.heldBytes = 0
    this.passing = false
  }
}

/** Why there are no more events: the stream ended, it was cut off, or one is larger than it may be. */
export type End = "end" | "cut" | "too_large"

/** The field with which a server says when a stream may be begun again, at the beginning of a line of an event as latin1. */
const retryField = /(?<=^|[\r\n]|^\xef\xbb\xbf)retry(?=:(?: ?(\d+)[\r\n])?)/g

/** Returns an event without that field, of which a comment of the same length is made, and says what it was. */
const withoutRetry = (event: Buffer, said: (ms: number) => void): Uint8Array => {
  if (!event.includes("retry:")) return event
  const commented = event.toString("latin1").replace(retryField, (_, ms: string | undefined) => {
    if (ms !== undefined) said(Number(ms))
    return ":etry"
  })
  return Buffer.from(commented, "latin1")
}

const encoder = new TextEncoder()

/** What is done with the events of a stream. */
interface Reading {
  /** Makes what follows the last event. */
  readonly last?: ((end: End) => string) | undefined
  /** Is told in how many milliseconds the server wants the stream to be begun again. */
  readonly retry: (ms: number) => void
}

/**
 * Returns the whole events of a stream, each of at most `max` bytes, without what they say of the time to its next beginning.
 * Where `last` is given, what it gives follows the last one, and one that is too large ends the stream; else that is passed over.
 */
export const wholeEvents = (
  source: ReadableStream<Uint8Array>,
  max: number,
  { last, retry }: Reading
): ReadableStream<Uint8Array> => {
  const reader = source.getReader()
  const cutter = new EventCutter(max)
  /** Whole events that have come, and how the stream has ended. */
  const events: Array<Uint8Array> = []
  let end: End | undefined
  const read = async (): Promise<void> => {
    try {
      const { done, value } = await reader.read()
      if (done) {
        end = "end"
        return
      }
      const cut = cutter.push(value)
      for (const event of cut.events) events.push(withoutRetry(event, retry))
      if (cut.tooLarge && last !== undefined) end = "too_large"
    } catch {
      end = "cut"
    }
  }
  const close = (controller: ReadableStreamDefaultController<Uint8Array>, how: End): void => {
    if (last !== undefined) controller.enqueue(encoder.encode(last(how)))
    controller.close()
    // Of a stream that has ended already there is nothing to cancel.
    void reader.cancel().catch(() => undefined)
  }
  const pace = new Pace()
  return new ReadableStream<Uint8Array>(
    {
      // One at a time: whoever reads has done what it does with the last one.
      pull: async (controller) => {
        if (pace.isSpent) await pace.next()
        while (events.length === 0 && end === undefined) await read()
        const event = events.shift()
        if (event !== undefined) controller.enqueue(event)
        else if (end !== undefined) close(controller, end)
      },
      cancel: (reason) => reader.cancel(reason)
    },
    { highWaterMark: 0 }
  )
}

/** Returns the bytes of a stream; fails with `tooLarge` at more than `max`. */
export const atMost = (
  source: ReadableStream<Uint8Array>,
  max: number,
  tooLarge: () => Error
): ReadableStream<Uint8Array> => {
  let bytes = 0
  return source.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, controller) => {
        bytes += chunk.length
        if (bytes > max) controller.error(tooLarge())
        else controller.enqueue(chunk)
      }
    })
  )
}
