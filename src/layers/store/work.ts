/**
 * What is done on a database, as a sequence of statements: whoever has the connection runs them, in a fiber
 * (`perform.ts`) or at once, in a thread that has no Effect (`sqliteWorker.ts`). What fails is thrown where the statement
 * was yielded.
 */
import type { Query } from "./query.js"
import type { Statement } from "./statements.js"

/** One statement, and whether its rows are wanted. */
export interface Step {
  readonly statement: Statement
  readonly asks: boolean
}

/** Yields statements, gets the rows of each, and returns what it came to. */
export type Work<A> = Generator<Step, A, ReadonlyArray<object>>

/** Returns the rows of a query. */
export function* select<A>([sql, params]: Query<A>): Work<ReadonlyArray<A>> {
  const rows = yield { statement: [sql, params], asks: true }
  return rows as ReadonlyArray<A>
}

/** Runs statements whose rows, if they have some, nobody wants. */
export function* change(...statements: ReadonlyArray<Statement>): Work<void> {
  for (const statement of statements) yield { statement, asks: false }
}

const begin: Statement = ["BEGIN IMMEDIATE", []]
const end: Statement = ["COMMIT", []]
const undo: Statement = ["ROLLBACK", []]

/** Runs work as one transaction, which is undone when anything of it fails. */
export function* transaction<A>(body: Work<A>): Work<A> {
  yield* change(begin)
  try {
    const result = yield* body
    yield* change(end)
    return result
  } catch (cause) {
    try {
      yield* change(undo)
    } catch {
      // SQLite may have rolled back by itself already.
    }
    throw cause
  }
}

/** Runs work at once. */
export const runAtOnce = <A>(work: Work<A>, execute: (step: Step) => ReadonlyArray<object>): A => {
  let next = work.next()
  while (next.done !== true) {
    let rows: ReadonlyArray<object>
    try {
      rows = execute(next.value)
    } catch (cause) {
      next = work.throw(cause)
      continue
    }
    next = work.next(rows)
  }
  return next.value
}
