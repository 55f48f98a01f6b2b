/** The result of a job as the body of an answer: whole or a range of it, without ever holding all of a streamed one. */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { ArcpError } from "../../protocol/Errors.js"
import type { ResultChunk } from "../../protocol/ResultChunks.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { FollowedJob } from "../../services/log/EventLog.js"
import { type StoredEvent, toInternalError } from "../../services/store/Store.js"
import type { StreamedResult } from "../log/resultChunks.js"
import * as ResultChunks from "../log/resultChunks.js"
import { documentOf, Refused, tokenEnded } from "./problems.js"

/** How long whoever asks waits, and may. */
export interface Waiting {
  readonly seconds: number
  /** Epoch milliseconds at which their token ends, and nothing is waited for any more. What is read by then is read to its end. */
  readonly until: number
  readonly now: () => number
}

/** Waits for the terminal message of a job; `undefined` when it did not come in time. */
export const ended = (
  job: FollowedJob,
  { now, seconds, until }: Waiting
): Effect.Effect<StoredEvent | undefined, ArcpError> =>
  Effect.gen(function* () {
    const bounds = yield* job.bounds
    const wait = (after: number): Effect.Effect<StoredEvent | undefined, ArcpError> =>
      job.read(after).pipe(
        Effect.flatMap((page) =>
          page.ended ? Effect.succeed(page.events[page.events.length - 1]) : wait(page.through)
        ),
        Effect.catchTag("ResumeWindowExpired", (error) => wait(Number(error.details?.["next"]) - 1))
      )
    if (bounds.ended) return yield* wait(bounds.last - 1)
    if (seconds === 0) return undefined
    const patience = seconds * 1000
    const left = until - now()
    return yield* Effect.timeoutTo(wait(bounds.last), {
      duration: Math.min(patience, left),
      onSuccess: (event) => Effect.succeed(event),
      onTimeout: () => (left < patience ? tokenEnded() : Effect.succeed(undefined))
    }).pipe(Effect.flatten)
  })

/** A terminal message of either kind, as it is stored. */
interface Terminal {
  readonly final_status: string
  readonly result?: unknown
  readonly result_id?: string | undefined
  readonly result_size?: number | undefined
  readonly code?: string | undefined
  readonly message?: string | undefined
  readonly [Vendor.encoding]?: string | undefined
}

const notEnded = new Refused({
  status: 409,
  message: "the job has not ended; ask again, or with Prefer: wait=SECONDS",
  details: { reason: "not_ended" },
  headers: { "retry-after": "1" }
})

const unread = toInternalError("the log could not be read")

/** Returns the events of a job from the oldest that is retained to its end. */
const eventsOf = (job: FollowedJob): Stream.Stream<StoredEvent, ArcpError> =>
  Stream.unwrap(
    Effect.map(job.bounds, ({ first }) =>
      Stream.paginateChunkEffect(first - 1, (after) =>
        Effect.map(job.read(after), ({ ended, events, through }) => [
          Chunk.fromIterable(events),
          ended ? Option.none<number>() : Option.some(through)
        ])
      )
    )
  )

/** Returns the chunks of a result in their order; fails when not all are there any more. */
const chunksOf = (job: FollowedJob, jobId: string, result: StreamedResult) =>
  Stream.mapError(ResultChunks.chunksOf(eventsOf(job), jobId, result), (error) =>
    error._tag === "StoreError" ? unread(error) : error
  )

const bytesOf = ({ data, encoding }: ResultChunk): Uint8Array =>
  Buffer.from(data, encoding === "base64" ? "base64" : "utf8")

/** A part of a body, from and to, both included. */
interface Part {
  readonly from: number
  readonly to: number
}

/**
 * Returns the part of a body that `Range` asks for; none when it asks for all, for more than one, or in a way that is not
 * understood, which all are answered with the whole (RFC 9110, 14.2). Fails when the part is outside.
 */
const rangeOf = (header: string | undefined, size: number): Effect.Effect<Part | undefined, Refused> => {
  const match = /^\s*bytes\s*=\s*(\d*)-(\d*)\s*$/i.exec(header ?? "")
  if (match === null) return Effect.succeed(undefined)
  const [, first = "", last = ""] = match
  if (first === "" && last === "") return Effect.succeed(undefined)
  const from = first === "" ? Math.max(0, size - Number(last)) : Number(first)
  const to = first === "" || last === "" ? size - 1 : Math.min(Number(last), size - 1)
  if (first !== "" && last !== "" && Number(last) < Number(first)) return Effect.succeed(undefined)
  return from >= size || (first === "" && Number(last) === 0)
    ? new Refused({
        status: 416,
        message: `Range: the result has ${size} bytes`,
        headers: { "content-range": `bytes */${size}` }
      })
    : Effect.succeed({ from, to })
}

/** Cuts what is not in the part out of a body that comes in pieces, and ends after it. */
const cut = <E>(pieces: Stream.Stream<Uint8Array, E>, { from, to }: Part): Stream.Stream<Uint8Array, E> =>
  pieces.pipe(
    Stream.mapAccum(0, (at, piece) => [at + piece.length, { at, piece }] as const),
    Stream.takeWhile(({ at }) => at <= to),
    Stream.map(({ at, piece }) => piece.subarray(Math.max(0, from - at), to + 1 - at)),
    Stream.filter((piece) => piece.length > 0)
  )

interface Body {
  readonly type: string
  readonly size: number
  readonly pieces: Stream.Stream<Uint8Array, ArcpError>
}

/** What a result is as bytes. */
const bodyOf = (job: FollowedJob, jobId: string, terminal: Terminal): Effect.Effect<Body, ArcpError> =>
  Effect.gen(function* () {
    const { result_id: id, result_size: size = 0 } = terminal
    if (id === undefined) {
      const text = Buffer.from(`${JSON.stringify(terminal.result ?? null)}\n`)
      return { type: "application/json", size: text.length, pieces: Stream.make(text) }
    }
    const chunks = chunksOf(job, jobId, { id, size })
    // Before anything is answered it is known whether there is one.
    const head = yield* Stream.runHead(chunks)
    const encoding = Option.map(head, (chunk) => chunk.encoding)
    return {
      type:
        terminal[Vendor.encoding] === "json"
          ? "application/json"
          : Option.contains("base64")(encoding)
            ? "application/octet-stream"
            : "text/plain; charset=utf-8",
      size,
      pieces: Stream.map(chunks, bytesOf)
    }
  })

/** Returns why a job that has ended has no result. */
const withoutResult = ({ code, final_status: status, message, ...more }: Terminal) =>
  new Refused({
    status: 409,
    message: `the job has no result: ${message ?? status}`,
    details: { reason: "ended_without_result", final_status: status, error: { code, message, ...more } }
  })

/** What of a request decides how a result is answered. */
export interface Asked {
  readonly jobId: string
  /** Gives the connection up: the body that was begun cannot be ended. */
  readonly giveUp: Effect.Effect<void>
  readonly wait: number | undefined
  readonly until: number
  readonly now: () => number
  readonly range: string | undefined
  readonly ifRange: string | undefined
  readonly ifNoneMatch: string | undefined
}

/** Returns the answer that has the result of a job. */
export const answer = (
  job: FollowedJob,
  { giveUp, ifNoneMatch, ifRange, jobId, now, range, until, wait }: Asked
): Effect.Effect<HttpServerResponse.HttpServerResponse, ArcpError | Refused> =>
  Effect.gen(function* () {
    const event = yield* ended(job, { seconds: wait ?? 0, until, now })
    if (event === undefined) return yield* notEnded
    const terminal = JSON.parse(event.payload) as Terminal
    if (event.type !== "job.result") return yield* withoutResult(terminal)
    const { pieces, size, type } = yield* bodyOf(job, jobId, terminal)
    // A job has one result, which never changes.
    const etag = `"${jobId}"`
    const headers = {
      etag,
      "accept-ranges": "bytes",
      "cache-control": "private, no-cache",
      "x-content-type-options": "nosniff",
      "content-security-policy": "default-src 'none'; sandbox",
      ...(wait === undefined ? {} : { "preference-applied": `wait=${wait}` })
    }
    if (ifNoneMatch?.split(",").some((one) => ["*", etag].includes(one.trim().replace(/^W\//, ""))))
      return HttpServerResponse.empty({ status: 304, headers })
    const part = yield* rangeOf(ifRange === undefined || ifRange === etag ? range : undefined, size)
    const body = (part === undefined ? pieces : cut(pieces, part)).pipe(
      // The head is out: whoever reads sees a body that is cut off, and the log why.
      Stream.tapError((error) =>
        Effect.zipRight(Effect.logWarning(`a result was cut off: ${documentOf(error).detail}`), giveUp)
      ),
      Stream.orDie
    )
    const length = part === undefined ? size : part.to - part.from + 1
    return HttpServerResponse.stream(body, {
      status: part === undefined ? 200 : 206,
      headers: {
        ...headers,
        ...(part === undefined ? {} : { "content-range": `bytes ${part.from}-${part.to}/${size}` })
      },
      contentType: type,
      contentLength: length
    })
  })
