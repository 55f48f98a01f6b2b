/** A connection over two byte streams, one frame a line: stdin and stdout, or those of a child. */

import { isUtf8 } from "node:buffer"
import type { Readable, Writable } from "node:stream"
import * as Effect from "effect/Effect"
import { Closed, type Connection, closeCode, Unreadable } from "../../services/transport/Transport.js"
import { tooBig } from "./Inbox.js"
import { PausingInbox } from "./PausingInbox.js"
import { StreamWriter } from "./StreamWriter.js"

/** Milliseconds the last output may take before `close` returns anyway. */
const closeGraceMs = 2_000
/** Pieces in which an unfinished line is held. */
const maxPieces = 1_024
const newline = 0x0a
const carriageReturn = 0x0d
const byteOrderMark = Buffer.of(0xef, 0xbb, 0xbf)

/** The two streams of a connection of lines. */
export interface Options {
  readonly input: Readable
  readonly output: Writable
  readonly remote: string
  /** Largest inbound line until `setMaxFrameBytes`, in bytes. */
  readonly maxFrameBytes: number
  /** Called at the end of input, which then ends the connection by what it calls. Default: only this direction ends. */
  readonly onInputEnd?: ((end: (closed: Closed) => void) => void) | undefined
}

/** Returns a connection that has a frame on each line. */
export const make = (options: Options): Connection => {
  const { input, output } = options
  const inbox = new PausingInbox({ pause: () => input.pause(), resume: () => input.resume() })
  const writer = new StreamWriter(output, (frames, taken) => {
    output.write(`${frames.join("\n")}\n`, taken)
  })
  let maxFrameBytes = options.maxFrameBytes
  let partial: Array<Buffer> = []
  let partialBytes = 0
  /** Before the first line there may be a byte order mark. */
  let isFirst = true

  // Remembered: `process.stdout` comes back to life after its `close`, and would not finish a second time.
  let flushed = false
  const onFlushed = () => {
    flushed = true
  }
  output.once("finish", onFlushed)
  output.once("close", onFlushed)

  let over = false
  const end = (closed: Closed) => {
    if (!inbox.ended) inbox.end(closed)
    if (over) return
    over = true
    writer.release()
    partial = []
    input.off("data", onData)
    input.destroy()
    output.end()
  }
  const lost = (cause: Error) => end(new Closed({ code: closeCode.abnormal, reason: cause.message }))

  // Whoever cannot dial again is told how its jobs end: it asks for nothing more, and reads on.
  let refused = false
  const refuseLine = () => {
    refused = true
    const { code, reason } = tooBig(maxFrameBytes)
    if (!inbox.ended) inbox.end(new Closed({ code, reason, stillReads: true }))
    partial = []
    input.off("data", onData)
    input.destroy()
  }

  const offer = (bytes: Buffer) => {
    const length = bytes.at(-1) === carriageReturn ? bytes.length - 1 : bytes.length
    if (length === 0) return
    if (length > maxFrameBytes) return refuseLine()
    const line = bytes.subarray(0, length)
    inbox.offer(isUtf8(line) ? line.toString() : new Unreadable({ reason: "not UTF-8" }), length)
  }
  const finishLine = (rest: Buffer) => {
    const line = partial.length === 0 ? rest : Buffer.concat([...partial, rest])
    const marked = isFirst && line.subarray(0, byteOrderMark.length).equals(byteOrderMark)
    isFirst = false
    partial = []
    partialBytes = 0
    offer(marked ? line.subarray(byteOrderMark.length) : line)
  }
  const onData = (data: Buffer) => {
    let from = 0
    for (let at = data.indexOf(newline); at >= 0; at = data.indexOf(newline, from)) {
      finishLine(data.subarray(from, at))
      from = at + 1
      if (inbox.ended) return
    }
    if (from === data.length) return
    partial.push(data.subarray(from))
    partialBytes += data.length - from
    // A line that comes a byte at a time must not be held as a million objects.
    if (partial.length >= maxPieces) partial = [Buffer.concat(partial)]
    // One byte more may yet turn out to be the carriage return.
    if (partialBytes > maxFrameBytes + 1) refuseLine()
  }

  // Nothing more comes in, but what is ready may still go out, until `close`.
  const inputEnded = () => {
    if (!inbox.ended)
      inbox.end(new Closed({ code: closeCode.normal, reason: "end of input", stillReads: true }))
  }
  input.on("data", onData)
  input.on("end", () => {
    if (partialBytes > 0) finishLine(Buffer.alloc(0))
    if (options.onInputEnd === undefined) inputEnded()
    else options.onInputEnd(end)
  })
  input.on("error", lost)
  output.on("error", lost)
  input.on("close", () => {
    if (!input.readableEnded && !refused) lost(new Error("input closed"))
  })

  return {
    kind: "stdio",
    remote: options.remote,
    take: inbox.take,
    send: (frames) => writer.send(frames),
    progress: writer.progress,
    close: (code, reason) =>
      Effect.async<void>((resume) => {
        end(new Closed({ code, reason }))
        const gone = () => {
          clearTimeout(timer)
          output.off("finish", gone)
          output.off("close", gone)
          resume(Effect.void)
        }
        const timer = setTimeout(gone, closeGraceMs)
        output.once("finish", gone)
        output.once("close", gone)
        if (flushed || output.destroyed) gone()
      }),
    setMaxFrameBytes: (bytes) =>
      Effect.sync(() => {
        maxFrameBytes = bytes
      })
  }
}
