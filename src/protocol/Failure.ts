/** `Data.TaggedError` in small: what the client has of it in a browser is half as long. */
import { YieldableError } from "effect/Cause"
import type * as Data from "effect/Data"

/** Returns a class of errors that effects fail with and generators yield, of this tag and with the fields they are made of. */
export const TaggedError = ((tag: string) => {
  class Failure extends YieldableError {
    readonly _tag = tag
    constructor(fields: { readonly message?: string }) {
      super(fields.message)
      Object.assign(this, fields)
    }
  }
  Failure.prototype.name = tag
  return Failure
}) as unknown as typeof Data.TaggedError
