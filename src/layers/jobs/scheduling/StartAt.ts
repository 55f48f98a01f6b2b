/** When a submit is to begin: `extensions["x-vendor.effect-arcp.schedule"]`, a time or a delay. */

import * as Effect from "effect/Effect"
import { InvalidRequest } from "../../../protocol/Errors.js"
import { membersOf } from "../../../protocol/Json.js"
import { isUtcTimestamp, type LeaseConstraints } from "../../../protocol/Lease.js"

const extension = "extensions: x-vendor.effect-arcp.schedule"

/** Ten years in seconds: a delay beyond it is a slip. */
const longestDelay = 315_360_000

const malformed = new InvalidRequest({
  message: `${extension} is {start_at}, an RFC 3339 time that ends in Z, or {delay_sec}, at most ${longestDelay}`
})

const timeOf = (schedule: unknown, now: number): number | undefined => {
  const { delay_sec: delay, start_at: at } = membersOf(schedule)
  if (at == null)
    return typeof delay === "number" && delay >= 0 && delay <= longestDelay ? now + delay * 1000 : undefined
  return delay == null && typeof at === "string" && isUtcTimestamp(at) ? Date.parse(at) : undefined
}

/** Returns the time (epoch ms) at which a job is to begin; `undefined` when that is now, or has passed. */
export const read = (
  schedule: unknown,
  constraints: LeaseConstraints | undefined,
  now: number
): Effect.Effect<number | undefined, InvalidRequest> => {
  if (schedule == null) return Effect.succeed(undefined)
  const at = timeOf(schedule, now)
  if (at === undefined) return malformed
  if (at <= now) return Effect.succeed(undefined)
  return constraints?.expires_at !== undefined && Date.parse(constraints.expires_at) <= at
    ? new InvalidRequest({ message: `${extension}: the lease ends before the job begins` })
    : Effect.succeed(Math.ceil(at))
}
