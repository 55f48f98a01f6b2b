/** By itself, so that a thread without Effect can import it. */
import type { JobRecord } from "./Store.js"

/** When a job is due with which nothing is to be done by itself. */
export const never = Number.MAX_SAFE_INTEGER

/**
 * Returns when a job that waits, and is not in memory, is due, in epoch ms; `undefined` of any other: also of one that is to be
 * cancelled, or has ended but for what undoes what it has done, which the next start ends.
 */
export const dueAt = ({ cancelRequested, endedAt, survival }: JobRecord): number | undefined =>
  endedAt === undefined && cancelRequested === undefined && survival?.ended === undefined
    ? survival?.waiting?.dueAt
    : undefined
