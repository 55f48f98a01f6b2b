/** For how long a mint may still take effect: what is revoked before that may come to be after it. */
import * as Duration from "effect/Duration"
import type { Options } from "../../services/credentials/Credentials.js"

type Times = Pick<Options, "callTimeout" | "settle">

/** Milliseconds in which a mint that was recorded is asked for, or not at all: a process may be stopped, a store may be slow. */
export const askedWithin = 10_000

/** Returns until when a mint that is asked for at `at` may take effect. */
export const unsettledSince = (at: number, { callTimeout, settle }: Times): number =>
  at + Duration.toMillis(callTimeout) + Duration.toMillis(settle)

/** The same of one that is recorded at `at`, or earlier, and may be asked for yet. */
export const unsettledFrom = (at: number, times: Times): number => unsettledSince(at + askedWithin, times)
