/** Running work on a connection that is used in fibers. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { Fenced, StoreError } from "../../services/store/Store.js"
import type { Statements } from "./lending.js"
import { Misuse, Taken } from "./plan.js"
import type { Step, Work } from "./work.js"

const noRows: ReadonlyArray<object> = []

const execute = (
  statements: Statements,
  { asks, statement: [sql, params] }: Step
): Effect.Effect<ReadonlyArray<object>, SqlError> =>
  asks ? statements.execute(sql, params, undefined) : Effect.as(statements.executeRaw(sql, params), noRows)

/** Returns what work has failed with: a cause that it was given, its own error, or a defect. */
const failure = (thrown: unknown): Effect.Effect<never, SqlError | StoreError | Fenced> => {
  if (Cause.isCause(thrown)) return Effect.failCause(thrown as Cause.Cause<SqlError>)
  if (thrown instanceof Taken) return new Fenced({ owners: thrown.owners })
  if (thrown instanceof Misuse) return new StoreError({ message: thrown.message, misuse: true })
  return thrown instanceof StoreError ? thrown : Effect.die(thrown)
}

/** Runs work statement by statement; anew each time that the effect is run. */
export const perform = <A>(
  statements: Statements,
  work: () => Work<A>
): Effect.Effect<A, SqlError | StoreError | Fenced> =>
  Effect.suspend(() => {
    const steps = work()
    const advance = (
      step: () => IteratorResult<Step, A>
    ): Effect.Effect<A, SqlError | StoreError | Fenced> => {
      try {
        const next = step()
        return next.done === true
          ? Effect.succeed(next.value)
          : Effect.matchCauseEffect(execute(statements, next.value), {
              onFailure: (cause) => advance(() => steps.throw(cause)),
              onSuccess: (rows) => advance(() => steps.next(rows))
            })
      } catch (thrown) {
        return failure(thrown)
      }
    }
    return advance(() => steps.next())
  })
