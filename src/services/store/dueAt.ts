/** By itself, so that a thread without Effect can import it. */
import type { JobRecord } from "./Store.js"

/** When a job is due with which nothing is to be done by itself. */
export const never = Number.MAX_SAFE_INTEGER

/** Returns when a job that waits, and is not in memory, is due, in epoch ms; `undefined` of any other. */
export const dueAt = ({ endedAt, survival }: JobRecord): number | undefined =>
  endedAt === undefined ? survival?.waiting?.dueAt : undefined
