/**
 * What ends a job in time: `max_runtime_sec` is a duration, on a clock that only goes forward; `expires_at` is a point
 * in time, by the wall clock, which may jump (§4.5 of the protocol page, "Time").
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { JobRecord } from "../../services/store/Store.js"
import type { Ending } from "./LiveJob.js"

/** What finalizers and compensations get when the runtime shuts down. */
export const lastGrace = Duration.seconds(1)

/** One day in ms: timers beyond 2^31 ms do not fire, so longer waits are cut into pieces. */
const longestSleep = 86_400_000
/** 10 s in ms: how often the wall clock is looked at when little is left. */
const shortestLook = 10_000

/** Sleeps for so many milliseconds, however many. */
export const sleepFor = (ms: number): Effect.Effect<void> =>
  ms <= longestSleep
    ? Effect.sleep(Duration.millis(ms))
    : Effect.zipRight(
        Effect.sleep(Duration.millis(longestSleep)),
        Effect.suspend(() => sleepFor(ms - longestSleep))
      )

/**
 * Sleeps until the wall clock shows a time (epoch ms), which it may reach early or late by a jump: it is looked at again
 * at the latest after 10 s, or a 64th of what was left.
 */
export const sleepUntil = (epochMs: number): Effect.Effect<void> =>
  Effect.clockWith((clock) =>
    Effect.suspend(() => {
      const left = epochMs - clock.unsafeCurrentTimeMillis()
      if (left <= 0) return Effect.void
      const piece = Math.min(left, longestSleep, Math.max(shortestLook, Math.ceil(left / 64)))
      return Effect.zipRight(clock.sleep(Duration.millis(piece)), sleepUntil(epochMs))
    })
  )

/** A time at which a job is ended, and how. */
export interface Limit {
  /** Returns when the limit is reached. */
  readonly reached: Effect.Effect<void>
  readonly ending: Ending
}

/** Milliseconds that a job which begins to run at `now` may run: of one that is run again, what is left of it. */
const runtimeLeft = ({ maxRuntimeSec, survival }: JobRecord, now: number): number =>
  maxRuntimeSec === undefined
    ? Infinity
    : Math.min(maxRuntimeSec * 1000, Math.max(0, (survival?.deadline ?? Infinity) - now))

/** The limits of a job that begins to run at `now` (epoch ms). */
export const of = (record: JobRecord, now: number): ReadonlyArray<Limit> => {
  const limits: Array<Limit> = []
  const left = runtimeLeft(record, now)
  if (left !== Infinity) limits.push({ reached: sleepFor(left), ending: { _tag: "Timeout" } })
  const expiry = record.leaseConstraints?.expires_at
  if (expiry !== undefined)
    limits.push({ reached: sleepUntil(Date.parse(expiry)), ending: { _tag: "LeaseExpired" } })
  return limits
}

const expiryOf = ({ leaseConstraints }: JobRecord): number =>
  leaseConstraints?.expires_at === undefined ? Infinity : Date.parse(leaseConstraints.expires_at)

/** Tells whether the lease of a job is over, whether or not a timer has said so yet. */
export const isExpired = (record: JobRecord, now: number): boolean => expiryOf(record) <= now

const deadlineOf = ({ survival }: JobRecord): number => survival?.deadline ?? Infinity

/** Returns the epoch ms at which a durable job ends that nobody runs; infinite without a limit. */
export const endsAt = (record: JobRecord): number => Math.min(expiryOf(record), deadlineOf(record))

/** Returns how a durable job ends that nobody runs, when it is over its limits. */
export const over = (record: JobRecord, now: number): Ending | undefined =>
  endsAt(record) > now
    ? undefined
    : deadlineOf(record) <= expiryOf(record)
      ? { _tag: "Timeout" }
      : { _tag: "LeaseExpired" }

/** When a job that begins to run at `now` will have ended (epoch ms), whichever limit comes first. */
export const deadline = (record: JobRecord, now: number): number | undefined => {
  const expiry = record.leaseConstraints?.expires_at
  const at = Math.min(now + runtimeLeft(record, now), expiry === undefined ? Infinity : Date.parse(expiry))
  return at === Infinity ? undefined : at
}
