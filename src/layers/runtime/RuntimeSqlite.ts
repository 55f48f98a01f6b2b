/** The runtime on a SQLite file; apart from Runtime.ts so that the latter stays free of Node. */
import * as Layer from "effect/Layer"
import type * as RuntimeOptions from "../../services/runtime/RuntimeOptions.js"
import * as StoreSqlite from "../store/StoreSqlite.js"
import { layer as layerOver, type Parts } from "./Runtime.js"

/**
 * A runtime that keeps everything in a SQLite file. Fails with `StoreError` when the file cannot be used.
 * `synchronous`: `FULL` (default: an acknowledged event survives a power cut) or `NORMAL` (it survives the
 * end of the process).
 */
export const layer = <E = never, R = never>(
  store: StoreSqlite.Options,
  options?: RuntimeOptions.Input,
  parts?: Parts<E, R>
) => layerOver(options, parts).pipe(Layer.provideMerge(StoreSqlite.layer(store)))
