/** The one streamed result of a job: chunks in order, numbered, and finalised when the handler leaves it open (§6). */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { InternalError, InvalidRequest } from "../../protocol/Errors.js"
import type * as Event from "../../protocol/Event.js"
import { joinChunks } from "../../protocol/ResultChunks.js"
import { wellFormed } from "../../protocol/Text.js"
import { byteLength, exceeds } from "../../protocol/Utf8.js"
import type { EmitError, JobService, ResultEnd, ResultStream } from "../../services/jobs/Job.js"
import type { ResultProgress } from "./durable/Journal.js"
import * as Faults from "./Faults.js"

/** How a result was streamed, for the terminal message. */
export interface Streamed {
  readonly resultId: string
  /** Decoded bytes. */
  readonly size: number
  /** The whole result, when the session did not negotiate `result_chunk`. */
  readonly inline?: unknown
  /** It is what the handler returned, and was too large to come inline; `json` when it is no text. */
  readonly returned?: boolean | undefined
  readonly encoding?: "json" | undefined
  /** What the agent says of it. */
  readonly summary?: string | undefined
}

/** Writes the streamed result of a job (§8.4). */
export interface ResultWriter {
  readonly openResult: JobService["openResult"]
  readonly streamResult: JobService["streamResult"]
  /**
   * Of a handler that has returned: finalises a result that it left open, and streams what it returned when that is too large for one frame;
   * `undefined` when nothing was streamed.
   */
  readonly finish: (output: unknown) => Effect.Effect<Streamed | undefined, EmitError>
}

type Encoding = "utf8" | "base64"
type ResultChunk = Event.Body<"result_chunk">

/** Bytes of one chunk of `streamResult` where larger ones are allowed. */
const streamChunk = 63 * 1024

/**
 * Returns the bytes of one chunk of `streamResult`: as many as a chunk may have, and fit into a frame when JSON writes each
 * character as six. A multiple of 3, so that base64 chunks are not padded, and enough for any character.
 */
const chunkSize = ({ maxChunkBytes, maxFrameBytes }: ResultContext): number => {
  const bytes = Math.min(streamChunk, maxChunkBytes, (maxFrameBytes - chunkHead) / 2)
  return Math.max(6, Math.floor(bytes / 3) * 3)
}

/** What the body of a chunk has beside its data, in bytes. */
const chunkHead = 512

const tooLarge = new InvalidRequest({
  message: "the result is too large for one frame; negotiate the result_chunk feature to receive it",
  details: { limit: "outbound_frame_bytes" }
})
const interrupted = new InternalError({
  message: "a write of the streamed result was interrupted, so part of the result may be missing"
})

/** Characters of a summary. */
const maxSummary = 4096

interface ResultContext {
  /**
   * `ending`: it is the last one, which the runtime writes for a handler that has returned. `size` is that of the result
   * with this chunk.
   */
  readonly emitChunk: (body: ResultChunk, ending: boolean, size: number) => Effect.Effect<void, EmitError>
  /** What an earlier run of the handler has streamed: this one goes on after it. */
  readonly before?: ResultProgress | undefined
  readonly resultId: () => string
  /** Whether the submitting session takes chunks; else a streamed result is gathered for one frame. */
  readonly chunked: boolean
  /** Bytes of one chunk, of all of them, and of one frame. */
  readonly maxChunkBytes: number
  readonly maxStreamedBytes: number
  readonly maxFrameBytes: number
}

/** A result that was opened. */
class OpenResult {
  private ended = false
  private chunkSeq: number
  private size = 0
  /** Bytes that are in the log already, of those that come. */
  private skip: number
  /** The first half of a surrogate pair that waits for its second. */
  private carry = ""
  /** Why an accepted chunk is missing: such a result cannot end in success any more. */
  private broken: EmitError | undefined
  private readonly gathered: Array<Pick<ResultChunk, "data" | "encoding">> = []
  readonly resultId: string
  /** What the agent says of it. */
  summary: string | undefined

  constructor(
    private readonly context: ResultContext,
    private readonly encoding: Encoding,
    /** The runtime writes it for a handler that has returned. */
    private readonly returned: boolean
  ) {
    const { before } = context
    this.resultId = before?.resultId ?? context.resultId()
    this.chunkSeq = before?.chunkSeq ?? 0
    this.skip = before?.size ?? 0
  }

  write(data: string | Uint8Array): Effect.Effect<void, EmitError> {
    return Effect.suspend(() => this.chunk(this.whole(data, false), true))
  }
  end(data: string | Uint8Array = "", { summary }: ResultEnd = {}): Effect.Effect<void, EmitError> {
    return Effect.suspend(() => {
      if (summary !== undefined && summary.length > maxSummary)
        return new InvalidRequest({ message: `a summary may have ${maxSummary} characters` })
      return Effect.map(this.chunk(this.whole(data, true), false), () => {
        this.summary = summary
      })
    })
  }
  readonly finish: Effect.Effect<Streamed, EmitError> = Effect.suspend(() => {
    if (this.broken !== undefined) return this.broken
    return Effect.map(this.ended ? Effect.void : this.chunk(this.carry, false, true), () => ({
      resultId: this.resultId,
      size: this.size,
      summary: this.summary,
      ...(this.context.chunked ? {} : { inline: joinChunks(this.gathered) })
    }))
  })

  /** Text up to the last whole code point: it may be cut inside a surrogate pair. */
  private whole(data: string | Uint8Array, last: boolean): string | Uint8Array {
    if (typeof data !== "string" || this.encoding !== "utf8") return data
    const text = this.carry + data
    const code = text.charCodeAt(text.length - 1)
    this.carry = !last && code >= 0xd800 && code <= 0xdbff ? text.slice(-1) : ""
    return this.carry === "" ? text : text.slice(0, -1)
  }

  private chunk(data: string | Uint8Array, more: boolean, ending = false): Effect.Effect<void, EmitError> {
    const { maxChunkBytes, maxStreamedBytes } = this.context
    if (this.broken !== undefined) return this.broken
    if (this.ended) return new InvalidRequest({ message: "the streamed result has already ended" })
    if (typeof data !== "string" && Object.prototype.toString.call(data) !== "[object Uint8Array]")
      return new InvalidRequest({ message: "a streamed result is written as text or as bytes" })
    const piece = encodeChunk(data, this.encoding)
    if (piece === undefined)
      return new InvalidRequest({
        message: "these bytes are not UTF-8; open the result as base64"
      })
    if (piece.size > maxChunkBytes)
      return Faults.limited("result_chunk_bytes", `a result chunk may have ${maxChunkBytes} bytes`)
    if (this.size + piece.size > maxStreamedBytes)
      return Faults.limited("streamed_result_bytes", `a streamed result may have ${maxStreamedBytes} bytes`)
    this.size += piece.size
    this.ended = !more
    const left = this.unskipped(piece, more)
    if (left === undefined) return Effect.void
    // One that is interrupted may or may not have got its place in the log: no end may say that all is there.
    return Effect.onError(this.deliver(left, more, ending || this.returned), (cause) =>
      Effect.sync(() => {
        this.broken = Option.getOrElse(Cause.failureOption(cause), () => interrupted)
      })
    )
  }

  /** Returns what of a piece is not in the log yet; `undefined` when there is nothing to tell. */
  private unskipped({ data, size }: EncodedChunk, more: boolean): string | undefined {
    const { before } = this.context
    if (before?.ended === true) return undefined
    if (this.skip === 0) return data
    const skipped = Math.min(this.skip, size)
    this.skip -= skipped
    if (skipped === size) return more ? undefined : ""
    return this.encoding === "base64"
      ? toBase64(fromBase64(data).subarray(skipped))
      : new TextDecoder().decode(utf8.encode(data).subarray(skipped))
  }

  private deliver(data: string, more: boolean, ending: boolean): Effect.Effect<void, EmitError> {
    const { chunked, emitChunk, maxFrameBytes } = this.context
    if (chunked)
      return emitChunk(
        {
          result_id: this.resultId,
          chunk_seq: this.chunkSeq++,
          data,
          encoding: this.encoding,
          more
        },
        ending,
        this.size
      )
    this.gathered.push({ data, encoding: this.encoding })
    return this.size <= maxFrameBytes ? Effect.void : tooLarge
  }
}

/** What the payload of a terminal message has beside an inline result, in bytes, and a little more. */
const besideResult = 128

/** Returns whether what a handler has returned, as JSON, comes inline, as it is or not at all. */
export const isInline = (
  json: string,
  { chunked, maxFrameBytes }: Pick<ResultContext, "chunked" | "maxFrameBytes">
): boolean => !chunked || !exceeds(json, maxFrameBytes - besideResult)

/** Returns the writer of a job's streamed result. */
export const make = (context: ResultContext): ResultWriter => {
  let opened: OpenResult | undefined

  const open = (encoding: Encoding, returned: boolean): Effect.Effect<OpenResult, InvalidRequest> =>
    Effect.suspend((): Effect.Effect<OpenResult, InvalidRequest> => {
      if (opened !== undefined) return new InvalidRequest({ message: "a job streams at most one result" })
      opened = new OpenResult(context, encoding, returned)
      return Effect.succeed(opened)
    })

  const openResult = (encoding: Encoding = "utf8"): Effect.Effect<ResultStream, InvalidRequest> =>
    Effect.map(open(encoding, false), (result) => ({
      resultId: result.resultId,
      write: (data) => result.write(data),
      end: (data, options) => result.end(data, options)
    }))

  const streamResult = <E, R>(
    data: Stream.Stream<string | Uint8Array, E, R>,
    encoding: Encoding = "utf8",
    options: ResultEnd = {}
  ): Effect.Effect<void, E | EmitError, R> =>
    Effect.flatMap(open(encoding, false), (result) =>
      writeAll(result, data, encoding, chunkSize(context), options)
    )

  /** Streams what the handler returned, when it is too large to come inline. */
  const streamOutput = (output: unknown): Effect.Effect<Streamed | undefined, EmitError> => {
    // Written as JSON, a text may be six times as long.
    const json = jsonOf(output)
    if (isInline(json, context)) return Effect.succeed(undefined)
    const text = typeof output === "string"
    return Effect.flatMap(open("utf8", true), (result) =>
      Effect.zipRight(
        writeAll(result, Stream.succeed(text ? wellFormed(output) : json), "utf8", chunkSize(context), {}),
        Effect.map(result.finish, (streamed) => ({
          ...streamed,
          returned: true,
          encoding: text ? undefined : ("json" as const)
        }))
      )
    )
  }

  return {
    openResult,
    streamResult,
    finish: (output) => (opened === undefined ? streamOutput(output) : opened.finish)
  }
}

/** Writes a stream into a result and ends it, in chunks of a bounded size. */
const writeAll = <E, R>(
  result: OpenResult,
  data: Stream.Stream<string | Uint8Array, E, R>,
  encoding: Encoding,
  chunkBytes: number,
  options: ResultEnd
): Effect.Effect<void, E | EmitError, R> => {
  const decoder = new TextDecoder()
  const text = (piece: string | Uint8Array) =>
    typeof piece === "string" || encoding === "base64" ? piece : decoder.decode(piece, { stream: true })
  return data.pipe(
    // What the stream has ready together goes together, so that a stream of lines is not an event for each; nothing waits for more.
    Stream.mapChunks((pieces) => joined(Chunk.map(pieces, text), Math.floor(chunkBytes / 3))),
    Stream.mapConcat((piece) => slices(piece, chunkBytes)),
    Stream.runForEach((piece) => result.write(piece)),
    Effect.zipRight(Effect.suspend(() => result.end(encoding === "utf8" ? decoder.decode() : "", options)))
  )
}

/** Joins texts that follow each other, up to so many UTF-16 units. */
const joined = (
  pieces: Chunk.Chunk<string | Uint8Array>,
  units: number
): Chunk.Chunk<string | Uint8Array> => {
  const whole: Array<string | Uint8Array> = []
  for (const piece of pieces) {
    const last = whole.at(-1)
    if (typeof piece === "string" && typeof last === "string" && last.length + piece.length <= units)
      whole[whole.length - 1] = last + piece
    else whole.push(piece)
  }
  return Chunk.unsafeFromArray(whole)
}

const utf8 = new TextEncoder()
const utf8Strict = new TextDecoder("utf-8", { fatal: true })

interface EncodedChunk {
  readonly data: string
  readonly size: number
}

/** The chunk's `data` and its decoded size; `undefined` when it does not fit the encoding. */
const encodeChunk = (data: string | Uint8Array, encoding: Encoding): EncodedChunk | undefined => {
  if (encoding === "base64") {
    const bytes = typeof data === "string" ? utf8.encode(data) : data
    return { data: toBase64(bytes), size: bytes.length }
  }
  try {
    const text = typeof data === "string" ? wellFormed(data) : utf8Strict.decode(data)
    return { data: text, size: byteLength(text) }
  } catch {
    return undefined
  }
}

/** A value as JSON; empty when it is none, which is found where it is written. */
export const jsonOf = (value: unknown): string => {
  try {
    return JSON.stringify(value) ?? ""
  } catch {
    return ""
  }
}

const fromBase64 = (text: string): Uint8Array =>
  Uint8Array.from(atob(text), (character) => character.charCodeAt(0))

const toBase64 = (bytes: Uint8Array): string => {
  let binary = ""
  // Not spread, and not too many at once: either is twenty times as slow.
  for (let i = 0; i < bytes.length; i += 0x800)
    binary += String.fromCharCode.apply(null, bytes.subarray(i, i + 0x800) as unknown as Array<number>)
  return btoa(binary)
}

/** Pieces of at most `size` bytes (text: of at most `size / 3` UTF-16 units), text cut between code points. */
const slices = (data: string | Uint8Array, size: number): ReadonlyArray<string | Uint8Array> => {
  const step = typeof data === "string" ? Math.floor(size / 3) : size
  if (data.length <= step) return data.length === 0 ? [] : [data]
  const pieces: Array<string | Uint8Array> = []
  for (let from = 0; from < data.length; ) {
    let to = Math.min(data.length, from + step)
    if (typeof data === "string" && to < data.length && (data.charCodeAt(to) & 0xfc00) === 0xdc00) to--
    pieces.push(data.slice(from, to))
    from = to
  }
  return pieces
}
