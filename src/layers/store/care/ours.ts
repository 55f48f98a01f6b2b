/** Which files are looked after: those of a runtime. */
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { StoreError, StoreService } from "../../../services/store/Store.js"
import { whileBusy } from "../busy.js"
import { emptied, emptyLog } from "../emptying.js"
import * as StoreSql from "../StoreSql.js"
import { toStoreError } from "../sqlError.js"
import { besideNow, realName, type SqliteClient, schemaOf } from "../sqliteFile.js"
import { open } from "../sqliteOpen.js"

/** Refuses everything but a file of a runtime; `wanted` is what to name in place of it. Leaves nothing beside it. */
export const ours = (path: string, name: string, wanted?: string): Effect.Effect<void, StoreError> =>
  Effect.flatMap(besideNow(realName(path)), (clean) => Effect.zipRight(schemaOf(path, name, wanted), clean))

const writtenAnew = (sql: SqliteClient, name: string): Effect.Effect<void, StoreError> =>
  Effect.zipRight(
    Effect.mapError(sql.unsafe("VACUUM"), toStoreError(name)),
    whileBusy(
      sql.unsafe(emptyLog).pipe(
        Effect.mapError(toStoreError(name)),
        Effect.flatMap((rows) => emptied(rows, name))
      )
    )
  )

/**
 * Runs work on a file that no runtime has, and that none gets meanwhile. With `compact` the file is written anew when the
 * work is done: nothing that was deleted is left in it, nor in its log.
 */
export const owning = <A, E>(
  { compact, filename }: { readonly filename: string; readonly compact: boolean },
  work: (store: StoreService) => Effect.Effect<A, E, Scope>
): Effect.Effect<A, E | StoreError> =>
  Effect.zipRight(
    ours(filename, filename),
    open({ filename }, ({ sql }) =>
      StoreSql.makeKeeping(sql, filename).pipe(
        // What work fails with is no failure of opening.
        Effect.flatMap((store) => Effect.either(work(store))),
        Effect.scoped,
        Effect.tap(({ _tag }) => (compact && _tag === "Right" ? writtenAnew(sql, filename) : Effect.void))
      )
    ).pipe(Effect.flatten, Effect.scoped)
  )
