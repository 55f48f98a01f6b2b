/**
 * Checks of event streams. They throw (or, where they wait, die with) a `CheckFailed` whose message says what was
 * expected and what came; any test runner shows it.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { toStringUnknown } from "effect/Inspectable"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { ClientError, JobEvent, JobHandle } from "../services/client/ArcpClient.js"
import type { Frame } from "./Faults.js"
import { toClient } from "./framesInOrder.js"

/** What a failed check throws: what was expected, and what came. */
export class CheckFailed extends Error {
  override readonly name = "CheckFailed"
}

const cut = (text: string): string => (text.length > 100 ? `${text.slice(0, 99)}…` : text)

const brief = (event: JobEvent): string => {
  const body = JSON.stringify(event.body) ?? "undefined"
  const kind = event.kind === "other" ? `other (${event.wireKind})` : event.kind
  return `${String(event.eventSeq).padStart(5)}  ${kind} ${cut(body)}`
}

const list = (events: ReadonlyArray<JobEvent>, around?: number): string => {
  if (events.length === 0) return "  nothing"
  const from = around === undefined ? 0 : Math.max(0, around - 5)
  const shown = events.slice(from, from + 12)
  const lines = shown.map((event, i) => `${from + i === around ? "> " : "  "}${brief(event)}`)
  const left = events.length - from - shown.length
  return [
    ...(from > 0 ? [`  … ${from} before`] : []),
    ...lines,
    ...(left > 0 ? [`  … ${left} more`] : [])
  ].join("\n")
}

const fail = (expected: string, came: string): never => {
  throw new CheckFailed(`expected ${expected}; came\n${came}`)
}

/** All events of a job, when it has ended; its failure is that of `result`. */
export const events = (job: JobHandle<unknown, unknown>): Effect.Effect<ReadonlyArray<JobEvent>> => {
  const seen: Array<JobEvent> = []
  return job.events.pipe(
    Stream.runForEach((event) => Effect.sync(() => seen.push(event))),
    Effect.ignore,
    Effect.as(seen)
  )
}

/**
 * The numbers rise, each by one: nothing is missing, nothing came twice. For the events of one job of a session that
 * has no other; with `gaps`, rising is enough. What the client reports as missing (`gap`) is refused either way.
 */
export const numbered = (
  events: ReadonlyArray<JobEvent>,
  options: { readonly gaps?: boolean | undefined; readonly from?: number | undefined } = {}
): void => {
  let last = options.from === undefined ? undefined : options.from - 1
  for (const [i, { eventSeq, kind }] of events.entries()) {
    if (kind === "gap") fail("no gap", list(events, i))
    if (last !== undefined && (options.gaps === true ? eventSeq <= last : eventSeq !== last + 1))
      fail(`event_seq ${options.gaps === true ? "above" : "right after"} ${last}`, list(events, i))
    last = eventSeq
  }
}

/** An event, by its kind, or by kind and some keys of its body. */
export type Pattern =
  | JobEvent["kind"]
  | { readonly kind: JobEvent["kind"]; readonly body?: object | undefined }

const fits = (event: JobEvent, pattern: Pattern): boolean => {
  if (typeof pattern === "string") return event.kind === pattern
  if (event.kind !== pattern.kind) return false
  const body = (event.body ?? {}) as Record<string, unknown>
  return Object.entries(pattern.body ?? {}).every(
    ([key, value]) => JSON.stringify(body[key]) === JSON.stringify(value)
  )
}

const say = (pattern: Pattern): string => (typeof pattern === "string" ? pattern : JSON.stringify(pattern))

/** These events and no others, in this order. */
export const exactly = (events: ReadonlyArray<JobEvent>, patterns: ReadonlyArray<Pattern>): void => {
  const length = Math.max(events.length, patterns.length)
  for (let i = 0; i < length; i++) {
    const event = events[i]
    const pattern = patterns[i]
    if (event !== undefined && pattern !== undefined && fits(event, pattern)) continue
    fail(
      pattern === undefined ? `no event after ${i}` : `${say(pattern)} at place ${i + 1}`,
      list(events, Math.min(i, events.length - 1))
    )
  }
}

/** These events in this order, with others between them. */
export const inOrder = (events: ReadonlyArray<JobEvent>, patterns: ReadonlyArray<Pattern>): void => {
  let at = 0
  for (const pattern of patterns) {
    const found = events.slice(at).findIndex((event) => fits(event, pattern))
    if (found < 0) fail(`${say(pattern)}${at === 0 ? "" : ` after place ${at}`}`, list(events, at))
    at += found + 1
  }
}

/** How a job has ended, as a line below its events. */
const endOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.match(exit, {
    onSuccess: (result) => `  and it ended with ${cut(toStringUnknown(result, 0))}`,
    onFailure: (cause) => `  and it failed: ${cut(Cause.pretty(cause).split("\n")[0] ?? "")}`
  })

/**
 * Waits for an event that fits, and returns it; what came before it is read, what comes after can be read on. Dies
 * when the job ends without it, or after `within` (of the `Clock`; default: as long as it takes).
 */
export const seen = (
  job: JobHandle<unknown, unknown>,
  pattern: Pattern,
  options: { readonly within?: Duration.DurationInput | undefined } = {}
): Effect.Effect<JobEvent, ClientError> => {
  const before: Array<JobEvent> = []
  const absent = (why: string, end = "") =>
    Effect.die(new CheckFailed(`expected ${say(pattern)}${why}; came\n${list(before)}${end}`))
  const ended = Effect.flatMap(Effect.exit(job.result), (exit) =>
    absent(" before the job's end", `\n${endOf(exit)}`)
  )
  const found = job.events.pipe(
    Stream.tap((event) => Effect.sync(() => before.push(event))),
    Stream.filter((event) => fits(event, pattern)),
    Stream.runHead,
    Effect.flatMap(
      Option.match({
        onNone: () => ended,
        onSome: (event) => Effect.succeed(event)
      })
    )
  )
  return options.within === undefined
    ? found
    : Effect.flatten(
        Effect.timeoutTo(found, {
          duration: options.within,
          onSuccess: (event) => Effect.succeed(event),
          onTimeout: () => absent(` within ${Duration.format(Duration.decode(options.within ?? 0))}`)
        })
      )
}

/**
 * On the wire (`Faults.frames`) the job has one end: a `job.result` or a `job.error`, with one `event_seq` in each
 * session that sees it, however often it was sent, and no event with a number after it.
 */
export const endedOnce = (frames: ReadonlyArray<Frame>, jobId: string): void => {
  const sessions = new Map<string, Array<{ readonly type: string; readonly event_seq: number }>>()
  for (const { event_seq, job_id, session_id, type } of toClient(frames)) {
    if (job_id !== jobId || event_seq === undefined) continue
    const seen = sessions.get(session_id) ?? []
    sessions.set(session_id, seen)
    seen.push({ type, event_seq })
  }
  const ended = [...sessions.values()].map((seen) => {
    const ends = seen.filter(({ type }) => type === "job.result" || type === "job.error")
    const numbers = new Set(ends.map(({ type, event_seq }) => `${type} ${event_seq}`))
    if (numbers.size > 1) fail(`one end of ${jobId}`, `  ${[...numbers].join("\n  ")}`)
    const end = ends[0]
    const next = end === undefined ? undefined : seen.find(({ event_seq }) => event_seq > end.event_seq)
    if (next !== undefined)
      fail(`nothing after the end ${end?.event_seq}`, `  ${next.type} ${next.event_seq}`)
    return end !== undefined
  })
  if (!ended.includes(true)) fail(`one end of ${jobId}`, "  none")
}
