/**
 * Whose connection a store works on. A file of its own has one that nobody else uses. A database of an application may
 * have but one for everybody, so there it is borrowed for each read and each transaction, and never held in between.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import { StoreError } from "../../services/store/Store.js"
import type { Naming } from "./naming.js"

/** What statements are given to; names in braces get the prefix of the store. `E` is what they fail with. */
export interface Statements<E = SqlError> {
  /** Rows are objects. */
  readonly execute: <A = object>(
    sql: string,
    params: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<A>, E>
  readonly executeRaw: (sql: string, params: ReadonlyArray<unknown>) => Effect.Effect<unknown, E>
  /** Rows are arrays of their columns. */
  readonly executeValues: (
    sql: string,
    params: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<ReadonlyArray<unknown>>, E>
}

/** Gives work a connection that nobody else has meanwhile. */
export type Lend = <A, E>(
  work: (statements: Statements) => Effect.Effect<A, E>
) => Effect.Effect<A, E | SqlError | StoreError>

/** How long the connection is waited for while others have it: as long as a lock of another program. */
const patience = Duration.seconds(30)

const named = (connection: Connection, name: Naming): Statements => ({
  execute: (sql, params) => connection.execute(name(sql), params, undefined),
  executeRaw: (sql, params) => connection.executeRaw(name(sql), params),
  executeValues: (sql, params) => connection.executeValues(name(sql), params)
})

/** Keeps a connection of the client for the scope. */
export const kept = (sql: SqlClient.SqlClient, name: Naming): Effect.Effect<Lend, SqlError, Scope.Scope> =>
  Effect.map(sql.reserve, (connection): Lend => {
    const statements = named(connection, name)
    return (work) => work(statements)
  })

const pragma = (connection: Connection, text: string) =>
  connection.executeUnprepared(`PRAGMA ${text}`, [], undefined)

/**
 * Lends a connection that does not wait for locks, and waits again when it is given back. SQLite waits for those of
 * other connections by itself, and the whole process with it; when the other one is this process's own, it waits for
 * itself.
 */
const withoutBlocking =
  (milliseconds: number) =>
  <A, E>(connection: Connection, work: Effect.Effect<A, E>): Effect.Effect<A, E | SqlError> =>
    milliseconds === 0
      ? work
      : Effect.acquireUseRelease(
          pragma(connection, "busy_timeout = 0"),
          () => work,
          () => Effect.ignoreLogged(pragma(connection, `busy_timeout = ${milliseconds}`))
        )

/**
 * Borrows a connection of the client each time: the transactions of whoever else uses it come before or after, never in
 * between. Nothing of this process runs between the statements of one piece of work, so another connection never waits
 * inside SQLite for one that only this process could end.
 */
export const borrowed = (
  sql: SqlClient.SqlClient,
  name: Naming,
  database: string
): Effect.Effect<Lend, SqlError> => {
  const tooLong = () =>
    new StoreError({
      message:
        `${database} was not free within ${Duration.toSeconds(patience)} s: a transaction of the application holds its ` +
        "connection, and must not wait for jobs"
    })
  // Most often it is free at once, and a race for each statement would cost more than the statement.
  const reserve = (scope: Scope.Scope) =>
    Effect.flatMap(Effect.runtime<never>(), (runtime) => {
      const waiting = Runtime.runFork(runtime, Scope.extend(sql.reserve, scope), { immediate: true })
      const exit = waiting.unsafePoll()
      if (exit !== null) return exit
      return Fiber.join(waiting).pipe(
        Effect.timeoutFail({ duration: patience, onTimeout: tooLong }),
        Effect.onError(() => Fiber.interrupt(waiting))
      )
    })
  const lend = <A, E>(work: (connection: Connection) => Effect.Effect<A, E>) =>
    Effect.flatMap(Scope.make(), (scope) =>
      Effect.interruptible(reserve(scope)).pipe(
        Effect.flatMap(work),
        Effect.onExit((exit) => Scope.close(scope, exit))
      )
    )
  const timeout = lend((connection) => pragma(connection, "busy_timeout")).pipe(
    Effect.map((rows) => Number(Object.values(rows[0] ?? {})[0] ?? 0)),
    // A database without such waiting.
    Effect.catchAll(() => Effect.succeed(0))
  )
  return Effect.map(timeout, (milliseconds): Lend => {
    const quietly = withoutBlocking(milliseconds)
    return (work) =>
      lend((connection) => quietly(connection, work(named(connection, name)))).pipe(
        Effect.withMaxOpsBeforeYield(Number.MAX_SAFE_INTEGER)
      )
  })
}
