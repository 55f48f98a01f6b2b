/** The SQL client of an application. */
import type { SqlClient } from "@effect/sql/SqlClient"
import * as Context from "effect/Context"

/** The tag of `@effect/sql` by its key: who has such a client has that package, and nobody else needs it. */
export const SqlClientTag = Context.GenericTag<SqlClient, SqlClient>("@effect/sql/SqlClient")
