/**
 * Who owns a job or a session: whoever took it last. Each time that one is taken its epoch goes up by one, and whoever had it
 * before finds out at the next commit. By itself, so that a thread without Effect can import it.
 */

/** A job or a session, and the epoch with which whoever states it holds it. */
export type Owner =
  | { readonly job: string; readonly epoch: number }
  | { readonly session: string; readonly epoch: number }
  | FreeKey

/**
 * An idempotency key that no job of a principal has, but for those that were created at this time (epoch ms) or before, and those
 * whose key is freed: whoever opens a job with it owns it until then.
 */
export interface FreeKey {
  readonly key: string
  readonly principal: string
  readonly since: number
}

/** Where a job or a session is, and with which epoch. */
export interface Place {
  readonly epoch: number
  /** The node that has it; empty of a runtime that is alone. */
  readonly node: string
}

/** The epoch of what is not stored: whoever opens a job or a session states that it is not there yet. */
export const absent = 0

/** The epoch of a job or a session that was opened and never taken since. */
export const first = 1

/** Returns the epoch of a stored record. */
export const epochOf = ({ epoch = first }: { readonly epoch?: number | undefined }): number => epoch
