import * as Reactivity from "@effect/experimental/Reactivity"
import * as Effect from "effect/Effect"
import * as SqliteClient from "../../support/sqliteClient.js"

/** Runs statements on a database file nobody has open; gives the rows of the last one. */
export const statements = (
  filename: string,
  ...texts: ReadonlyArray<string>
): Promise<ReadonlyArray<Record<string, unknown>>> =>
  Effect.gen(function* () {
    const sql = yield* SqliteClient.make({ filename, disableWAL: true })
    let rows: ReadonlyArray<Record<string, unknown>> = []
    for (const text of texts) rows = yield* sql.unsafe<Record<string, unknown>>(text)
    return rows
  }).pipe(Effect.provide(Reactivity.layer), Effect.scoped, Effect.runPromise)
