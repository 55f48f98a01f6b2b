/**
 * Reading a view: the same for live delivery and for replay. Newest events come from memory and cost no
 * fiber switch; older ones from the store, a page at a time, sized so that a page stays around 1 MiB whatever
 * the events' size.
 */
import * as Effect from "effect/Effect"
import { InternalError, ResumeWindowExpired } from "../../protocol/Errors.js"
import type { JobResult } from "../../protocol/Message.js"
import { joinChunks } from "../../protocol/ResultChunks.js"
import type { Page } from "../../services/log/EventLog.js"
import {
  type StoredEvent,
  type StoreError,
  type StoreService,
  toInternalError
} from "../../services/store/Store.js"
import type { JobState } from "./JobState.js"
import type { RunState, ViewState } from "./ViewState.js"

const maxFrames = 256
const maxBytes = 256 * 1024
const pageBytes = 1024 * 1024
const maxPage = 512
const firstPage = 16

const expired = new ResumeWindowExpired({
  message: "events after this position are no longer retained; open a new session"
})

/** Returns what reads views, and streamed results as a whole. */
export const make = (
  store: StoreService,
  /** The log of a job that is in memory. */
  liveJob: (jobId: string) => JobState | undefined,
  options: { readonly maxFrameBytes: number }
) => {
  /** Frames that memory holds, up to the first event it does not. */
  const fromMemory = (view: ViewState, after: number): Page => {
    const frames: Array<string> = []
    const starts: Array<Page["starts"][number]> = []
    let seq = after + 1
    let bytes = 0
    for (let i = view.indexOf(seq); i >= 0 && i < view.runs.length; i++) {
      const run = view.runs[i] as RunState
      const end = run.eventSeq + run.count
      for (; seq < end; seq++) {
        if (frames.length >= maxFrames || bytes >= maxBytes) return { frames, starts }
        const event = run.job.event(run.jobSeq + (seq - run.eventSeq))
        if (event === undefined || mustInline(view, event)) return { frames, starts }
        const frame = view.frame(run.job, event, seq, run.job.payloadOf(event))
        if (isStart(view, run.job.owner, event)) starts.push({ index: frames.length, jobId: run.job.jobId })
        bytes += frame.length
        frames.push(frame)
      }
    }
    return { frames, starts }
  }

  /** A page of the store: one query, however many jobs it is made of. */
  const fromStore = (view: ViewState, after: number) =>
    Effect.gen(function* () {
      const limit = Math.min(maxPage, view.pageSize ?? firstPage, view.last - after)
      const rows = yield* store.page(view.sessionId, after, limit, pageBytes)
      const frames: Array<string> = []
      const starts: Array<Page["starts"][number]> = []
      let bytes = 0
      for (const { event, eventSeq, job } of rows) {
        const next = after + 1 + frames.length
        if (eventSeq !== next)
          throw new Error(`the store gave event ${eventSeq} of a view where ${next} follows`)
        const payload = mustInline(view, event)
          ? yield* inlined(job.jobId, event)
          : (liveJob(job.jobId)?.payloadOf(event) ?? event.payload)
        const frame = view.frame(job, event, eventSeq, payload)
        if (isStart(view, job.sessionId, event)) starts.push({ index: frames.length, jobId: job.jobId })
        bytes += frame.length
        frames.push(frame)
      }
      view.pageSize = Math.max(
        1,
        Math.min(maxPage, Math.floor(pageBytes / (bytes / Math.max(1, frames.length))))
      )
      return frames.length > 0 ? { frames, starts } : yield* expired
    })

  /** The chunks of a streamed result joined; `undefined` when it does not fit into a frame. */
  const joined = (jobId: string, to: number) =>
    Effect.gen(function* () {
      const parts: Array<{ data: string; encoding: string }> = []
      let size = 0
      for (let from = 1; from <= to; from += firstPage) {
        for (const event of yield* store.events(jobId, from, firstPage)) {
          if (event.kind !== "result_chunk") continue
          const body = (JSON.parse(event.payload) as { body: { data: string; encoding: string } }).body
          size += body.data.length
          parts.push(body)
        }
        if (size > options.maxFrameBytes) return undefined
      }
      return { result: joinChunks(parts) }
    })

  /** The end of a job with a streamed result, for a session without `result_chunk`. */
  const inlined = (jobId: string, terminal: StoredEvent) =>
    Effect.map(joined(jobId, terminal.seq), (result) => {
      if (result === undefined) return terminal.payload
      const { result_id, result_size, ...rest } = JSON.parse(terminal.payload) as JobResult
      return JSON.stringify({ ...rest, ...result })
    })

  const streamedResult = (job: JobState): Effect.Effect<unknown, InternalError | StoreError> =>
    Effect.flatMap(
      joined(job.jobId, job.last),
      (found): Effect.Effect<unknown, InternalError> =>
        found === undefined
          ? new InternalError({
              message: "the streamed result is too large to be taken whole; read the job's events instead",
              details: { limit: "frame_bytes" }
            })
          : Effect.succeed(found.result)
    )

  const read = (view: ViewState, after: number): Effect.Effect<Page, ResumeWindowExpired | InternalError> =>
    Effect.suspend(() => {
      if (after >= view.last) return Effect.succeed(nothing)
      if (after + 1 < view.first || view.dropped) return expired
      const page = fromMemory(view, after)
      return page.frames.length > 0
        ? Effect.succeed(page)
        : fromStore(view, after).pipe(
            Effect.catchTag("StoreError", toInternalError("the log could not be read"))
          )
    })

  return { read, streamedResult }
}

const nothing: Page = { frames: [], starts: [] }

const isStart = (view: ViewState, owner: string, event: StoredEvent): boolean =>
  event.seq === 1 && owner === view.sessionId

const mustInline = (view: ViewState, event: StoredEvent): boolean => event.kind === "streamed" && !view.chunks
