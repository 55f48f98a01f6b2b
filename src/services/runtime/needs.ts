/** Imports what only a part of this package needs, when that part is used. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { type OptionalPackage, whatIsMissing } from "./optionalPackages.js"

/** A package that is needed is not installed. */
export class MissingPackage extends Data.TaggedError("MissingPackage")<{
  readonly message: string
  readonly cause: unknown
}> {}

/** Runs an import for `part`, which needs the package `name`. */
export const needs = <Module>(
  part: string,
  name: OptionalPackage,
  load: () => Promise<Module>
): Effect.Effect<Module, MissingPackage> =>
  Effect.tryPromise({ try: load, catch: (cause) => cause }).pipe(
    Effect.catchAll((cause): Effect.Effect<never, MissingPackage> => {
      const message = whatIsMissing(part, name, cause)
      return message === undefined ? Effect.die(cause) : new MissingPackage({ message, cause })
    })
  )
