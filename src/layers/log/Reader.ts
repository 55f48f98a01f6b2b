/**
 * Reading a view: the same for live delivery and for replay. Newest events come from memory and cost no
 * fiber switch; older ones from the store, a page at a time, sized so that a page stays around 1 MiB whatever
 * the events' size.
 */
import * as Effect from "effect/Effect"
import { InternalError, ResumeWindowExpired } from "../../protocol/Errors.js"
import type { JobResult } from "../../protocol/Message.js"
import type { Page } from "../../services/log/EventLog.js"
import {
  type StoredEvent,
  type StoreError,
  type StoreService,
  toInternalError
} from "../../services/store/Store.js"
import type { JobState, RunState, ViewState } from "./State.js"

const maxFrames = 256
const maxBytes = 256 * 1024
const pageBytes = 1024 * 1024
const maxPage = 512
const firstPage = 16

const expired = new ResumeWindowExpired({
  message: "events after this position are no longer retained; open a new session"
})

export const make = (
  store: StoreService,
  jobById: (jobId: string) => Effect.Effect<JobState, StoreError>,
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
        const frame = view.frame(run.job, event, seq)
        if (isStart(view, run.job, event)) starts.push({ index: frames.length, jobId: run.job.jobId })
        bytes += frame.length
        frames.push(frame)
      }
    }
    return { frames, starts }
  }

  const runsFrom = (view: ViewState, seq: number) =>
    Effect.suspend(() => {
      const i = view.indexOf(seq)
      if (i >= 0) return Effect.succeed<ReadonlyArray<RunState>>(view.runs.slice(i, i + maxPage))
      return store
        .runs(view.sessionId, seq, maxPage)
        .pipe(
          Effect.flatMap(
            Effect.forEach((run) => Effect.map(jobById(run.jobId), (job): RunState => ({ ...run, job })))
          )
        )
    })

  const fromStore = (view: ViewState, after: number) =>
    Effect.gen(function* () {
      const runs = yield* runsFrom(view, after + 1)
      // Which part of each run is in this page, and per job the range of events it needs.
      const page: Array<{ readonly run: RunState; readonly from: number; readonly to: number }> = []
      const ranges = new Map<JobState, { from: number; to: number }>()
      let room = Math.min(maxPage, view.pageSize ?? firstPage)
      let seq = after + 1
      for (const run of runs) {
        if (room <= 0 || run.eventSeq + run.count <= seq) continue
        if (run.eventSeq > seq) break
        const to = Math.min(run.eventSeq + run.count, seq + room, view.last + 1)
        page.push({ run, from: seq, to })
        room -= to - seq
        const range = ranges.get(run.job)
        const jobFrom = run.jobSeq + (seq - run.eventSeq)
        const jobTo = run.jobSeq + (to - run.eventSeq)
        if (range === undefined) ranges.set(run.job, { from: jobFrom, to: jobTo })
        else {
          range.from = Math.min(range.from, jobFrom)
          range.to = Math.max(range.to, jobTo)
        }
        seq = to
      }
      const found = new Map<JobState, ReadonlyMap<number, StoredEvent>>()
      for (const [job, { from, to }] of ranges) {
        // History can place one job's runs far apart; then each run is read by itself.
        const wanted = page.filter(({ run }) => run.job === job)
        const parts =
          to - from <= 2 * maxPage
            ? [{ from, to }]
            : wanted.map(({ run, from, to }) => ({
                from: run.jobSeq + (from - run.eventSeq),
                to: run.jobSeq + (to - run.eventSeq)
              }))
        const events = yield* Effect.forEach(parts, (part) =>
          store.events(job.jobId, part.from, part.to - part.from)
        )
        found.set(job, new Map(events.flat().map((event) => [event.seq, event])))
      }
      const frames: Array<string> = []
      const starts: Array<Page["starts"][number]> = []
      let bytes = 0
      for (const { run, from, to } of page)
        for (let seq = from; seq < to; seq++) {
          const event = found.get(run.job)?.get(run.jobSeq + (seq - run.eventSeq))
          if (event === undefined) return frames.length > 0 ? { frames, starts } : yield* expired
          const frame = mustInline(view, event)
            ? view.frame(run.job, event, seq, yield* inlined(run.job, event))
            : view.frame(run.job, event, seq)
          if (isStart(view, run.job, event)) starts.push({ index: frames.length, jobId: run.job.jobId })
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
  const joined = (job: JobState, to: number) =>
    Effect.gen(function* () {
      const parts: Array<{ data: string; encoding: string }> = []
      let size = 0
      for (let from = 1; from <= to; from += firstPage) {
        for (const event of yield* store.events(job.jobId, from, firstPage)) {
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
  const inlined = (job: JobState, terminal: StoredEvent) =>
    Effect.map(joined(job, terminal.seq), (result) => {
      if (result === undefined) return terminal.payload
      const { result_id, result_size, ...rest } = JSON.parse(terminal.payload) as JobResult
      return JSON.stringify({ ...rest, ...result })
    })

  const streamedResult = (job: JobState): Effect.Effect<unknown, InternalError | StoreError> =>
    Effect.flatMap(
      joined(job, job.last),
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
            Effect.catchTag("StoreError", (error) =>
              Effect.fail(toInternalError("the log could not be read")(error))
            )
          )
    })

  return { read, streamedResult }
}

const nothing: Page = { frames: [], starts: [] }

const isStart = (view: ViewState, job: JobState, event: StoredEvent): boolean =>
  event.seq === 1 && job.owner === view.sessionId

const mustInline = (view: ViewState, event: StoredEvent): boolean => event.kind === "streamed" && !view.chunks

/** Text chunks joined; base64 chunks as `{encoding, data}` of the whole. */
export const joinChunks = (
  parts: ReadonlyArray<{ readonly data: string; readonly encoding: string }>
): unknown =>
  parts.every((part) => part.encoding === "utf8")
    ? parts.map((part) => part.data).join("")
    : { encoding: "base64", data: joinBase64(parts.map((part) => part.data)) }

const joinBase64 = (parts: ReadonlyArray<string>): string => {
  // Only the last piece may be padded; anything else is decoded and encoded again.
  if (parts.slice(0, -1).every((part) => part.length % 4 === 0 && !part.endsWith("="))) return parts.join("")
  return btoa(parts.map((part) => atob(part)).join(""))
}
