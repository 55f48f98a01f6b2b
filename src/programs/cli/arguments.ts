/** What @effect/cli leaves to be done about the command line itself. */
import * as Effect from "effect/Effect"
import { coloured, plain, safe } from "./text.js"
import { UsageError } from "./UsageError.js"

const repeatable = new Set([
  "--agents",
  "--allow-host",
  "--allow-origin",
  "--budget",
  "--lease",
  "--limit",
  "--operator",
  "--status",
  "--token"
])

/** A repeatable option that is last and has no value would be taken for one that is not there. */
export const complete = (argv: ReadonlyArray<string>): Effect.Effect<void, UsageError> => {
  const last = argv[argv.length - 1] ?? ""
  return repeatable.has(last) ? new UsageError({ message: `${last} needs a value; see --help` }) : Effect.void
}

/** Help has colours on a terminal only. */
export const plainly = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.console, (real) => {
    const strip = (stream: NodeJS.WriteStream, args: ReadonlyArray<unknown>) =>
      coloured(stream) ? args : args.map((arg) => (typeof arg === "string" ? plain(arg) : arg))
    return Effect.withConsole(self, {
      ...real,
      log: (...args) => real.log(...strip(process.stdout, args)),
      error: (...args) => real.error(...strip(process.stderr, args))
    })
  })

/** Nothing that a command prints, its logs included, steers a terminal. What is coloured is written past the console. */
export const harmlessly = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.console, (real) => {
    const all = (args: ReadonlyArray<unknown>) =>
      args.map((arg) => (typeof arg === "string" ? safe(arg) : arg))
    return Effect.withConsole(self, {
      ...real,
      log: (...args) => real.log(...all(args)),
      error: (...args) => real.error(...all(args)),
      // Loggers write past Effect.
      unsafe: {
        ...real.unsafe,
        log: (...args) => real.unsafe.log(...all(args)),
        error: (...args) => real.unsafe.error(...all(args))
      }
    })
  })
