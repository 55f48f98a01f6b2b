/** The address of a Postgres, wherever a command is told it. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { UsageError } from "../UsageError.js"

/** Refuses what is no address of a Postgres; `name` is the flag or variable that holds it, which may be a secret. */
export const checkPg = (name: string, url: Redacted.Redacted): Effect.Effect<void, UsageError> =>
  /^postgres(ql)?:\/\/\S+$/i.test(Redacted.value(url)) && URL.canParse(Redacted.value(url))
    ? Effect.void
    : new UsageError({ message: `${name} takes postgres://USER:PASSWORD@HOST:PORT/DATABASE` })
