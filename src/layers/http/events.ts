/**
 * The events of a job as they come, as server-sent events or as JSON lines. Each has the number that it has in its job, so
 * whoever was cut off goes on after the last one that they have, here or at the next process. It is the reader who sets the
 * pace: a page is read when the one before has been written.
 */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type ArcpError, InvalidRequest, type ResumeWindowExpired } from "../../protocol/Errors.js"
import type { FollowedJob } from "../../services/log/EventLog.js"
import { documentOf, tokenEnded } from "./problems.js"

export const eventStream = "text/event-stream"
export const jsonLines = "application/x-ndjson"

/** Milliseconds after which a browser tries again when it is cut off. */
const retry = 1_000

/** How long a timer may be, in milliseconds. */
const longest = Duration.toMillis("1 day")

/** How one message is written: its name, the number to go on after, and its JSON text. */
type Write = (name: string, id: number | undefined, data: string) => string

interface Format {
  readonly type: string
  readonly write: Write
  readonly begin: string
  /** What is sent to say that the server is there; JSON lines have nothing that says nothing. */
  readonly beat: string
}

const formats: Readonly<Record<typeof eventStream | typeof jsonLines, Format>> = {
  [eventStream]: {
    type: eventStream,
    begin: `retry: ${retry}\n\n`,
    beat: ":\n\n",
    write: (name, id, data) => `${id === undefined ? "" : `id: ${id}\n`}event: ${name}\ndata: ${data}\n\n`
  },
  [jsonLines]: { type: jsonLines, begin: "", beat: "", write: (_name, _id, data) => `${data}\n` }
}

/** After which event a stream begins. */
export interface After {
  /** The number of the last event that the reader has. */
  readonly seq: number
  /** What of the request says so. */
  readonly saidBy: "Last-Event-ID" | "after"
}

/** What a stream of events is made of. */
export interface EventsOptions {
  readonly jobId: string
  readonly job: FollowedJob
  readonly after: After
  readonly format: typeof eventStream | typeof jsonLines
  /** Epoch milliseconds at which the reader's token ends. */
  readonly until: number
  readonly heartbeat: Duration.Duration
  readonly now: () => number
}

/** Reads `Last-Event-ID`, or the parameter that does the same for whoever cannot set headers. */
export const afterOf = (
  header: string | undefined,
  parameter: string | undefined
): Effect.Effect<After, InvalidRequest> => {
  // Browsers send none when they have none yet, others an empty one.
  const isByHeader = header !== undefined && header !== ""
  const text = isByHeader ? header : (parameter ?? "")
  const saidBy = isByHeader ? "Last-Event-ID" : "after"
  if (text === "") return Effect.succeed({ seq: 0, saidBy })
  return /^\d{1,15}$/.test(text)
    ? Effect.succeed({ seq: Number(text), saidBy })
    : new InvalidRequest({ message: `${saidBy}: the id of an event of this job is a number` })
}

const next = (error: ResumeWindowExpired): number => Number(error.details?.["next"])

const encoder = new TextEncoder()

/** Where a stream is: after which event; `undefined` when it is over. */
type State = number | undefined

/** Returns the events of a job after a number, from the log and as they come, to the terminal message. */
export const stream = (options: EventsOptions): Stream.Stream<Uint8Array> => {
  const { heartbeat, job, jobId, now, until } = options
  const { beat, begin, write } = formats[options.format]
  const about = `"job_id":${JSON.stringify(jobId)}`

  const problem = (error: ArcpError): string =>
    write("problem", undefined, JSON.stringify({ problem: documentOf(error) }))
  const gap = (after: number, to: number): string =>
    write("gap", to - 1, `{"type":"gap",${about},"after":${after},"next":${to}}`)

  const page = (after: number): Effect.Effect<readonly [string, State]> =>
    job.read(after).pipe(
      Effect.map(({ ended, events, through }) => {
        let text = ""
        for (const { payload, seq, type } of events)
          text += write(type, seq, `{"seq":${seq},"type":"${type}",${about},"payload":${payload}}`)
        return [text, ended ? undefined : through] as const
      }),
      Effect.catchTag("ResumeWindowExpired", (error) =>
        Effect.succeed([gap(after, next(error)), next(error) - 1] as const)
      ),
      Effect.catchAll((error) => Effect.succeed([problem(error), undefined] as const))
    )

  const turn = (after: number): Effect.Effect<readonly [string, State]> =>
    Effect.suspend(() => {
      const left = until - now()
      if (left <= 0) return Effect.succeed([problem(tokenEnded()), undefined] as const)
      const wait = Math.min(left, Duration.toMillis(heartbeat), longest)
      return page(after).pipe(
        Effect.timeoutTo({
          duration: wait,
          onSuccess: (read) => read,
          onTimeout: () => [beat, after] as const
        })
      )
    })

  return Stream.concat(
    Stream.make(encoder.encode(begin)),
    Stream.paginateChunkEffect(options.after.seq, (after) =>
      Effect.map(turn(after), ([text, state]) => [
        text === "" ? Chunk.empty<Uint8Array>() : Chunk.of(encoder.encode(text)),
        Option.fromNullable(state)
      ])
    )
  )
}

/** Returns the answer that has the events of a job; `begun` is run when its head may go out. */
export const answer = (
  options: EventsOptions,
  begun: Effect.Effect<void>
): Effect.Effect<HttpServerResponse.HttpServerResponse, InvalidRequest | ArcpError> =>
  Effect.gen(function* () {
    const { ended, last } = yield* options.job.bounds
    const { saidBy, seq } = options.after
    if (seq > last)
      return yield* new InvalidRequest({
        message: `${saidBy}: greater than the number of any event of this job, which has ${last}`
      })
    const headers = { "cache-control": "no-store", "x-accel-buffering": "no" }
    // What a browser takes as: there will be no more, do not ask again.
    if (ended && seq === last) return HttpServerResponse.empty({ status: 204, headers })
    return HttpServerResponse.stream(Stream.concat(Stream.drain(Stream.fromEffect(begun)), stream(options)), {
      headers,
      contentType: formats[options.format].type
    })
  })
