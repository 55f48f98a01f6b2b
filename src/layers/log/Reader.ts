/**
 * Reading a view: the same for live delivery and for replay. Newest events come from memory and cost no
 * fiber switch; older ones from the store, a page at a time, sized so that a page stays around 1 MiB whatever
 * the events' size.
 */
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { envelopeBytes } from "../../protocol/Envelope.js"
import { InternalError, ResumeWindowExpired, toPayload } from "../../protocol/Errors.js"
import { readJson } from "../../protocol/Json.js"
import type { JobResult } from "../../protocol/Message.js"
import { joinChunks } from "../../protocol/ResultChunks.js"
import { byteLength, exceeds } from "../../protocol/Utf8.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { Page } from "../../services/log/EventLog.js"
import {
  type StoredEvent,
  type StoreError,
  type StoreService,
  toInternalError,
  type ViewEvent
} from "../../services/store/Store.js"
import { damagedEvent } from "../store/damage.js"
import type { JobState } from "./JobState.js"
import { chunksOf, eventsUpTo } from "./resultChunks.js"
import type { RunState, ViewState } from "./ViewState.js"

/** Most frames, and most bytes, that one read takes from memory. */
const maxFrames = 256
const maxBytes = 256 * 1024

/** Bytes that a page of the store is meant to have, the most events in it, and how many the first page has. */
const pageBytes = 1024 * 1024
const maxPage = 512
const firstPage = 16

const expired = new ResumeWindowExpired({
  message: "events after this position are no longer retained; open a new session"
})

/** Reads views, and streamed results as a whole. */
export interface Reader {
  /** Returns the next frames of a view after `after`, `most` of them at the most; fails when they are no longer retained. */
  readonly read: (
    view: ViewState,
    after: number,
    most?: number
  ) => Effect.Effect<Page, ResumeWindowExpired | InternalError>
  /**
   * Returns the streamed result of a job that has ended as one value; fails when it does not fit into a frame and is none that was
   * returned as a value, or parts of it are not retained any more.
   */
  readonly streamedResult: (job: JobState) => Effect.Effect<unknown, InternalError | StoreError>
}

/** Collects the frames of a page, and where jobs of the session begin. */
class PageBuilder implements Page {
  readonly frames: Array<string> = []
  readonly starts: Array<Page["starts"][number]> = []
  bytes = 0

  constructor(private readonly view: ViewState) {}

  add(
    job: { readonly jobId: string; readonly traceId: string },
    owner: string,
    event: StoredEvent,
    eventSeq: number,
    payload: string
  ): void {
    const frame = this.view.frame(job, event, eventSeq, payload)
    if (event.seq === 1 && owner === this.view.sessionId)
      this.starts.push({ index: this.frames.length, jobId: job.jobId })
    this.bytes += byteLength(frame)
    this.frames.push(frame)
  }
}

/** Returns frames that memory holds, up to the first event it does not, or of which something else has to be known. */
const fromMemory = (view: ViewState, after: number, most: number): Page => {
  const page = new PageBuilder(view)
  let seq = after + 1
  for (let i = view.indexOf(seq); i >= 0 && i < view.runs.length; i++) {
    const run = view.runs[i] as RunState
    const { job } = run
    const end = run.eventSeq + run.count
    for (; seq < end; seq++) {
      if (page.frames.length >= most || page.bytes >= maxBytes) return page
      const event = job.event(run.jobSeq + (seq - run.eventSeq))
      if (event === undefined || mustInline(view, event) || job.secretOf(event.seq) !== undefined) return page
      page.add(job, job.owner, event, seq, event.payload)
    }
  }
  return page
}

type Streamed = JobResult & { readonly [Vendor.encoding]?: string | undefined }

/**
 * Returns a streamed result as a whole, of which `end` is the end of its job. Fails with `InternalError` when it has more than
 * `maxBytes` bytes, or `maxJsonBytes` where it is the JSON text of a value; with `ResumeWindowExpired` when parts of it are not there any
 * more.
 */
const joined = (
  store: StoreService,
  { maxBytes, maxJsonBytes }: { readonly maxBytes: number; readonly maxJsonBytes: number },
  jobId: string,
  end: StoredEvent
) =>
  Effect.gen(function* () {
    const {
      [Vendor.encoding]: encoding,
      result_id: id,
      result_size: size
    } = JSON.parse(end.payload) as Streamed
    if (id === undefined || size === undefined)
      return yield* damagedEvent("the store", jobId, end.seq, "it does not say which its result is")
    if (size > (encoding === "json" ? maxJsonBytes : maxBytes)) return yield* tooLarge
    const chunks = chunksOf(eventsUpTo(store, jobId, end.seq), jobId, { id, size })
    const whole = joinChunks(Chunk.toReadonlyArray(yield* Stream.runCollect(chunks)))
    return encoding === "json" ? readJson(String(whole)) : whole
  })

/** Returns the payload of the end of a job with its streamed result in it, when that has room in `maxBytes` bytes. */
const inlined = (terminal: StoredEvent, result: unknown, maxBytes: number): string => {
  const { [Vendor.encoding]: _, result_id, result_size, ...rest } = JSON.parse(terminal.payload) as Streamed
  const payload = JSON.stringify({ ...rest, result })
  return exceeds(payload, maxBytes) ? terminal.payload : payload
}

const unread = toInternalError("the log could not be read")

/**
 * Returns what a session is given in the place of an event that is damaged: what says so, with its numbers. Without it the
 * session could go on with none of its jobs, and would ask again for ever.
 */
const inPlaceOf = (event: StoredEvent, damage: StoreError): Effect.Effect<StoredEvent> =>
  Effect.map(Clock.currentTimeMillis, (now): StoredEvent => {
    const { details, message } = unread(damage)
    const ts = new Date(now).toISOString()
    if (event.type === "job.event") {
      const body = { level: "critical", message, attributes: details }
      return { ...event, kind: "log", payload: JSON.stringify({ kind: "log", ts, body }) }
    }
    const error = {
      final_status: "error",
      ...toPayload(new InternalError({ message, details })),
      completed_at: ts
    }
    return { ...event, type: "job.error", kind: "", payload: JSON.stringify(error) }
  })

/** Returns what reads views, and streamed results as a whole. */
export const make = (
  store: StoreService,
  /** The log of a job that is in memory. */
  liveJob: (jobId: string) => JobState | undefined,
  options: { readonly maxFrameBytes: number; readonly maxOutboundFrameBytes: number }
): Reader => {
  const maxInlineBytes = options.maxOutboundFrameBytes - envelopeBytes
  const inlineLimits = { maxBytes: maxInlineBytes, maxJsonBytes: maxInlineBytes }

  /** Returns an event that a view is not given as it is stored. */
  const replaced = ({ damage, event, job }: ViewEvent): Effect.Effect<StoredEvent, StoreError> =>
    damage === undefined
      ? joined(store, inlineLimits, job.jobId, event).pipe(
          Effect.map((result) => ({ ...event, payload: inlined(event, result, maxInlineBytes) })),
          // It is told which result it was, and how large.
          Effect.catchTags({
            InternalError: () => Effect.succeed(event),
            ResumeWindowExpired: () => Effect.succeed(event),
            StoreError: (error) => (error.damaged === undefined ? error : inPlaceOf(event, error))
          })
        )
      : inPlaceOf(event, damage)

  /** Reads a page of the store: one query, however many jobs it is made of. */
  const fromStore = (view: ViewState, after: number, most: number | undefined) =>
    Effect.gen(function* () {
      const limit = Math.min(most ?? maxPage, view.pageSize ?? firstPage, view.last - after)
      const rows = yield* store.page(view.sessionId, after, limit, pageBytes)
      const page = new PageBuilder(view)
      for (const row of rows) {
        const { damage, event: stored, eventSeq, job } = row
        const next = after + 1 + page.frames.length
        if (eventSeq !== next)
          throw new Error(`the store gave event ${eventSeq} of a view where ${next} follows`)
        const asStored = damage === undefined && !mustInline(view, stored)
        const event = asStored ? stored : yield* replaced(row)
        const secret = asStored ? liveJob(job.jobId)?.secretOf(event.seq) : undefined
        const isShown = secret !== undefined && (yield* secret.isShown)
        page.add(job, job.sessionId, event, eventSeq, isShown ? secret.payload : event.payload)
      }
      // A few that somebody picked say little of how large the others are.
      if (most === undefined) {
        const average = page.bytes / Math.max(1, page.frames.length)
        view.pageSize = Math.max(1, Math.min(maxPage, Math.floor(pageBytes / average)))
      }
      return page.frames.length > 0 ? page : yield* expired
    })

  return {
    read: (view, after, most) =>
      Effect.suspend(() => {
        if (after >= view.last) return view.lost ? expired : Effect.succeed(nothing)
        if (after + 1 < view.first || view.dropped) return expired
        const page = fromMemory(view, after, most ?? maxFrames)
        return page.frames.length > 0
          ? Effect.succeed(page)
          : fromStore(view, after, most).pipe(Effect.catchTag("StoreError", unread))
      }),
    streamedResult: (job) =>
      Effect.gen(function* () {
        const [end] = yield* store.events(job.jobId, job.last, 1)
        if (end?.kind !== "streamed") return yield* notStreamed
        // What a handler has returned as a value its parent was given as one: it is again when that is run again.
        const limits = { maxBytes: options.maxFrameBytes, maxJsonBytes: Infinity }
        return yield* joined(store, limits, job.jobId, end)
      }).pipe(Effect.catchTag("ResumeWindowExpired", ({ message }) => new InternalError({ message })))
  }
}

const nothing: Page = { frames: [], starts: [] }

const notStreamed = new InternalError({ message: "the job has not ended with a streamed result" })

const tooLarge = new InternalError({
  message: "the streamed result is too large to be taken whole; read the job's events instead",
  details: { limit: "frame_bytes" }
})

/** Returns whether this is the end of a job with a streamed result, for a session without `result_chunk`. */
const mustInline = (view: ViewState, event: StoredEvent): boolean => event.kind === "streamed" && !view.chunks
