/**
 * Reads lines at the pace of the process: a server that writes without end gets a share of each turn of the event loop, and
 * is not read from while its lines wait. The SDK takes whatever has come in one go, seconds of it from one that floods, and
 * copies all of an unfinished line with each piece of it.
 */
import type { Readable } from "node:stream"
import { Pace } from "./Pace.js"

/** Pieces in which an unfinished line is held: one that comes a byte at a time is not a million objects. */
const maxPieces = 1_024

const newline = 0x0a

/** What is done with what is read. */
export interface LineReaderOptions {
  /** Bytes of the longest line. */
  readonly max: number
  /** Called with each line, without its end. */
  readonly onLine: (line: string) => void
  /** Called once when a line is longer than `max` bytes; nothing is read after it. */
  readonly onTooLarge: () => void
  readonly pace?: Pace | undefined
}

/** Reads the lines of a stream until it is told to stop. */
export class LineReader {
  private pieces: Array<Buffer> = []
  private bytes = 0
  /** What has come and is not cut into lines yet. */
  private rest: Buffer | undefined
  private stopped = false
  private onIdle: (() => void) | undefined
  private readonly pace: Pace

  constructor(
    private readonly input: Readable,
    private readonly options: LineReaderOptions
  ) {
    this.pace = options.pace ?? new Pace()
    input.on("data", this.received)
  }

  /** Calls back when every line that has come was taken, which may be at once. */
  whenIdle(callback: () => void): void {
    if (this.rest === undefined) callback()
    else this.onIdle = callback
  }

  /** Takes no line any more. What comes is read and dropped, so that whoever writes can end. */
  stop(): void {
    this.stopped = true
    this.forget()
    this.input.resume()
  }

  private readonly received = (data: Buffer): void => {
    if (this.stopped) return
    const isAtWork = this.rest !== undefined
    this.rest = this.rest === undefined ? data : Buffer.concat([this.rest, data])
    if (!isAtWork) this.work()
  }

  /** Takes lines for the share of this turn; with more to do it goes on in the next, and nothing is read until then. */
  private work(): void {
    while (this.rest !== undefined) {
      if (this.pace.isSpent) {
        this.input.pause()
        return this.pace.onNext(() => this.work())
      }
      this.next(this.rest)
    }
    this.input.resume()
    const { onIdle } = this
    this.onIdle = undefined
    onIdle?.()
  }

  /** Takes the next line, or holds the beginning of one. */
  private next(data: Buffer): void {
    const end = data.indexOf(newline)
    const part = end < 0 ? data : data.subarray(0, end)
    this.rest = end < 0 || end + 1 === data.length ? undefined : data.subarray(end + 1)
    this.bytes += part.length
    if (this.bytes > this.options.max) {
      this.stop()
      return this.options.onTooLarge()
    }
    if (part.length > 0) this.pieces.push(part)
    if (end >= 0) return this.cut()
    if (this.pieces.length >= maxPieces) this.pieces = [Buffer.concat(this.pieces)]
  }

  private cut(): void {
    const [first, ...others] = this.pieces
    const whole = first === undefined || others.length > 0 ? Buffer.concat(this.pieces) : first
    this.pieces = []
    this.bytes = 0
    this.options.onLine(whole.toString().replace(/\r$/, ""))
  }

  private forget(): void {
    this.pieces = []
    this.bytes = 0
    this.rest = undefined
  }
}
