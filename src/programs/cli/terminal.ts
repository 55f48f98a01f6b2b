/** What a command prints, on its way to a terminal. */
import * as Effect from "effect/Effect"
import { columnsOf, fitted } from "./columns.js"
import { safe } from "./text.js"

/** Nothing that a command prints, its logs included, steers a terminal. What is coloured is written past the console. */
export const harmlessly = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.console, (real) => {
    const all = (args: ReadonlyArray<unknown>) =>
      args.map((arg) => (typeof arg === "string" ? safe(arg) : arg))
    return Effect.withConsole(self, {
      ...real,
      log: (...args) => real.log(...all(args)),
      // What a person is told, on as many lines as it takes; loggers write lines of their own.
      error: (...args) =>
        real.error(
          ...all(args).map((arg) => (typeof arg === "string" ? fitted(arg, columnsOf(process.stderr)) : arg))
        ),
      // Loggers write past Effect.
      unsafe: {
        ...real.unsafe,
        log: (...args) => real.unsafe.log(...all(args)),
        error: (...args) => real.unsafe.error(...all(args))
      }
    })
  })
