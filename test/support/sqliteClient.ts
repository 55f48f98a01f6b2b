/** Clients of SQLite files, as applications and other programs have them. */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqliteClient from "../../src/layers/store/sqliteClient.js"

/** Makes a client with one connection, for the scope. */
export const make = (config: SqliteClient.Config) =>
  SqliteClient.make(config).pipe(Effect.orDie, Effect.provide(Reactivity.layer))

/** Provides the client of a file. */
export const layer = (config: SqliteClient.Config) => Layer.scoped(SqlClient.SqlClient, make(config))
