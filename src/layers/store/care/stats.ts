/** What is in the file of a runtime, and what takes the space. Only reads, also while the runtime runs. */

import * as Effect from "effect/Effect"
import { parseJson } from "../../../protocol/Json.js"
import type { StoreError } from "../../../services/store/Store.js"
import { whileBusy } from "../busy.js"
import { toStoreError } from "../sqlError.js"
import { realName, type SqliteClient } from "../sqliteFile.js"
import { reading, sizeOf, value } from "./snapshot.js"

/** A table, with its indexes. */
export interface TableStats {
  readonly name: string
  readonly rows: number
  /** `undefined` where SQLite cannot say. */
  readonly bytes: number | undefined
}

/** What there is of one principal, or of one agent. */
export interface Share {
  readonly name: string
  readonly jobs: number
  /** Jobs that have not ended. */
  readonly unfinished: number
  readonly events: number
  /** Of events: payload and overhead. */
  readonly bytes: number
  /** When the oldest job was created, in epoch ms. */
  readonly oldest: number
}

/** What is in a file. */
export interface Stats {
  readonly schema: number
  /** Of the database, of its free pages, and of the log beside it. */
  readonly bytes: { readonly file: number; readonly free: number; readonly log: number }
  readonly tables: ReadonlyArray<TableStats>
  readonly statuses: Readonly<Record<string, number>>
  /** Submits that were refused, which are rows of the table of jobs, so that the same frame is answered alike. */
  readonly refused: number
  readonly sessions: number
  readonly principals: ReadonlyArray<Share>
  readonly agents: ReadonlyArray<Share>
  /** Jobs and views of which something is dropped, or trimmed, and not deleted yet. */
  readonly toFree: number
}

type Rows = ReadonlyArray<ReadonlyArray<unknown>>

const rowsOf = (sql: SqliteClient, name: string, text: string): Effect.Effect<Rows, StoreError> =>
  whileBusy(sql.unsafe(text).values).pipe(Effect.mapError(toStoreError(name)))

/** Bytes of each table and of its indexes. Not every build of SQLite can say. */
const bytesOfTables = (sql: SqliteClient): Effect.Effect<ReadonlyMap<string, number>> =>
  sql
    .unsafe(
      `SELECT m.tbl_name, sum(d.pgsize) FROM dbstat d JOIN sqlite_schema m ON m.name = d.name
       WHERE d.aggregate = TRUE GROUP BY m.tbl_name`
    )
    .values.pipe(
      Effect.map((rows) => new Map(rows.map(([name, bytes]) => [String(name), Number(bytes)] as const))),
      Effect.catchAll(() => Effect.succeed(new Map<string, number>()))
    )

const tablesOf = (sql: SqliteClient, name: string): Effect.Effect<ReadonlyArray<TableStats>, StoreError> =>
  Effect.gen(function* () {
    const names = yield* rowsOf(
      sql,
      name,
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    )
    const bytes = yield* bytesOfTables(sql)
    return yield* Effect.forEach(names, ([table]) =>
      Effect.map(value(sql, `SELECT count(*) FROM "${String(table)}"`, name), (rows) => ({
        name: String(table),
        rows: Number(rows),
        bytes: bytes.get(String(table))
      }))
    )
  })

/** As JSON: some drivers read text only up to its first NUL, and a name may have one. */
const sharesBy = (sql: SqliteClient, name: string, column: "principal" | "agent") =>
  Effect.map(
    rowsOf(
      sql,
      name,
      `SELECT json_quote(j.${column}), count(*), sum(j.ended_at IS NULL), coalesce(sum(x.events), 0),
         coalesce(sum(x.bytes), 0), min(j.created_at)
       FROM jobs j LEFT JOIN (SELECT job, sum(count) AS events, sum(bytes) AS bytes FROM extents GROUP BY job) x
         ON x.job = j.id
       WHERE j.rejected = 0 GROUP BY j.${column} ORDER BY 5 DESC, 1`
    ),
    (rows) =>
      rows.map(
        ([who, jobs, unfinished, events, bytes, oldest]): Share => ({
          name: String(parseJson(String(who))),
          jobs: Number(jobs),
          unfinished: Number(unfinished),
          events: Number(events),
          bytes: Number(bytes),
          oldest: Number(oldest)
        })
      )
  )

/** Returns what is in a file of the current schema. */
export const stats = (filename: string): Effect.Effect<Stats, StoreError> => {
  const [path, name] = [realName(filename), filename]
  return reading(path, name, (sql) =>
    Effect.gen(function* () {
      const number = (text: string) => Effect.map(value(sql, text, name), Number)
      const pageSize = yield* number("PRAGMA page_size")
      const statuses = yield* rowsOf(
        sql,
        name,
        "SELECT status, count(*) FROM jobs WHERE rejected = 0 GROUP BY status ORDER BY status"
      )
      return {
        schema: yield* number("PRAGMA user_version"),
        bytes: {
          file: sizeOf(path),
          free: (yield* number("PRAGMA freelist_count")) * pageSize,
          log: sizeOf(`${path}-wal`)
        },
        tables: yield* tablesOf(sql, name),
        statuses: Object.fromEntries(statuses.map(([status, n]) => [String(status), Number(n)])),
        refused: yield* number("SELECT count(*) FROM jobs WHERE rejected <> 0"),
        sessions: yield* number("SELECT count(*) FROM sessions"),
        principals: yield* sharesBy(sql, name, "principal"),
        agents: yield* sharesBy(sql, name, "agent"),
        toFree: yield* number(
          "SELECT (SELECT count(*) FROM event_trims) + (SELECT count(*) FROM run_drops) + (SELECT count(*) FROM run_trims WHERE freed < before)"
        )
      }
    })
  )
}
