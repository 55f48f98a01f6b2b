/** What an operator is told of tables that are brought up to date. */
import * as Effect from "effect/Effect"

/** Says so, unless there was nothing yet or nothing is to be done: it may take long, and there is no way back but a backup. */
export const telling = (database: string, from: number, to: number): Effect.Effect<void> =>
  from === 0 || from >= to
    ? Effect.void
    : Effect.logInfo(
        `${database} is brought up to date, from schema ${from} to ${to}; older versions cannot open it after that`
      )
