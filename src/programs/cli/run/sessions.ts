/** What `arcp sessions` does. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { surviving } from "../../../layers/session/surviving.js"
import * as RuntimeOptions from "../../../services/runtime/RuntimeOptions.js"
import { mapJobs } from "../../../services/store/paged.js"
import { aligned, stdoutColumns } from "../columns.js"
import type { SessionsFlags } from "../observe.js"
import { json } from "../text.js"
import { age } from "../time.js"
import { type Beside, storedOf } from "./stored.js"

/** A session as it is shown. */
interface Shown {
  readonly session_id: string
  readonly principal: string
  readonly state: "connected" | "away" | "gone"
  readonly created_at: string
  readonly last_seen_at: string
  /** For how long it can be resumed, with the window that a runtime has unless it is told otherwise. */
  readonly left_ms: number
  readonly jobs: number
  readonly last_event_seq: number
  readonly lag: number | undefined
}

const found = (flags: SessionsFlags, { isHeld, store }: Beside, now: number) =>
  Effect.gen(function* () {
    const isDown = (yield* isHeld) === false
    const { resumeWindow } = RuntimeOptions.make()
    const aliveAt = yield* store.aliveAt
    const jobs = new Map<string, number>()
    const open = { principals: "everyone", status: ["pending", "running"] } as const
    for (const sessionId of yield* mapJobs(store, open, ({ sessionId }) => sessionId))
      jobs.set(sessionId, (jobs.get(sessionId) ?? 0) + 1)
    const records = (yield* store.sessions).filter(({ principal }) =>
      Option.match(flags.principal, { onNone: () => true, onSome: (only) => only === principal })
    )
    return yield* Effect.forEach(records, (stored) =>
      Effect.map(store.view(stored.sessionId), ({ last }): Shown => {
        const { left, record } = surviving(stored, { aliveAt, at: now, resumeWindow })
        return {
          session_id: record.sessionId,
          principal: record.principal,
          state: isDown ? "gone" : record.attached ? "connected" : "away",
          created_at: new Date(record.createdAt).toISOString(),
          last_seen_at: new Date(record.lastSeenAt).toISOString(),
          left_ms: Math.max(0, left),
          jobs: jobs.get(record.sessionId) ?? 0,
          last_event_seq: last,
          lag: record.features.includes("ack") ? Math.max(0, last - record.acked) : undefined
        }
      })
    )
  })

export const run = (flags: SessionsFlags) =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const { beside } = yield* storedOf(flags)
    const sessions = yield* Effect.scoped(Effect.flatMap(beside, (opened) => found(flags, opened, now)))
    const newest = [...sessions].sort((a, b) => b.last_seen_at.localeCompare(a.last_seen_at))
    if (flags.json)
      return yield* Effect.forEach(newest, (session) => Console.log(json(session)), { discard: true })
    if (newest.length === 0) return yield* Console.error("no sessions")
    const rows = newest.map((session) => [
      session.session_id,
      session.principal,
      session.state,
      age(now - Date.parse(session.created_at)),
      session.state === "connected" ? "" : age(session.left_ms),
      String(session.jobs),
      String(session.last_event_seq),
      session.lag === undefined ? "" : String(session.lag)
    ])
    const headings = ["SESSION", "PRINCIPAL", "STATE", "AGE", "LEFT", "JOBS", "EVENTS", "LAG"]
    for (const line of aligned([headings, ...rows], stdoutColumns())) yield* Console.log(line)
  })
