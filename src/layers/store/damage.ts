/** What is said of something in a store that is not what a store writes: to the operator and to whoever asks for it. */
import { StoreError } from "../../services/store/Store.js"

/**
 * Returns the failure of a read of something damaged.
 *
 * @param where the store, as operators know it
 * @param what the name of it
 */
export const damage = (
  where: string,
  what: string,
  why: string,
  of: NonNullable<StoreError["damaged"]> = {}
): StoreError =>
  new StoreError({
    message: `${where}: ${what} is damaged (${why}); restore it from a backup`,
    publicMessage:
      of.jobId === undefined
        ? "what is stored of it is damaged"
        : `${what} is damaged in the store; who runs the server can restore it from a backup`,
    damaged: of
  })

/** The same of an event of a job. */
export const damagedEvent = (where: string, jobId: string, seq: number, why: string): StoreError =>
  damage(where, `event ${seq} of ${jobId}`, why, { jobId, seq })
