/**
 * Keeps the stored records of sessions as the table has them, in a fiber of its own: who was detached is stored at once,
 * acknowledgements and the time at which this process was alive at intervals. A session that was attached when the
 * process died has lived until then (§6.3).
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InternalError } from "../../protocol/Errors.js"
import type { EventLog } from "../../services/log/EventLog.js"
import { isTaken } from "../../services/log/taken.js"
import { Signal } from "../../services/runtime/Signal.js"
import { Op } from "../../services/store/Store.js"
import type { SessionEntry, SessionTable } from "./SessionTable.js"

/** Records in one commit. */
const batch = 500

/** Before a commit that failed is tried again. */
const pause = Duration.seconds(1)

/**
 * Returns how often it is stored that the process is alive. What a restart does not know of the time before the crash
 * is at most this long, and it is given to the sessions.
 */
export const aliveEvery = (resumeWindow: Duration.Duration): Duration.Duration =>
  Duration.millis(Math.min(30_000, Math.max(50, Duration.toMillis(resumeWindow) / 4)))

/** Returns what stores the records of sessions, many in one commit. */
export const make = (services: {
  readonly table: SessionTable
  readonly log: EventLog["Type"]
  /** Epoch ms. */
  readonly now: () => number
  readonly resumeWindow: Duration.Duration
  /** Somebody may want to know until when this process lived: the store outlives it. */
  readonly outlived: boolean
  /** Lets go of a session that another process has taken. */
  readonly letGo: (entry: SessionEntry) => void
}) => {
  const { table, log, now } = services
  const bell = new Signal()

  const current = (entry: SessionEntry) => {
    const acked = entry.session?.view.acked ?? entry.record.acked
    if (acked !== entry.record.acked) entry.record = { ...entry.record, acked }
    return Op.PutSession({ session: entry.record })
  }

  /** Stores one record of several, unless a resume has claimed the session meanwhile, which stores a newer one. */
  const putLater = (entry: SessionEntry): Effect.Effect<void, InternalError> =>
    Effect.suspend(() => {
      if (!table.holds(entry)) return Effect.void
      if (entry.state._tag !== "Opening") return put([entry])
      table.touch(entry)
      return Effect.void
    })

  /** Stores that the process is alive, and these records; without those of sessions that another process has taken. */
  const put = (entries: ReadonlyArray<SessionEntry>): Effect.Effect<void, InternalError> => {
    const [entry] = entries
    return Effect.catchIf(log.commit([Op.Alive({ at: now() }), ...entries.map(current)]), isTaken, () =>
      entries.length > 1 || entry === undefined
        ? Effect.forEach(entries, putLater, { discard: true })
        : Effect.sync(() => services.letGo(entry))
    )
  }

  /** Stores that the process is alive, and the records that have changed. */
  const write: Effect.Effect<void, InternalError> = Effect.suspend(() => {
    const entries = table.takeChanged(batch)
    const back = Effect.sync(() => {
      for (const entry of entries) table.touch(entry)
    })
    return put(entries).pipe(
      Effect.onError(() => back),
      Effect.zipRight(Effect.suspend(() => (entries.length < batch ? Effect.void : write)))
    )
  })

  /** Waits for a reason to write; returns whether it is one to write at once. */
  const reason = Effect.suspend(() => {
    const rung = Effect.as(bell.wait, true)
    return services.outlived || table.hasChanged
      ? Effect.raceFirst(rung, Effect.as(Effect.sleep(aliveEvery(services.resumeWindow)), true))
      : Effect.raceFirst(rung, Effect.as(table.touched.wait, false))
  })

  const run = reason.pipe(
    Effect.flatMap((now) => (now ? write : Effect.void)),
    Effect.catchAllCause((cause) =>
      Effect.zipRight(
        Effect.logWarning("session records could not be stored; will try again", cause),
        Effect.sleep(pause)
      )
    ),
    Effect.forever
  )

  return { ring: () => bell.give(), write, run }
}

/** What stores the records of sessions. */
export type Records = ReturnType<typeof make>
