/** The runtime on a SQLite file; apart from Runtime.ts so that the latter stays free of Node. */
import * as Layer from "effect/Layer"
import type { Store } from "../../services/store/Store.js"
import * as StoreSqlite from "../store/StoreSqlite.js"
import type { Exact, Failures } from "./Parts.js"
import {
  layer as layerOver,
  type Parts,
  type Requirements,
  type Services,
  type StartError
} from "./Runtime.js"

/**
 * A runtime that keeps everything in a SQLite file. Fails with `StoreError` when the file cannot be used.
 * `synchronous`: `FULL` (default: an acknowledged event survives a power cut) or `NORMAL` (it survives the
 * end of the process).
 */
export const layer = <P extends Parts = Record<never, never>>(
  store: StoreSqlite.Options,
  parts?: P & Exact<Parts, P>
): Layer.Layer<Services | Store, StartError | Failures<P>, Exclude<Requirements<P>, Store>> =>
  layerOver<P>(parts).pipe(Layer.provideMerge(StoreSqlite.layer(store)))
