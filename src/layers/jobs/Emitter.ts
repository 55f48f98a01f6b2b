/**
 * The `Job` service that a handler gets. Per event: a check of the body, one `JSON.stringify`, and the
 * append; no fiber, span or annotation.
 */

import * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import * as Budget from "../../protocol/Budget.js"
import { InternalError, InvalidRequest } from "../../protocol/Errors.js"
import * as Event from "../../protocol/Event.js"
import { eventPayload, json, timestamps } from "../../protocol/EventText.js"
import type { EmitError, JobService, ResultStream } from "../../services/jobs/Job.js"
import type { Cost } from "../../services/lease/Lease.js"
import type { EventLog, JobLog, NewEvent } from "../../services/log/EventLog.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { JobRecord } from "../../services/store/Store.js"
import { joinChunks } from "../log/Reader.js"

/** How the result was streamed, for the terminal message. */
export interface Streamed {
  readonly resultId: string
  /** Decoded bytes. */
  readonly size: number
  /** The whole result, when the session did not negotiate `result_chunk`. */
  readonly inline?: unknown
}

/** What a job emits; the rest of `JobService` is added where the job is started. */
export type EmitService = Omit<JobService, "delegate" | "credentials" | "rotateCredential">

export interface Emitter {
  readonly service: EmitService
  /** `Lease.spend` */
  readonly spend: (cost: Cost) => Effect.Effect<void, EmitError>
  readonly delegate: (body: Event.Body<"delegate">) => Effect.Effect<void, EmitError>
  /** A status event for one session, its body delivered but stored without what is in `secret`. */
  readonly secretStatus: (
    audience: string,
    body: Record<string, unknown>,
    secret: Record<string, unknown>
  ) => Effect.Effect<void, EmitError>
  /** Finalises a streamed result that the handler left open; `undefined` when nothing was streamed. */
  readonly finish: Effect.Effect<Streamed | undefined, InvalidRequest | InternalError>
}

/** Bytes of one chunk of `streamResult`; a multiple of 3, so that base64 chunks are not padded. */
const streamChunk = 63 * 1024

const limitError = (limit: string, message: string) => new InternalError({ message, details: { limit } })

export const make = (context: {
  readonly log: EventLog["Type"]
  readonly job: JobLog
  readonly record: JobRecord
  readonly deadline: number | undefined
  readonly now: () => number
  readonly resultId: () => string
  readonly options: Options
  /** Whether the submitting session takes chunks; else a streamed result is gathered for one frame. */
  readonly chunked: boolean
  readonly maxStreamedBytes: number
}): Emitter => {
  const { log, job, record, options } = context
  const timestamp = timestamps()

  const emit = (
    kind: string,
    body: unknown,
    more?: Partial<NewEvent>
  ): Effect.Effect<void, InvalidRequest | InternalError> =>
    Effect.suspend((): Effect.Effect<void, InvalidRequest | InternalError> => {
      if (job.ended) return Effect.void
      const problem = Event.problem(kind, body)
      if (problem !== undefined) return new InvalidRequest({ message: problem })
      // In one piece: texts joined from parts would be kept as their parts for as long as the log lives.
      const payload = json({ kind, ts: timestamp(context.now()), body }, "")
      if (Either.isLeft(payload)) return new InvalidRequest({ message: `bad ${kind} event: ${payload.left}` })
      return write(kind, payload.right, more)
    })

  const write = (
    kind: string,
    payload: string,
    more?: Partial<NewEvent>
  ): Effect.Effect<void, InternalError> => {
    if (payload.length > 2 * options.maxFrameBytes)
      return limitError(
        "event_bytes",
        `a ${kind} event may have ${2 * options.maxFrameBytes} bytes; use streamResult or an artifact`
      )
    const event: NewEvent = { type: "job.event", kind, payload }
    return log.append(job, more === undefined ? event : { ...event, ...more })
  }

  const metric = (body: Event.Body<"metric">): Effect.Effect<void, EmitError> => {
    const { name, value, unit } = body
    if (typeof name !== "string" || !name.startsWith("cost.")) return emit("metric", body)
    if (name === "cost.budget.remaining")
      return new InvalidRequest({ message: "cost.budget.remaining is the runtime's own metric" })
    if (!(value >= 0)) return new InvalidRequest({ message: `${name}: a cost is a number, and not negative` })
    const amount = Budget.amount(value)
    return amount === undefined ? emit("metric", body) : emit("metric", body, costOf(unit, amount))
  }

  const costOf = (currency: string | undefined, amount: BigDecimal.BigDecimal) =>
    currency !== undefined && job.budgets(currency) ? { cost: { currency, amount } } : undefined

  const spend = (cost: Cost): Effect.Effect<void, EmitError> => {
    const amount = Budget.amount(cost.amount)
    if (amount === undefined || BigDecimal.isNegative(amount))
      return new InvalidRequest({ message: "a cost is a decimal number, and not negative" })
    const name = `cost.${cost.name ?? "other"}`
    if (name === "cost.budget.remaining")
      return new InvalidRequest({ message: "cost.budget.remaining is the runtime's own metric" })
    if (job.ended) return Effect.void
    // The decimal as it is: through a JavaScript number it would lose digits, and the log is what counts.
    const rest = JSON.stringify({ unit: cost.currency, dimensions: cost.dimensions }).slice(1)
    const body = `{"name":${JSON.stringify(name)},"value":${Budget.format(amount)},${rest}`
    return write(
      "metric",
      eventPayload("metric", timestamp(context.now()), body),
      costOf(cost.currency, amount)
    )
  }

  const secretStatus: Emitter["secretStatus"] = (audience, body, secret) =>
    emit("status", body, {
      audience,
      secret: JSON.stringify({ kind: "status", ts: timestamp(context.now()), body: { ...body, ...secret } })
    })

  // The one streamed result of the job.
  let opened: { readonly resultId: string; readonly encoding: "utf8" | "base64"; ended: boolean } | undefined
  let chunkSeq = 0
  let size = 0
  let carry = ""
  const gathered: Array<{ readonly data: string; readonly encoding: string }> = []

  /** Why an accepted chunk is missing: such a result cannot end in success any more. */
  let broken: InvalidRequest | InternalError | undefined

  const chunk = (
    data: string | Uint8Array,
    more: boolean
  ): Effect.Effect<void, InvalidRequest | InternalError> =>
    Effect.suspend(() => {
      const stream = opened as NonNullable<typeof opened>
      if (broken !== undefined) return broken
      if (stream.ended) return new InvalidRequest({ message: "the streamed result has already ended" })
      const piece = encodeChunk(data, stream.encoding)
      if (piece === undefined)
        return new InvalidRequest({
          message: "utf8 chunks are well-formed text; open the result as base64 for bytes"
        })
      if (piece.size > options.maxChunkBytes)
        return limitError("result_chunk_bytes", `a result chunk may have ${options.maxChunkBytes} bytes`)
      if (size + piece.size > context.maxStreamedBytes)
        return limitError(
          "streamed_result_bytes",
          `a streamed result may have ${context.maxStreamedBytes} bytes`
        )
      size += piece.size
      stream.ended = !more
      return Effect.tapError(deliver(stream, piece.data, more), (error) =>
        Effect.sync(() => {
          broken = error
        })
      )
    })

  const deliver = (stream: NonNullable<typeof opened>, data: string, more: boolean) => {
    if (context.chunked)
      return emit("result_chunk", {
        result_id: stream.resultId,
        chunk_seq: chunkSeq++,
        data,
        encoding: stream.encoding,
        more
      })
    gathered.push({ data, encoding: stream.encoding })
    return size <= options.maxFrameBytes
      ? Effect.void
      : new InvalidRequest({
          message: "the result is too large for one frame; negotiate the result_chunk feature to receive it"
        })
  }

  const openResult = (encoding: "utf8" | "base64" = "utf8"): Effect.Effect<ResultStream, InvalidRequest> =>
    Effect.suspend(() => {
      if (opened !== undefined) return new InvalidRequest({ message: "a job streams at most one result" })
      opened = { resultId: context.resultId(), encoding, ended: false }
      /** A text may be cut inside a surrogate pair; its first half waits for the second. */
      const whole = (data: string | Uint8Array, last: boolean): string | Uint8Array => {
        if (typeof data !== "string" || encoding !== "utf8") return data
        const text = carry + data
        const code = text.charCodeAt(text.length - 1)
        carry = !last && code >= 0xd800 && code <= 0xdbff ? text.slice(-1) : ""
        return carry === "" ? text : text.slice(0, -1)
      }
      return Effect.succeed({
        resultId: opened.resultId,
        write: (data) => chunk(whole(data, false), true),
        end: (data = "") => chunk(whole(data, true), false)
      })
    })

  const streamResult = <E, R>(
    data: Stream.Stream<string | Uint8Array, E, R>,
    encoding: "utf8" | "base64" = "utf8"
  ) =>
    Effect.flatMap(openResult(encoding), (result) => {
      const decoder = new TextDecoder()
      const text = (piece: string | Uint8Array) =>
        typeof piece === "string" || encoding === "base64" ? piece : decoder.decode(piece, { stream: true })
      return data.pipe(
        Stream.mapConcat((piece) => slices(text(piece), streamChunk)),
        Stream.runForEach(result.write),
        Effect.zipRight(Effect.suspend(() => result.end(encoding === "utf8" ? decoder.decode() : "")))
      )
    })

  return {
    service: {
      jobId: record.jobId,
      sessionId: record.sessionId,
      principal: record.principal,
      agent: record.agent,
      traceId: record.traceId,
      lease: record.lease,
      leaseConstraints: record.leaseConstraints ?? {},
      deadline: context.deadline,
      log: (level, message, attributes) =>
        emit("log", attributes === undefined ? { level, message } : { level, message, attributes }),
      thought: (text) => emit("thought", { text }),
      status: (phase, more) => emit("status", { ...more, phase }),
      metric,
      toolCall: (body) => emit("tool_call", body),
      toolResult: (body) => emit("tool_result", body),
      artifact: (body) => emit("artifact_ref", body),
      progress: (body) => emit("progress", body),
      emit: (kind, body) =>
        kind.startsWith("x-vendor.")
          ? emit(kind, body)
          : new InvalidRequest({ message: "emit takes kinds x-vendor.<vendor>.<name>" }),
      openResult,
      streamResult
    },
    spend,
    delegate: (body) => emit("delegate", body),
    secretStatus,
    finish: Effect.suspend(() => {
      const stream = opened
      if (stream === undefined) return Effect.succeed(undefined)
      if (broken !== undefined) return broken
      return Effect.as(stream.ended ? Effect.void : chunk(carry, false), undefined).pipe(
        Effect.map(() => ({
          resultId: stream.resultId,
          size,
          ...(context.chunked ? {} : { inline: joinChunks(gathered) })
        }))
      )
    })
  }
}

const utf8 = new TextEncoder()
const utf8Strict = new TextDecoder("utf-8", { fatal: true })
const lone = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/

/** The chunk's `data` and its decoded size; `undefined` when it does not fit the encoding. */
const encodeChunk = (
  data: string | Uint8Array,
  encoding: "utf8" | "base64"
): { readonly data: string; readonly size: number } | undefined => {
  if (encoding === "base64") {
    const bytes = typeof data === "string" ? utf8.encode(data) : data
    return { data: toBase64(bytes), size: bytes.length }
  }
  try {
    const text = typeof data === "string" ? data : utf8Strict.decode(data)
    return lone.test(text) ? undefined : { data: text, size: byteLength(text) }
  } catch {
    return undefined
  }
}

const byteLength = (text: string): number => {
  let bytes = text.length
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 0x7f) bytes += code > 0x7ff && (code < 0xd800 || code > 0xdfff) ? 2 : 1
  }
  return bytes
}

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
