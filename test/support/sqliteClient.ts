/** Clients of SQLite files, as applications and other programs have them. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqliteClient from "../../src/layers/store/sqliteClient.js"

/** Makes a client with one connection, for the scope. */
export const make = (config: SqliteClient.Config) => Effect.orDie(SqliteClient.make(config))

/** Provides the client of a file. */
export const layer = (config: SqliteClient.Config) => Layer.scoped(SqlClient.SqlClient, make(config))
