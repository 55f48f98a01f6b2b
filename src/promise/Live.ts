/** A value that changes, for programs without Effect. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Latest } from "../services/client/ArcpClient.js"
import { iterate } from "./run.js"

/**
 * A value that changes: what it is now, and a loop over it now and each new one. A slow loop gets the newest and may
 * miss those between; it ends with what the value is of.
 */
export interface Live<A> extends AsyncIterable<A> {
  readonly current: A
}

/** Returns a value that changes, with its changes as an async iterable. */
export const live = <A, B>(latest: Latest<A>, read: (value: A) => B, gone?: AbortSignal): Live<B> => ({
  get current() {
    return read(Effect.runSync(latest.get))
  },
  ...iterate(Stream.map(latest.changes, read), gone)
})
