/**
 * Overwriting what is deleted in a SQLite file, while somebody wants that: pages that are freed are zeroed, and in the end the log
 * is emptied into the file. Whoever has the connection that writes does it with that.
 */
import * as Effect from "effect/Effect"
import type { StoreError, StoreService } from "../../services/store/Store.js"
import { emptied, emptyLog } from "./emptying.js"
import { isBusy } from "./sqlError.js"

/** What the connection that writes can be asked for. */
export interface Writing {
  /** Runs one statement once, and returns its rows. */
  readonly run: (sql: string) => Effect.Effect<ReadonlyArray<object>, StoreError>
  /** Makes what is written wait for the locks of others, and tells the operator when it fails. */
  readonly patiently: <A>(work: Effect.Effect<A, StoreError>) => Effect.Effect<A, StoreError>
  /** Frees as much as one transaction may, and returns whether more is left. */
  readonly free: Effect.Effect<boolean, StoreError>
}

/** Has pages that are freed overwritten, too, while somebody wants that: from the start, since an earlier process may have wanted it. */
export const make = (
  { free, patiently, run }: Writing,
  name: string
): Pick<StoreService, "vacuum"> & Required<Pick<StoreService, "erasing">> => {
  let isOn = false
  let isWanted = true
  let works = 0
  const set = (on: boolean) =>
    Effect.tap(patiently(run(`PRAGMA secure_delete = ${on ? "ON" : "FAST"}`)), () =>
      Effect.sync(() => {
        isOn = on
      })
    )
  const begun = Effect.suspend(() => (isWanted && !isOn ? Effect.asVoid(set(true)) : Effect.void))
  /**
   * Everything is freed: what was overwritten goes from the log into the file, and the log begins anew. Whoever reads for long is in the
   * way of that, and of nothing else: then it is left for another time. Returns whether it was.
   */
  const end = Effect.suspend(() => {
    if (!isWanted || works > 0) return Effect.succeed(false)
    isWanted = false
    return Effect.uninterruptible(Effect.flatMap(run(emptyLog), (rows) => emptied(rows, name))).pipe(
      Effect.zipRight(Effect.suspend(() => (isWanted ? Effect.void : Effect.asVoid(set(false))))),
      Effect.as(false),
      // It is still there, for whoever tries again.
      Effect.onError(() =>
        Effect.sync(() => {
          isWanted = true
        })
      ),
      Effect.catchIf(isBusy, () => Effect.as(Effect.sleep("1 second"), true))
    )
  })
  return {
    erasing: (work) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          works++
          isWanted = true
        }),
        () => Effect.zipRight(begun, work),
        () =>
          Effect.sync(() => {
            works--
          })
      ),
    vacuum: Effect.zipRight(
      begun,
      Effect.flatMap(patiently(free), (more) => (more ? Effect.succeed(true) : end))
    )
  }
}
